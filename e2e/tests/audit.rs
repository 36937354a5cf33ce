//! Audit events among the lines of an event tracker: each that is wanted reaches every sink of an audit policy once, and nothing
//! else does.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use anyhow::{Context as _, Result};
use katonic_log_agent::{
    assemble::{FileNumber, Record as AgentRecord},
    cri,
    process::audit::{self, Line},
    timestamp::Timestamp,
};
use katonic_log_config::{Audit, Bundle, Filter, Parse, Pattern, Policy, Sink, SyslogTransport};
use katonic_logging_e2e::{
    program,
    receiver::{
        Authority, Fault, Protocol, Receiver, Record, RetryAfter, Rsyslog, Times, mixpanel,
        rsyslog, splunk::Rules,
    },
    simulated::{
        Agent, Pod, Stream,
        policy::{self, TOKEN_FILE},
    },
};
use serde_json::{Value, json};

const TOKEN: &str = "0b6e5a1c-2f1d-4c59-9f0e-7a4d3c2b1a09";
const LIMIT: Duration = Duration::from_mins(1);
const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const NEVER: u64 = u64::MAX;
const TRACKER: &str = "event-tracker";

/// Names in turn: every second event is wanted.
const NAMES: [&str; 4] = [
    "ModelCreated",
    "ModelVersionStarted",
    "ModelArchived",
    "ModelVersionStopped",
];

fn event(number: usize) -> Value {
    json!({
        "audit": 1,
        "event": NAMES[number % NAMES.len()],
        "time": "2026-11-01T09:12:44.120Z",
        "id": format!("event-{number:06}"),
        "actor": "ada \"A\" [Ö]",
        "target": format!("model-{number}"),
        "project": "forecast",
        "details": {"from": ["a", null], "to": {"b": 1}},
    })
}

fn policy(sinks: Vec<Sink>) -> Policy {
    Policy {
        components: [TRACKER.to_owned()].into(),
        audit: Some(Audit {
            events: Some(["ModelCreated", "ModelArchived"].map(str::to_owned).into()),
        }),
        parse: Parse::Json,
        ..Policy::of_everything("audit/model-events", "uid-of-audit", sinks)
    }
}

fn bundle(policies: Vec<Policy>) -> Bundle {
    Bundle {
        policies,
        ..Bundle::default()
    }
}

struct Tracker {
    pod: Pod,
    agent: Agent,
}

impl Tracker {
    fn start(policies: Vec<Policy>) -> Result<Self> {
        let labels = [("app.kubernetes.io/name", TRACKER)];
        let mut pod = Pod::new("katonic-platform", "event-tracker-1", &labels)?;
        pod.mount(&bundle(policies), &[(TOKEN_FILE, TOKEN)])?;
        let program = program::build("katonic-log-agent", "katonic-log-agent")?;
        let agent = Agent::start(&program, &pod, &["--flush-ms", "50"])?;
        Ok(Self { pod, agent })
    }

    /// The agent has delivered everything; what it has said.
    async fn end(self) -> Result<String> {
        let status = self.agent.terminate(LIMIT).await?;
        let said = std::fs::read_to_string(self.pod.agent_output())?;
        anyhow::ensure!(status.success(), "{status}: {said}");
        Ok(said)
    }
}

/// The ids of the events that should arrive, of so many that were written.
fn wanted(events: usize) -> BTreeSet<String> {
    let wanted = (0..events).filter(|number| number % 2 == 0);
    wanted.map(|number| format!("event-{number:06}")).collect()
}

/// How often each event came, by its id; lines that are no events under what they say.
fn counted<'a>(records: impl IntoIterator<Item = &'a Record>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for record in records {
        let event: Option<Value> = serde_json::from_str(&record.line).ok();
        let id = event.and_then(|event| Some(event["id"].as_str()?.to_owned()));
        let key = id.unwrap_or_else(|| record.line.clone());
        *counted.entry(key).or_default() += 1;
    }
    counted
}

fn once(ids: &BTreeSet<String>) -> BTreeMap<String, usize> {
    ids.iter().map(|id| (id.clone(), 1)).collect()
}

#[tokio::test]
async fn events_reach_every_sink_and_filters_of_others_do_not_touch_them() -> Result<()> {
    const EVENTS: usize = 10_000;
    let receivers = [
        Receiver::start((HERE, 0).into(), Protocol::Splunk(Rules::with_token(TOKEN))).await?,
        Receiver::start((HERE, 0).into(), Protocol::Splunk(Rules::with_token(TOKEN))).await?,
        Receiver::start((HERE, 0).into(), Protocol::Splunk(Rules::with_token(TOKEN))).await?,
    ];
    let sinks = vec![
        policy::splunk("one", &receivers[0].url())?,
        policy::splunk("two", &receivers[1].url())?,
    ];
    // A logging policy that leaves out all that an audit policy is about.
    let lossy = Policy {
        filters: vec![Filter::Drop(Pattern::try_from("audit".to_owned())?)],
        ..Policy::of_everything(
            "application-logs",
            "uid-of-logs",
            vec![policy::splunk("logs", &receivers[2].url())?],
        )
    };
    let tracker = Tracker::start(vec![lossy, policy(sinks)])?;
    let mut log = tracker.pod.container(TRACKER, NEVER)?;
    let mut other = tracker.pod.container("proxy", NEVER)?;
    for number in 0..EVENTS {
        log.line(Stream::Stdout, format!("handling {number}").as_bytes())?;
        log.line(Stream::Stdout, event(number).to_string().as_bytes())?;
    }
    other.line(
        Stream::Stdout,
        br#"{"message":"\"audit\" is no event here"}"#,
    )?;
    let expected = wanted(EVENTS);
    for receiver in &receivers[..2] {
        receiver
            .until("every wanted event", LIMIT, |received| {
                counted(&received.records).len() >= expected.len()
            })
            .await?;
    }
    receivers[2]
        .until("every other line", LIMIT, |received| {
            received.records.len() >= EVENTS
        })
        .await?;
    tracker.end().await?;
    for receiver in &receivers[..2] {
        let received = receiver.received();
        assert_eq!(counted(&received.records), once(&expected));
        let first = received.records.first().context("no record")?;
        assert_eq!(serde_json::from_str::<Value>(&first.line)?, event(0));
        assert_eq!(first.field("container"), TRACKER);
    }
    assert_eq!(receivers[2].received().records.len(), EVENTS);
    Ok(())
}

#[tokio::test]
async fn what_is_meant_as_an_event_and_is_none_is_sent_as_it_is_marked_and_told() -> Result<()> {
    let receiver =
        Receiver::start((HERE, 0).into(), Protocol::Splunk(Rules::with_token(TOKEN))).await?;
    let tracker = Tracker::start(vec![policy(vec![policy::splunk(
        "splunk",
        &receiver.url(),
    )?])])?;
    let mut log = tracker.pod.container(TRACKER, NEVER)?;
    let mut without_actor = event(0);
    without_actor
        .as_object_mut()
        .and_then(|event| event.remove("actor"))
        .context("no actor")?;
    let mut in_the_future = event(2);
    in_the_future["time"] = "2099-01-01T00:00:00Z".into();
    let mut oversized = event(4);
    // A line of more than 1 MiB is several records.
    oversized["details"] = "x".repeat(3 << 19).into();
    for line in [
        without_actor.to_string(),
        r#"{"audit":1,"event":"ModelCreated","#.to_owned(),
        in_the_future.to_string(),
        oversized.to_string(),
        event(6).to_string(),
        // Twice the same id: two lines, and the platform's own business.
        event(6).to_string(),
    ] {
        log.line(Stream::Stdout, line.as_bytes())?;
        log.line(Stream::Stdout, b"something else")?;
    }
    receiver
        .until("the last event", LIMIT, |received| {
            counted(&received.records).get("event-000006") == Some(&2)
        })
        .await?;
    let said = tracker.end().await?;
    let taken = receiver.received();
    let faults: Vec<(&str, usize)> = taken
        .records
        .iter()
        .map(|record| (record.field("audit_fault"), record.line.len()))
        .collect();
    let reasons: Vec<&str> = faults.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(
        reasons,
        [
            "missing actor",
            "not a JSON object",
            "",
            "longer than a record can be",
            "part of a line that is longer than a record can be",
            "",
            "",
        ]
    );
    let marker = " [katonic-log-agent: line continues]".len();
    assert_eq!(
        faults[3].1 - marker + faults[4].1,
        oversized.to_string().len()
    );
    assert_eq!(
        serde_json::from_str::<Value>(&taken.records[0].line)?,
        without_actor
    );
    for reason in ["missing actor", "not a JSON object"] {
        let told = said
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .any(|line| {
                line["reason"] == reason && line["records"] == 1 && line["level"] == "warn"
            });
        assert!(told, "{reason}: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn rsyslog_is_told_by_message_id_and_structured_data_who_did_what() -> Result<()> {
    const EVENTS: usize = 1_000;
    let settings = rsyslog::Settings::with_clients_of(&Authority::new()?)?;
    let Some(mut rsyslog) = Rsyslog::start_or_skip(settings).await? else {
        return Ok(());
    };
    let sink = policy::syslog("siem", rsyslog.tcp(), SyslogTransport::Tcp)?;
    let tracker = Tracker::start(vec![policy(vec![sink])])?;
    let mut log = tracker.pod.container(TRACKER, NEVER)?;
    for number in 0..EVENTS {
        log.line(Stream::Stdout, event(number).to_string().as_bytes())?;
        log.line(Stream::Stdout, b"something else")?;
    }
    let expected = wanted(EVENTS);
    rsyslog
        .until("every wanted event", LIMIT, |received| {
            counted(&received.records).len() >= expected.len()
        })
        .await
        .with_context(|| rsyslog.said().unwrap_or_default())?;
    tracker.end().await?;
    rsyslog.stop().await?;
    let received = rsyslog.received()?;
    assert_eq!(received.malformed, Vec::<String>::new());
    assert_eq!(counted(&received.records), once(&expected));
    for record in &received.records {
        let event: Value = serde_json::from_str(&record.line)?;
        assert_eq!(record.about("id"), event["event"]);
        for member in ["event", "id", "actor", "target", "project"] {
            assert_eq!(record.field(member), event[member], "{member}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn mixpanel_gets_every_event_once_and_what_it_refuses_is_counted() -> Result<()> {
    const EVENTS: usize = 10_000;
    let mut rules = mixpanel::Rules::with_token(TOKEN);
    rules.refuses = [0, 2_000, 4_002]
        .map(|number| format!("event-{number:06}"))
        .into();
    let receiver = Receiver::start((HERE, 0).into(), Protocol::Mixpanel(rules)).await?;
    receiver.misbehave(
        Fault::retry_after(429, RetryAfter::Seconds(0)),
        Times::Exactly(1),
    );
    let sink = policy::mixpanel("analytics", &receiver.url())?;
    let tracker = Tracker::start(vec![policy(vec![sink])])?;
    let mut log = tracker.pod.container(TRACKER, NEVER)?;
    for number in 0..EVENTS {
        log.line(Stream::Stdout, event(number).to_string().as_bytes())?;
    }
    let mut expected = wanted(EVENTS);
    for refused in [0, 2_000, 4_002] {
        expected.remove(&format!("event-{refused:06}"));
    }
    receiver
        .until("every event", LIMIT, |received| {
            received.records.len() >= expected.len()
        })
        .await?;
    let said = tracker.end().await?;
    let taken = receiver.received();
    let ids = taken
        .records
        .iter()
        .map(|record| record.field("event_id").to_owned());
    let mut counted = BTreeMap::new();
    ids.for_each(|id| *counted.entry(id).or_default() += 1);
    assert_eq!(counted, once(&expected));
    let record = taken.records.first().context("no record")?;
    assert_eq!(record.line, "ModelArchived");
    assert_eq!(record.field("distinct_id"), "ada \"A\" [Ö]");
    assert_eq!(record.fields["time"], json!(1_793_524_364_120_u64));
    let refused: Vec<Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| {
            line["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("is refused by the project"))
        })
        .collect();
    assert!(!refused.is_empty(), "{said}");
    let counted = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .any(|line| line["rejected"] == 3 && line["delivered"] == expected.len());
    assert!(counted, "{said}");
    Ok(())
}

/// The schema that trackers are tested with, and the agent that reads what they write, agree about every line.
#[test]
fn the_schema_and_the_agent_agree_about_the_same_lines() -> Result<()> {
    let schema = program::workspace().join("manifests/audit-event.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema)?)?;
    let validator = jsonschema::validator_for(&schema)?;
    let mut table = vec![(event(0), true), (event(1), true)];
    let mut with = |member: &str, value: Value, is_good: bool| {
        let mut event = event(0);
        event[member] = value;
        table.push((event, is_good));
    };
    with("more", json!({"a": [null]}), true);
    with("audit", json!(1.0), true);
    for version in [json!(2), json!("1"), json!(true), json!([1])] {
        with("audit", version, false);
    }
    for (name, is_good) in [
        ("A", true),
        (&*"A".repeat(63), true),
        (&*"A".repeat(64), false),
        ("Dataset2Deleted", true),
        ("modelCreated", false),
        ("Model Created", false),
        ("Modèle", false),
        ("ModelCreated\n", false),
    ] {
        with("event", name.into(), is_good);
    }
    for (time, is_good) in [
        ("2026-11-30T09:12:44Z", true),
        ("2026-11-30T09:12:44.123456789+05:30", true),
        ("2016-12-31T23:59:60Z", true),
        ("2026-11-30T09:12:44.Z", false),
        ("2026-11-30T09:12:44.1234567890Z", false),
        ("2026-11-30T09:12:44", false),
        ("2026-11-30 09:12:44Z", false),
        ("2026-11-30t09:12:44z", false),
        ("2026-13-30T09:12:44Z", false),
        ("2026-00-30T09:12:44Z", false),
        ("2026-11-32T09:12:44Z", false),
        ("2026-11-30T24:00:00Z", false),
        ("2026-11-30T09:60:00Z", false),
        ("2026-11-30T09:12:61Z", false),
        ("2026-11-30T09:12:44+24:00", false),
        ("2026-11-30T09:12:44+0530", false),
        ("2026-11-30T09:12:44Z ", false),
        ("yesterday", false),
        ("", false),
    ] {
        with("time", time.into(), is_good);
    }
    for (member, longest) in [
        ("id", 128),
        ("actor", 255),
        ("target", 255),
        ("project", 255),
    ] {
        with(member, "ä".repeat(longest).into(), true);
        with(member, "ä".repeat(longest + 1).into(), false);
        with(member, "".into(), false);
        with(member, json!(7), false);
        with(member, Value::Null, member == "project");
    }
    for (details, is_good) in [
        (json!({}), true),
        (Value::Null, true),
        (json!([]), false),
        (json!("all"), false),
        (json!(1), false),
    ] {
        with("details", details, is_good);
    }
    for member in [
        "event", "time", "id", "actor", "target", "project", "details",
    ] {
        let mut event = event(0);
        event.as_object_mut().context("no object")?.remove(member);
        table.push((event, matches!(member, "project" | "details")));
    }
    for (event, is_good) in table {
        let line = event.to_string();
        let record = AgentRecord {
            time: Timestamp::default(),
            stream: cri::Stream::Stdout,
            file: FileNumber::default(),
            offset: 0,
            content: line.as_bytes(),
            continues: false,
            continued: false,
            audit: None,
        };
        let read = audit::read(&record);
        assert_eq!(
            matches!(read, Line::Event(_)),
            is_good,
            "the agent: {line}: {read:?}"
        );
        assert_eq!(validator.is_valid(&event), is_good, "the schema: {line}");
    }
    Ok(())
}

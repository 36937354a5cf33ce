//! Audit events in their record: numbered and chained whatever happens to agent, tracker and sinks, and what is done to them by hand is
//! found by `katonic-logging audit verify`.

mod streams;
mod versions;

use std::{collections::BTreeSet, io::Read as _, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use http::Method;
use katonic_log_config::{ArchiveLayout, Audit, Bundle, Parse, Policy, Sink, SyslogTransport};
use katonic_logging_e2e::{
    cluster::skip,
    program,
    receiver::{Authority, Minio, Rsyslog, minio::User, rsyslog},
    simulated::{
        ContainerLog, Moments, Pod, Stream,
        policy::{self, ACCESS_KEY_ID_FILE, SECRET_ACCESS_KEY_FILE},
    },
};
use serde_json::{Value, json};
use tokio::{process::Command, task::spawn_blocking};

use crate::{BUCKET, LIMIT, Store, end, launch, rights_of, start};

const TRACKER: &str = "event-tracker";

/// Ends of the agent at moments that nobody has chosen.
const KILLS: usize = 12;

fn event(number: usize) -> Value {
    json!({
        "audit": 1,
        "event": if number.is_multiple_of(3) { "ModelArchived" } else { "ModelCreated" },
        "time": format!("2026-11-30T09:{:02}:{:02}Z", number / 60 % 60, number % 60),
        "id": format!("event-{number:06}"),
        "actor": if number.is_multiple_of(2) { "ada" } else { "grace" },
        "target": format!("model-{number}"),
    })
}

fn write(log: &mut ContainerLog, numbers: std::ops::Range<usize>) -> Result<()> {
    for number in numbers {
        log.line(Stream::Stdout, event(number).to_string().as_bytes())?;
        log.line(Stream::Stderr, format!("handled {number}").as_bytes())?;
    }
    Ok(())
}

/// A tracker whose events go to these sinks.
fn tracker(store: &Store, sinks: Vec<Sink>) -> Result<Pod> {
    let mut pod = Pod::new(
        "katonic-platform",
        "event-tracker-1",
        &[("app.kubernetes.io/name", TRACKER)],
    )?;
    mount(&mut pod, store, vec![policy_of(sinks)])?;
    Ok(pod)
}

/// An audit policy with these sinks.
fn policy_of(sinks: Vec<Sink>) -> Policy {
    Policy {
        components: [TRACKER.to_owned()].into(),
        audit: Some(Audit::default()),
        parse: Parse::Json,
        ..Policy::of_everything("audit/model-events", "uid-of-audit", sinks)
    }
}

/// Has these policies in force in a pod, now or from now on.
fn mount(pod: &mut Pod, store: &Store, policies: Vec<Policy>) -> Result<()> {
    let bundle = Bundle {
        policies,
        ..Bundle::default()
    };
    let credentials = [
        (ACCESS_KEY_ID_FILE, store.user.id.as_str()),
        (SECRET_ACCESS_KEY_FILE, &store.user.secret),
    ];
    pod.mount(&bundle, &credentials)
}

fn record(store: &Store, max_bytes: u32, max_age_ms: u32) -> Result<Sink> {
    let url = store.minio.url();
    policy::archive(&url, BUCKET, ArchiveLayout::Audit, max_bytes, max_age_ms)
}

/// A reader who has no right but the documented one.
async fn reader(minio: &Minio) -> Result<User> {
    let policy = rights_of("auditors")?;
    minio.user("auditor", "of-the-auditors", &policy).await
}

/// How a run of the command went.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Said {
    async fn of(store: &Minio, user: &User, arguments: &[&str]) -> Result<Self> {
        let program =
            spawn_blocking(|| program::build("katonic-logging-operator", "katonic-logging"))
                .await??;
        let url = store.url();
        let place = ["--bucket", BUCKET, "--prefix", "logs", "--endpoint", &url];
        let output = Command::new(program)
            .env_clear()
            .env("HOME", "/nonexistent")
            .env("AWS_ACCESS_KEY_ID", &user.id)
            .env("AWS_SECRET_ACCESS_KEY", &user.secret)
            .arg("audit")
            .args(arguments)
            .args(place)
            .stdin(Stdio::null())
            .output()
            .await
            .context("failed to run katonic-logging audit")?;
        let said = Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        };
        assert!(!said.stderr.contains(&user.secret), "{said:?}");
        Ok(said)
    }

    /// The last line, and the exit code.
    fn verdict(&self) -> (&str, Option<i32>) {
        (self.stdout.lines().last().unwrap_or_default(), self.code)
    }
}

/// A record of a tracker that was restarted in the middle, whole and with its completeness records.
async fn written(store: &Store, events: usize) -> Result<()> {
    written_to(store, record(store, 4_000, 100)?, events).await
}

/// The same in an archive of one's own.
async fn written_to(store: &Store, sink: Sink, events: usize) -> Result<()> {
    let pod = tracker(store, vec![sink])?;
    let mut log = pod.container(TRACKER, u64::MAX)?;
    let agent = start(&pod).await?;
    write(&mut log, 0..events / 2)?;
    log.restart()?;
    write(&mut log, events / 2..events)?;
    end(agent, &pod).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_goes_on_over_ends_of_the_agent_restarts_of_the_tracker_and_an_hour_without_syslog()
-> Result<()> {
    const PART: usize = 40;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let settings = rsyslog::Settings::with_clients_of(&Authority::new()?)?;
    let Some(mut rsyslog) = Rsyslog::start_or_skip(settings).await? else {
        return Ok(());
    };
    let sinks = vec![
        record(&store, 4_000, 50)?,
        policy::syslog("siem", rsyslog.tcp(), SyslogTransport::Tcp)?,
    ];
    let pod = tracker(&store, sinks)?;
    let mut moments = Moments::of_any_seed()?;
    let mut log = pod.container(TRACKER, u64::MAX)?;
    let mut agent = launch(&pod, &["--flush-ms", "20"])?;
    let mut events = 0;
    for kill in 0..KILLS {
        write(&mut log, events..events + PART)?;
        events += PART;
        tokio::time::sleep(moments.next(Duration::from_millis(400))).await;
        agent.kill()?;
        agent = launch(&pod, &["--flush-ms", "20"])?;
        match kill {
            3 | 7 => log.restart()?,
            5 => {
                // The server is away for an hour of the tracker's time.
                rsyslog.stop().await?;
                log.set_clock(3_600);
            }
            9 => rsyslog.start_again().await?,
            _ => {}
        }
    }
    agent.kill()?;
    let agent = start(&pod).await?;
    rsyslog
        .until("every event", LIMIT, |received| {
            let ids: BTreeSet<&str> = received
                .records
                .iter()
                .map(|record| record.field("id"))
                .collect();
            ids.len() >= events
        })
        .await?;
    end(agent, &pod).await?;
    rsyslog.stop().await?;

    let auditor = reader(&store.minio).await?;
    let copy = rsyslog.file();
    let copy = copy.to_str().context("a path of UTF-8")?;
    let said = Said::of(&store.minio, &auditor, &["verify", "--against", copy]).await?;
    let complete = format!("complete: {events} events, chain intact");
    assert_eq!(said.verdict(), (complete.as_str(), Some(0)), "{said:?}");
    let both = format!("{events} records are in the record and in the copy");
    assert!(said.stderr.contains(&both), "{said:?}");
    // Each message has its place, and whoever reads those alone sees the same chain.
    let received = rsyslog.received()?;
    let mut places: Vec<(u64, &str)> = Vec::new();
    for record in &received.records {
        places.push((record.field("sequence").parse()?, record.field("chain")));
    }
    places.sort_unstable();
    places.dedup();
    let numbers: Vec<u64> = places.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=events as u64).collect::<Vec<_>>());
    let listed = Said::of(&store.minio, &auditor, &["list", "-o", "json"]).await?;
    let mut restarts = BTreeSet::new();
    for (line, place) in listed.stdout.lines().zip(&places) {
        let event: Value = serde_json::from_str(line)?;
        assert_eq!(
            (&event["sequence"], &event["chain"]),
            (&json!(place.0), &json!(place.1))
        );
        restarts.insert(event["restart"].as_u64());
    }
    assert_eq!(
        restarts,
        [Some(0), Some(1), Some(2)].into(),
        "it says that the tracker was restarted"
    );
    Ok(())
}

/// The number of a record's event.
fn number(line: &str) -> Result<u64> {
    let record: Value = serde_json::from_str(line)?;
    record["sequence"].as_u64().context("no sequence")
}

/// An object of the record, as its lines.
struct Opened {
    key: String,
    lines: Vec<String>,
}

impl Opened {
    async fn of(minio: &Minio, key: &str) -> Result<Self> {
        let path = format!("/{BUCKET}/{key}");
        let answer = minio.request(&Method::GET, &path, "", Bytes::new()).await?;
        ensure!(answer.status == 200, "HTTP {}", answer.status);
        let mut text = String::new();
        MultiGzDecoder::new(&answer.body[..]).read_to_string(&mut text)?;
        Ok(Self {
            key: key.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
        })
    }

    fn packed(&self) -> Result<Vec<u8>> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        for line in &self.lines {
            std::io::Write::write_all(&mut gzip, format!("{line}\n").as_bytes())?;
        }
        Ok(gzip.finish()?)
    }

    async fn put(&self, minio: &Minio) -> Result<()> {
        minio.put(BUCKET, &self.key, self.packed()?.into()).await
    }
}

async fn remove(minio: &Minio, key: &str) -> Result<()> {
    let path = format!("/{BUCKET}/{key}");
    let removed = minio
        .request(&Method::DELETE, &path, "", Bytes::new())
        .await?;
    ensure!(removed.status == 204, "HTTP {}", removed.status);
    Ok(())
}

/// The lines with something in the third put in place of something else.
fn edited(lines: &[String], from: &str, to: &str) -> Vec<String> {
    let mut edited = lines.to_vec();
    edited[2] = edited[2].replacen(from, to, 1);
    assert_ne!(edited, lines);
    edited
}

/// What can be done to the lines of an object, and what is said of it: a finding, and the beginning of the verdict.
fn tampered(lines: &[String], third: u64, id: &str) -> [(Vec<String>, String, &'static str); 8] {
    let mut removed = lines.to_vec();
    removed.remove(2);
    let mut changed = lines.to_vec();
    changed[2] = changed[2].replace(r#""actor":""#, r#""actor":"not "#);
    let mut inserted = lines.to_vec();
    inserted.insert(2, lines[2].replace(id, "0123456789abcdef-7"));
    let mut swapped = lines.to_vec();
    swapped.swap(2, 3);
    [
        (
            edited(lines, r#"{"time":"20"#, r#"{"time":"21"#),
            format!("changed: event {third}, record {id} of 21"),
            "incomplete: 200 events, 1 changed, ",
        ),
        (
            edited(
                lines,
                r#","sequence""#,
                r#","audit_fault":"missing actor","sequence""#,
            ),
            format!("changed: event {third}, record {id} of "),
            "incomplete: 200 events (1 not as the contract has them), 1 changed, ",
        ),
        (
            edited(
                lines,
                r#""pod":"event-tracker-1""#,
                r#""pod":"event-tracker-2""#,
            ),
            "changed: it says that another container wrote it".to_owned(),
            "incomplete: 200 events, 1 changed, ",
        ),
        (
            edited(lines, r#","fields":"#, r#","message":"{}","fields":"#),
            "unreadable: a record of ".to_owned(),
            "incomplete: 199 events, 1 missing, 1 unreadable, ",
        ),
        (
            removed,
            format!("event {third} is missing, between "),
            "incomplete: 199 events, 1 missing, ",
        ),
        (
            changed,
            format!("changed: event {third}, record {id} of "),
            "incomplete: 200 events, 1 changed, ",
        ),
        (
            inserted,
            format!("inserted: event {third}, record 0123456789abcdef-7 of "),
            "incomplete: 201 events, 1 inserted, ",
        ),
        (
            swapped,
            format!("out of order: event {third}, record {id} of "),
            "incomplete: 200 events, 1 out of order, ",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_to_the_record_by_hand_is_found_and_named() -> Result<()> {
    const EVENTS: usize = 200;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    written(&store, EVENTS).await?;
    let auditor = reader(&store.minio).await?;
    let verify = async || Said::of(&store.minio, &auditor, &["verify"]).await;
    let said = verify().await?;
    assert_eq!(
        said.verdict(),
        ("complete: 200 events, chain intact", Some(0)),
        "{said:?}"
    );
    let keys = store.minio.keys(BUCKET, "logs/audit/").await?;
    let objects: Vec<&String> = keys
        .iter()
        .filter(|key| key.ends_with("ndjson.gz"))
        .collect();
    ensure!(objects.len() > 3, "{keys:?}");
    let original = Opened::of(&store.minio, objects[1]).await?;
    let third = number(&original.lines[2])?;
    let id: Value = serde_json::from_str(&original.lines[2])?;
    let id = id["record_id"].as_str().context("no id")?.to_owned();

    for (lines, finding, summary) in tampered(&original.lines, third, &id) {
        let opened = Opened {
            key: original.key.clone(),
            lines,
        };
        opened.put(&store.minio).await?;
        let said = verify().await?;
        assert_eq!(said.code, Some(4), "{said:?}");
        assert!(
            said.stdout.lines().any(|line| line.starts_with(&finding)),
            "{finding}: {said:?}"
        );
        let (last, _) = said.verdict();
        assert!(
            last.starts_with(summary) && last.ends_with("chain broken"),
            "{summary}: {said:?}"
        );
    }
    original.put(&store.minio).await?;
    // A whole object, between two others and at the end of the first run.
    let last_of_run = objects
        .iter()
        .rposition(|key| key.contains("/0000-"))
        .context("no first run")?;
    for key in [objects[1], objects[last_of_run]] {
        let opened = Opened::of(&store.minio, key).await?;
        remove(&store.minio, key).await?;
        let said = verify().await?;
        let (first, last) = (
            number(&opened.lines[0])?,
            number(&opened.lines[opened.lines.len() - 1])?,
        );
        let finding = format!("events {first} to {last} are missing, ");
        assert_eq!(said.code, Some(4), "{said:?}");
        assert!(
            said.stdout.lines().any(|line| line.starts_with(&finding)),
            "{finding}: {said:?}"
        );
        opened.put(&store.minio).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_record_is_not_passed_over_in_a_list_and_a_forged_time_ends_no_reading()
-> Result<()> {
    const EVENTS: usize = 200;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    written(&store, EVENTS).await?;
    let auditor = reader(&store.minio).await?;
    let keys = store.minio.keys(BUCKET, "logs/audit/").await?;
    let mut objects = keys.iter().filter(|key| key.ends_with("ndjson.gz"));
    let second = objects.nth(1).context("no second object")?;
    let original = Opened::of(&store.minio, second).await?;
    let opened = Opened {
        key: original.key.clone(),
        lines: edited(
            &original.lines,
            r#","fields":"#,
            r#","message":"{}","fields":"#,
        ),
    };
    opened.put(&store.minio).await?;
    let listed = Said::of(&store.minio, &auditor, &["list"]).await?;
    assert_eq!(
        (listed.code, listed.stdout.lines().count()),
        (Some(4), EVENTS),
        "{listed:?}"
    );
    assert!(
        listed
            .stderr
            .contains("cannot be read: it has both `message` and `fields`: "),
        "{listed:?}"
    );
    let opened = Opened {
        key: original.key.clone(),
        lines: edited(&original.lines, r#"{"time":"20"#, r#"{"time":"21"#),
    };
    opened.put(&store.minio).await?;
    let until = ["--to", "2099-01-01T00:00:00Z"];
    let said = Said::of(&store.minio, &auditor, &["verify", until[0], until[1]]).await?;
    let (last, code) = said.verdict();
    assert!(
        last.starts_with("incomplete: 199 events, 1 changed, ") && code == Some(4),
        "{said:?}"
    );
    let listed = Said::of(&store.minio, &auditor, &["list", until[0], until[1]]).await?;
    assert_eq!(
        (listed.code, listed.stdout.lines().count()),
        (Some(4), EVENTS),
        "{listed:?}"
    );
    Ok(())
}

/// Nothing is missing that anything tells of, and that is not called complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_removed_leaves_the_verdict_open() -> Result<()> {
    const EVENTS: usize = 60;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    written(&store, EVENTS).await?;
    let auditor = reader(&store.minio).await?;
    let verify = async || Said::of(&store.minio, &auditor, &["verify"]).await;
    let keys = store.minio.keys(BUCKET, "logs/audit/").await?;
    let record = keys
        .iter()
        .find(|key| key.contains("/0001-") && key.ends_with("-complete.json"))
        .context("the last run has no completeness record")?;
    remove(&store.minio, record).await?;
    let said = verify().await?;
    assert_eq!(
        said.verdict(),
        (
            "not proven complete: 60 events, chain intact, 1 stream open",
            Some(3)
        ),
        "{said:?}"
    );
    assert!(
        said.stdout
            .starts_with("not proven: there is no completeness record: it still runs, "),
        "{said:?}"
    );
    // With all that it spoke of.
    for key in keys.iter().filter(|key| key.contains("/0001-")) {
        if key != record {
            remove(&store.minio, key).await?;
        }
    }
    let said = verify().await?;
    assert_eq!(
        said.verdict(),
        (
            "not proven complete: 30 events, chain intact, 1 stream open",
            Some(3)
        ),
        "{said:?}"
    );
    assert!(
        said.stdout.starts_with(
            "not proven: its completeness record says that the container was started again, "
        ),
        "{said:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_by_name_actor_target_and_time() -> Result<()> {
    const EVENTS: usize = 120;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let auditor = reader(&store.minio).await?;
    let list = async |flags: &[&str]| {
        let mut arguments = vec!["list"];
        arguments.extend(flags);
        Said::of(&store.minio, &auditor, &arguments).await
    };
    let nothing = list(&[]).await?;
    assert_eq!(
        (nothing.code, &*nothing.stdout),
        (Some(5), ""),
        "{nothing:?}"
    );
    let verified = Said::of(&store.minio, &auditor, &["verify"]).await?;
    assert_eq!(
        verified.verdict(),
        ("nothing: no events in this time", Some(5))
    );
    written(&store, EVENTS).await?;
    let all = list(&[]).await?;
    assert_eq!(
        (all.code, all.stdout.lines().count()),
        (Some(0), EVENTS + 1),
        "{all:?}"
    );
    assert!(all.stdout.starts_with("TIME "), "{all:?}");
    let mine = list(&["--event", "ModelArchived", "--actor", "ada", "-o", "json"]).await?;
    let targets: Vec<String> = mine
        .stdout
        .lines()
        .map(|line| Ok(serde_json::from_str::<Value>(line)?["event"]["target"].to_string()))
        .collect::<Result<_>>()?;
    let expected: Vec<String> = (0..EVENTS)
        .filter(|number| number % 6 == 0)
        .map(|number| format!("\"model-{number}\""))
        .collect();
    assert_eq!(targets, expected);
    let one = list(&["--target", "model-7"]).await?;
    assert_eq!(one.stdout.lines().count(), 2, "{one:?}");
    for (flags, code) in [
        (&["--from", "2099-01-01T00:00:00Z"][..], 5),
        (&["--to", "2020-01-01T00:00:00Z"], 5),
        (&["--from", "1h"], 0),
        (&["--from", "yesterday"], 2),
    ] {
        assert_eq!(list(flags).await?.code, Some(code), "{flags:?}");
    }
    let missing = Said::of(
        &store.minio,
        &auditor,
        &["verify", "--against", "/nonexistent/file"],
    )
    .await?;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(
        missing.stderr.contains("/nonexistent/file cannot be read"),
        "{missing:?}"
    );
    Ok(())
}

/// Somebody else's program, written by what the documentation says, finds the same.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_script_follows_the_chain_and_sees_a_change() -> Result<()> {
    const EVENTS: usize = 100;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let documentation = std::fs::read_to_string(program::workspace().join("docs/audit-events.md"))?;
    let (_, script) = documentation
        .split_once("```python\n")
        .context("no script is documented")?;
    let (script, _) = script
        .split_once("```")
        .context("the script does not end")?;
    written(&store, EVENTS).await?;
    let folder = tempfile::tempdir()?;
    for key in store.minio.keys(BUCKET, "logs/audit/").await? {
        let path = format!("/{BUCKET}/{key}");
        let answer = store
            .minio
            .request(&Method::GET, &path, "", Bytes::new())
            .await?;
        let file = folder.path().join(key.trim_start_matches("logs/"));
        std::fs::create_dir_all(file.parent().context("no folder")?)?;
        std::fs::write(file, &answer.body)?;
    }
    let run = async || {
        let python = Command::new("python3")
            .current_dir(folder.path())
            .args(["-c", script])
            .output()
            .await;
        match python {
            Ok(output) => {
                let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
                ensure!(output.status.success(), "{stderr}");
                Ok(Some(String::from_utf8(output.stdout)?))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                skip("python3 is not installed").map(|()| None)
            }
            Err(error) => Err(error.into()),
        }
    };
    let Some(said) = run().await? else {
        return Ok(());
    };
    let lines: Vec<&str> = said.lines().collect();
    assert!(
        lines.len() == 1 && lines[0].contains(": 100 events, "),
        "{said}"
    );
    let objects = store.minio.keys(BUCKET, "logs/audit/").await?;
    let object = objects.first().context("no object")?;
    let mut opened = Opened::of(&store.minio, object).await?;
    opened.lines[1] = opened.lines[1]
        .replace("ada", "eve")
        .replace("grace", "eve");
    let file = folder.path().join(object.trim_start_matches("logs/"));
    std::fs::write(file, opened.packed()?)?;
    let said = run().await?.unwrap_or_default();
    assert!(said.contains(" is not event 2\n"), "{said}");
    Ok(())
}

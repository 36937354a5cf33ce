//! Of two operators the elected one is reported to, and then the other.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::jiff::Timestamp;
use katonic_log_config::report::SinkState;
use katonic_logging_core::names;
use katonic_logging_crds::LoggingPolicy;
use katonic_logging_e2e::{
    cluster::{Options, Tier},
    eventually::eventually,
    operator::{Installed, Operator, SOON, splunk_policy},
    webhook::Address,
};
use kube::{
    Api,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::Value;
use tokio::net::TcpStream;

use super::{
    World, agents_token,
    events::{Agent, running, sink},
    metric, outside, pod, with_policy,
};

/// The lease of one that was killed has to end first.
const NEXT_LEADS: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_killed_under_load_is_followed_by_one_writer_and_no_status_becomes_false()
{
    let options = Options {
        audit_log: true,
        ..Options::default()
    };
    let installed = Installed::start(Tier::ApiServer, options).await.unwrap();
    with_policy(&installed).await;
    let address = Address::free().unwrap().socket();
    let operator = outside(&installed, "one", address).await;
    let world = World {
        installed,
        operator,
        address,
    };
    let agent = Agent::of(&world, &running(&world.installed, "web").await).await;
    let second = outside(&world.installed, "two", address).await;
    agent
        .says(&world.installed, sink(SinkState::Delivering, 0))
        .await;
    world
        .installed
        .ready("logs", "True", "InForce")
        .await
        .unwrap();
    // Everything that anybody can see of the policy from now on.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let watching = tokio::spawn(follow(world.installed.policies(), seen.clone()));
    let World {
        installed,
        operator,
        address: _,
    } = world;
    let log = || std::fs::read_to_string(installed.cluster.audit_log().unwrap()).unwrap();
    operator.kill().await.unwrap();
    let killed = Timestamp::now();
    let policies = installed.policies();
    eventually("the second one acts", NEXT_LEADS, async || {
        // Whoever answers or not: agents report all the time, and pods and policies come and go.
        let _ = agent
            .tries(&installed, sink(SinkState::Delivering, 0))
            .await;
        let name = "later";
        if policies.get_opt(name).await?.is_none() {
            installed
                .create(&splunk_policy(
                    name,
                    "https://hec.example.com:8088",
                    "splunk",
                ))
                .await?;
        }
        let ready = policies.get(name).await?.status.unwrap_or_default();
        let mut conditions = ready.conditions.into_iter();
        Ok(conditions.find(|one| one.type_ == "Accepted"))
    })
    .await
    .unwrap();
    agent.says(&installed, sink(SinkState::Delivering, 0)).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    watching.abort();
    let seen = seen.lock().unwrap().clone();
    let is_false = |(status, _): &&(String, String)| status == "False";
    assert_eq!(seen.iter().find(is_false), None, "{seen:?}");
    // Nothing but the lease is written before the lease is taken.
    let user = "system:serviceaccount:katonic-logging:katonic-logging";
    let log = log();
    let entries = log.lines();
    let entries = entries.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // What the first one had sent may be answered after its end.
    let is_later = |entry: &Value| {
        let received = entry["requestReceivedTimestamp"].as_str();
        let received: Option<Timestamp> = received.and_then(|time| time.parse().ok());
        received.is_some_and(|received| received >= killed)
    };
    let entries = entries.filter(is_later);
    let reads = ["get", "list", "watch"].map(Value::from);
    let writes: Vec<(String, String)> = entries
        .filter(|entry| entry["stage"] == "ResponseComplete" && entry["user"]["username"] == user)
        .filter(|entry| !reads.contains(&entry["verb"]))
        .map(|entry| {
            let about = &entry["objectRef"];
            let of = |field: &str| about[field].as_str().unwrap_or_default().to_owned();
            (of("resource"), of("name"))
        })
        .collect();
    let first = writes
        .iter()
        .position(|(_, name)| name == names::LEASE)
        .unwrap();
    let early: Vec<_> = writes[..first]
        .iter()
        .filter(|(resource, _)| resource != "leases")
        .collect();
    assert!(early.is_empty(), "{early:?}");
    assert!(
        writes[first..]
            .iter()
            .any(|(resource, _)| resource != "leases"),
        "{writes:?}"
    );
    assert_eq!(metric(&second, "katonic_logging_leader").await, 1);
}

/// Remembers how ready the policy `logs` is said to be, and why, whenever that changes.
async fn follow(policies: Api<LoggingPolicy>, seen: Arc<Mutex<Vec<(String, String)>>>) {
    let config = watcher::Config::default().fields("metadata.name=logs");
    let mut events = watcher::watcher(policies, config)
        .default_backoff()
        .applied_objects()
        .boxed();
    while let Some(policy) = events.next().await {
        let status = policy
            .ok()
            .and_then(|policy| policy.status)
            .unwrap_or_default();
        let mut conditions = status.conditions.into_iter();
        if let Some(ready) = conditions.find(|one| one.type_ == "Ready") {
            seen.lock().unwrap().push((ready.status, ready.reason));
        }
    }
}

#[tokio::test]
async fn the_next_leader_answers_whoever_trusts_what_the_bundle_said() {
    let world = World::start().await;
    let reporter = world.reporter().await;
    let before = world.told().await;
    let web = pod(&world.installed, "web").await;
    let token = agents_token(&world.installed, &web).await;
    reporter.report(&token).await.unwrap().interval();
    // The same address: only the one that leads takes it.
    let second = outside(&world.installed, "two", world.address).await;
    eventually("the second is ready to take over", SOON, async || {
        Ok((second.get("/readyz").await?.0 == 200).then_some(()))
    })
    .await
    .unwrap();
    assert!(!second.log().unwrap().contains("failed to listen"));
    let World {
        installed,
        operator,
        address,
    } = world;
    operator.kill().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody leads");
    // The lease of one that was killed has to end first.
    let within = Duration::from_secs(40);
    eventually("the second one answers", within, async || {
        Ok((reporter.report(&token).await?.status == 200).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(metric(&second, "katonic_logging_reporting_pods").await, 1);
    assert_eq!(super::told(&installed).await, before);
}

#[tokio::test]
async fn an_address_that_somebody_else_has_keeps_no_policy_from_its_pods() {
    let installed = super::installed().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let operator: Operator = outside(&installed, "one", address).await;
    installed.ready("logs", "True", "InForce").await.unwrap();
    let log = operator.log().unwrap();
    assert!(log.contains("failed to listen for reports"), "{log}");
}

//! What the webhook and the operator ask for, beside what they may.

use k8s_openapi::api::coordination::v1::Lease;
use katonic_logging_core::names;
use katonic_logging_e2e::{cluster::Options, eventually::eventually, operator::SOON};
use kube::Api;
use serde_json::Value;

use super::World;

#[tokio::test]
async fn nothing_is_asked_for_that_the_rules_refuse_and_an_idle_operator_writes_nothing() {
    let options = Options {
        audit_log: true,
        ..Options::default()
    };
    let (world, webhook) = World::in_force(options).await;
    let entries = |since: usize| -> Vec<Value> {
        let log = std::fs::read_to_string(world.installed.cluster.audit_log().unwrap()).unwrap();
        log.lines()
            .skip(since)
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|entry| entry["stage"] == "ResponseComplete")
            .collect()
    };
    let of = |entries: Vec<Value>, account: &str| -> Vec<Value> {
        let user = format!("system:serviceaccount:katonic-logging:{account}");
        entries
            .into_iter()
            .filter(|entry| entry["user"]["username"] == user.as_str())
            .collect()
    };
    for account in ["katonic-logging", names::WEBHOOK] {
        let asked = of(entries(0), account);
        assert!(!asked.is_empty(), "{account} asks for something");
        let refused: Vec<_> = asked
            .iter()
            .filter(|entry| entry["responseStatus"]["code"] == 403)
            .collect();
        assert!(refused.is_empty(), "{refused:#?}");
    }
    let reads = ["get", "list", "watch"].map(Value::from);
    let writes_of_webhook = of(entries(0), names::WEBHOOK);
    assert!(
        writes_of_webhook
            .iter()
            .all(|entry| reads.contains(&entry["verb"])),
        "the webhook only reads"
    );
    // Idle from here on: the lease is renewed, so time has passed.
    let leases: Api<Lease> =
        Api::namespaced(world.installed.client.clone(), names::OPERATOR_NAMESPACE);
    let renewed = async || {
        let lease = leases.get(names::LEASE).await;
        lease.map(|lease| lease.spec.and_then(|spec| spec.renew_time))
    };
    let settled = std::fs::read_to_string(world.installed.cluster.audit_log().unwrap())
        .unwrap()
        .lines()
        .count();
    let last = renewed().await.unwrap();
    eventually("the lease is renewed", SOON * 2, async || {
        Ok((renewed().await? != last).then_some(()))
    })
    .await
    .unwrap();
    let written: Vec<_> = of(entries(settled), "katonic-logging")
        .into_iter()
        .filter(|entry| {
            !reads.contains(&entry["verb"]) && entry["objectRef"]["resource"] != "leases"
        })
        .collect();
    assert_eq!(written, Vec::<Value>::new());
    assert!(webhook.terminate().await.unwrap());
}

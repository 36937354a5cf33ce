//! Pods whose execution nobody knows, in the status of their policy.

use katonic_logging_e2e::{
    eventually::eventually,
    operator::{COMPUTE, SOON, condition},
};
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{World, agents_token, pod};

#[tokio::test]
async fn a_pod_without_an_execution_is_told_until_somebody_has_seen_it_although_it_has_ended() {
    let world = World::start().await;
    let reporter = world.reporter().await;
    let policies = world.installed.policies();
    let uid = policies.get("logs").await.unwrap().uid().unwrap();
    let odd = pod(&world.installed, "odd-1").await;
    let token = agents_token(&world.installed, &odd).await;
    let report = json!({"agent": "0.1.0", "uptime": 1, "last": true, "policies": [
        {"uid": uid, "sinks": [{"name": "splunk", "state": "Delivering", "unidentified": true}]},
    ]});
    let report = report.to_string();
    let sent = reporter.send(Some(&token), report.as_bytes()).await;
    assert_eq!(sent.unwrap().interval(), 60);
    let status = async || {
        let policy = policies.get("logs").await?;
        anyhow::Ok(policy.status.unwrap_or_default())
    };
    let told = eventually("the status tells of the pod", SOON, async || {
        let status = status().await?;
        let mut sinks = status.sinks.iter();
        let is_told = sinks.any(|sink| sink.unidentified.is_some());
        Ok(is_told.then_some(status))
    })
    .await
    .unwrap();
    let unidentified = told.sinks[0].unidentified.as_ref().unwrap();
    assert_eq!(unidentified.count, 1);
    let named = &unidentified.pods[0];
    assert_eq!((&*named.namespace, &*named.name), (COMPUTE, "odd-1"));
    let delivering = condition(&told, "Delivering").unwrap();
    assert_eq!(delivering.status, "True", "{delivering:?}");
    let reads = format!("`katonic-logging logs --unidentified {COMPUTE}/odd-1` reads them");
    assert!(delivering.message.contains(&reads), "{delivering:?}");
    let last = unidentified.last.0.to_string();
    assert!(delivering.message.contains(&last), "{delivering:?}");
    let seen =
        json!({"metadata": {"annotations": {"logging.katonic.ai/acknowledge-losses": last}}});
    let seen = Patch::Merge(seen);
    let parameters = PatchParams::default();
    let patched = policies.patch("logs", &parameters, &seen).await;
    patched.unwrap();
    eventually("it is not told any more", SOON, async || {
        let status = status().await?;
        let mut sinks = status.sinks.iter();
        Ok(sinks.all(|sink| sink.unidentified.is_none()).then_some(()))
    })
    .await
    .unwrap();
}

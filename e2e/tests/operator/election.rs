//! Operators that end, are killed, or lose the API server; others go on.

use std::time::Duration;

use k8s_openapi::api::{
    admissionregistration::v1::ValidatingWebhookConfiguration, core::v1::Secret,
};
use katonic_logging_e2e::{
    cluster::Component,
    eventually::eventually,
    operator::{COMPUTE, Operator, PLATFORM, SOON, splunk_policy},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use tokio::{net::TcpListener, time::timeout};

use crate::{ENDPOINT, in_force, installed};

/// Name of the webhook that holds writes.
const HOLD: &str = "hold";

#[tokio::test]
async fn an_operator_killed_at_any_moment_leaves_the_next_one_a_consistent_world() {
    let installed = installed().await;
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    for round in 0..5 {
        let operator = Operator::start(&installed.cluster, "one").await.unwrap();
        for number in 0..10 {
            let name = format!("p{round}{number}");
            installed
                .create(&splunk_policy(&name, ENDPOINT, "splunk"))
                .await
                .unwrap();
        }
        // It is in the middle of these ten: the first has been seen, and the kill is not aligned to any write.
        installed
            .ready(&format!("p{round}0"), "True", "InForce")
            .await
            .unwrap();
        operator.kill().await.unwrap();
    }
    let operator = Operator::start(&installed.cluster, "one").await.unwrap();
    for round in 0..5 {
        for number in 0..10 {
            installed
                .ready(&format!("p{round}{number}"), "True", "InForce")
                .await
                .unwrap();
        }
    }
    for namespace in [PLATFORM, COMPUTE] {
        assert_eq!(
            installed
                .bundle(namespace)
                .await
                .unwrap()
                .unwrap()
                .policies
                .len(),
            50
        );
    }
    // The next one finds nothing to do: not a byte is written again.
    let version = |secret: Option<Secret>| secret.and_then(|secret| secret.resource_version());
    let before = version(installed.bundle_secret(PLATFORM).await.unwrap());
    operator.kill().await.unwrap();
    let operator = Operator::start(&installed.cluster, "one").await.unwrap();
    eventually("it has reconciled", SOON, async || {
        let (_, metrics) = operator.get("/metrics").await?;
        Ok(metrics
            .contains("reconciles_total{outcome=\"success\"}")
            .then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(
        version(installed.bundle_secret(PLATFORM).await.unwrap()),
        before
    );
}

/// A webhook for the Secrets of a namespace that takes every question and answers none, so that a write stays under way.
async fn hold_writes(webhooks: &Api<ValidatingWebhookConfiguration>, port: u16) {
    let webhook = json!({
        "metadata": {"name": HOLD},
        "webhooks": [{
            "name": "hold.example.com",
            "clientConfig": {"url": format!("https://127.0.0.1:{port}/")},
            "rules": [{
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["secrets"],
            }],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": COMPUTE}},
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "timeoutSeconds": 30,
            "admissionReviewVersions": ["v1"],
        }],
    });
    let webhook = serde_json::from_value(webhook).unwrap();
    webhooks
        .create(&PostParams::default(), &webhook)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_operator_killed_in_the_middle_of_a_reconcile_leaves_work_that_the_next_one_does() {
    let installed = installed().await;
    let operator = in_force(&installed).await;
    let client = installed.cluster.client().await.unwrap();
    let webhooks = Api::all(client);
    let holding = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    hold_writes(&webhooks, holding.local_addr().unwrap().port()).await;
    let secrets = installed.secrets(COMPUTE);
    let probing = async {
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let mut probe = Secret::default();
        probe.metadata.name = Some("probe".to_owned());
        loop {
            // Until the API server knows the webhook, this succeeds at once.
            let _ = secrets.create(&params, &probe).await;
        }
    };
    let probed = tokio::select! {
        asked = holding.accept() => asked.unwrap(),
        () = probing => unreachable!("it never ends"),
    };
    drop(probed);
    let policies = async || {
        let bundle = installed.bundle(COMPUTE).await.unwrap();
        bundle.map_or(0, |bundle| bundle.policies.len())
    };
    let before = policies().await;

    installed
        .create(&splunk_policy("during", ENDPOINT, "splunk"))
        .await
        .unwrap();
    // Its write is under way, and cannot have been done.
    let asked = timeout(SOON, holding.accept()).await.unwrap().unwrap();
    operator.kill().await.unwrap();
    webhooks
        .delete(HOLD, &DeleteParams::default())
        .await
        .unwrap();
    drop((asked, holding));
    assert_eq!(policies().await, before);

    let _next = Operator::start(&installed.cluster, "one").await.unwrap();
    installed.ready("during", "True", "InForce").await.unwrap();
    assert_eq!(policies().await, before + 1);
}

#[tokio::test]
async fn of_two_operators_one_works_and_the_other_takes_over() {
    let installed = installed().await;
    let first = in_force(&installed).await;
    let second = Operator::start(&installed.cluster, "two").await.unwrap();
    let leads = async |operator: &Operator, expected: u8| {
        eventually(
            format!("leader is {expected}"),
            Duration::from_secs(30),
            async || {
                let (_, metrics) = operator.get("/metrics").await?;
                Ok(metrics
                    .contains(&format!("katonic_logging_leader {expected}\n"))
                    .then_some(()))
            },
        )
        .await
        .unwrap();
    };
    leads(&first, 1).await;
    eventually("the second is ready to take over", SOON, async || {
        Ok((second.get("/readyz").await?.0 == 200).then_some(()))
    })
    .await
    .unwrap();
    leads(&second, 0).await;
    assert!(first.terminate().await.unwrap());
    leads(&second, 1).await;
    installed
        .create(&splunk_policy("next", ENDPOINT, "splunk"))
        .await
        .unwrap();
    installed.ready("next", "True", "InForce").await.unwrap();
    assert_eq!(second.get("/healthz").await.unwrap().0, 200);
}

#[tokio::test]
async fn an_api_server_that_goes_away_and_comes_back_is_no_end() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    installed
        .cluster
        .stop_component(Component::ApiServer)
        .unwrap();
    installed
        .cluster
        .start_component(Component::ApiServer)
        .await
        .unwrap();
    installed
        .create(&splunk_policy("later", ENDPOINT, "splunk"))
        .await
        .unwrap();
    installed.ready("later", "True", "InForce").await.unwrap();
}

//! Certificates of the operator's own, rotated while pods are created; and those of others.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::apps::v1::Deployment,
    jiff::{SignedDuration, Timestamp},
};
use katonic_logging_core::{
    certificate::{CERTIFICATE, Certificates, is_trusted},
    names,
};
use katonic_logging_e2e::{
    certificate::made,
    cluster::{Options, Tier},
    eventually::eventually,
    operator::{Installed, Operator, SOON},
    program,
    webhook::{Address, Webhook},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{World, apply, install, start_operator};

#[tokio::test]
async fn a_certificate_is_rotated_while_pods_are_created_and_each_of_them_is_injected() {
    let (world, webhook) = World::in_force(Options::default()).await;
    let host = world.address.socket().ip().to_string();
    let (first, _) = world.pair().await;
    // As if the certificate had been made two months ago, and the next one by an operator that ended before it told anybody.
    let now = Timestamp::now();
    let old = now - SignedDuration::from_hours(61 * 24);
    let next = now - SignedDuration::from_mins(10);
    let certificates = Certificates::default()
        .with(made(old, &host).unwrap(), None, now)
        .with(made(next, &host).unwrap(), None, now);
    let data = certificates.data();
    let of = |data: &BTreeMap<_, k8s_openapi::ByteString>, key: &str| {
        String::from_utf8(data[key].0.clone()).unwrap()
    };
    let (serving, next) = (of(&data, CERTIFICATE), of(&data, "next.crt"));
    world.merge_certificate(data).await;
    let (pods, seen) = (Cell::new(0), RefCell::new(Vec::new()));
    let known = Cell::new(None);
    eventually("the next certificate serves", SOON * 6, async || {
        // One pod after another, without a break.
        for _ in 0..20 {
            anyhow::ensure!(world.agents_of_new_pod().await == 1, "a pod without agent");
            pods.set(pods.get() + 1);
        }
        let (certificate, _) = world.pair().await;
        if seen.borrow().last() != Some(&certificate) {
            seen.borrow_mut().push(certificate.clone());
        }
        let published = world.published().await.unwrap_or_default();
        let trusted = is_trusted(&published, &certificate, &host, Timestamp::now());
        assert!(trusted, "what serves is trusted");
        if is_trusted(&published, &next, &host, Timestamp::now()) {
            known.set(known.get().or_else(|| Some(Instant::now())));
        }
        Ok((certificate == next).then_some(()))
    })
    .await
    .unwrap();
    assert!(pods.get() >= 20, "{}", pods.get());
    // The minute that every API server has counts from when it is told, whenever it was made.
    let known = known.get().unwrap().elapsed();
    assert!(known > Duration::from_secs(55), "{known:?}");
    assert_eq!(seen.into_inner(), [serving.clone(), next.clone()]);
    // Until it expires, a replica may show the former one.
    let published = world.published().await.unwrap();
    assert!(is_trusted(&published, &serving, &host, Timestamp::now()));
    eventually("the webhook shows the next one", SOON, async || {
        Ok((world.agents_of_new_pod().await == 1
            && webhook.log()?.matches("a certificate was taken up").count() >= 3)
            .then_some(()))
    })
    .await
    .unwrap();
    assert_ne!(first, next);
}

#[tokio::test]
async fn a_deleted_certificate_is_made_anew_without_a_pod_missing_its_agent() {
    let (world, webhook) = World::in_force(Options::default()).await;
    let (before, _) = world.pair().await;
    world
        .installed
        .secrets(names::OPERATOR_NAMESPACE)
        .delete(
            names::WEBHOOK_CERTIFICATE,
            &kube::api::DeleteParams::default(),
        )
        .await
        .unwrap();
    eventually("another certificate is there", SOON, async || {
        assert_eq!(world.agents_of_new_pod().await, 1);
        let secret = world.certificate().await;
        let now = secret
            .and_then(|secret| secret.data)
            .and_then(|data| data.get(CERTIFICATE).cloned());
        Ok(now
            .is_some_and(|now| now.0 != before.as_bytes())
            .then_some(()))
    })
    .await
    .unwrap();
    eventually("the webhook shows it", SOON, async || {
        assert_eq!(world.agents_of_new_pod().await, 1);
        Ok((webhook.log()?.matches("a certificate was taken up").count() == 2).then_some(()))
    })
    .await
    .unwrap();
    // No key is written where people read.
    let (_, key) = world.pair().await;
    let secret = key.lines().nth(1).unwrap();
    assert!(!webhook.log().unwrap().contains(secret));
    assert!(!world.operator.log().unwrap().contains(secret));
}

/// As a node would report.
async fn is_available(installed: &Installed) {
    let deployments: Api<Deployment> =
        Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
    let available = json!({"status": {"replicas": 2, "readyReplicas": 2, "availableReplicas": 2}});
    deployments
        .patch_status(
            names::WEBHOOK,
            &PatchParams::default(),
            &Patch::Merge(available),
        )
        .await
        .unwrap();
}

/// The webhook with certificates from cert-manager, without the objects that need cert-manager.
async fn with_cert_manager(installed: &Installed) {
    let folder = program::workspace().join("manifests/webhook-cert-manager");
    let rendered = installed
        .cluster
        .kubectl(&["kustomize", &folder.to_string_lossy()])
        .await
        .unwrap()
        .ok()
        .unwrap();
    let of_others = |object: &&str| !object.contains("apiVersion: cert-manager.io/v1");
    let objects: Vec<&str> = rendered.split("---\n").filter(of_others).collect();
    let apply = ["apply", "--server-side", "-f", "-"];
    let said = installed
        .cluster
        .kubectl_with(&apply, &objects.join("---\n"))
        .await;
    said.unwrap().ok().unwrap();
}

/// With an operator that reaches the webhook by its Service, which leads nowhere without a node.
async fn by_service(installed: Installed) -> World {
    let operator = Operator::start(&installed.cluster, "one").await.unwrap();
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    let world = World {
        installed,
        operator,
        address: Address::free().unwrap(),
    };
    world.policy().await;
    world
}

async fn names_the_certificate(world: &World) {
    eventually(
        "the configuration names the certificate",
        SOON,
        async || {
            let found = world.configuration().await;
            let annotations = found.and_then(|found| found.metadata.annotations);
            let named = annotations.and_then(|mut all| all.remove(names::INJECT_CA_ANNOTATION));
            Ok(named.filter(|named| named == "katonic-logging/katonic-logging-webhook"))
        },
    )
    .await
    .unwrap();
}

/// What cert-manager's cainjector does; then the operator writes its configuration for another reason.
async fn is_injected_and_left_alone(world: &World) {
    let injected = json!({"webhooks": [{"name": names::WEBHOOK_CONFIGURATION, "clientConfig": {"caBundle": "LS0tCg=="}}]});
    let drift = json!({"metadata": {"labels": null}});
    let configurations = world.configurations();
    for patch in [Patch::Strategic(injected), Patch::Merge(drift)] {
        let name = names::WEBHOOK_CONFIGURATION;
        configurations
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
    eventually("the label is there again", SOON, async || {
        let found = world.configuration().await;
        Ok(found.and_then(|found| found.metadata.labels).map(|_| ()))
    })
    .await
    .unwrap();
    assert_eq!(world.published().await.as_deref(), Some("---\n"));
}

#[tokio::test]
async fn what_cert_manager_looks_after_is_left_to_it() {
    let installed = Installed::start(Tier::ApiServer, Options::default())
        .await
        .unwrap();
    install(&installed, "Webhook").await;
    with_cert_manager(&installed).await;
    is_available(&installed).await;
    let world = by_service(installed).await;
    names_the_certificate(&world).await;
    assert_eq!(world.published().await, None);
    assert!(world.certificate().await.is_none());
    let message = world.ready("False", "WebhookUnreachable").await;
    assert!(
        message.contains("cert-manager has not filled in `caBundle`"),
        "{message}"
    );
    is_injected_and_left_alone(&world).await;
    let untrusted = async || {
        let message = world.ready("False", "WebhookUnreachable").await;
        Ok((!message.contains("cert-manager")).then_some(()))
    };
    eventually("what hinders now is told", SOON, untrusted)
        .await
        .unwrap();
}

#[tokio::test]
async fn whom_api_servers_trust_stays_until_cert_manager_has_named_another() {
    let installed = Installed::start(Tier::ApiServer, Options::default())
        .await
        .unwrap();
    install(&installed, "Webhook").await;
    apply(&installed, "manifests/webhook").await;
    is_available(&installed).await;
    let world = by_service(installed).await;
    let ours = eventually("an authority is published", SOON, async || {
        Ok(world.published().await)
    })
    .await
    .unwrap();
    with_cert_manager(&world.installed).await;
    names_the_certificate(&world).await;
    assert_eq!(world.published().await, Some(ours));
    is_injected_and_left_alone(&world).await;
}

/// An operator that is new takes up what the one before left in the cluster.
#[tokio::test]
async fn a_new_operator_makes_no_new_certificate() {
    let (world, webhook) = World::in_force(Options::default()).await;
    let before = world.certificate().await.unwrap().data;
    let World {
        installed,
        operator,
        address,
    } = world;
    operator.kill().await.unwrap();
    let operator = start_operator(&installed, address).await;
    let world = World {
        installed,
        operator,
        address,
    };
    eventually("it has reconciled", SOON, async || {
        let (_, metrics) = world.operator.get("/metrics").await?;
        let done = metrics.contains("reconciles_total{outcome=\"success\"}");
        Ok(done.then_some(()))
    })
    .await
    .unwrap();
    world.ready("True", "InForce").await;
    assert_eq!(world.certificate().await.unwrap().data, before);
    assert_eq!(world.agents_of_new_pod().await, 1);
    let _: Webhook = webhook;
}

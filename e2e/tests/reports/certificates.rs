//! The certificate, rotated while an agent reports that trusts what its bundle says.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::Secret,
    jiff::{SignedDuration, Timestamp},
};
use katonic_logging_core::{
    certificate::{CERTIFICATE, Certificates, PRIVATE_KEY},
    names,
};
use katonic_logging_e2e::{
    certificate::made,
    eventually::eventually,
    operator::{COMPUTE, PLATFORM, SOON},
};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::{World, agents_token, outside, pod, reporter::Reporter, told};

type Data = BTreeMap<String, ByteString>;

fn secrets(world: &World) -> Api<Secret> {
    world.installed.secrets(names::OPERATOR_NAMESPACE)
}

async fn data(world: &World) -> Data {
    let secret = secrets(world).get_opt(names::REPORTS_CERTIFICATE).await;
    secret
        .unwrap()
        .and_then(|secret| secret.data)
        .unwrap_or_default()
}

/// How many authorities agents of both planes trust at least.
async fn authorities(world: &World) -> usize {
    let mut least = usize::MAX;
    for plane in [PLATFORM, COMPUTE] {
        let bundle = world.installed.bundle(plane).await.unwrap();
        let reporting = bundle.and_then(|bundle| bundle.reporting);
        let pem = reporting.map(|reporting| reporting.certificate_authorities);
        let pem = pem.unwrap_or_default();
        least = least.min(pem.matches("BEGIN CERTIFICATE").count());
    }
    least
}

/// The certificate that a new connection is shown, which has to be trusted.
async fn shown(reporter: &Reporter) -> CertificateDer<'static> {
    let stream = reporter.connect().await.unwrap();
    let (_, connection) = stream.get_ref();
    let chain = connection.peer_certificates().unwrap();
    chain[0].clone().into_owned()
}

fn certificate(data: &Data, key: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&data[key].0).unwrap()
}

#[tokio::test]
async fn through_a_rotation_every_report_is_taken_of_an_agent_that_has_what_its_bundle_said() {
    let World {
        installed,
        operator,
        address,
    } = World::start().await;
    // Agents have been told of an operator, which has left a certificate two months ago.
    told(&installed).await;
    assert!(operator.terminate().await.unwrap());
    let host = address.ip().to_string();
    let old = Timestamp::now() - SignedDuration::from_hours(61 * 24);
    let certificates = Certificates::default().with(made(old, &host).unwrap(), None, old);
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(names::REPORTS_CERTIFICATE.to_owned()),
            labels: Some(
                [(
                    names::MANAGED_BY_LABEL.to_owned(),
                    names::FIELD_MANAGER.to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(certificates.data()),
        ..Secret::default()
    };
    let all = installed.secrets(names::OPERATOR_NAMESPACE);
    let parameters = DeleteParams::default();
    all.delete(names::REPORTS_CERTIFICATE, &parameters)
        .await
        .unwrap();
    all.create(&PostParams::default(), &secret).await.unwrap();
    let operator = outside(&installed, "two", address).await;
    let world = World {
        installed,
        operator,
        address,
    };
    let web = pod(&world.installed, "web").await;
    let token = agents_token(&world.installed, &web).await;
    // The next one is made and told of; the old one serves as long as agents may not have heard of it.
    eventually("agents trust the next authority too", SOON, async || {
        Ok((authorities(&world).await == 2).then_some(()))
    })
    .await
    .unwrap();
    let reporter = world.reporter().await;
    reporter.report(&token).await.unwrap().interval();
    let before = data(&world).await;
    assert_eq!(shown(&reporter).await, certificate(&before, CERTIFICATE));
    let next = certificate(&before, "next.crt");
    // Ten minutes later, as the operator does it then.
    let switched = Certificates::read(&before, &host).switched(Timestamp::now());
    let mut change = json!(switched.data());
    for key in before.keys().filter(|key| key.starts_with("next")) {
        change[key] = Value::Null;
    }
    let patch = Patch::Merge(json!({"data": change}));
    secrets(&world)
        .patch(names::REPORTS_CERTIFICATE, &PatchParams::default(), &patch)
        .await
        .unwrap();
    eventually("the next one is shown", SOON, async || {
        // Somebody who does not trust what is shown gets no answer.
        let _ = reporter.report(&token).await?;
        Ok((shown(&reporter).await == next).then_some(()))
    })
    .await
    .unwrap();
    reporter.report(&token).await.unwrap().interval();
    let expiry = world.metric("katonic_logging_reports_certificate_expiry_timestamp_seconds");
    let in_two_months = Timestamp::now() + SignedDuration::from_hours(60 * 24);
    assert!(expiry.await > u64::try_from(in_two_months.as_second()).unwrap());
    // The former authority stays trusted, for agents that have not heard of it.
    assert_eq!(authorities(&world).await, 2);
}

#[tokio::test]
async fn a_deleted_certificate_is_renewed_without_a_report_being_refused() {
    let world = World::start().await;
    let reporter = world.reporter().await;
    let web = pod(&world.installed, "web").await;
    let token = agents_token(&world.installed, &web).await;
    reporter.report(&token).await.unwrap().interval();
    let before = data(&world).await;
    let parameters = DeleteParams::default();
    secrets(&world)
        .delete(names::REPORTS_CERTIFICATE, &parameters)
        .await
        .unwrap();
    // By an agent that has read no bundle since.
    eventually("the Secret is there again", SOON, async || {
        anyhow::ensure!([200, 429].contains(&reporter.report(&token).await?.status));
        Ok(data(&world).await.contains_key("next.crt").then_some(()))
    })
    .await
    .unwrap();
    let after = data(&world).await;
    // What is shown is as it was, and the next one comes when agents can trust it.
    assert_eq!(after[CERTIFICATE], before[CERTIFICATE]);
    assert_ne!(after["next.crt"], before[CERTIFICATE]);
    eventually("agents trust the next authority too", SOON, async || {
        Ok((authorities(&world).await == 2).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(shown(&reporter).await, certificate(&before, CERTIFICATE));
    // Garbage in its place is no certificate.
    let patch = Patch::Merge(json!({"data": {CERTIFICATE: "Z2FyYmFnZQ==", "next.crt": null}}));
    secrets(&world)
        .patch(names::REPORTS_CERTIFICATE, &PatchParams::default(), &patch)
        .await
        .unwrap();
    eventually("it is put right", SOON, async || {
        anyhow::ensure!([200, 429].contains(&reporter.report(&token).await?.status));
        Ok((data(&world).await.get(CERTIFICATE) == before.get(CERTIFICATE)).then_some(()))
    })
    .await
    .unwrap();
    // No key is written where people read.
    let key = String::from_utf8(before[PRIVATE_KEY].0.clone()).unwrap();
    let line = key.lines().nth(1).unwrap();
    assert!(!world.operator.log().unwrap().contains(line));
}

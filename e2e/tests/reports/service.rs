//! The Service that agents are told of, and the `EndpointSlice` by which it leads to the elected operator.

use k8s_openapi::api::{coordination::v1::Lease, core::v1::Service, discovery::v1::EndpointSlice};
use katonic_logging_core::names;
use katonic_logging_e2e::{
    cluster::{Options, Tier},
    eventually::eventually,
    operator::{COMPUTE, Installed, Operator, SOON},
    webhook::Address,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{agents_token, installed, pod, reporter::Reporter, told, with_policy};

/// An operator that believes itself to be in a pod with this address.
async fn inside(installed: &Installed, identity: &str, pod_ip: &str, listen: &str) -> Operator {
    let arguments = ["--pod-ip", pod_ip, "--report-address", listen];
    Operator::start_with(&installed.cluster, identity, &arguments)
        .await
        .unwrap()
}

fn slices(installed: &Installed) -> Api<EndpointSlice> {
    Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE)
}

fn services(installed: &Installed) -> Api<Service> {
    Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE)
}

async fn leads_to(installed: &Installed, pod_ip: &str, port: u16) {
    eventually(format!("the Service leads to {pod_ip}"), SOON, async || {
        let slice = slices(installed).get_opt(names::REPORTS).await?;
        let Some(slice) = slice else { return Ok(None) };
        let labels = slice.labels();
        let label = |key: &str| labels.get(key).map(String::as_str);
        let is_marked = label(names::SERVICE_NAME_LABEL) == Some(names::REPORTS)
            && label(names::ENDPOINTS_MANAGED_BY_LABEL) == Some(names::GROUP)
            && label(names::MANAGED_BY_LABEL) == Some(names::FIELD_MANAGER);
        let ports = slice.ports.iter().flatten();
        let ports: Vec<_> = ports.map(|one| (one.name.as_deref(), one.port)).collect();
        let endpoints = slice.endpoints.iter().flatten();
        let addresses: Vec<&str> = endpoints
            .flat_map(|one| &one.addresses)
            .map(String::as_str)
            .collect();
        let leads = is_marked
            && slice.address_type == "IPv4"
            && addresses == [pod_ip]
            && ports == [(Some("https"), Some(i32::from(port)))];
        anyhow::ensure!(leads, "{slice:?}");
        Ok(Some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_service_leads_to_the_elected_operator_whatever_others_make_of_it() {
    let installed = installed().await;
    let address = Address::free().unwrap().socket();
    let listen = address.to_string();
    let first = inside(&installed, "one", "10.1.2.3", &listen).await;
    leads_to(&installed, "10.1.2.3", address.port()).await;
    // What agents are told: the Service by number, with its name in the certificate.
    let reporting = told(&installed).await;
    let service = services(&installed).get(names::REPORTS).await.unwrap();
    let cluster_ip = service.spec.unwrap().cluster_ip.unwrap();
    assert_eq!(reporting.url.to_string(), format!("https://{cluster_ip}/"));
    assert_eq!(
        reporting.server_name,
        "katonic-logging-reports.katonic-logging.svc"
    );
    let reporter = Reporter::new(&reporting, address).unwrap();
    let web = pod(&installed, "web").await;
    let token = agents_token(&installed, &web).await;
    reporter.report(&token).await.unwrap().interval();
    // It goes with the Service, and so does the certificate.
    let slice = slices(&installed).get(names::REPORTS).await.unwrap();
    let secrets = installed.secrets(names::OPERATOR_NAMESPACE);
    let secret = secrets.get(names::REPORTS_CERTIFICATE).await.unwrap();
    for owners in [slice.owner_references(), secret.owner_references()] {
        assert_eq!(owners[0].uid, service.metadata.uid.clone().unwrap());
    }
    for drift in [
        json!({"endpoints": [{"addresses": ["10.9.9.9"]}]}),
        json!({"ports": [{"name": "other", "port": 1, "protocol": "TCP"}]}),
        json!({"metadata": {"labels": {names::SERVICE_NAME_LABEL: "other"}}}),
        json!({"metadata": {"labels": {names::MANAGED_BY_LABEL: null}}, "endpoints": []}),
        json!({"metadata": {"labels": null}}),
    ] {
        let (parameters, patch) = (PatchParams::default(), Patch::Merge(drift));
        let slices = slices(&installed);
        slices
            .patch(names::REPORTS, &parameters, &patch)
            .await
            .unwrap();
        leads_to(&installed, "10.1.2.3", address.port()).await;
    }
    let parameters = DeleteParams::default();
    slices(&installed)
        .delete(names::REPORTS, &parameters)
        .await
        .unwrap();
    leads_to(&installed, "10.1.2.3", address.port()).await;
    // The next leader takes it over; nothing that agents are told changes.
    let second = inside(&installed, "two", "10.1.2.4", &listen).await;
    assert!(first.terminate().await.unwrap());
    leads_to(&installed, "10.1.2.4", address.port()).await;
    assert_eq!(told(&installed).await, reporting);
    eventually("the next leader answers", SOON, async || {
        Ok((reporter.report(&token).await?.status == 200).then_some(()))
    })
    .await
    .unwrap();
    drop(second);
}

#[tokio::test]
async fn agents_are_told_of_a_service_only_while_there_is_one() {
    let installed = installed().await;
    let listen = Address::free().unwrap().socket().to_string();
    let _operator = inside(&installed, "one", "10.1.2.3", &listen).await;
    told(&installed).await;
    let service = services(&installed).get(names::REPORTS).await.unwrap();
    let parameters = DeleteParams::default();
    services(&installed)
        .delete(names::REPORTS, &parameters)
        .await
        .unwrap();
    eventually("agents are told of none", SOON, async || {
        let bundle = installed.bundle(COMPUTE).await?;
        Ok(bundle
            .is_some_and(|bundle| bundle.reporting.is_none())
            .then_some(()))
    })
    .await
    .unwrap();
    let again = Service {
        metadata: ObjectMeta {
            name: service.metadata.name,
            ..ObjectMeta::default()
        },
        spec: service.spec.map(|mut spec| {
            spec.cluster_ip = None;
            spec.cluster_ips = None;
            spec
        }),
        ..Service::default()
    };
    let made = services(&installed)
        .create(&PostParams::default(), &again)
        .await;
    let cluster_ip = made.unwrap().spec.unwrap().cluster_ip.unwrap();
    let reporting = told(&installed).await;
    assert_eq!(reporting.url.to_string(), format!("https://{cluster_ip}/"));
}

#[tokio::test]
async fn a_slice_of_others_is_left_alone_and_told_of() {
    let installed = installed().await;
    let slice = |name: &str| {
        let slice = json!({
            "metadata": {"name": name, "labels": {names::SERVICE_NAME_LABEL: names::REPORTS}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.9.9.9"]}], "ports": [],
        });
        serde_json::from_value::<EndpointSlice>(slice).unwrap()
    };
    for name in [names::REPORTS, "somebody-elses"] {
        let made = slices(&installed)
            .create(&PostParams::default(), &slice(name))
            .await;
        made.unwrap();
    }
    let versions = async || {
        let all = slices(&installed)
            .list(&ListParams::default())
            .await
            .unwrap();
        let versions = all.items.iter().map(kube::ResourceExt::resource_version);
        versions.collect::<Vec<_>>()
    };
    let before = versions().await;
    let listen = Address::free().unwrap().socket().to_string();
    let operator = inside(&installed, "one", "10.1.2.3", &listen).await;
    eventually("the operator says what hinders it", SOON, async || {
        let words = "EndpointSlice katonic-logging/katonic-logging-reports is there and was not made by katonic-logging";
        Ok(operator.log()?.contains(words).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(versions().await, before);
    // Everything else goes on.
    installed.ready("logs", "True", "InForce").await.unwrap();
}

#[tokio::test]
async fn without_an_address_nobody_reports_and_the_log_says_so_once() {
    let installed = installed().await;
    let operator = Operator::start(&installed.cluster, "one").await.unwrap();
    installed.ready("logs", "True", "InForce").await.unwrap();
    let bundle = installed.bundle(COMPUTE).await.unwrap().unwrap();
    assert_eq!(bundle.reporting, None);
    let log = operator.log().unwrap();
    assert_eq!(log.matches("agents do not report").count(), 1, "{log}");
    assert!(!log.contains("listening for reports"), "{log}");
    let secrets = installed.secrets(names::OPERATOR_NAMESPACE);
    let secret = secrets.get_opt(names::REPORTS_CERTIFICATE).await.unwrap();
    assert!(secret.is_none());
}

#[tokio::test]
async fn nothing_is_asked_for_that_the_rules_refuse_and_an_idle_operator_writes_nothing() {
    let options = Options {
        audit_log: true,
        ..Options::default()
    };
    let installed = Installed::start(Tier::ApiServer, options).await.unwrap();
    with_policy(&installed).await;
    let address = Address::free().unwrap().socket();
    let _operator = inside(&installed, "one", "10.1.2.3", &address.to_string()).await;
    leads_to(&installed, "10.1.2.3", address.port()).await;
    let reporter = Reporter::new(&told(&installed).await, address).unwrap();
    let web = pod(&installed, "web").await;
    let token = agents_token(&installed, &web).await;
    reporter.report(&token).await.unwrap().interval();
    installed.ready("logs", "True", "InForce").await.unwrap();
    let log = || std::fs::read_to_string(installed.cluster.audit_log().unwrap()).unwrap();
    let asked = |since: usize| -> Vec<Value> {
        let user = "system:serviceaccount:katonic-logging:katonic-logging";
        log()
            .lines()
            .skip(since)
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|entry| {
                entry["stage"] == "ResponseComplete" && entry["user"]["username"] == user
            })
            .collect()
    };
    let refused: Vec<Value> = asked(0)
        .into_iter()
        .filter(|entry| entry["responseStatus"]["code"] == 403)
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let on = |resource: &str| {
        let all = asked(0);
        all.iter()
            .any(|entry| entry["objectRef"]["resource"] == resource)
    };
    assert!(on("endpointslices") && on("tokenreviews") && on("services"));
    // Idle from here on, but for reports in which nothing changes: the lease is renewed, so time has passed.
    let leases: Api<Lease> = Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
    let renewed = async || {
        let lease = leases.get(names::LEASE).await;
        lease.map(|lease| lease.spec.and_then(|spec| spec.renew_time))
    };
    let settled = log().lines().count();
    let last = renewed().await.unwrap();
    eventually("the lease is renewed", SOON * 2, async || {
        Ok((renewed().await? != last).then_some(()))
    })
    .await
    .unwrap();
    reporter.report(&token).await.unwrap().interval();
    let reads = ["get", "list", "watch"].map(Value::from);
    let written: Vec<Value> = asked(settled)
        .into_iter()
        .filter(|entry| {
            !reads.contains(&entry["verb"]) && entry["objectRef"]["resource"] != "leases"
        })
        .collect();
    assert_eq!(written, Vec::<Value>::new());
}

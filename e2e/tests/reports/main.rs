//! Reports of agents against a real API server: who may send them, what is said to the others, and where they are sent to.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

mod bodies;
mod certificates;
mod events;
mod floods;
mod leaders;
mod service;
mod tokens;
mod unidentified;

use std::net::SocketAddr;

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount},
};
use katonic_log_config::{Reporting, report::AUDIENCE};
use katonic_logging_e2e::{
    cluster::{Options, Tier},
    eventually::eventually,
    operator::{COMPUTE, Installed, Operator, SOON, splunk_policy},
    simulated::reporter::{self, Reporter},
    webhook::Address,
};
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::json;

/// A cluster with a policy, and an operator that is reported to at an address of this machine.
struct World {
    installed: Installed,
    operator: Operator,
    address: SocketAddr,
}

impl World {
    async fn start() -> Self {
        let installed = installed().await;
        let address = Address::free().unwrap().socket();
        let operator = outside(&installed, "one", address).await;
        Self {
            installed,
            operator,
            address,
        }
    }

    /// What agents are told, once they are told anything.
    async fn told(&self) -> Reporting {
        told(&self.installed).await
    }

    /// An agent that does as it is told.
    async fn reporter(&self) -> Reporter {
        Reporter::new(&self.told().await, self.address).unwrap()
    }

    /// A number among the operator's metrics; 0 where it is not there yet.
    async fn metric(&self, name: &str) -> u64 {
        metric(&self.operator, name).await
    }

    async fn reviews(&self) -> u64 {
        let mut reviews = 0;
        for outcome in ["authenticated", "refused", "failed"] {
            let name = format!(r#"katonic_logging_token_reviews_total{{outcome="{outcome}"}}"#);
            reviews += self.metric(&name).await;
        }
        reviews
    }
}

/// A cluster with the policy `logs`.
async fn installed() -> Installed {
    let installed = Installed::start(Tier::ApiServer, Options::default())
        .await
        .unwrap();
    with_policy(&installed).await;
    installed
}

async fn with_policy(installed: &Installed) {
    installed
        .sink_secret("splunk", "token", "abc")
        .await
        .unwrap();
    let policy = splunk_policy("logs", "https://hec.example.com:8088", "splunk");
    installed.create(&policy).await.unwrap();
}

/// An operator that is reported to at this address.
async fn outside(installed: &Installed, identity: &str, address: SocketAddr) -> Operator {
    let (listen, url) = (address.to_string(), format!("https://{address}"));
    let arguments = ["--report-address", &listen, "--report-url", &url];
    Operator::start_with(&installed.cluster, identity, &arguments)
        .await
        .unwrap()
}

async fn told(installed: &Installed) -> Reporting {
    eventually("agents are told where to report", SOON, async || {
        let bundle = installed.bundle(COMPUTE).await?;
        Ok(bundle.and_then(|bundle| bundle.reporting))
    })
    .await
    .unwrap()
}

async fn metric(operator: &Operator, name: &str) -> u64 {
    let (_, metrics) = operator.get("/metrics").await.unwrap();
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// A pod that never runs, for a token to be bound to.
async fn pod(installed: &Installed, name: &str) -> Pod {
    pod_in(installed, COMPUTE, name).await
}

async fn pod_in(installed: &Installed, namespace: &str, name: &str) -> Pod {
    let pod = json!({
        "metadata": {"name": name, "labels": {"logging.katonic.ai/inject": "false"}},
        "spec": {"containers": [{"name": "web", "image": "localhost/none:v1"}]},
    });
    let pods: Api<Pod> = Api::namespaced(installed.client.clone(), namespace);
    let pod = serde_json::from_value(pod).unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap()
}

/// A token of the pods' service account, as the kubelet has it made; for the API server itself where no audience is named.
async fn token(installed: &Installed, audience: Option<&str>, pod: Option<&Pod>) -> String {
    let namespace = pod.and_then(ResourceExt::namespace);
    let namespace = namespace.as_deref().unwrap_or(COMPUTE);
    let accounts: Api<ServiceAccount> = Api::namespaced(installed.client.clone(), namespace);
    let bound = pod.map(|pod| BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.name_any()),
        uid: pod.uid(),
    });
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: audience.map(|audience| vec![audience.to_owned()]),
            bound_object_ref: bound,
            expiration_seconds: Some(600),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let made = accounts
        .create_token_request("default", &PostParams::default(), &request)
        .await
        .unwrap();
    made.status.unwrap().token.unwrap()
}

/// The token that the agent of this pod has.
async fn agents_token(installed: &Installed, pod: &Pod) -> String {
    token(installed, Some(AUDIENCE), Some(pod)).await
}

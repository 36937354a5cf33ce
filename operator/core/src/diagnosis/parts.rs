//! What is judged of the parts of an installation.

use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        coordination::v1::Lease,
        core::v1::{Container, Pod, PodSpec, Secret, Service},
        discovery::v1::EndpointSlice,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
    jiff::{SignedDuration, Timestamp},
};
use katonic_log_config::layout;
use katonic_logging_crds::SecretKeyRef;

use super::{APPLY, APPLY_WEBHOOK, Finding};
use crate::{certificate::not_after, names, plan::Namespace};

/// A certificate is renewed 30 days before its end; half of that later nobody has.
const LATE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The definition of a kind, beside the one that this program was built with.
pub fn definition(
    installed: Option<&CustomResourceDefinition>,
    built: &CustomResourceDefinition,
) -> Finding {
    let about = (
        "definition",
        built.metadata.name.clone().unwrap_or_default(),
    );
    let Some(installed) = installed else {
        return Finding::fail(about, "it is not installed").mended_by(APPLY);
    };
    let conditions = installed
        .status
        .iter()
        .flat_map(|status| &status.conditions);
    let is_established = conditions
        .flatten()
        .any(|condition| condition.type_ == "Established" && condition.status == "True");
    let served = |definition: &CustomResourceDefinition| -> Vec<String> {
        let versions = definition.spec.versions.iter().filter(|one| one.served);
        versions.map(|version| version.name.clone()).collect()
    };
    let schemas = |definition: &CustomResourceDefinition| {
        let versions = definition.spec.versions.iter();
        versions.map(|one| one.schema.clone()).collect::<Vec<_>>()
    };
    if !is_established {
        Finding::fail(about, "the API server does not serve it yet")
    } else if served(installed) != served(built) {
        let (there, here) = (served(installed).join(", "), served(built).join(", "));
        Finding::fail(
            about,
            format!("it serves {there}, and this program knows {here}"),
        )
        .mended_by("use a program of the operator's version, or apply the manifests of this one")
    } else if schemas(installed) != schemas(built) {
        Finding::warn(about, "its schema is not that of this program's version").mended_by(
            "use a program of the operator's version, or apply the manifests of this one",
        )
    } else {
        Finding::ok(about, format!("it serves {}", served(installed).join(", ")))
    }
}

/// What came of reading the installation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reading {
    /// It can be used.
    Usable,
    /// It cannot, in these words.
    Unusable(String),
    /// Whoever asks could not read it, for this reason; the operator may.
    Unread(String),
}

/// The installation, by what came of reading it.
pub fn installed(operator_namespace: &str, reading: Reading) -> Finding {
    let about = (
        "installation",
        format!("{operator_namespace}/{}", names::INSTALLATION),
    );
    match reading {
        Reading::Usable => Finding::ok(about, "it can be used"),
        Reading::Unread(reason) => Finding::warn(about, reason),
        Reading::Unusable(problem) => Finding::fail(about, problem).mended_by(format!(
            "kubectl -n {operator_namespace} edit configmap {}",
            names::INSTALLATION
        )),
    }
}

/// The namespace of a plane; none: there is none.
pub fn namespace(name: &str, plane: &str, seen: Option<&Namespace>) -> Finding {
    let about = ("namespace", name);
    match seen {
        None => Finding::fail(about, format!("that of plane {plane} does not exist"))
            .mended_by(format!("kubectl create namespace {name}")),
        Some(seen) if seen.terminating => {
            Finding::fail(about, format!("that of plane {plane} is being deleted"))
        }
        Some(seen) => match seen.forbidding_level() {
            Some(level) => Finding::fail(
                about,
                format!("it enforces the Pod Security level {level}, which forbids the agent"),
            )
            .mended_by(format!(
                "kubectl label --overwrite namespace {name} {}=privileged",
                names::POD_SECURITY_LABEL
            )),
            None => Finding::ok(about, format!("plane {plane}")),
        },
    }
}

/// A Deployment of ours. `runs_elsewhere`: what it would run has been seen to work.
pub fn deployment(
    namespace: &str,
    name: &str,
    seen: Option<&Deployment>,
    runs_elsewhere: bool,
) -> Finding {
    let about = ("deployment", format!("{namespace}/{name}"));
    let Some(seen) = seen else {
        return if runs_elsewhere {
            Finding::warn(
                about,
                "it is not there, and an operator works: it runs elsewhere",
            )
        } else {
            let apply = if name == names::WEBHOOK {
                APPLY_WEBHOOK
            } else {
                APPLY
            };
            Finding::fail(about, "it is not there").mended_by(apply)
        };
    };
    let wanted = seen.spec.replicas.unwrap_or(1);
    let status = seen.status.as_ref();
    let available = status
        .and_then(|status| status.available_replicas)
        .unwrap_or(0);
    let said = format!("{available} of {wanted} pods are available");
    if available == 0 {
        Finding::fail(about, said)
            .mended_by(format!("kubectl -n {namespace} describe deployment {name}"))
    } else if available < wanted {
        Finding::warn(about, said).mended_by(format!("kubectl -n {namespace} get pods"))
    } else {
        Finding::ok(about, said)
    }
}

/// The lease of the leader, read twice with as much time in between as it may take to be renewed.
pub fn lease(namespace: &str, first: Option<&Lease>, later: Option<&Lease>) -> Finding {
    let about = ("leader", format!("{namespace}/{}", names::LEASE));
    let spec = |lease: Option<&Lease>| {
        lease
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default()
    };
    let (first, later) = (spec(first), spec(later));
    let holder = later.holder_identity.filter(|holder| !holder.is_empty());
    let operators = format!("kubectl -n {namespace} get pods");
    match holder {
        None => Finding::fail(about, "no operator leads").mended_by(operators),
        // No clock is asked: those of the cluster and of this machine may differ.
        Some(holder) if first.renew_time == later.renew_time => Finding::fail(
            about,
            format!("{holder} held it and does not renew it: no operator works"),
        )
        .mended_by(operators),
        Some(holder) => Finding::ok(about, format!("{holder} leads")),
    }
}

/// Which installation works in the cluster: of several one does.
pub fn claim(namespace: &str, seen: Option<&Lease>) -> Finding {
    let about = (
        "claim",
        format!("{}/{}", names::CLAIM_NAMESPACE, names::CLAIM),
    );
    let holder = seen.and_then(|lease| lease.spec.as_ref()?.holder_identity.as_deref());
    match holder.filter(|holder| !holder.is_empty()) {
        None => Finding::warn(about, "no installation has claimed the cluster yet"),
        Some(holder) if holder == namespace => {
            Finding::ok(about, "this installation is the one that works here")
        }
        Some(holder) => Finding::fail(
            about,
            format!(
                "the installation in namespace {holder} works here, and this one waits for it to go"
            ),
        )
        .mended_by(format!(
            "katonic-logging doctor --namespace {holder}   # or uninstall that one"
        )),
    }
}

/// What came of creating a pod in a dry run.
#[derive(Clone, Debug)]
pub enum Probe {
    /// It would have been created so.
    Created(Box<Pod>),
    /// It was refused, in these words.
    Refused(String),
    /// The asker may not create pods.
    Forbidden,
}

/// A pod that could be of anybody, for a dry run.
pub fn trial_pod(image: &str) -> Pod {
    Pod {
        metadata: ObjectMeta {
            generate_name: Some("katonic-logging-doctor-".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: vec![Container {
                name: "doctor".to_owned(),
                image: Some(image.to_owned()),
                ..Container::default()
            }],
            restart_policy: Some("Never".to_owned()),
            ..PodSpec::default()
        }),
        ..Pod::default()
    }
}

/// Whether a refusal is RBAC's, by its words: any admission may refuse with the same status.
pub fn is_about_rights(refusal: &str) -> bool {
    refusal.contains(r#"cannot create resource "pods""#)
}

/// Whether a new pod of a namespace gets the agent; `is_wanted`: a policy reaches the namespace.
pub fn injection(namespace: &str, probe: &Probe, is_wanted: bool) -> Finding {
    let about = ("injection", namespace);
    match probe {
        Probe::Created(pod) => {
            let spec = pod.spec.as_ref();
            let mut containers = spec.iter().flat_map(|spec| &spec.init_containers).flatten();
            let has_agent = containers.any(|one| one.name == layout::CONTAINER);
            match (has_agent, is_wanted) {
                (true, _) => Finding::ok(about, "a new pod gets the log agent"),
                (false, false) => {
                    Finding::ok(about, "no policy reaches it, so pods get no log agent")
                }
                (false, true) => Finding::fail(about, "a new pod does not get the log agent")
                    .mended_by("katonic-logging status   # the condition Injected says why"),
            }
        }
        Probe::Refused(words) => Finding::warn(
            about,
            format!("a pod that was tried was refused, so nobody knows: {words}"),
        ),
        Probe::Forbidden => Finding::warn(
            about,
            "you have no right to create pods here, not even in a dry run, which would show it",
        ),
    }
}

/// A Secret with what policies name of it, which must be there and not empty; none: there is no such Secret.
pub fn secret(namespace: &str, wanted: &[&SecretKeyRef], seen: Option<&Secret>) -> Finding {
    let name = wanted
        .first()
        .map(|one| one.name.as_str())
        .unwrap_or_default();
    let about = ("secret", format!("{namespace}/{name}"));
    let keys = |keys: &[&str]| keys.join(", ");
    let all: Vec<&str> = wanted.iter().map(|one| one.key.as_str()).collect();
    let Some(seen) = seen else {
        let from = all.iter().map(|key| format!("--from-file={key}=<file>"));
        let from = from.collect::<Vec<_>>().join(" ");
        return Finding::fail(about, "it is not there, and policies name it").mended_by(format!(
            "kubectl -n {namespace} create secret generic {name} {from}"
        ));
    };
    let data = seen.data.as_ref();
    let lacking = |key: &&str| {
        let value = data.and_then(|data| data.get(*key));
        value.is_none_or(|value| value.0.is_empty())
    };
    let lacking: Vec<&str> = all.iter().copied().filter(lacking).collect();
    if lacking.is_empty() {
        Finding::ok(about, format!("it has {}", keys(&all)))
    } else {
        Finding::fail(about, format!("it has nothing for {}", keys(&lacking)))
            .mended_by(format!("kubectl -n {namespace} edit secret {name}"))
    }
}

/// A certificate as a Secret has it; none: there is none.
pub fn certificate(namespace: &str, name: &str, pem: Option<&[u8]>, now: Timestamp) -> Finding {
    let about = ("certificate", format!("{namespace}/{name}"));
    let anew =
        format!("kubectl -n {namespace} delete secret {name}   # the operator makes another one");
    let Some(pem) = pem else {
        return Finding::warn(about, "there is none");
    };
    match not_after(pem) {
        None => Finding::fail(about, "it is no certificate").mended_by(anew),
        Some(end) if end <= now => {
            Finding::fail(about, format!("it was valid until {end}")).mended_by(anew)
        }
        Some(end) if end.duration_since(now) < LATE => Finding::warn(
            about,
            format!("it is valid until {end} only, and should have been renewed"),
        )
        .mended_by(anew),
        Some(end) => Finding::ok(about, format!("it is valid until {end}")),
    }
}

/// Whether agents that report get to the operator that leads.
pub fn reports(
    namespace: &str,
    service: Option<&Service>,
    slice: Option<&EndpointSlice>,
    leader: Option<&Pod>,
) -> Finding {
    let about = ("reports", format!("{namespace}/{}", names::REPORTS));
    let address = service
        .and_then(|service| service.spec.as_ref()?.cluster_ip.as_deref())
        .filter(|address| !["", "None"].contains(address));
    let Some(address) = address else {
        return Finding::warn(
            about,
            "there is no such Service with an address, so agents report only if the operator has a --report-url",
        )
        .mended_by(APPLY);
    };
    let endpoints = slice
        .iter()
        .filter_map(|slice| slice.endpoints.as_ref())
        .flatten();
    let leads_to: Vec<&str> = endpoints
        .flat_map(|endpoint| &endpoint.addresses)
        .map(String::as_str)
        .collect();
    if leads_to.is_empty() {
        return Finding::warn(
            about,
            format!(
                "{address} leads nowhere: agents report only if the operator has a --report-url"
            ),
        );
    }
    let ip = leader.and_then(|pod| pod.status.as_ref()?.pod_ip.as_deref());
    let there = leads_to.join(", ");
    match ip {
        Some(ip) if !leads_to.contains(&ip) => Finding::fail(
            about,
            format!("{address} leads to {there}, and the operator that leads has {ip}"),
        )
        .mended_by(format!(
            "kubectl -n {namespace} delete endpointslice {}",
            names::REPORTS
        )),
        _ => Finding::ok(about, format!("{address} leads to {there}")),
    }
}

//! An agent as a pod has it, to be compared with those that pods are given.

use std::collections::BTreeMap;

use katonic_log_config::layout;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fingerprint::{ContainerDigest, Fingerprint, Lineage};
use crate::quantity::Quantity;

/// An agent as it is injected, as others make it then, or as a pod has it.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Form {
    fingerprint: Fingerprint,
    lineage: Lineage,
    /// None where it shares in the pod's.
    requirements: Option<Requirements>,
}

/// Requests and limits of a container.
#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Requirements {
    #[serde(default)]
    requests: BTreeMap<String, String>,
    #[serde(default)]
    limits: BTreeMap<String, String>,
}

impl Requirements {
    /// As a container has them.
    pub fn of(container: &Value) -> Self {
        let read = |field: &str| {
            let quantities = container["resources"][field].as_object();
            let quantities = quantities.into_iter().flatten().map(|(name, quantity)| {
                let text = quantity.as_str().map(str::to_owned);
                (name.clone(), text.unwrap_or_else(|| quantity.to_string()))
            });
            quantities.collect()
        };
        Self {
            requests: read("requests"),
            limits: read("limits"),
        }
    }

    /// Whether `other` has all of these as they are: a limit range may have filled in what they leave open.
    fn are_in(&self, other: &Self) -> bool {
        let are_in = |these: &BTreeMap<String, String>, those: &BTreeMap<String, String>| {
            these.iter().all(|(name, quantity)| {
                those.get(name).is_some_and(|other| {
                    other == quantity || Quantity::parse(other) == Quantity::parse(quantity)
                })
            })
        };
        are_in(&self.requests, &other.requests) && are_in(&self.limits, &other.limits)
    }

    /// Whether `other` has at least as much, as an autoscaler may see to.
    fn are_met_by(&self, other: &Self) -> bool {
        let is_met =
            |quantity: &String, other: &String| Quantity::parse(other) >= Quantity::parse(quantity);
        let is_requested = |(name, quantity): (&String, &String)| {
            let other = other.requests.get(name);
            other.is_some_and(|other| is_met(quantity, other))
        };
        let is_allowed = |(name, quantity): (&String, &String)| {
            let other = other.limits.get(name);
            other.is_none_or(|other| is_met(quantity, other))
        };
        self.requests.iter().all(is_requested) && self.limits.iter().all(is_allowed)
    }
}

impl Form {
    /// Of a container, of what it requires unless it shares in the pod's, and of the pod's volumes.
    pub fn new<'a>(
        container: &ContainerDigest,
        requirements: Option<Requirements>,
        volumes: impl IntoIterator<Item = &'a Value> + Clone,
    ) -> Self {
        Self {
            fingerprint: Fingerprint::new(container, volumes.clone()),
            lineage: Lineage::new(container, volumes),
            requirements,
        }
    }

    /// Of the init container of our name in a pod's specification; that of nothing where there is none.
    pub fn read(spec: &Value) -> Self {
        let mut init_containers = spec["initContainers"].as_array().into_iter().flatten();
        let agent = init_containers.find(|one| one["name"] == layout::CONTAINER);
        let agent = agent.unwrap_or(&Value::Null);
        let volumes = spec["volumes"].as_array().map_or(&[][..], Vec::as_slice);
        let shares = spec["resources"].is_object();
        let requirements = (!shares).then(|| Requirements::of(agent));
        Self::new(&ContainerDigest::of(agent), requirements, volumes)
    }

    /// What it is, whatever it requires.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// Whether this is what a pod has, who may have been given what this leaves open.
    pub fn is(&self, found: &Self) -> bool {
        self.fingerprint == found.fingerprint && self.compares(found, Requirements::are_in)
    }

    /// Whether this is what a pod has, who may have been given more.
    pub fn is_met_by(&self, found: &Self) -> bool {
        self.fingerprint == found.fingerprint && self.compares(found, Requirements::are_met_by)
    }

    /// Whether what a pod has runs a program of the same image, of whatever version, on the same files.
    pub fn is_related_to(&self, found: &Self) -> bool {
        self.lineage == found.lineage
    }

    fn compares(&self, found: &Self, how: impl Fn(&Requirements, &Requirements) -> bool) -> bool {
        let both = self.requirements.as_ref().zip(found.requirements.as_ref());
        both.is_none_or(|(requirements, others)| how(requirements, others))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        injection::{Decision, decide},
        sidecar::Sidecar,
        testing::installation,
    };

    fn sidecar() -> Sidecar {
        Sidecar::new(&installation().agent).unwrap()
    }

    /// The specification of a pod that was injected, as an API server completes it.
    fn injected() -> Value {
        let mut pod = json!({"metadata": {}, "spec": {"containers": [{"name": "web"}], "volumes": [{"name": "cache"}]}});
        let Decision::Inject(patch) = decide(&pod, &sidecar()) else {
            panic!("the pod is left alone");
        };
        json_patch::patch(&mut pod, &patch).unwrap();
        let mut spec = pod["spec"].take();
        let agent = &mut spec["initContainers"][0];
        agent["terminationMessagePath"] = json!("/dev/termination-log");
        agent["terminationMessagePolicy"] = json!("File");
        agent["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] = json!("v1");
        let volumes = spec["volumes"].as_array_mut().unwrap();
        for volume in volumes {
            if volume["downwardAPI"].is_object() {
                volume["downwardAPI"]["defaultMode"] = json!(420);
                volume["downwardAPI"]["items"][0]["fieldRef"]["apiVersion"] = json!("v1");
            }
        }
        spec
    }

    fn changed(change: impl FnOnce(&mut Value)) -> Form {
        let mut spec = injected();
        change(&mut spec);
        Form::read(&spec)
    }

    fn of_agent(change: impl FnOnce(&mut Value)) -> Form {
        changed(|spec| change(&mut spec["initContainers"][0]))
    }

    fn push(agent: &mut Value, field: &str, entry: Value) {
        agent[field].as_array_mut().unwrap().push(entry);
    }

    #[test]
    fn what_was_injected_is_known_again_whatever_others_add_beside_it() {
        let ours = sidecar().form();
        assert!(ours.is(&Form::read(&injected())));
        let beside = changed(|spec| {
            let agent = &mut spec["initContainers"][0];
            for variable in ["OTEL_SERVICE_NAME", "AWS_ROLE_ARN"] {
                push(agent, "env", json!({"name": variable, "value": "web"}));
            }
            for path in [
                "/var/run/secrets/eks.amazonaws.com/serviceaccount",
                "/vault/secrets",
                "/etc/ld.so.preload",
                "/var/log/pods",
            ] {
                push(
                    agent,
                    "volumeMounts",
                    json!({"name": "theirs", "mountPath": path}),
                );
            }
            spec["volumes"].as_array_mut().unwrap().reverse();
        });
        assert!(ours.is(&beside));
    }

    #[test]
    fn what_leads_the_agent_elsewhere_or_hides_what_it_reads_is_no_addition() {
        let ours = sidecar().form();
        let mut others = Vec::new();
        for variable in ["ALL_PROXY", "https_proxy", "no_proxy"] {
            let variable = json!({"name": variable, "value": "http://elsewhere"});
            others.push(of_agent(|agent| push(agent, "env", variable)));
        }
        for path in [
            "/",
            "/etc",
            "/katonic-log-agent",
            "/etc/katonic-logs/bundle.json.gz",
            "/var/log/pod/web",
            "/etc/resolv.conf",
            "/var/lib",
        ] {
            let mount = json!({"name": "theirs", "mountPath": path});
            others.push(of_agent(|agent| push(agent, "volumeMounts", mount)));
        }
        for other in others {
            assert!(!ours.is(&other) && !ours.is_related_to(&other), "{other:?}");
        }
    }

    #[test]
    fn nothing_else_of_its_name_is_taken_for_it() {
        let ours = sidecar().form();
        let changes: [fn(&mut Value); 9] = [
            |spec| spec["initContainers"][0]["image"] = json!("localhost/another:v1"),
            |spec| spec["initContainers"][0]["command"] = json!(["sleep"]),
            |spec| spec["initContainers"][0]["args"] = json!(["--help"]),
            |spec| spec["initContainers"][0]["envFrom"] = json!([{"secretRef": {"name": "s"}}]),
            |spec| spec["initContainers"][0]["securityContext"]["runAsUser"] = json!(1000),
            |spec| spec["initContainers"][0]["volumeMounts"][0]["subPathExpr"] = json!(""),
            |spec| spec["volumes"][1]["hostPath"]["path"] = json!("/var/empty"),
            |spec| spec["volumes"][2]["secret"]["secretName"] = json!("theirs"),
            |spec| spec["volumes"] = json!([]),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let other = changed(change);
            assert!(!ours.is(&other), "change {number}");
            assert!(!ours.is_related_to(&other), "change {number}");
        }
        let bare = Form::read(&json!({"containers": [{"name": "web"}]}));
        assert!(!ours.is(&bare) && !ours.is_related_to(&bare));
    }

    #[test]
    fn an_agent_with_fewer_resources_than_it_is_given_is_not_the_one_that_was() {
        let ours = sidecar().form();
        let with = |resources: Value| of_agent(|agent| agent["resources"] = resources);
        let given = |found: &Form| (ours.is(found), ours.is_met_by(found));
        let asked =
            json!({"requests": {"cpu": "0.01", "memory": "16384Ki"}, "limits": {"memory": "32Mi"}});
        assert_eq!(given(&with(asked)), (true, true));
        // A limit range fills in what is left open.
        let filled = json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "32Mi", "cpu": "1"}});
        assert_eq!(given(&with(filled)), (true, true));
        let raised =
            json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}});
        assert_eq!(given(&with(raised)), (false, true));
        for fewer in [
            json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "8Mi"}}),
            json!({"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}}),
            json!({"limits": {"memory": "32Mi"}}),
            json!({}),
        ] {
            assert_eq!(given(&with(fewer)), (false, false));
        }
        // What the pod has for all of its containers is not the agent's.
        let shares = changed(|spec| {
            spec["resources"] = json!({"limits": {"memory": "1Gi"}});
            spec["initContainers"][0]["resources"] = json!({});
        });
        assert_eq!(given(&shares), (true, true));
    }

    #[test]
    fn an_agent_of_an_older_version_is_related_to_that_of_this_one() {
        let ours = sidecar().form();
        // As 0.1.0 injected it before there were reports, from a mirror's copy with another tag.
        let older = json!({
            "initContainers": [{
                "name": "katonic-log-agent",
                "image": "localhost/katonic-log-agent:0.0.9@sha256:4a1c",
                "imagePullPolicy": "Always",
                "restartPolicy": "Always",
                "env": [
                    {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                    {"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"},
                ],
                "resources": {"limits": {"memory": "24Mi"}},
                "securityContext": {"runAsUser": 0, "runAsNonRoot": false},
                "volumeMounts": [
                    {"name": "katonic-podlogs", "mountPath": "/var/log/pod", "readOnly": true,
                     "subPathExpr": "$(POD_NAMESPACE)_$(POD_NAME)_$(POD_UID)"},
                    {"name": "katonic-logs", "mountPath": "/etc/katonic-logs", "readOnly": true},
                    {"name": "katonic-podinfo", "mountPath": "/etc/podinfo", "readOnly": true},
                    {"name": "katonic-log-state", "mountPath": "/var/lib/katonic-log-agent"},
                ],
            }],
            "volumes": [
                {"name": "katonic-podlogs", "hostPath": {"path": "/var/log/pods", "type": "Directory"}},
                {"name": "katonic-logs", "secret": {"secretName": "katonic-logs", "optional": true}},
            ],
        });
        let found = Form::read(&older);
        assert!(!ours.is(&found) && !ours.is_met_by(&found));
        assert!(ours.is_related_to(&found));
        let mut copied = older;
        copied["initContainers"][0]["image"] = json!("localhost:5000/katonic-log-agent");
        assert!(!ours.is_related_to(&Form::read(&copied)));
    }
}

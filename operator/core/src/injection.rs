//! Whether a pod gets the log agent, and what is then added to it: what the admission policy has the API server decide,
//! decided here for a webhook and for manifests. Each condition is said twice, side by side: as CEL and as Rust.

use std::fmt;

use json_patch::{AddOperation, Patch, PatchOperation, jsonptr::PointerBuf};
use k8s_openapi::{
    api::admissionregistration::v1::MatchCondition,
    apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement},
};
use katonic_log_config::{bundle::hex, layout};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    cel, names,
    sidecar::{LOCAL_VOLUMES, POD_LOGS, Sidecar, VOLUMES},
};

/// Bytes of annotations that a pod may have before ours are added. The API server takes 256 KiB
/// (apimachinery: `TotalAnnotationSizeLimitB`).
const ANNOTATIONS: usize = 255 << 10;

/// Weight of the containers' text that a pod may have before the agent is added: two thirds of what etcd takes in one
/// request by default (1.5 MiB). The rest is for all that is not weighed.
const TEXT: usize = 1 << 20;

/// What an entry of a list weighs beside its text: how it is stored, and the record of who owns its fields, which has the
/// names of variables once more.
const ENTRY: usize = 64;

/// Seconds that a pod gets to end whose specification does not say (Kubernetes: `DefaultTerminationGracePeriodSeconds`).
pub(crate) const DEFAULT_GRACE_PERIOD: i64 = 30;

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It gets the agent: operations that only add, so that fields unknown to this crate survive.
    Inject(Patch),
    /// It stays as it is.
    Leave(Reason),
}

/// Why a pod is left as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reason {
    /// It has the agent already, of this specification or of another one.
    AlreadyInjected,
    /// Its label says so.
    OptedOut,
    /// Its label is that of the pods with which the operator tries injection, which are never created: it is a user's.
    TrialLabel,
    /// It is the copy of a static pod, which cannot be changed.
    MirrorPod,
    /// It runs on Windows, where the agent does not.
    Windows,
    /// It uses a name that the agent needs. With a second one it would be refused.
    NameTaken(Taken),
    /// It limits the resources of all of its containers together, and each container sets its own: the agent could be
    /// given more than is left.
    PodLevelResources,
    /// It is about as large as the API server takes; with the agent it might be refused.
    TooLarge,
    /// It is no pod that could be created: it has no containers, or not the form of one where the agent is added.
    Malformed,
}

/// A name of ours that a pod uses for something else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Taken {
    /// The container's.
    Container,
    /// A volume's.
    Volume(String),
    /// That of a volume that a container mounts and the pod does not declare: with ours it would get what is the agent's alone.
    Mount(String),
}

impl Reason {
    /// The word for it, for metrics and for statuses.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::AlreadyInjected => "AlreadyInjected",
            Self::OptedOut => "OptedOut",
            Self::TrialLabel => "TrialLabel",
            Self::MirrorPod => "MirrorPod",
            Self::Windows => "Windows",
            Self::NameTaken(_) => "NameTaken",
            Self::PodLevelResources => "PodLevelResources",
            Self::TooLarge => "TooLarge",
            Self::Malformed => "Malformed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyInjected => formatter.write_str("it has the log agent already"),
            Self::OptedOut => write!(
                formatter,
                "its label {}={} refuses the log agent",
                names::INJECT_LABEL,
                names::INJECT_NO
            ),
            Self::TrialLabel => write!(
                formatter,
                "its label {} is for pods with which the operator tries injection: remove it from the pod's template",
                names::TRIAL_LABEL
            ),
            Self::MirrorPod => formatter.write_str("it is the copy of a static pod, which cannot be changed"),
            Self::Windows => formatter.write_str("it runs on Windows, where the log agent does not"),
            Self::NameTaken(Taken::Container) => write!(
                formatter,
                "its container {} is not the log agent: give that container another name",
                layout::CONTAINER
            ),
            Self::NameTaken(Taken::Volume(volume)) => write!(
                formatter,
                "its volume {volume} is not the log agent's: give that volume another name"
            ),
            Self::NameTaken(Taken::Mount(volume)) => write!(
                formatter,
                "a container of it mounts the volume {volume}, which it does not declare and which is the log agent's: declare a volume of another name"
            ),
            Self::PodLevelResources => formatter.write_str(
                "it limits the resources of all of its containers together and those of each: leave requests and limits out in one container, and the log agent shares in the pod's",
            ),
            Self::TooLarge => formatter.write_str(
                "it is nearly as large as the API server takes: move text from its arguments, variables or annotations to a ConfigMap",
            ),
            Self::Malformed => formatter.write_str(
                "it is no pod that the API server takes: it needs a list of containers, and where there are init containers, volumes or annotations, lists and an object of them",
            ),
        }
    }
}

/// Digest of what is done to pods: of what is added, and of the conditions under which it is.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Specification(String);

impl Specification {
    /// Of the conditions of this version, and of what it adds.
    pub fn of(sidecar: &Sidecar) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(sidecar.revision.as_str());
        for condition in Condition::ALL {
            let expression = condition.expression();
            hasher.update((expression.len() as u64).to_be_bytes());
            hasher.update(expression);
        }
        let bytes_to_tell_apart = 6;
        Self(hex(&hasher.finalize()[..bytes_to_tell_apart]))
    }
}

/// Decides about a pod, or about the template of one, in whatever form it was written.
pub fn decide(pod: &Value, sidecar: &Sidecar) -> Decision {
    decide_asked(pod, false, sidecar)
}

/// Decides about a pod that an API server asks about; `dry_run`: whether it is only tried and not created.
pub fn decide_asked(pod: &Value, dry_run: bool, sidecar: &Sidecar) -> Decision {
    let pod = Pod { json: pod, dry_run };
    refusal_of(&pod).map_or_else(|| Decision::Inject(patch(&pod, sidecar)), Decision::Leave)
}

/// Why a pod is left as it is; `None` when it gets the agent.
pub fn refusal(pod: &Value) -> Option<Reason> {
    refusal_of(&Pod::created(pod))
}

fn refusal_of(pod: &Pod<'_>) -> Option<Reason> {
    if pod.is_malformed() {
        Some(Reason::Malformed)
    } else if pod.label(names::INJECT_LABEL) == Some(names::INJECT_NO) {
        Some(Reason::OptedOut)
    } else {
        Condition::ALL
            .iter()
            .find_map(|condition| condition.refusal(pod))
    }
}

/// Whether a pod has the agent, of whatever specification.
pub fn has_agent(pod: &Value) -> bool {
    let mut init_containers = Pod::created(pod).init_containers().iter();
    init_containers.any(|one| one["name"] == layout::CONTAINER && is_agent(one))
}

/// The labels of pods that are decided about; [`decide`] judges them first.
pub fn object_selector() -> LabelSelector {
    LabelSelector {
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: names::INJECT_LABEL.to_owned(),
            operator: "NotIn".to_owned(),
            values: Some(vec![names::INJECT_NO.to_owned()]),
        }]),
        ..LabelSelector::default()
    }
}

/// The conditions of [`decide`] for the API server, of an admission policy as of a webhook.
pub fn match_conditions() -> Vec<MatchCondition> {
    Condition::ALL
        .map(|condition| MatchCondition {
            name: condition.name().to_owned(),
            expression: condition.expression(),
        })
        .into()
}

/// What has to be true of a pod that gets the agent.
#[derive(Clone, Copy)]
enum Condition {
    /// Nor is its name taken by an init container: the two differ for people, not for what is done.
    NotYetInjected,
    NoTrialLabel,
    NotAMirrorPod,
    NotWindows,
    NoNameTaken,
    RoomInPodLevelResources,
    NotTooLarge,
}

impl Condition {
    /// In the order in which they are judged: the first that does not hold is the reason that is told.
    const ALL: [Self; 7] = [
        Self::NotYetInjected,
        Self::NoTrialLabel,
        Self::NotAMirrorPod,
        Self::NotWindows,
        Self::NoNameTaken,
        Self::RoomInPodLevelResources,
        Self::NotTooLarge,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::NotYetInjected => "not-yet-injected",
            Self::NoTrialLabel => "no-trial-label",
            Self::NotAMirrorPod => "not-a-mirror-pod",
            Self::NotWindows => "not-windows",
            Self::NoNameTaken => "no-name-taken",
            Self::RoomInPodLevelResources => "room-in-pod-level-resources",
            Self::NotTooLarge => "not-too-large",
        }
    }

    fn expression(self) -> String {
        let container = cel::string(layout::CONTAINER);
        match self {
            Self::NotYetInjected => format!(
                "!has(object.spec.initContainers) || !object.spec.initContainers.exists(c, c.name == {container})"
            ),
            // What is tried is never created, and what is created is no trial.
            Self::NoTrialLabel => format!(
                "!has(object.metadata.labels) || !({} in object.metadata.labels) || (has(request.dryRun) && request.dryRun)",
                cel::string(names::TRIAL_LABEL)
            ),
            Self::NotAMirrorPod => format!(
                "!has(object.metadata.annotations) || !({} in object.metadata.annotations)",
                cel::string(names::MIRROR_ANNOTATION)
            ),
            Self::NotWindows => {
                let (label, windows) = (cel::string(names::OS_LABEL), cel::string(names::WINDOWS));
                format!(
                    "(!has(object.spec.os) || object.spec.os.name != {windows}) && (!has(object.spec.nodeSelector) || !({label} in object.spec.nodeSelector) || object.spec.nodeSelector[{label}] != {windows})"
                )
            }
            Self::NoNameTaken => {
                let volumes: Vec<String> = VOLUMES.iter().map(|name| cel::string(name)).collect();
                let volumes = volumes.join(", ");
                let mounts = ["volumeMounts", "volumeDevices"].map(|field| {
                    format!("(has(c.{field}) && c.{field}.exists(m, m.name in [{volumes}]))")
                });
                format!(
                    "!object.spec.containers.exists(c, c.name == {container}) && (!has(object.spec.volumes) || !object.spec.volumes.exists(v, v.name in [{volumes}])) && !((has(object.spec.initContainers) ? object.spec.initContainers : []) + object.spec.containers).exists(c, {})",
                    mounts.join(" || ")
                )
            }
            Self::RoomInPodLevelResources => {
                "!has(object.spec.resources) || object.spec.containers.exists(c, !has(c.resources) || (!has(c.resources.requests) && !has(c.resources.limits)))"
                    .to_owned()
            }
            Self::NotTooLarge => not_too_large(),
        }
    }

    /// Why the pod does not meet it.
    fn refusal(self, pod: &Pod<'_>) -> Option<Reason> {
        let named = |list: &[Value], name: &str| list.iter().any(|item| item["name"] == name);
        match self {
            Self::NotYetInjected => {
                let mut init_containers = pod.init_containers().iter();
                let found = init_containers.find(|one| one["name"] == layout::CONTAINER)?;
                Some(if is_agent(found) {
                    Reason::AlreadyInjected
                } else {
                    Reason::NameTaken(Taken::Container)
                })
            }
            Self::NoTrialLabel => {
                let is_trial = pod.label(names::TRIAL_LABEL).is_some();
                (is_trial && !pod.dry_run).then_some(Reason::TrialLabel)
            }
            Self::NotAMirrorPod => pod
                .annotation(names::MIRROR_ANNOTATION)
                .map(|_| Reason::MirrorPod),
            Self::NotWindows => {
                let os = &pod.spec()["os"]["name"];
                let node = &pod.spec()["nodeSelector"][names::OS_LABEL];
                (os == names::WINDOWS || node == names::WINDOWS).then_some(Reason::Windows)
            }
            Self::NoNameTaken => {
                if named(pod.containers(), layout::CONTAINER) {
                    return Some(Reason::NameTaken(Taken::Container));
                }
                let is_mounted = |name: &str| {
                    let mut containers = pod.init_containers().iter().chain(pod.containers());
                    containers.any(|container| {
                        ["volumeMounts", "volumeDevices"]
                            .iter()
                            .any(|field| named(list(&container[field]), name))
                    })
                };
                let taken = VOLUMES.iter().find_map(|name| {
                    if named(pod.volumes(), name) {
                        Some(Taken::Volume((*name).to_owned()))
                    } else {
                        is_mounted(name).then(|| Taken::Mount((*name).to_owned()))
                    }
                });
                taken.map(Reason::NameTaken)
            }
            Self::RoomInPodLevelResources => {
                let sets_none = |container: &Value| {
                    let resources = &container["resources"];
                    entries(&resources["requests"]).is_none()
                        && entries(&resources["limits"]).is_none()
                };
                let is_full = pod.has_resources() && !pod.containers().iter().any(sets_none);
                is_full.then_some(Reason::PodLevelResources)
            }
            Self::NotTooLarge => {
                let annotations = entries(pod.annotations()).into_iter().flatten();
                let annotations: usize = annotations
                    .map(|(key, value)| key.len() + text(value))
                    .sum();
                let containers = pod.init_containers().iter().chain(pod.containers());
                let containers: usize = containers.map(weight).sum();
                (annotations > ANNOTATIONS || containers > TEXT).then_some(Reason::TooLarge)
            }
        }
    }
}

/// An init container of our name is ours when it runs as a sidecar and mounts the logs: whatever else may have changed
/// between versions.
fn is_agent(init_container: &Value) -> bool {
    init_container["restartPolicy"] == "Always"
        && list(&init_container["volumeMounts"])
            .iter()
            .any(|mount| mount["name"] == POD_LOGS)
}

/// CEL counts characters of a string and bytes of `bytes`.
fn not_too_large() -> String {
    let all = |field: &str, each: &str| {
        format!("(has(c.{field}) ? c.{field}.map(e, {each} + {ENTRY}).sum() : 0)")
    };
    let text = "size(bytes(e))";
    let containers = [
        all("command", text),
        all("args", text),
        all(
            "env",
            "size(bytes(e.name)) + (has(e.value) ? size(bytes(e.value)) : 0)",
        ),
    ];
    format!(
        "(!has(object.metadata.annotations) || object.metadata.annotations.map(k, size(bytes(k)) + size(bytes(object.metadata.annotations[k]))).sum() <= {ANNOTATIONS}) && ((has(object.spec.initContainers) ? object.spec.initContainers : []) + object.spec.containers).map(c, {}).sum() <= {TEXT}",
        containers.join(" + ")
    )
}

/// What [`not_too_large`] sums up.
fn weight(container: &Value) -> usize {
    let words = ["command", "args"].map(|field| list(&container[field]).iter().map(text));
    let words = words.into_iter().flatten();
    let variables = list(&container["env"]).iter();
    let variables =
        variables.map(|variable| 2 * text(&variable["name"]) + text(&variable["value"]));
    words.chain(variables).map(|bytes| bytes + ENTRY).sum()
}

fn patch(pod: &Pod<'_>, sidecar: &Sidecar) -> Patch {
    let mut operations = Vec::new();
    let mut add = |path: &[&str], value: Value| {
        let path = PointerBuf::from_tokens(path.iter().copied());
        operations.push(PatchOperation::Add(AddOperation { path, value }));
    };
    let empty_list = || Value::Array(Vec::new());
    let empty_object = || Value::Object(Map::new());
    // As in the expression of the admission policy: what is missing is created first, `add` into it would fail.
    if !pod.spec()["initContainers"].is_array() {
        add(&["spec", "initContainers"], empty_list());
    }
    add(&["spec", "initContainers", "0"], sidecar.container.clone());
    if !pod.has_resources() {
        add(
            &["spec", "initContainers", "0", "resources"],
            sidecar.resources.clone(),
        );
    }
    // The downward API does not have it.
    add(
        &["spec", "initContainers", "0", "env", "-"],
        json!({"name": layout::ENV_GRACE_PERIOD, "value": pod.grace_period().to_string()}),
    );
    if !pod.spec()["volumes"].is_array() {
        add(&["spec", "volumes"], empty_list());
    }
    for volume in &sidecar.volumes {
        add(&["spec", "volumes", "-"], volume.clone());
    }
    if !pod.json["metadata"].is_object() {
        add(&["metadata"], empty_object());
    }
    if !pod.annotations().is_object() {
        add(&["metadata", "annotations"], empty_object());
    }
    add(
        &["metadata", "annotations", names::AGENT_REVISION_ANNOTATION],
        sidecar.revision.as_str().into(),
    );
    add(
        &["metadata", "annotations", names::SAFE_TO_EVICT_ANNOTATION],
        safe_to_evict(pod.annotation(names::SAFE_TO_EVICT_ANNOTATION)).into(),
    );
    Patch(operations)
}

/// The volumes that are listed already, then ours that are not.
fn safe_to_evict(listed: Option<&Value>) -> String {
    let listed = listed.and_then(Value::as_str).unwrap_or_default();
    let is_new = |volume: &&str| !listed.split(',').any(|one| one == *volume);
    let listed_before = Some(listed).filter(|listed| !listed.is_empty());
    let volumes = listed_before
        .into_iter()
        .chain(LOCAL_VOLUMES.into_iter().filter(is_new));
    volumes.collect::<Vec<_>>().join(",")
}

/// A pod in JSON. What is missing or null is empty, and so is what has another type: the API server judges that.
struct Pod<'a> {
    json: &'a Value,
    /// Whether it is only tried and not created.
    dry_run: bool,
}

impl<'a> Pod<'a> {
    fn created(json: &'a Value) -> Self {
        Self {
            json,
            dry_run: false,
        }
    }

    fn spec(&self) -> &'a Value {
        &self.json["spec"]
    }

    /// How many seconds it gets to end. The API server fills in the default before it decides; a manifest may lack it.
    fn grace_period(&self) -> i64 {
        let seconds = self.spec()["terminationGracePeriodSeconds"].as_i64();
        seconds.unwrap_or(DEFAULT_GRACE_PERIOD)
    }

    fn annotations(&self) -> &'a Value {
        &self.json["metadata"]["annotations"]
    }

    fn annotation(&self, key: &str) -> Option<&'a Value> {
        self.annotations().get(key)
    }

    fn label(&self, key: &str) -> Option<&'a str> {
        self.json["metadata"]["labels"][key].as_str()
    }

    fn containers(&self) -> &'a [Value] {
        list(&self.spec()["containers"])
    }

    fn init_containers(&self) -> &'a [Value] {
        list(&self.spec()["initContainers"])
    }

    fn volumes(&self) -> &'a [Value] {
        list(&self.spec()["volumes"])
    }

    /// Whether what the agent is added to is something else than it should be. It is not lost then, and the API server
    /// says what is wrong with it.
    fn is_malformed(&self) -> bool {
        let list = |value: &Value| value.is_null() || value.is_array();
        let object = |value: &Value| value.is_null() || value.is_object();
        self.containers().is_empty()
            || !list(&self.spec()["initContainers"])
            || !list(&self.spec()["volumes"])
            || !object(&self.json["metadata"])
            || !object(self.annotations())
    }

    /// Resources of all containers together (KEP-2837).
    fn has_resources(&self) -> bool {
        self.spec()["resources"].is_object()
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn entries(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object().filter(|entries| !entries.is_empty())
}

/// Bytes of a text; a summary of a pod has their number in its place.
fn text(value: &Value) -> usize {
    let told = || value.as_u64().and_then(|bytes| usize::try_from(bytes).ok());
    value
        .as_str()
        .map(str::len)
        .or_else(told)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::installation;

    fn sidecar() -> Sidecar {
        Sidecar::new(&installation().agent).unwrap()
    }

    fn bare() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "web"}]}})
    }

    fn injected(pod: &Value) -> Value {
        let Decision::Inject(patch) = decide(pod, &sidecar()) else {
            panic!("{pod} is left alone");
        };
        let mut pod = pod.clone();
        json_patch::patch(&mut pod, &patch).unwrap();
        pod
    }

    fn left(change: impl FnOnce(&mut Value)) -> Reason {
        let mut pod = bare();
        change(&mut pod);
        let Decision::Leave(reason) = decide(&pod, &sidecar()) else {
            panic!("{pod} is injected");
        };
        reason
    }

    #[test]
    fn a_pod_gets_the_agent_first_and_a_second_pass_changes_nothing() {
        let mut pod = bare();
        pod["spec"]["initContainers"] = json!([{"name": "setup"}]);
        let injected = injected(&pod);
        assert_eq!(
            injected["spec"]["initContainers"][0]["name"],
            layout::CONTAINER
        );
        assert_eq!(injected["spec"]["initContainers"][1]["name"], "setup");
        assert_eq!(
            injected["spec"]["volumes"].as_array().unwrap().len(),
            VOLUMES.len()
        );
        assert_eq!(
            injected["metadata"]["annotations"][names::AGENT_REVISION_ANNOTATION],
            sidecar().revision.as_str()
        );
        assert_eq!(
            decide(&injected, &sidecar()),
            Decision::Leave(Reason::AlreadyInjected)
        );
    }

    #[test]
    fn the_agent_is_told_how_long_its_pod_has_to_end() {
        let told = |seconds: Value| {
            let mut pod = bare();
            pod["spec"]["terminationGracePeriodSeconds"] = seconds;
            let injected = injected(&pod);
            let variables = injected["spec"]["initContainers"][0]["env"].as_array();
            let last = variables.and_then(|variables| variables.last());
            last.unwrap().clone()
        };
        let variable = |value| json!({"name": layout::ENV_GRACE_PERIOD, "value": value});
        assert_eq!(told(json!(5)), variable("5"));
        assert_eq!(told(json!(0)), variable("0"));
        assert_eq!(told(Value::Null), variable("30"));
    }

    #[test]
    fn fields_unknown_to_this_crate_survive_the_patch() {
        let mut pod = bare();
        pod["spec"]["fieldOfTheFuture"] = json!({"a": [1]});
        pod["spec"]["initContainers"] = json!([{"name": "setup", "alsoNew": true}]);
        let injected = injected(&pod);
        assert_eq!(injected["spec"]["fieldOfTheFuture"], json!({"a": [1]}));
        assert_eq!(injected["spec"]["initContainers"][1]["alsoNew"], true);
    }

    #[test]
    fn templates_without_metadata_and_lists_that_are_null_are_no_obstacle() {
        let pod = json!({"spec": {"containers": [{"name": "web"}], "initContainers": null, "volumes": null}});
        assert!(injected(&pod)["metadata"]["annotations"].is_object());
    }

    #[test]
    fn each_reason_is_told_from_the_others() {
        assert_eq!(left(|pod| pod["spec"] = Value::Null), Reason::Malformed);
        for list in ["initContainers", "volumes"] {
            let malformed = left(|pod| pod["spec"][list] = json!({"name": "setup"}));
            assert_eq!(malformed, Reason::Malformed);
        }
        assert_eq!(
            left(|pod| pod["metadata"]["annotations"] = json!(["a"])),
            Reason::Malformed
        );
        assert_eq!(left(|pod| pod["metadata"] = json!("p")), Reason::Malformed);
        assert_eq!(
            left(|pod| pod["metadata"]["labels"] = json!({"logging.katonic.ai/inject": "false"})),
            Reason::OptedOut
        );
        assert_eq!(
            left(|pod| pod["metadata"]["labels"] = json!({"logging.katonic.ai/trial": "candidate"})),
            Reason::TrialLabel
        );
        assert_eq!(
            left(|pod| pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": ""})),
            Reason::MirrorPod
        );
        assert_eq!(
            left(|pod| pod["spec"]["os"] = json!({"name": "windows"})),
            Reason::Windows
        );
        assert_eq!(
            left(|pod| pod["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"})),
            Reason::Windows
        );
        assert_eq!(
            left(|pod| pod["spec"]["containers"][0]["name"] = json!("katonic-log-agent")),
            Reason::NameTaken(Taken::Container)
        );
        assert_eq!(
            left(|pod| pod["spec"]["initContainers"] = json!([{"name": "katonic-log-agent"}])),
            Reason::NameTaken(Taken::Container)
        );
        assert_eq!(
            left(|pod| pod["spec"]["volumes"] = json!([{"name": "katonic-logs"}])),
            Reason::NameTaken(Taken::Volume("katonic-logs".into()))
        );
        // Such a pod is refused; with our volumes it would not be, and would see them.
        assert_eq!(
            left(|pod| pod["spec"]["containers"][0]["volumeMounts"] =
                json!([{"name": "katonic-podlogs", "mountPath": "/node"}])),
            Reason::NameTaken(Taken::Mount("katonic-podlogs".into()))
        );
        assert_eq!(
            left(|pod| pod["spec"]["initContainers"] = json!([
                {"name": "a", "volumeDevices": [{"name": "katonic-logs", "devicePath": "/dev/a"}]}
            ])),
            Reason::NameTaken(Taken::Mount("katonic-logs".into()))
        );
        assert_eq!(
            left(|pod| pod["spec"]["containers"][0]["args"] =
                json!(["a".repeat(600 << 10), "b".repeat(600 << 10)])),
            Reason::TooLarge
        );
        assert_eq!(
            left(|pod| pod["metadata"]["annotations"] = json!({"a": "ä".repeat(128 << 10)})),
            Reason::TooLarge
        );
    }

    #[test]
    fn a_pod_that_is_only_tried_is_a_trial_and_one_that_is_created_is_none() {
        let mut pod = bare();
        pod["metadata"]["labels"] = json!({"logging.katonic.ai/trial": "webhook"});
        let tried = decide_asked(&pod, true, &sidecar());
        assert!(matches!(tried, Decision::Inject(_)), "{tried:?}");
        let created = decide_asked(&pod, false, &sidecar());
        assert_eq!(created, Decision::Leave(Reason::TrialLabel));
    }

    #[test]
    fn a_pod_is_as_large_as_its_summary_says() {
        let arguments = |first: Value| {
            let mut pod = bare();
            pod["spec"]["containers"][0]["args"] = json!([first]);
            refusal(&pod)
        };
        assert_eq!(arguments(json!(1 << 20)), Some(Reason::TooLarge));
        assert_eq!(
            arguments(json!("a".repeat(1 << 20))),
            Some(Reason::TooLarge)
        );
        assert_eq!(arguments(json!(1 << 19)), None);
    }

    #[test]
    fn the_agent_shares_in_resources_of_the_pod_where_a_container_does_so_too() {
        let mut pod = bare();
        pod["spec"]["resources"] = json!({"limits": {"memory": "1Gi"}});
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {}});
        assert_eq!(
            injected(&pod)["spec"]["initContainers"][0].get("resources"),
            None
        );
        let limits = json!({"limits": {"memory": "1Gi"}});
        let full = left(|pod| {
            pod["spec"]["resources"] = limits.clone();
            pod["spec"]["containers"][0]["resources"] = limits;
        });
        assert_eq!(full, Reason::PodLevelResources);
    }

    #[test]
    fn volumes_that_are_listed_as_safe_stay_listed_and_none_is_listed_twice() {
        let listed = |before: &str| {
            let mut pod = bare();
            pod["metadata"]["annotations"] = json!({names::SAFE_TO_EVICT_ANNOTATION: before});
            injected(&pod)["metadata"]["annotations"][names::SAFE_TO_EVICT_ANNOTATION].clone()
        };
        assert_eq!(listed(""), "katonic-podlogs,katonic-log-state");
        assert_eq!(listed("cache"), "cache,katonic-podlogs,katonic-log-state");
        assert_eq!(
            listed("katonic-log-state,cache"),
            "katonic-log-state,cache,katonic-podlogs"
        );
        assert_eq!(
            listed("katonic-podlogs,katonic-log-state"),
            "katonic-podlogs,katonic-log-state"
        );
    }
}

//! What an API server asks the webhook and what it is answered: `AdmissionReview` of `admission.k8s.io/v1`.
//!
//! Only the few fields that matter are read, whatever else there is, and the answer is a patch that only adds: a pod of a
//! newer Kubernetes keeps what this version does not know.

use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    injection::{Decision, Reason, decide_asked},
    sidecar::Sidecar,
};

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// What a question may take in memory, in bytes, as it is [weighed](weight). A pod as large as any that gets the agent takes
/// less, and several are answered at a time.
const HEAVY: usize = 40 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    api_version: String,
    kind: String,
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(default)]
    object: Value,
    dry_run: Option<bool>,
}

/// The answer as the API server reads it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    api_version: &'static str,
    kind: &'static str,
    response: Response,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    /// In base64, as the type says.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<ByteString>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// An answer, and what became of the pod, for metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The answer.
    pub review: Review,
    /// What became of the pod.
    pub outcome: Outcome,
}

/// What became of a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It gets the agent.
    Injected,
    /// It stays as it is, for a reason of its own.
    Left(Reason),
    /// It stays as it is because of us.
    Failed(Failure),
}

/// Why a pod is created without the agent that should have it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The configuration of the webhook has not been seen yet.
    NotConfigured,
    /// The patch cannot be applied to this pod.
    PatchFailed,
}

impl Failure {
    fn as_str(self) -> &'static str {
        match self {
            Self::NotConfigured => "NotConfigured",
            Self::PatchFailed => "PatchFailed",
        }
    }

    fn warning(self) -> String {
        let why = match self {
            Self::NotConfigured => "the webhook does not know yet what to add",
            Self::PatchFailed => "it could not be added to this pod",
        };
        format!("the pod is created without the log agent of katonic-logging: {why}")
    }
}

impl Outcome {
    /// Decision and reason, for metrics.
    pub fn labels(&self) -> (&'static str, &'static str) {
        match self {
            Self::Injected => ("Injected", "NeedsAgent"),
            Self::Left(reason) => ("Left", reason.as_str()),
            Self::Failed(failure) => ("Failed", failure.as_str()),
        }
    }
}

/// The question could not be read, so there is nobody to answer.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// No JSON, or without what every review has.
    #[error("not an AdmissionReview: {0}")]
    Json(#[from] serde_json::Error),
    /// Anybody in the cluster may ask, and a few bytes of JSON can take a hundred times as many in memory.
    #[error("no pod has so many fields")]
    TooHeavy,
    /// Another type.
    #[error("not an AdmissionReview of {API_VERSION} but {kind} of {api_version}")]
    Type {
        /// What it says of itself.
        api_version: String,
        /// What it says of itself.
        kind: String,
    },
}

/// Answers. A pod is always let in: what is wrong with the agent, or with us, is told in a warning.
///
/// # Errors
/// When the question cannot be read. The API server then lets the pod in by itself (`failurePolicy: Ignore`).
pub fn answer(question: &[u8], sidecar: Option<&Sidecar>) -> Result<Answer, Unreadable> {
    if weight(question) > HEAVY {
        return Err(Unreadable::TooHeavy);
    }
    let question: Question = serde_json::from_slice(question)?;
    if (question.api_version.as_str(), question.kind.as_str()) != (API_VERSION, KIND) {
        return Err(Unreadable::Type {
            api_version: question.api_version,
            kind: question.kind,
        });
    }
    let Request {
        uid,
        object,
        dry_run,
    } = question.request;
    let injected = sidecar
        .ok_or(Outcome::Failed(Failure::NotConfigured))
        .and_then(|sidecar| patch(object, dry_run.unwrap_or_default(), sidecar));
    let (patch, outcome) = match injected {
        Ok(patch) => (Some(patch), Outcome::Injected),
        Err(outcome) => (None, outcome),
    };
    let warnings = match &outcome {
        Outcome::Failed(failure) => vec![failure.warning()],
        Outcome::Injected | Outcome::Left(_) => Vec::new(),
    };
    let review = Review {
        api_version: API_VERSION,
        kind: KIND,
        response: Response {
            uid,
            allowed: true,
            patch_type: patch.is_some().then_some("JSONPatch"),
            patch: patch.map(ByteString),
            warnings,
        },
    };
    Ok(Answer { review, outcome })
}

/// What JSON takes in memory when it is read, in bytes and at most: a [`Value`] has 32 bytes and lists grow by doubling, a map
/// that is not empty begins with room for eleven entries (`BTreeMap`), and each text is an allocation of its own.
fn weight(json: &[u8]) -> usize {
    const ENTRY: usize = 64;
    const MAP: usize = 640;
    const QUOTE: usize = 16;
    let (mut weight, mut in_text, mut escaped) = (json.len(), false, false);
    let mut opened = false;
    for byte in json {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        if opened && !byte.is_ascii_whitespace() {
            opened = false;
            weight += if *byte == b'}' { 0 } else { MAP };
        }
        match byte {
            b'"' => {
                in_text = true;
                weight += 2 * QUOTE;
            }
            b'{' => {
                opened = true;
                weight += ENTRY;
            }
            b'[' | b',' | b':' => weight += ENTRY,
            _ => {}
        }
    }
    weight
}

fn patch(mut pod: Value, dry_run: bool, sidecar: &Sidecar) -> Result<Vec<u8>, Outcome> {
    let patch = match decide_asked(&pod, dry_run, sidecar) {
        Decision::Inject(patch) => patch,
        Decision::Leave(reason) => return Err(Outcome::Left(reason)),
    };
    let bytes = serde_json::to_vec(&patch).map_err(|_| Outcome::Failed(Failure::PatchFailed))?;
    // A patch that the API server cannot apply refuses the pod, whatever the failure policy says: so it is tried here.
    json_patch::patch(&mut pod, &patch).map_err(|_| Outcome::Failed(Failure::PatchFailed))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::installation;

    fn question(pod: &Value) -> Vec<u8> {
        let question = json!({
            "apiVersion": API_VERSION, "kind": KIND, "fieldOfTheFuture": {},
            "request": {
                "uid": "705ab4f5", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE",
                "object": pod, "oldObject": null, "dryRun": false, "fieldOfTheFuture": 1,
            },
        });
        question.to_string().into_bytes()
    }

    fn ask(pod: &Value) -> (Value, Outcome) {
        let sidecar = Sidecar::new(&installation().agent).unwrap();
        let answer = answer(&question(pod), Some(&sidecar)).unwrap();
        (serde_json::to_value(answer.review).unwrap(), answer.outcome)
    }

    fn bare() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "web", "new": 1}], "fieldOfTheFuture": [1]}})
    }

    #[test]
    fn a_pod_gets_a_patch_that_keeps_what_this_version_does_not_know() {
        let (review, outcome) = ask(&bare());
        assert_eq!(outcome.labels(), ("Injected", "NeedsAgent"));
        assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
        let response = &review["response"];
        assert_eq!(
            (
                &response["uid"],
                &response["allowed"],
                &response["patchType"]
            ),
            (&json!("705ab4f5"), &json!(true), &json!("JSONPatch"))
        );
        let patch: ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch.0).unwrap();
        let mut pod = bare();
        json_patch::patch(&mut pod, &patch).unwrap();
        assert_eq!(
            pod["spec"]["initContainers"][0]["name"],
            "katonic-log-agent"
        );
        assert_eq!(pod["spec"]["fieldOfTheFuture"], json!([1]));
        assert_eq!(pod["spec"]["containers"], bare()["spec"]["containers"]);
    }

    #[test]
    fn a_pod_that_is_left_alone_is_let_in_without_a_word() {
        let mut pod = bare();
        pod["spec"]["os"] = json!({"name": "windows"});
        let (review, outcome) = ask(&pod);
        assert_eq!(outcome.labels(), ("Left", "Windows"));
        assert_eq!(
            review["response"],
            json!({"uid": "705ab4f5", "allowed": true})
        );
    }

    #[test]
    fn a_webhook_that_does_not_know_what_to_add_lets_pods_in_and_says_so() {
        let answer = answer(&question(&bare()), None).unwrap();
        assert_eq!(answer.outcome.labels(), ("Failed", "NotConfigured"));
        let response = serde_json::to_value(answer.review).unwrap()["response"].clone();
        assert_eq!(response["allowed"], true);
        assert_eq!(response.get("patch"), None);
        assert_eq!(
            response["warnings"],
            json!([
                "the pod is created without the log agent of katonic-logging: the webhook does not know yet what to add"
            ])
        );
    }

    #[test]
    fn whatever_stands_where_a_pod_should_be_is_let_in() {
        for object in [json!(null), json!([]), json!("pod"), json!({"spec": 3})] {
            assert_eq!(ask(&object).0["response"]["allowed"], true, "{object}");
        }
        // Not a list, so nothing can be put before its first entry.
        let odd = json!({"metadata": [], "spec": {"containers": [{"name": "web"}]}});
        assert_eq!(ask(&odd).0["response"]["allowed"], true);
    }

    #[test]
    fn what_would_take_more_memory_than_any_pod_is_refused_before_it_is_read() {
        for part in [r#"{"":0},"#, "0,", "[],", r#""","#] {
            let list = part.repeat((4 << 20) / part.len());
            let text = question(&json!({"list": "LIST"}));
            let text = String::from_utf8(text).unwrap();
            let heavy = text.replace(r#""LIST""#, &format!("[{list}0]"));
            let refused = answer(heavy.as_bytes(), None).unwrap_err();
            assert!(matches!(refused, Unreadable::TooHeavy), "{part}: {refused}");
        }
        // As many variables as a pod may have and get the agent, with the record of their owners.
        let variables: Vec<Value> = (0..10_000)
            .map(|number| json!({"name": format!("VARIABLE_{number}"), "value": "1"}))
            .collect();
        let owners: serde_json::Map<String, Value> = (0..10_000)
            .map(|number| {
                let fields = json!({".": {}, "f:name": {}, "f:value": {}});
                (format!("k:{{\"name\":\"VARIABLE_{number}\"}}"), fields)
            })
            .collect();
        let mut pod = bare();
        pod["spec"]["containers"][0]["env"] = variables.into();
        pod["metadata"]["managedFields"] = json!([{"fieldsV1": {"f:env": owners}}]);
        assert_eq!(ask(&pod).1, Outcome::Injected);
    }

    #[test]
    fn what_is_no_review_is_refused_by_name() {
        let refuse = |text: &str| answer(text.as_bytes(), None).unwrap_err().to_string();
        assert!(refuse("garbage").starts_with("not an AdmissionReview"));
        assert!(refuse("{}").contains("missing field"));
        assert_eq!(
            refuse(
                r#"{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {"uid": "a"}}"#
            ),
            "not an AdmissionReview of admission.k8s.io/v1 but AdmissionReview of admission.k8s.io/v1beta1"
        );
    }
}

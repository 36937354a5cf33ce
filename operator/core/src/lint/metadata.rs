//! The metadata of an object that is created, as the API server takes it.
//!
//! Source: `k8s.io/apimachinery/pkg/api/validation`, "`ValidateObjectMeta`".

use super::{
    finding::Rule,
    schema::{Complaint, no_such_field},
    tree::{Content, Field, Path, Tree},
};
use crate::names;

/// The fields that there are.
const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Most bytes of all annotations of an object.
const ANNOTATIONS: usize = 256 << 10;

/// What is wrong with the metadata of an object.
pub fn check(object: &Tree) -> Vec<Complaint> {
    let at = Path::parse("metadata");
    let complain = |path: Path, message: String| Complaint {
        rule: Rule::Metadata,
        path,
        message,
        blocks: false,
    };
    let Some(metadata) = object
        .get("metadata")
        .filter(|tree| tree.content != Content::Null)
    else {
        let message = "is missing: write it, with a name of the policy in it".to_owned();
        return vec![complain(at.field("name"), message)];
    };
    let Content::Object(fields) = &metadata.content else {
        return vec![complain(
            at,
            "must be an object: write name: and the name of the policy below it".to_owned(),
        )];
    };
    let mut complaints = Vec::new();
    for field in fields {
        let path = at.field(&field.name);
        if !FIELDS.contains(&field.name.as_str()) {
            complaints.push(Complaint {
                rule: Rule::UnknownField,
                ..complain(path, no_such_field(&field.name, FIELDS.into_iter()))
            });
            continue;
        }
        match field.name.as_str() {
            "name" | "generateName" | "namespace" => {
                if let Some(message) = wrong_name(field) {
                    complaints.push(complain(path, message));
                }
            }
            "labels" | "annotations" => {
                let wrong = wrong_pairs(field, field.name == "labels");
                complaints.extend(
                    wrong
                        .into_iter()
                        .map(|message| complain(path.clone(), message)),
                );
            }
            _ => {}
        }
    }
    let is_named = ["name", "generateName"]
        .iter()
        .any(|name| metadata.text(name).is_some_and(|name| !name.is_empty()));
    let is_told = complaints.iter().any(|one| one.path == at.field("name"));
    if !is_named && !is_told {
        complaints.push(complain(
            at.field("name"),
            "is missing: give the policy a name, for example application-logs".to_owned(),
        ));
    }
    complaints
}

fn wrong_name(field: &Field) -> Option<String> {
    let text = match &field.value.content {
        Content::Null => return None,
        Content::Text(text) => text,
        Content::Number(_) | Content::Bool(_) => {
            return Some("must be text: put it in quotes".to_owned());
        }
        Content::List(_) | Content::Object(_) => return Some("must be text".to_owned()),
    };
    let text = match field.name.as_str() {
        // Something is put behind it.
        "generateName" => text.trim_end_matches('-'),
        "namespace" => return None,
        _ => text,
    };
    (!text.is_empty() && !is_subdomain(text)).then(|| {
        "is no name that an object can have: write at most 253 lower-case letters, digits, `-` and `.`, beginning and ending with a letter or a digit".to_owned()
    })
}

/// RFC 1123, as Kubernetes has it: without a limit of what is between two dots.
fn is_subdomain(name: &str) -> bool {
    let is_part = |part: &str| {
        let is_inner =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(is_inner)
    };
    name.len() <= 253 && name.split('.').all(is_part)
}

fn wrong_pairs(field: &Field, are_labels: bool) -> Vec<String> {
    let pairs = match &field.value.content {
        Content::Null => return Vec::new(),
        Content::Object(pairs) => pairs,
        _ => return vec!["must be an object: write a line `name: value` for each".to_owned()],
    };
    let mut wrong = Vec::new();
    let mut bytes = 0;
    for pair in pairs {
        let name = &pair.name;
        let value = match &pair.value.content {
            Content::Text(text) => text.as_str(),
            Content::Null => "",
            _ => {
                wrong.push(format!(
                    "the value of `{name}` must be text: put it in quotes"
                ));
                continue;
            }
        };
        bytes += name.len() + value.len();
        // The name of an annotation may have capitals in its prefix.
        let key = if are_labels {
            name.clone()
        } else {
            name.to_lowercase()
        };
        if !names::is_label_key(&key) {
            wrong.push(format!(
                "`{name}` cannot be the name of one: write `name` or `prefix/name`, of letters, digits, `-`, `_` and `.`"
            ));
        } else if are_labels && !names::is_label_value(value) {
            wrong.push(format!(
                "the value of `{name}` is none that a label can have: write at most 63 letters, digits, `-`, `_` and `.`"
            ));
        }
    }
    if !are_labels && bytes > ANNOTATIONS {
        wrong.push(format!("has {bytes} bytes: write at most {ANNOTATIONS}"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::document::documents;

    fn paths(yaml: &str) -> Vec<String> {
        let (documents, unreadable) = documents(yaml);
        assert_eq!(unreadable, []);
        let complaints = check(&documents[0].tree);
        complaints.iter().map(|one| one.path.to_string()).collect()
    }

    #[test]
    fn good_metadata_is_taken() {
        let none: [&str; 0] = [];
        for metadata in [
            "{name: application-logs}",
            "{name: a.b-c.1, labels: {app: web, app.kubernetes.io/name: ''}}",
            "{generateName: logs-, annotations: {a/b: 'any {} text', Example.COM/x: z}}",
            "{name: a, namespace: null, labels: null}",
        ] {
            assert_eq!(paths(&format!("metadata: {metadata}")), none, "{metadata}");
        }
    }

    #[test]
    fn bad_metadata_is_refused_with_its_field() {
        for (metadata, path) in [
            ("null", "metadata.name"),
            ("{}", "metadata.name"),
            ("[]", "metadata"),
            ("{name: A}", "metadata.name"),
            ("{name: -a}", "metadata.name"),
            ("{name: 1}", "metadata.name"),
            ("{name: a, label: {}}", "metadata.label"),
            ("{name: a, labels: {a b: c}}", "metadata.labels"),
            ("{name: a, labels: {a: 1}}", "metadata.labels"),
            ("{name: a, labels: {a: b c}}", "metadata.labels"),
            ("{name: a, annotations: []}", "metadata.annotations"),
            ("{name: a, annotations: {a: true}}", "metadata.annotations"),
        ] {
            assert_eq!(
                paths(&format!("metadata: {metadata}")),
                [path],
                "{metadata}"
            );
        }
    }
}

//! The Secrets among the files.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::ByteString;
use katonic_logging_crds::SecretKeyRef;
use serde::Deserialize as _;

use super::{
    finding::Rule,
    schema::Complaint,
    tree::{Content, Path, Tree},
};
use crate::credential::{Credential, Lookup};

/// What is known of a Secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Known {
    /// What it holds.
    Values(BTreeMap<String, Credential>),
    /// It will be there, and nobody can say from here what it holds.
    Sealed,
}

/// The Secrets that policies can name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secrets {
    known: BTreeMap<String, Known>,
    /// Secrets of other namespaces, where nobody looks for them.
    elsewhere: BTreeMap<String, String>,
}

/// What makes a Secret: its kind, by group and kind, and where its name is.
const MAKERS: [(&str, &str, &[&str]); 3] = [
    // Bitnami's Sealed Secrets; External Secrets; cert-manager.
    (
        "bitnami.com",
        "SealedSecret",
        &["spec", "template", "metadata", "name"],
    ),
    (
        "external-secrets.io",
        "ExternalSecret",
        &["spec", "target", "name"],
    ),
    ("cert-manager.io", "Certificate", &["spec", "secretName"]),
];

impl Secrets {
    /// Those that the cluster has already.
    pub fn of_cluster(names: &BTreeSet<String>) -> Self {
        let known = names.iter().map(|name| (name.clone(), Known::Sealed));
        Self {
            known: known.collect(),
            elsewhere: BTreeMap::new(),
        }
    }

    /// Takes an object that is a Secret or makes one, and says what is wrong with it; none if it is neither.
    pub fn take(
        &mut self,
        group: &str,
        kind: &str,
        object: &Tree,
        namespace: &str,
    ) -> Option<Vec<Complaint>> {
        let metadata = object.get("metadata");
        let own = metadata.and_then(|metadata| metadata.text("name"));
        let (name, known, complaints) = if (group, kind) == ("", "Secret") {
            let (values, complaints) = values(object);
            (own?, Known::Values(values), complaints)
        } else {
            let (_, _, path) = MAKERS
                .iter()
                .find(|(of, one, _)| *of == group && *one == kind)?;
            let (last, before) = path.split_last()?;
            let inner = before
                .iter()
                .try_fold(object, |tree, field| tree.get(field));
            let named = inner.and_then(|tree| tree.text(last));
            (named.or(own)?, Known::Sealed, Vec::new())
        };
        // Without a namespace, whoever applies it says which.
        match metadata.and_then(|metadata| metadata.text("namespace")) {
            Some(other) if other != namespace => {
                self.elsewhere.insert(name.to_owned(), other.to_owned());
            }
            _ => {
                self.known.insert(name.to_owned(), known);
            }
        }
        Some(complaints)
    }

    /// What is found where a policy says that a credential is; none where that cannot be known.
    pub fn look_up(&self, reference: &SecretKeyRef) -> Option<Lookup> {
        match self.known.get(&reference.name) {
            Some(Known::Values(values)) => Some(
                values
                    .get(&reference.key)
                    .map_or(Lookup::KeyMissing, |value| Lookup::Found(value.clone())),
            ),
            Some(Known::Sealed) => None,
            None => Some(Lookup::SecretMissing),
        }
    }

    /// The other namespace that a Secret of this name is in.
    pub fn elsewhere(&self, name: &str) -> Option<&str> {
        self.elsewhere.get(name).map(String::as_str)
    }
}

/// What a Secret holds: `stringData` over `data`, as the API server merges them.
fn values(object: &Tree) -> (BTreeMap<String, Credential>, Vec<Complaint>) {
    let mut values = BTreeMap::new();
    let mut complaints = Vec::new();
    for part in ["data", "stringData"] {
        let Some(Content::Object(fields)) = object.get(part).map(|tree| &tree.content) else {
            continue;
        };
        for field in fields {
            let mut complain = |message: &str| {
                complaints.push(Complaint {
                    rule: Rule::Secret,
                    path: Path::parse(part).field(&field.name),
                    message: message.to_owned(),
                    blocks: false,
                });
            };
            match (&field.value.content, part) {
                (Content::Text(text), "data") => {
                    // Line breaks in it are passed over (Go, `encoding/base64`).
                    let text = text.replace(['\r', '\n'], "");
                    let json = serde_json::Value::String(text);
                    match ByteString::deserialize(json) {
                        Ok(bytes) => {
                            values.insert(field.name.clone(), Credential::new(bytes.0));
                        }
                        Err(_) => complain(
                            "is not Base64: write the value in Base64, or as it is below stringData",
                        ),
                    }
                }
                (Content::Text(text), _) => {
                    values.insert(
                        field.name.clone(),
                        Credential::new(text.clone().into_bytes()),
                    );
                }
                (Content::Null, _) => {
                    values.insert(field.name.clone(), Credential::new(Vec::new()));
                }
                _ => complain("must be text: put it in quotes"),
            }
        }
    }
    (values, complaints)
}

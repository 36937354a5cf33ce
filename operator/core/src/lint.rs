//! Everything that is wrong with policies in files, told before any cluster sees them.
//!
//! ```text
//!  bytes ─ document ─▶ Tree, each part with its place ─┬─ schema, validation ─▶ what the API server refuses
//!                                                      ├─ policy::validate ───▶ what the operator refuses, and calls dangerous
//!                                                      └─ together ───────────▶ what several objects have among each other
//! ```
//!
//! The schema and its rules are those of the definitions that are installed; nothing is written here a second time.

pub mod document;
pub mod finding;
pub mod format;
mod metadata;
pub(crate) mod nearest;
pub mod object;
mod scalar;
pub mod schema;
pub mod secret;
mod together;
pub mod tree;
pub mod validation;

use std::collections::{BTreeMap, BTreeSet};

use katonic_logging_crds::manifest;
use serde_json::Value;

use self::{
    document::documents,
    finding::{Finding, Rule, Severity},
    object::{Definitions, Policy, VERSION},
    secret::Secrets,
    together::Together,
    tree::{Path, Spot, Tree},
};
use crate::{installation::Installation, names};

/// A file.
#[derive(Clone, Debug)]
pub struct Source {
    /// What it is called in messages.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// What is known besides the files.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Namespace of the operator, and of the Secrets that policies name.
    pub namespace: String,
    /// Secrets that the cluster has there already.
    pub secrets: BTreeSet<String>,
    /// The installation, or a manifest of the ConfigMap that holds it; otherwise it is looked for among the files.
    pub installation: Option<Source>,
}

/// What there was in the files.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Files.
    pub files: usize,
    /// Policies.
    pub policies: usize,
    /// Objects of other kinds.
    pub others: usize,
    /// Documents that are no objects, such as the values of a chart.
    pub not_objects: usize,
}

/// What came of looking at files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// What is wrong, in the order of the files and their lines.
    pub findings: Vec<Finding>,
    /// What was looked at.
    pub counts: Counts,
}

impl Outcome {
    /// How many findings are as bad as this.
    pub fn count(&self, severity: Severity) -> usize {
        let findings = self.findings.iter();
        findings.filter(|one| one.severity == severity).count()
    }
}

/// A policy, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    file: String,
    tree: Tree,
    kind: String,
    name: String,
    policy: Policy,
}

/// What files hold that can be used.
#[derive(Clone, Debug)]
pub struct Content {
    /// The policies, in the order of the files.
    pub policies: Vec<Policy>,
    /// The Secrets.
    pub secrets: Secrets,
    /// The installation, if it is among them or was named.
    pub installation: Option<Installation>,
}

/// Looks at files.
pub fn lint(sources: &[Source], surroundings: &Surroundings) -> Outcome {
    read(sources, surroundings).0
}

/// Looks at files, and gives what they hold too.
pub fn read(sources: &[Source], surroundings: &Surroundings) -> (Outcome, Content) {
    let mut survey = Survey::new(surroundings);
    for source in sources {
        survey.file(source);
    }
    let policies = survey.held.iter().map(|held| held.policy.clone());
    let content = Content {
        policies: policies.collect(),
        secrets: survey.secrets.clone(),
        installation: survey.installation.clone(),
    };
    (survey.outcome(sources), content)
}

struct Survey<'a> {
    surroundings: &'a Surroundings,
    definitions: Definitions,
    held: Vec<Held>,
    /// Where each policy was first, by kind and name.
    seen: BTreeMap<(String, String), (String, Spot)>,
    secrets: Secrets,
    installation: Option<Installation>,
    findings: Vec<Finding>,
    counts: Counts,
}

impl<'a> Survey<'a> {
    fn new(surroundings: &'a Surroundings) -> Self {
        let mut survey = Self {
            surroundings,
            definitions: Definitions::default(),
            held: Vec::new(),
            seen: BTreeMap::new(),
            secrets: Secrets::of_cluster(&surroundings.secrets),
            installation: None,
            findings: Vec::new(),
            counts: Counts::default(),
        };
        if let Some(source) = &surroundings.installation {
            survey.installation_file(source);
        }
        survey
    }

    fn text<'b>(&mut self, source: &'b Source) -> Option<&'b str> {
        match str::from_utf8(&source.bytes) {
            // A byte order mark is none of the text.
            Ok(text) => Some(text.strip_prefix('\u{feff}').unwrap_or(text)),
            Err(error) => {
                let before = &source.bytes[..error.valid_up_to()];
                let line = before.split(|byte| *byte == b'\n').count();
                let begin = before
                    .iter()
                    .rposition(|byte| *byte == b'\n')
                    .map_or(0, |at| at + 1);
                let column = 1 + String::from_utf8_lossy(&before[begin..]).chars().count();
                let message = "this is not YAML: it holds bytes that are no UTF-8; name text files alone, saved as UTF-8";
                self.tell(
                    &source.name,
                    Spot { line, column },
                    Severity::Error,
                    Rule::Yaml,
                    message,
                );
                None
            }
        }
    }

    fn file(&mut self, source: &Source) {
        self.counts.files += 1;
        let Some(text) = self.text(source) else {
            return;
        };
        let (documents, unreadable) = documents(text);
        for one in unreadable {
            self.tell(&source.name, one.at, Severity::Error, one.rule, one.message);
        }
        for document in documents {
            self.object(&source.name, document.tree, document.bytes);
        }
    }

    fn tell(
        &mut self,
        file: &str,
        at: Spot,
        severity: Severity,
        rule: Rule,
        message: impl Into<String>,
    ) {
        self.findings.push(Finding {
            file: file.to_owned(),
            at,
            severity,
            rule,
            object: None,
            path: None,
            message: message.into(),
        });
    }

    fn object(&mut self, file: &str, tree: Tree, bytes: usize) {
        let error = Severity::Error;
        match &tree.content {
            tree::Content::Object(_) => {}
            tree::Content::List(items) => return self.list(file, items),
            _ => {
                let message = "this is a word or a text and no object: name files of YAML alone, and begin an object with apiVersion:";
                self.tell(file, tree.at, error, Rule::Yaml, message);
                return;
            }
        }
        let (version, kind) = (tree.text("apiVersion"), tree.text("kind"));
        let is_of_ours =
            version.is_some_and(|version| version.starts_with(&format!("{}/", names::GROUP)));
        let (version, kind) = match (version, kind) {
            (Some(version), Some(kind)) => (version.to_owned(), kind.to_owned()),
            (None, Some(kind)) if self.definitions.kinds().any(|known| known == kind) => {
                let message = format!(
                    "apiVersion is missing: write apiVersion: {}/{VERSION}",
                    names::GROUP
                );
                self.tell(file, tree.at, error, Rule::Kind, message);
                return;
            }
            (Some(_), None) if is_of_ours => {
                let kinds: Vec<&str> = self.definitions.kinds().collect();
                let message = format!("kind is missing: write kind: {}", kinds.join(" or kind: "));
                self.tell(file, tree.at, error, Rule::Kind, message);
                return;
            }
            _ => {
                self.counts.not_objects += 1;
                return;
            }
        };
        if kind.ends_with("List")
            && let Some(tree::Content::List(items)) = tree.get("items").map(|items| &items.content)
        {
            return self.items(file, (&version, &kind), items, bytes);
        }
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        if group == names::GROUP {
            self.policy(file, tree, version, &kind, bytes);
            return;
        }
        if self.definitions.kinds().any(|known| known == kind) {
            self.of_other_group(file, &tree, group, version, &kind);
        }
        self.other(file, &tree, group, &kind);
    }

    /// A policy of ours whose group was mistyped, or somebody else's of the same name.
    fn of_other_group(&mut self, file: &str, tree: &Tree, group: &str, version: &str, kind: &str) {
        let is_mistyped =
            version == names::GROUP || nearest::nearest(group, [names::GROUP]).is_some();
        let severity = if is_mistyped {
            Severity::Error
        } else {
            Severity::Warning
        };
        let message = format!(
            "a {kind} of this apiVersion is none of katonic-logging's, and is passed over: if that is meant, write apiVersion: {}/{VERSION}",
            names::GROUP
        );
        let at = tree.spot(&Path::parse("apiVersion"));
        self.tell(file, at, severity, Rule::Kind, message);
    }

    /// A list where an object should be: if policies are in it, nobody would read them.
    fn list(&mut self, file: &str, items: &[Tree]) {
        self.counts.not_objects += 1;
        let is_ours = |item: &&Tree| {
            let is_kind = |kind| self.definitions.kinds().any(|known| known == kind);
            item.text("kind").is_some_and(is_kind)
        };
        if let Some(item) = items.iter().find(is_ours) {
            let message = "policies stand in a list here, and no cluster reads a list as an object: write each as a document of its own, with `---` between them, or all below `items:` of a `kind: List`";
            self.tell(file, item.at, Severity::Error, Rule::Kind, message);
        }
    }

    /// The items of a List. Those of a List of one kind need not say which that is.
    fn items(&mut self, file: &str, list: (&str, &str), items: &[Tree], bytes: usize) {
        let (version, kind) = list;
        let of_one_kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
        for item in items {
            let mut item = item.clone();
            let at = item.at;
            if let (Some(kind), tree::Content::Object(fields)) = (of_one_kind, &mut item.content) {
                for (name, text) in [("apiVersion", version), ("kind", kind)] {
                    if !fields.iter().any(|field| field.name == name) {
                        let content = tree::Content::Text(text.to_owned());
                        let value = Tree { at, content };
                        let name = name.to_owned();
                        fields.push(tree::Field { at, name, value });
                    }
                }
            }
            if item.text("kind").is_none() || item.text("apiVersion").is_none() {
                let message = "this item of a List says no apiVersion or no kind: write both";
                self.tell(file, at, Severity::Error, Rule::Kind, message);
                continue;
            }
            self.object(file, item, bytes);
        }
    }

    fn policy(&mut self, file: &str, tree: Tree, version: &str, kind: &str, bytes: usize) {
        self.counts.policies += 1;
        let error = Severity::Error;
        if version != VERSION {
            let at = tree.spot(&Path::parse("apiVersion"));
            let message = format!(
                "this program knows {VERSION} of {}, and not {version}: write apiVersion: {}/{VERSION}, or use the katonic-logging that belongs to your cluster's operator",
                names::GROUP,
                names::GROUP
            );
            self.tell(file, at, error, Rule::Kind, message);
            return;
        }
        let Some(said) = self.definitions.say(kind, &tree, bytes) else {
            let at = tree.spot(&Path::parse("kind"));
            let kinds: Vec<&str> = self.definitions.kinds().collect();
            let message = match nearest::nearest(kind, kinds.iter().copied()) {
                Some(meant) => format!("there is no such kind: did you mean `{meant}`?"),
                None => format!("there is no such kind: write {}", kinds.join(" or ")),
            };
            self.tell(file, at, error, Rule::Kind, message);
            return;
        };
        let metadata = tree.get("metadata");
        let name = metadata
            .and_then(|metadata| metadata.text("name"))
            .unwrap_or_default();
        let name = name.to_owned();
        let reference = if name.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind} {name}")
        };
        for (severity, complaint) in said.complaints {
            let path = complaint.path.to_string();
            let at = match complaint.rule {
                Rule::UnknownField => tree.spot_of_name(&complaint.path),
                _ => tree.spot(&complaint.path),
            };
            self.findings.push(Finding {
                file: file.to_owned(),
                at,
                severity,
                rule: complaint.rule,
                object: Some(reference.clone()),
                path: (!path.is_empty()).then_some(path),
                message: complaint.message,
            });
        }
        let at = tree.spot(&Path::parse("metadata.name"));
        let key = (kind.to_owned(), name.clone());
        if let Some((other, spot)) = self.seen.get(&key).filter(|_| !name.is_empty()) {
            let message = format!(
                "{reference} stands in these files a second time, first in {other}:{}: remove one of them, or give it another name",
                spot.line
            );
            self.tell(file, at, error, Rule::DuplicateObject, message);
            return;
        }
        self.seen.insert(key, (file.to_owned(), at));
        if let Some(policy) = said.policy {
            self.held.push(Held {
                file: file.to_owned(),
                tree,
                kind: kind.to_owned(),
                name,
                policy,
            });
        }
    }

    fn other(&mut self, file: &str, tree: &Tree, group: &str, kind: &str) {
        self.counts.others += 1;
        let namespace = &self.surroundings.namespace;
        if let Some(complaints) = self.secrets.take(group, kind, tree, namespace) {
            for complaint in complaints {
                let message = format!("{}: {}", complaint.path, complaint.message);
                self.tell(
                    file,
                    tree.spot(&complaint.path),
                    Severity::Error,
                    complaint.rule,
                    message,
                );
            }
        }
        let metadata = tree.get("metadata");
        let name = metadata.and_then(|metadata| metadata.text("name"));
        if (group, kind, name) == ("", "ConfigMap", Some(names::INSTALLATION))
            && self.surroundings.installation.is_none()
        {
            self.installation_map(file, tree);
        }
        if (group, kind) == ("apiextensions.k8s.io", "CustomResourceDefinition") {
            self.definition(file, tree);
        }
    }

    /// Another version of the definitions refuses other things than are said here.
    fn definition(&mut self, file: &str, tree: &Tree) {
        let name = tree
            .get("metadata")
            .and_then(|metadata| metadata.text("name"));
        let Some(ours) = manifest::all()
            .into_iter()
            .find(|one| one.metadata.name.as_deref() == name)
        else {
            return;
        };
        let (Ok(ours), theirs) = (
            serde_json::to_value(&ours.spec),
            tree.get("spec").map(Tree::to_json),
        ) else {
            return;
        };
        // Numbers are compared as what they are: 1 and 1.0 are one limit.
        if theirs.is_none_or(|theirs| !is_same(&ours, &theirs)) {
            let message = format!(
                "this definition is of another version of katonic-logging than this program ({}), whose own is gone by here: use the program of that version",
                env!("CARGO_PKG_VERSION")
            );
            self.tell(
                file,
                tree.spot(&Path::parse("metadata.name")),
                Severity::Warning,
                Rule::Definition,
                message,
            );
        }
    }

    fn installation_map(&mut self, file: &str, map: &Tree) {
        let at = map.spot(&Path::parse("data"));
        let data = map.get("data");
        let Some(field) = data.and_then(|data| data.field(names::INSTALLATION_KEY)) else {
            let message = format!(
                "the installation has no key {}: write it below data",
                names::INSTALLATION_KEY
            );
            self.tell(file, at, Severity::Error, Rule::Installation, message);
            return;
        };
        let tree::Content::Text(text) = &field.value.content else {
            let message = "must be text: write `|` behind its colon and indent what follows";
            self.tell(file, field.at, Severity::Error, Rule::Installation, message);
            return;
        };
        self.installation_text(file, field.at, text);
    }

    fn installation_text(&mut self, file: &str, at: Spot, text: &str) {
        match Installation::validate(text, &self.surroundings.namespace) {
            Ok(installation) => self.installation = Some(installation),
            Err(problem) => {
                self.tell(
                    file,
                    at,
                    Severity::Error,
                    Rule::Installation,
                    problem.to_string(),
                );
            }
        }
    }

    /// A file that holds the installation, or the ConfigMap that does.
    fn installation_file(&mut self, source: &Source) {
        let Some(text) = self.text(source) else {
            return;
        };
        let (documents, _) = documents(text);
        let maps = documents.iter().map(|document| &document.tree);
        let mut maps = maps.filter(|tree| tree.text("kind") == Some("ConfigMap"));
        match maps.find(|map| {
            map.get("data")
                .is_some_and(|data| data.field(names::INSTALLATION_KEY).is_some())
        }) {
            Some(map) => self.installation_map(&source.name, map),
            None => self.installation_text(&source.name, Spot { line: 1, column: 1 }, text),
        }
    }

    fn outcome(mut self, sources: &[Source]) -> Outcome {
        let together = Together {
            held: &self.held,
            secrets: &self.secrets,
            installation: self.installation.as_ref(),
            namespace: &self.surroundings.namespace,
        };
        let more = together.findings();
        self.findings.extend(more);
        if self.counts.policies == 0 && self.findings.is_empty() {
            let kinds: Vec<&str> = self.definitions.kinds().collect();
            let message = format!(
                "there is no {} here: name the files that hold your policies",
                kinds.join(" and no ")
            );
            let file = sources
                .first()
                .map_or("-", |source| source.name.as_str())
                .to_owned();
            self.tell(
                &file,
                Spot { line: 1, column: 1 },
                Severity::Warning,
                Rule::Nothing,
                message,
            );
        }
        let order: BTreeMap<&str, usize> = sources
            .iter()
            .enumerate()
            .map(|(place, source)| (source.name.as_str(), place))
            .collect();
        self.findings.sort_by(|a, b| {
            let place = |finding: &Finding| order.get(finding.file.as_str()).copied();
            place(a)
                .cmp(&place(b))
                .then_with(|| (a.at, a).cmp(&(b.at, b)))
        });
        self.findings.dedup();
        Outcome {
            findings: self.findings,
            counts: self.counts,
        }
    }
}

fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(name, a)| b.get(name).is_some_and(|b| is_same(a, b)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests;

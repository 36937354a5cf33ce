//! `lint` says of a policy what the API server says of it.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    time::Duration,
};

use http::Request;
use katonic_logging_core::{
    lint::{
        Outcome, Source, Surroundings,
        finding::{Finding, Rule, Severity},
        lint,
    },
    names,
};
use katonic_logging_e2e::{
    cluster::{Cluster, Tier},
    eventually::eventually,
    program,
};
use kube::Client;
use serde::Deserialize;
use serde_json::{Value, json};

/// A policy, good or bad.
struct Case {
    what: String,
    kind: &'static str,
    text: String,
}

#[derive(Deserialize)]
struct Spec {
    what: String,
    spec: Value,
}

#[derive(Deserialize)]
struct Document {
    what: String,
    text: String,
}

/// The resource of a kind.
fn resource(kind: &str) -> &'static str {
    if kind == "AuditPolicy" {
        "auditpolicies"
    } else {
        "loggingpolicies"
    }
}

fn of_specs(yaml: &str, kind: &'static str, about: &str) -> Vec<Case> {
    let specs: Vec<Spec> = serde_saphyr::from_str(yaml).unwrap();
    let case = |Spec { what, spec }| {
        let object = json!({
            "apiVersion": "logging.katonic.ai/v1alpha1",
            "kind": kind,
            "metadata": {"name": "p"},
            "spec": spec,
        });
        Case {
            what: format!("{kind}, {about}: {what}"),
            kind,
            text: serde_saphyr::to_string(&object).unwrap(),
        }
    };
    specs.into_iter().map(case).collect()
}

fn kind(text: &str) -> &'static str {
    if text.contains("AuditPolic") {
        "AuditPolicy"
    } else {
        "LoggingPolicy"
    }
}

/// Policies by name: those that are to be refused, those that are to be taken, whole files, the samples, and every field that there is.
fn corpus() -> Vec<Case> {
    let logging = "LoggingPolicy";
    let audit = "AuditPolicy";
    let mut cases = of_specs(include_str!("policies/refused.yaml"), logging, "refused");
    cases.extend(of_specs(
        include_str!("policies/refused-audit.yaml"),
        audit,
        "refused",
    ));
    cases.extend(of_specs(
        include_str!("policies/accepted.yaml"),
        logging,
        "accepted",
    ));
    cases.extend(of_specs(
        include_str!("policies/accepted-audit.yaml"),
        audit,
        "accepted",
    ));
    let documents: Vec<Document> =
        serde_saphyr::from_str(include_str!("policies/documents.yaml")).unwrap();
    cases.extend(documents.into_iter().map(|Document { what, text }| Case {
        what: format!("document: {what}"),
        kind: kind(&text),
        text,
    }));
    for folder in ["manifests/samples", "operator/core/tests/cases"] {
        let mut files: Vec<_> = fs::read_dir(program::workspace().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        for file in files {
            let yaml = fs::read_to_string(&file).unwrap();
            let parts = yaml
                .split("\n---\n")
                .filter(|part| part.contains("apiVersion: logging.katonic.ai/"));
            cases.extend(parts.enumerate().map(|(index, text)| Case {
                what: format!("{}, document {}", file.display(), index + 1),
                kind: kind(text),
                text: text.to_owned(),
            }));
        }
    }
    cases
}

/// What the API server says: whether it takes the policy, and the fields that it names of one whose form it refuses.
#[derive(Debug)]
struct Verdict {
    taken: bool,
    /// Fields that there are not.
    unknown: BTreeSet<String>,
    /// Fields with something else that is wrong.
    wrong: BTreeSet<String>,
    said: String,
}

async fn asked(client: &Client, case: &Case) -> kube::Result<Verdict> {
    let path = format!(
        "/apis/logging.katonic.ai/v1alpha1/{}?dryRun=All&fieldValidation=Strict",
        resource(case.kind)
    );
    let request = Request::post(path)
        .header("Content-Type", "application/yaml")
        .body(case.text.clone().into_bytes())
        .unwrap();
    let mut verdict = Verdict {
        taken: true,
        unknown: BTreeSet::new(),
        wrong: BTreeSet::new(),
        said: String::new(),
    };
    match client.request::<Value>(request).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
            verdict.taken = false;
            verdict.said.clone_from(&status.message);
            let unknown = status.message.split("unknown field \"").skip(1);
            let unknown = unknown.filter_map(|rest| rest.split('"').next());
            verdict.unknown = unknown.map(str::to_owned).collect();
            if status.code == 422 {
                let causes = status.details.iter().flat_map(|details| &details.causes);
                let fields = causes.map(|cause| cause.field.clone());
                // That some rules were not looked at is about no field.
                verdict.wrong = fields
                    .filter(|field| !field.is_empty() && field != "<nil>")
                    .collect();
            }
        }
        Err(error) => return Err(error),
    }
    Ok(verdict)
}

/// What only the operator says.
fn is_of_operator(finding: &Finding) -> bool {
    matches!(finding.rule, Rule::Policy | Rule::Dangerous | Rule::Secret)
}

fn lines(outcome: &Outcome) -> Vec<String> {
    outcome.findings.iter().map(ToString::to_string).collect()
}

fn told(case: &Case) -> Verdict {
    let source = Source {
        name: "policy.yaml".to_owned(),
        bytes: case.text.clone().into_bytes(),
    };
    let surroundings = Surroundings {
        namespace: names::OPERATOR_NAMESPACE.to_owned(),
        secrets: BTreeSet::new(),
        installation: None,
    };
    let outcome = lint(&[source], &surroundings);
    let errors = outcome
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error && !is_of_operator(finding));
    let errors: Vec<&Finding> = errors.collect();
    let paths = |is_meant: &dyn Fn(Rule) -> bool| {
        let errors = errors.iter().filter(|finding| is_meant(finding.rule));
        errors.filter_map(|finding| finding.path.clone()).collect()
    };
    Verdict {
        taken: errors.is_empty(),
        unknown: paths(&|rule| rule == Rule::UnknownField),
        wrong: paths(&|rule| rule != Rule::UnknownField),
        said: lines(&outcome).join("; "),
    }
}

#[tokio::test]
async fn the_api_server_and_lint_agree_about_every_policy() {
    let cases = corpus();
    let names: HashSet<&str> = cases.iter().map(|case| case.what.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "each case has a name of its own");
    let texts: HashSet<&str> = cases.iter().map(|case| case.text.as_str()).collect();
    assert_eq!(texts.len(), cases.len(), "no case stands there twice");
    assert!(cases.len() >= 200, "{}", cases.len());

    let cluster = Cluster::start(Tier::ApiServer).await.unwrap();
    cluster.install_definitions().await.unwrap();
    let client = cluster.client().await.unwrap();
    // A definition is established a moment before it is served.
    for kind in ["LoggingPolicy", "AuditPolicy"] {
        let path = format!("/apis/logging.katonic.ai/v1alpha1/{}", resource(kind));
        eventually(
            "the policies are served",
            Duration::from_secs(30),
            async || {
                let request = Request::get(&path).body(Vec::new())?;
                Ok(client.request::<Value>(request).await.ok())
            },
        )
        .await
        .unwrap();
    }

    let mut wrong = Vec::new();
    let (mut taken, mut refused) = (0, 0);
    for case in &cases {
        let (server, lint) = (asked(&client, case).await.unwrap(), told(case));
        if server.taken {
            taken += 1;
        } else {
            refused += 1;
        }
        // Of an object with unknown fields the API server says nothing else; of what is refused for another reason, no fields.
        let same = |server: &BTreeSet<String>, lint: &BTreeSet<String>| {
            server.is_empty() || lint.is_empty() || server == lint
        };
        let agree = server.taken == lint.taken
            && same(&server.unknown, &lint.unknown)
            && same(&server.wrong, &lint.wrong);
        if !agree {
            wrong.push(format!(
                "{}:\n  the API server: {server:?}\n  lint: {lint:?}",
                case.what
            ));
        }
        if lint.said.contains("cannot be evaluated") && lint.said.contains("is not known)") {
            wrong.push(format!(
                "{}: lint lacks a function: {}",
                case.what, lint.said
            ));
        }
        if lint.said.contains("hunter2") {
            wrong.push(format!("{}: lint repeats the password", case.what));
        }
    }
    assert!(
        taken >= 60 && refused >= 140,
        "{taken} taken, {refused} refused"
    );
    assert!(
        wrong.is_empty(),
        "{} of {} differ\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

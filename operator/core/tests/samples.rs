//! What the manifests ship is valid: every sample policy, and the installation. And what the agents are told of each sample,
//! of every field that a policy has, and of every field that it leaves out.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use katonic_log_config as config;
use katonic_logging_core::{
    Candidate, Installation, audit, bundle::selection, names, policy::validate,
};
use katonic_logging_crds::{AuditPolicy, LoggingPolicy, Plane, manifest};
use kube_core::Resource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests")
}

fn installation() -> Installation {
    let yaml = fs::read_to_string(manifests().join("installation.yaml")).unwrap();
    // As it is once somebody has named a store of logs.
    let yaml = yaml.replace("# blob_storage:", "blob_storage:");
    let yaml = yaml.replace("# logStore:", "logStore:");
    Installation::validate(&yaml, names::OPERATOR_NAMESPACE).unwrap()
}

/// A policy as it is written.
#[derive(Deserialize)]
struct Written {
    spec: Value,
}

/// What comes of one policy.
#[derive(Serialize)]
struct Outcome {
    told: config::Policy,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

fn outcome(resource: &LoggingPolicy) -> Outcome {
    let policy = validate(resource).unwrap();
    let policy = policy.resolved(&installation()).unwrap();
    let candidate = Candidate::readable(resource);
    let (fallback, sinks): (Vec<_>, Vec<_>) =
        policy.sinks.iter().partition(|sink| sink.is_fallback);
    let config_of = |sink: &&katonic_logging_core::policy::Sink| sink.config.clone();
    let plane = policy.planes.first().copied().unwrap_or(Plane::Platform);
    let told = config::Policy {
        sinks: sinks.iter().map(config_of).collect(),
        fallback: fallback.first().map(config_of),
        ..selection(&policy, &candidate, &installation(), plane)
    };
    // Whatever the agents are told to read is in the bundle, and nothing else.
    let needed: BTreeSet<_> = policy
        .needs()
        .flat_map(|needs| needs.sources.keys())
        .collect();
    assert_eq!(needed, told.credentials().into_iter().collect());
    let warning = |sink: &katonic_logging_core::policy::Sink| -> Vec<String> {
        let told = |text: &String| format!("{}: {text}", sink.config.name);
        sink.warnings.iter().map(told).collect()
    };
    Outcome {
        told,
        warnings: policy.sinks.iter().flat_map(warning).collect(),
    }
}

fn policies(yaml: &str) -> Vec<LoggingPolicy> {
    serde_saphyr::from_multiple(yaml).unwrap()
}

#[test]
fn every_sample_is_a_valid_policy() {
    insta::glob!("../../../manifests/samples", "*.yaml", |path| {
        let yaml = fs::read_to_string(path).unwrap();
        if yaml.contains("\nkind: AuditPolicy\n") {
            let policies: Vec<AuditPolicy> = serde_saphyr::from_multiple(&yaml).unwrap();
            let vocabulary = installation().vocabulary();
            for policy in policies {
                let policy = audit::validate(&policy).unwrap();
                assert!(policy.unknown(&vocabulary).is_empty());
            }
            return;
        }
        let policies = policies(&yaml);
        let outcomes: Vec<Outcome> = policies.iter().map(outcome).collect();
        assert!(outcomes.iter().all(|one| one.warnings.is_empty()));
        insta::assert_yaml_snapshot!(outcomes);
    });
}

#[test]
fn the_agents_are_told_every_field_and_every_default() {
    insta::glob!("cases/*.yaml", |path| {
        let policies = policies(&fs::read_to_string(path).unwrap());
        let outcomes: Vec<Outcome> = policies.iter().map(outcome).collect();
        insta::assert_yaml_snapshot!(outcomes);
    });
}

#[test]
fn the_case_with_every_field_has_every_field() {
    fn fields(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
        if let Some(items) = schema.get("items") {
            fields(path, items, found);
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            fields(&path, field, found);
            found.insert(path);
        }
    }
    fn set(path: &str, value: &Value, found: &mut BTreeSet<String>) {
        for item in value.as_array().into_iter().flatten() {
            set(path, item, found);
        }
        for (name, value) in value.as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            set(&path, value, found);
            found.insert(path);
        }
    }
    let case = fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/every-field.yaml"),
    );
    let written: Vec<Written> = serde_saphyr::from_multiple(&case.unwrap()).unwrap();
    let (mut there, mut known) = (BTreeSet::new(), BTreeSet::new());
    for one in &written {
        set("spec", &one.spec, &mut there);
    }
    let is_of_logging =
        |crd: &CustomResourceDefinition| crd.spec.names.kind == LoggingPolicy::kind(&());
    for crd in manifest::all().into_iter().filter(is_of_logging) {
        let crd = serde_json::to_value(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        fields("spec", schema, &mut known);
    }
    // Audit policies alone have it.
    known.retain(|path| !path.starts_with("spec.sinks.mixpanel"));
    let missing: Vec<_> = known.difference(&there).collect();
    assert!(missing.is_empty(), "not set in the case: {missing:?}");
}

#[test]
fn the_agents_are_told_every_field_that_audit_policies_alone_have() {
    insta::glob!("audit-cases/*.yaml", |path| {
        let yaml = fs::read_to_string(path).unwrap();
        let policies: Vec<AuditPolicy> = serde_saphyr::from_multiple(&yaml).unwrap();
        let told: Vec<config::Policy> = policies
            .iter()
            .map(|policy| {
                let candidate = audit::Candidate::readable(policy);
                let shipping = candidate.shipping_of(&installation()).unwrap();
                let shipped = shipping.policy.as_ref().unwrap();
                let sinks = shipped.sinks.iter().map(|sink| sink.config.clone());
                config::Policy {
                    sinks: sinks.collect(),
                    ..selection(shipped, &shipping, &installation(), Plane::Platform)
                }
            })
            .collect();
        insta::assert_yaml_snapshot!(told);
    });
}

#[test]
fn the_schema_of_audit_events_takes_what_the_contract_says_and_nothing_else() {
    let schema = fs::read_to_string(manifests().join("audit-event.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    // The examples of the contract.
    let contract = fs::read_to_string(manifests().join("../docs/audit-events.md")).unwrap();
    let examples: Vec<Value> = contract
        .lines()
        .filter(|line| line.starts_with("{\"audit\""))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(examples.len() >= 2);
    for example in &examples {
        assert!(validator.is_valid(example), "{example}");
    }
    let event = || examples[0].as_object().unwrap().clone();
    for member in ["audit", "event", "time", "id", "actor", "target"] {
        let mut event = event();
        event.remove(member).unwrap();
        assert!(!validator.is_valid(&event.into()), "without {member}");
    }
    for (member, wrong) in [
        ("audit", Value::from(2)),
        ("audit", true.into()),
        ("event", "model created".into()),
        ("time", 1_764_460_800.into()),
        ("time", "30 November 2026".into()),
        ("id", "".into()),
        ("actor", Value::Null),
        ("target", "x".repeat(256).into()),
        ("project", 7.into()),
        ("details", "none".into()),
    ] {
        let mut event = event();
        event.insert(member.to_owned(), wrong.clone());
        assert!(!validator.is_valid(&event.into()), "{member}: {wrong}");
    }
    let mut later = event();
    later.insert("session".to_owned(), "s-1".into());
    assert!(validator.is_valid(&later.into()));
}

#[test]
fn the_installation_that_is_shipped_can_be_used() {
    let installation = installation();
    for (plane, namespace) in [
        ("platform", &installation.platform_namespace),
        ("compute", &installation.compute_namespace),
    ] {
        let kustomization = manifests()
            .join("planes")
            .join(plane)
            .join("kustomization.yaml");
        let kustomization = fs::read_to_string(kustomization).unwrap();
        assert!(
            kustomization.contains(&format!("namespace: {namespace}\n")),
            "planes/{plane} grants rights elsewhere"
        );
    }
}

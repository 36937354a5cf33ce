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

use katonic_log_config as config;
use katonic_logging_core::{Candidate, Installation, bundle::selection, names, policy::validate};
use katonic_logging_crds::{LoggingPolicy, Plane, manifest};
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
        let policies = policies(&fs::read_to_string(path).unwrap());
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
    for crd in manifest::all() {
        let crd = serde_json::to_value(crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        fields("spec", schema, &mut known);
    }
    let missing: Vec<_> = known.difference(&there).collect();
    assert!(missing.is_empty(), "not set in the case: {missing:?}");
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

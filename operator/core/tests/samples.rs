//! What the manifests ship is valid: every sample policy, and the installation.

use std::{fs, path::Path};

use katonic_logging_core::{Installation, names, policy::validate};
use katonic_logging_crds::LoggingPolicy;

fn manifests() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests")
}

#[test]
fn every_sample_is_a_valid_policy() {
    let mut samples = 0;
    for entry in fs::read_dir(manifests().join("samples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let yaml = fs::read_to_string(&path).unwrap();
        let policy: LoggingPolicy =
            serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let violations = validate(&policy).err().unwrap_or_default();
        assert!(violations.is_empty(), "{path:?}: {violations:?}");
        samples += 1;
    }
    assert!(samples > 0);
}

#[test]
fn the_installation_that_is_shipped_can_be_used() {
    let yaml = fs::read_to_string(manifests().join("installation.yaml")).unwrap();
    let installation = Installation::validate(&yaml, names::OPERATOR_NAMESPACE).unwrap();
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

//! The pods that every way to inject is tried on: what is decided about each stands in its first line.

#![expect(
    clippy::unwrap_used,
    reason = "a pod that cannot be read must fail its tests"
)]

use std::{collections::BTreeSet, fs, path::Path};

use katonic_logging_core::{
    Installation,
    injection::{Decision, Reason, decide},
    names,
    node::Node,
    sidecar::Sidecar,
};
use serde_json::Value;

/// The agent of the installation as it is shipped.
fn sidecar() -> Sidecar {
    let yaml = include_str!("../../../manifests/installation.yaml");
    let installation = Installation::validate(yaml, names::OPERATOR_NAMESPACE).unwrap();
    Sidecar::new(&installation.agent).unwrap()
}

/// Each pod with its file's name and the decision that it expects.
fn pods() -> Vec<(String, String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pods");
    let mut pods = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let yaml = fs::read_to_string(&path).unwrap();
        let expected = yaml.lines().next().unwrap().trim_start_matches("# ");
        let pod = serde_saphyr::from_str(&yaml).unwrap();
        pods.push((name, expected.to_owned(), pod));
    }
    pods
}

#[test]
fn each_pod_is_decided_as_its_first_line_says() {
    let sidecar = sidecar();
    let pods = pods();
    assert!(pods.len() >= 50, "{}", pods.len());
    let mut seen = BTreeSet::new();
    for (name, expected, pod) in &pods {
        let decision = match decide(pod, &sidecar) {
            Decision::Inject(_) => "Inject".to_owned(),
            Decision::Leave(reason) => format!("Leave {}", reason.as_str()),
        };
        assert_eq!(decision, *expected, "{name}");
        seen.insert(expected.as_str());
    }
    // Too large ones are made where they are needed.
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn the_patch_of_each_pod_only_adds_and_a_second_pass_changes_nothing() {
    let sidecar = sidecar();
    for (name, _, pod) in pods() {
        let Decision::Inject(patch) = decide(&pod, &sidecar) else {
            continue;
        };
        let mut patched = pod.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        assert_eq!(
            decide(&patched, &sidecar),
            Decision::Leave(Reason::AlreadyInjected),
            "{name}"
        );
        let mut node = Node::from(&pod);
        node.apply(&patch).unwrap();
        assert_eq!(Value::from(&node), patched, "{name}");
        let agent = patched["spec"]["initContainers"]
            .as_array_mut()
            .unwrap()
            .remove(0);
        assert_eq!(agent["name"], "katonic-log-agent", "{name}");
        for (list, added) in [("initContainers", 0), ("volumes", sidecar.volumes.len())] {
            let before = pod["spec"][list].as_array().map_or(&[][..], Vec::as_slice);
            let after = patched["spec"][list].as_array().unwrap();
            assert_eq!(after[..before.len()], *before, "{name}");
            assert_eq!(after.len(), before.len() + added, "{name}");
        }
    }
}

//! The kustomizations, alone and together.

use std::fs;

use serde_json::Value;

use super::{Objects, combined, kustomized};
use katonic_logging_e2e::program::workspace;

fn get<'a>(objects: &'a Objects, kind: &str, name: &str) -> &'a Value {
    let of_name = objects
        .iter()
        .find(|(identity, _)| identity[1] == kind && identity[3] == name);
    of_name.map(|(_, object)| object).unwrap()
}

#[test]
fn what_is_beside_the_operator_takes_nothing_of_it_over() {
    let base = kustomized(&workspace().join("manifests"));
    for beside in ["webhook", "webhook-cert-manager", "prometheus"] {
        let objects = kustomized(&workspace().join("manifests").join(beside));
        assert!(!objects.is_empty());
        for identity in objects.keys() {
            assert!(
                !base.contains_key(identity),
                "{beside} has {identity:?}, too"
            );
        }
        // Together they are what they are alone.
        let both = combined(&["", beside], &[]);
        assert_eq!(both.len(), base.len() + objects.len());
    }
}

#[test]
fn two_replicas_are_spread_and_one_stays() {
    let base = kustomized(&workspace().join("manifests"));
    let several = combined(&[""], &["ha"]);
    assert_eq!(several.len(), base.len() + 1);
    let deployment = get(&several, "Deployment", "katonic-logging");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
    assert_eq!(
        (&rolling["maxSurge"], &rolling["maxUnavailable"]),
        (&1.into(), &0.into())
    );
    let pod = &deployment["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    let spreads = pod["spec"]["topologySpreadConstraints"].as_array().unwrap();
    let across: Vec<_> = spreads
        .iter()
        .map(|one| one["topologyKey"].as_str().unwrap())
        .collect();
    assert_eq!(
        across,
        ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    );
    // Constraints and budget count these pods, and those of nobody else: the webhook's have another name.
    for spread in spreads {
        assert_eq!(&spread["labelSelector"]["matchLabels"], labels);
        assert_eq!(spread["whenUnsatisfiable"], "ScheduleAnyway");
    }
    let budget = get(&several, "PodDisruptionBudget", "katonic-logging");
    assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(budget["spec"]["minAvailable"], 1);
    // What runs in the pods is what runs in the only one.
    let mut without = deployment.clone();
    let alone = get(&base, "Deployment", "katonic-logging");
    without["spec"]["replicas"] = alone["spec"]["replicas"].clone();
    without["spec"].as_object_mut().unwrap().remove("strategy");
    let spec = without["spec"]["template"]["spec"].as_object_mut().unwrap();
    spec.remove("topologySpreadConstraints");
    assert_eq!(&without, alone);
}

/// With the folders of this project in the place of the addresses of one in Git.
#[test]
fn the_kustomization_that_the_documentation_shows_gives_what_it_says() {
    let page = fs::read_to_string(workspace().join("docs/installation.md")).unwrap();
    let mut blocks = page.split("```yaml\n").skip(1);
    let shown = blocks.find(|text| text.contains("kustomize.config.k8s.io"));
    let shown = shown.unwrap().split("```").next().unwrap();
    let here = shown
        .replace(
            "https://git.example.com/platform/katonic-logging//",
            "../../",
        )
        .replace("?ref=v0.1.0", "");
    assert!(!here.contains("://"), "{here}");
    let folder = tempfile::tempdir_in(workspace().join("target")).unwrap();
    fs::write(folder.path().join("kustomization.yaml"), here).unwrap();
    let installation = workspace().join("manifests/installation.yaml");
    let installation = fs::read_to_string(installation)
        .unwrap()
        .replace("name: katonic-platform", "name: main")
        .replace("name: katonic-compute", "name: work");
    fs::write(folder.path().join("installation.yaml"), &installation).unwrap();
    let objects = kustomized(folder.path());
    let deployment = get(&objects, "Deployment", "katonic-logging");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let image = deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str();
    assert!(
        image
            .unwrap()
            .starts_with("registry.example.com/logging/operator@sha256:"),
        "{image:?}"
    );
    let config = get(&objects, "ConfigMap", "katonic-logging-installation");
    assert_eq!(config["data"]["installation.yaml"], installation);
    get(&objects, "ServiceMonitor", "katonic-logging");
    let in_namespace = |namespace: &str| {
        let of_namespace = objects.keys().filter(|[_, _, of, _]| of == namespace);
        of_namespace.count()
    };
    assert_eq!(
        (
            in_namespace("katonic-platform"),
            in_namespace("katonic-compute")
        ),
        (0, 0)
    );
    assert!(in_namespace("main") > in_namespace("work") && in_namespace("work") > 0);
}

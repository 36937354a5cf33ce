//! What is installed, by kustomize and by Helm: both give the same objects, and the chart is installed, changed and taken away for real.

#![expect(
    clippy::unwrap_used,
    reason = "what fails while a test is prepared must fail the test"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use katonic_logging_e2e::{
    cluster::binaries::{Binaries, Binary},
    program::workspace,
};
use serde_json::{Value, json};

mod kustomize;
mod release;
mod same;
mod values;

/// Objects by their API version, kind, namespace and name.
type Objects = BTreeMap<[String; 4], Value>;

fn chart() -> PathBuf {
    workspace().join("manifests/helm/katonic-logging")
}

fn succeeded(output: &Output) -> String {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{}\n{}", said[0], said[1]);
    said[0].clone().into_owned()
}

/// Every document of a text, as Kubernetes reads it.
fn documents(yaml: &str) -> Vec<Value> {
    let options = serde_saphyr::options! {
        // Kubernetes reads 0440 as YAML 1.1 does.
        legacy_octal_numbers: true,
        // The definitions of the policies are long.
        budget: None,
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(yaml, options).unwrap();
    documents.into_iter().filter(|one| !one.is_null()).collect()
}

fn objects(yaml: &str) -> Objects {
    let mut objects = Objects::new();
    for object in documents(yaml) {
        let word = |pointer: &str| {
            let word = object.pointer(pointer).and_then(Value::as_str);
            word.unwrap_or_default().to_owned()
        };
        let identity = [
            word("/apiVersion"),
            word("/kind"),
            word("/metadata/namespace"),
            word("/metadata/name"),
        ];
        let before = objects.insert(identity.clone(), object);
        assert!(before.is_none(), "{identity:?} is there twice");
    }
    objects
}

/// What a kustomization gives.
fn kustomized(folder: &Path) -> Objects {
    let binaries = Binaries::find(&[Binary::Kubectl]).unwrap();
    let output = Command::new(binaries.path(Binary::Kubectl).unwrap())
        .arg("kustomize")
        .arg(folder)
        .output()
        .unwrap();
    objects(&succeeded(&output))
}

/// A kustomization of one's own that has these folders of the manifests as resources and these as components.
fn combined(resources: &[&str], components: &[&str]) -> Objects {
    let folder = tempfile::tempdir_in(workspace().join("target")).unwrap();
    let manifests = "../../manifests";
    let list = |folders: &[&str]| -> Vec<String> {
        let paths = folders.iter().map(|one| format!("{manifests}/{one}"));
        paths.collect()
    };
    let kustomization = json!({"resources": list(resources), "components": list(components)});
    fs::write(
        folder.path().join("kustomization.yaml"),
        kustomization.to_string(),
    )
    .unwrap();
    kustomized(folder.path())
}

/// Helm, which reads and writes nothing of whoever runs the tests.
fn helm(home: &Path) -> Command {
    let binaries = Binaries::find(&[Binary::Helm]).unwrap();
    let mut helm = Command::new(binaries.path(Binary::Helm).unwrap());
    helm.env_clear();
    for folder in ["CACHE", "CONFIG", "DATA"] {
        helm.env(format!("HELM_{folder}_HOME"), home);
    }
    helm.env("HOME", home);
    helm
}

/// What the chart gives with these arguments.
fn template(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    helm(home.path())
        .args(["template", "katonic-logging"])
        .arg(chart())
        .args(arguments)
        .output()
        .unwrap()
}

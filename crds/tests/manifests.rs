//! The generated manifests are current, and small enough for every way of applying them.

use std::{fs, path::Path};

use katonic_logging_crds::manifest;

#[test]
fn the_files_are_what_the_types_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/crds");
    for (name, yaml) in manifest::files().unwrap() {
        let written = fs::read_to_string(directory.join(&name)).unwrap();
        assert!(
            written == yaml,
            "manifests/crds/{name} is not current: run `make crds`"
        );
    }
}

#[test]
fn client_side_apply_can_keep_a_copy_in_an_annotation() {
    for crd in manifest::all() {
        let size = serde_json::to_vec(&crd).unwrap().len();
        assert!(size < 200_000, "{size} bytes");
    }
}

#[test]
fn every_field_is_explained() {
    fn walk(path: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
        let Some(properties) = schema
            .get("properties")
            .and_then(|properties| properties.as_object())
        else {
            return schema
                .get("items")
                .into_iter()
                .for_each(|items| walk(path, items, missing));
        };
        for (name, field) in properties {
            let path = format!("{path}.{name}");
            if field.get("description").is_none() {
                missing.push(path.clone());
            }
            walk(&path, field, missing);
        }
    }
    for crd in manifest::all() {
        let crd = serde_json::to_value(crd).unwrap();
        let mut missing = Vec::new();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        walk("spec", schema, &mut missing);
        assert!(missing.is_empty(), "without a description: {missing:?}");
    }
}

#[test]
fn the_reference_is_what_the_definitions_say() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let page = folder.join("reference.md");
    let written = std::process::Command::new(env!("CARGO_BIN_EXE_refgen"))
        .arg(&page)
        .status();
    assert!(written.unwrap().success());
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
    assert!(
        fs::read_to_string(page).unwrap() == fs::read_to_string(reference).unwrap_or_default(),
        "docs/reference.md is not current: run `make reference`"
    );
}

#[test]
fn the_reference_has_every_field_once_or_a_link_to_it() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference.md");
    let reference = fs::read_to_string(reference).unwrap();
    let anchors: Vec<String> = reference
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .map(|heading| {
            heading
                .chars()
                .filter(|one| one.is_alphanumeric())
                .collect::<String>()
                .to_lowercase()
        })
        .collect();
    let links = reference
        .split("[Its fields](#")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap());
    let mut count = 0;
    for link in links {
        assert!(anchors.iter().any(|anchor| anchor == link), "{link}");
        count += 1;
    }
    assert!(count > 40, "{count}");
    for section in &anchors {
        assert_eq!(
            anchors.iter().filter(|one| *one == section).count(),
            1,
            "{section}"
        );
    }
    for field in ["`executionIdPatterns`", "`installation`"] {
        // Of a policy, and not of the installation.
        assert_eq!(
            reference.contains(&format!("| {field} |")),
            field == "`installation`"
        );
    }
}

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

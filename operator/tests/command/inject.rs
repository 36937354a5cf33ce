//! `katonic-logging inject` as a user runs it: what it prints, what it tells, and how it fails.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::program::{self, Run};

const INSTALLATION: &str = include_str!("../../../manifests/installation.yaml");

fn run(folder: &Path, arguments: &[&str], stdin: &str) -> Run {
    program::run(folder, "inject", arguments, stdin)
}

/// A folder with the installation and these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = program::folder(files);
    fs::write(folder.path().join("installation.yaml"), INSTALLATION).unwrap();
    fs::create_dir_all(folder.path().join("manifests")).unwrap();
    folder
}

/// The command with the installation, from stdin.
fn inject(manifests: &str) -> Run {
    let arguments = ["-f", "-", "--installation", "installation.yaml"];
    run(folder(&[]).path(), &arguments, manifests)
}

const DEPLOYMENT: &str = "\
# A comment.
kind: Deployment
apiVersion: apps/v1
metadata:
  name: web
  namespace: katonic-platform
spec:
  template:
    spec:
      containers:
      - name: web
        image: localhost/web:v1
        args: [\"yes\", '0755', \"1e3\", plain]
    metadata:
      labels: {app: web}
  selector: {matchLabels: {app: web}}
";

#[test]
fn nothing_but_the_agent_is_added_and_the_order_of_fields_stays() {
    let run = inject(DEPLOYMENT);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(
        run.stderr,
        "stdin: Deployment katonic-platform/web: added the log agent\n"
    );
    let expected = "\
---
kind: Deployment
apiVersion: apps/v1
metadata:
  name: web
  namespace: katonic-platform
spec:
  template:
    spec:
      containers:
      - name: web
        image: localhost/web:v1
        args:
        - \"yes\"
        - \"0755\"
        - \"1e3\"
        - plain
      initContainers:
      - ";
    assert!(run.stdout.starts_with(expected), "{}", run.stdout);
    let rest = "    metadata:
      labels:
        app: web
      annotations:
        logging.katonic.ai/agent-revision: ";
    assert!(run.stdout.contains(rest), "{}", run.stdout);
    assert!(
        run.stdout
            .ends_with("  selector:\n    matchLabels:\n      app: web\n")
    );
}

#[test]
fn what_it_prints_is_left_as_it_is_the_second_time() {
    let once = inject(DEPLOYMENT).stdout;
    let twice = inject(&once);
    assert_eq!(twice.stdout, once);
    assert_eq!(
        twice.stderr,
        "stdin: Deployment katonic-platform/web: left as it is, because it has the log agent already\n"
    );
}

#[test]
fn objects_without_pods_pass_through_and_every_document_of_every_file_is_told() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\nstringData:\n  a: |\n    x\n";
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}]}"#;
    let files = [
        (
            "manifests/b.yaml",
            &*format!("---\n---\n{secret}---\n{DEPLOYMENT}"),
        ),
        ("manifests/a.json", list),
        ("manifests/notes.txt", "not a manifest"),
    ];
    let folder = folder(&files);
    let arguments = ["-f", "manifests", "--installation", "installation.yaml"];
    let run = run(folder.path(), &arguments, "");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(
        run.stderr,
        "manifests/a.json: Pod p: added the log agent
manifests/b.yaml: Secret s: left as it is, because it makes no pods
manifests/b.yaml: Deployment katonic-platform/web: added the log agent
"
    );
    assert!(
        run.stdout.contains(&format!("---\n{secret}---\n")),
        "{}",
        run.stdout
    );
    assert_eq!(run.stdout.matches("---\n").count(), 3);
}

#[test]
fn json_is_printed_as_objects_one_after_the_other() {
    let folder = folder(&[]);
    let arguments = [
        "-f",
        "-",
        "-o",
        "json",
        "--installation",
        "installation.yaml",
    ];
    let run = run(
        folder.path(),
        &arguments,
        &format!("{DEPLOYMENT}---\n{DEPLOYMENT}"),
    );
    let objects: Vec<serde_json::Value> = serde_json::Deserializer::from_str(&run.stdout)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(objects.len(), 2);
    // And what it prints can be read again.
    let again = inject(&run.stdout);
    assert_eq!(again.stderr.matches("has the log agent already").count(), 2);
}

#[test]
fn the_installation_may_be_the_config_map_as_kubectl_prints_it() {
    let mut map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: katonic-logging-installation}\ndata:\n  installation.yaml: |\n".to_owned();
    for line in INSTALLATION.lines() {
        map.push_str("    ");
        map.push_str(line);
        map.push('\n');
    }
    let folder = folder(&[
        ("map.yaml", &map),
        (
            "other.yaml",
            "apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n",
        ),
    ]);
    let installed = run(
        folder.path(),
        &["-f", "-", "--installation", "map.yaml"],
        DEPLOYMENT,
    );
    assert_eq!(installed.code, 0, "{}", installed.stderr);
    assert_eq!(installed.stdout, inject(DEPLOYMENT).stdout);
    let other = run(
        folder.path(),
        &["-f", "-", "--installation", "other.yaml"],
        DEPLOYMENT,
    );
    assert_eq!(other.code, 1);
    assert!(
        other
            .stderr
            .contains("other.yaml has no ConfigMap with the key installation.yaml"),
        "{}",
        other.stderr
    );
}

#[test]
fn what_is_wrong_is_named_with_its_file_and_place_and_nothing_is_printed() {
    let good = ("manifests/a.yaml", DEPLOYMENT);
    for (text, says) in [
        (
            "kind: Pod\n  apiVersion: v1\n",
            &["manifests/b.yaml cannot be read", "line 2"][..],
        ),
        (
            "apiVersion: v1\nkind: Pod\nkind: Pod\n",
            &["manifests/b.yaml cannot be read", "line 3", "kind"],
        ),
        (
            "{\"kind\": \"Pod\",\n",
            &["manifests/b.yaml cannot be read", "line 1"],
        ),
        (
            "apiVersion: v1\nkind: Service\n---\nkind: Pod\n",
            &[
                "manifests/b.yaml, document 2 cannot be used",
                "apiVersion and kind are missing",
            ],
        ),
        (
            "just text\n",
            &[
                "manifests/b.yaml, document 1",
                "not an object of Kubernetes",
            ],
        ),
        (
            "apiVersion: v1\nkind: Secret\nstringData: {a: hunter2, b: [}\n",
            &["manifests/b.yaml", "line 3"],
        ),
    ] {
        let folder = folder(&[good, ("manifests/b.yaml", text)]);
        let arguments = ["-f", "manifests", "--installation", "installation.yaml"];
        let run = run(folder.path(), &arguments, "");
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{text}");
        for words in says {
            assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
        }
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    }
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let folder = folder(&[]);
    let installation = ["--installation", "installation.yaml"];
    let cases: [(&[&str], i32, &str); 6] = [
        (
            &["-f", "-"],
            1,
            "kubectl -n katonic-logging get configmap katonic-logging-installation -o yaml",
        ),
        (
            &["-f", "-", "--installation", "none.yaml"],
            1,
            "none.yaml cannot be read",
        ),
        (
            &["-f", "none.yaml", installation[0], installation[1]],
            1,
            "none.yaml cannot be read",
        ),
        (
            &["-f", "manifests", installation[0], installation[1]],
            1,
            "manifests has no .yaml, .yml or .json file",
        ),
        (&installation, 2, "--filename <FILE>"),
        (
            &["-f", "-", "-o", "xml", installation[0], installation[1]],
            2,
            "possible values: yaml, json",
        ),
    ];
    for (arguments, code, says) in cases {
        let run = run(folder.path(), arguments, DEPLOYMENT);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{arguments:?}");
        assert!(run.stderr.contains(says), "{}", run.stderr);
    }
}

#[test]
fn an_installation_that_cannot_be_used_is_refused_in_the_operators_own_words() {
    let folder = folder(&[(
        "bad.yaml",
        &INSTALLATION.replace("katonic-compute", "katonic-platform"),
    )]);
    let run = run(
        folder.path(),
        &["-f", "-", "--installation", "bad.yaml"],
        DEPLOYMENT,
    );
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("bad.yaml is no installation"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("both `katonic-platform`"),
        "{}",
        run.stderr
    );
}

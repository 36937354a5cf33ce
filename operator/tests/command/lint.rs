//! `katonic-logging lint` as a user runs it: what it prints, and how it ends.

use std::path::Path;

use crate::program::{Run, folder, run};

const GOOD: &str = "apiVersion: logging.katonic.ai/v1alpha1\nkind: LoggingPolicy\nmetadata: {name: good}\nspec:\n  sinks:\n  - name: splunk\n    splunk: {endpoint: 'https://h:8088', tokenSecretRef: {name: splunk, key: token}}\n";
const BAD: &str = "apiVersion: logging.katonic.ai/v1alpha1\nkind: LoggingPolicy\nmetadata: {name: bad}\nspec:\n  sinks: []\n";

fn lint(folder: &Path, arguments: &[&str], stdin: &str) -> Run {
    run(folder, "lint", arguments, stdin)
}

#[test]
fn what_is_wrong_decides_how_it_ends() {
    let folder = folder(&[("good.yaml", GOOD), ("bad.yaml", BAD)]);
    let run = |arguments: &[&str]| lint(folder.path(), arguments, "");
    let warned = run(&["good.yaml"]);
    assert_eq!(warned.code, 0, "{}", warned.stderr);
    assert!(warned.stdout.starts_with("good.yaml:7:65: warning: spec.sinks[0].splunk.tokenSecretRef.name: Secret katonic-logging/splunk is not among these files"), "{}", warned.stdout);
    assert_eq!(run(&["--strict", "good.yaml"]).code, 1);
    assert_eq!(
        run(&["--strict", "--secret", "splunk", "good.yaml"]).code,
        0
    );
    let refused = run(&["bad.yaml"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused
            .stdout
            .starts_with("bad.yaml:5:3: error: spec.sinks: has too few items"),
        "{}",
        refused.stdout
    );
    assert_eq!(refused.stderr, "1 policy in 1 file: 1 error, 0 warnings\n");
    let misused = run(&["--output", "xml", "good.yaml"]);
    assert_eq!(misused.code, 2);
    assert_eq!(run(&[]).code, 2);
    let missing = run(&["missing.yaml"]);
    assert_eq!(missing.code, 3);
    assert!(
        missing.stderr.contains("missing.yaml cannot be read"),
        "{}",
        missing.stderr
    );
    assert_eq!(
        run(&["--installation", "missing.yaml", "good.yaml"]).code,
        3
    );
}

#[test]
fn folders_are_gone_through_and_what_is_hidden_is_not() {
    let folder = folder(&[
        ("policies/b/bad.yml", BAD),
        ("policies/good.yaml", GOOD),
        ("policies/README.md", "# no manifest: ["),
        ("policies/.git/x.yaml", "a: ["),
    ]);
    let run = lint(folder.path(), &["policies", "policies/good.yaml"], "");
    assert_eq!(
        run.stderr, "2 policies in 2 files: 1 error, 1 warning\n",
        "{}",
        run.stdout
    );
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert!(
        lines[0].starts_with("policies/b/bad.yml:5:3: error: "),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("policies/good.yaml:7:65: warning: "),
        "{lines:?}"
    );
}

#[test]
fn what_a_renderer_prints_is_read_from_stdin() {
    let folder = folder(&[]);
    let rendered =
        format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: s}}\n---\n{BAD}---\n{GOOD}");
    let run = lint(folder.path(), &["-"], &rendered);
    assert_eq!(run.code, 1);
    assert!(
        run.stdout.starts_with("stdin:10:3: error: spec.sinks: "),
        "{}",
        run.stdout
    );
    assert!(
        run.stderr
            .ends_with("; passed over 1 object of another kind\n"),
        "{}",
        run.stderr
    );
}

#[test]
fn programs_and_forges_get_the_form_that_they_read() {
    let folder = folder(&[("bad.yaml", BAD)]);
    let json = |form: &str| -> serde_json::Value {
        let run = lint(folder.path(), &["-o", form, "bad.yaml"], "");
        assert_eq!((run.code, run.stderr.as_str()), (1, ""), "{form}");
        serde_json::from_str(&run.stdout).unwrap()
    };
    assert_eq!(json("json")["findings"][0]["line"], 5);
    let sarif = json("sarif");
    assert_eq!(
        sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"],
        5
    );
    let github = lint(folder.path(), &["-o", "github", "bad.yaml"], "");
    assert!(
        github
            .stdout
            .starts_with("::error file=bad.yaml,line=5,col=3,title=schema::spec.sinks: "),
        "{}",
        github.stdout
    );
}

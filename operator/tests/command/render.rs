//! `katonic-logging render` as a user runs it: what it prints, what it tells, and how it ends.

use crate::program::{folder, run};

const INSTALLATION: &str = include_str!("../../../manifests/installation.yaml");
const GOOD: &str = include_str!("../../../manifests/samples/quick-start.yaml");
const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: splunk}\nstringData: {token: hunter2}\n";

#[test]
fn what_the_files_say_decides_what_is_printed_and_how_it_ends() {
    let folder = folder(&[
        ("installation.yaml", INSTALLATION),
        ("good.yaml", GOOD),
        ("secret.yaml", SECRET),
        ("bad.yaml", &GOOD.replace("sinks:", "sink:")),
    ]);
    let render = |arguments: &[&str], stdin: &str| run(folder.path(), "render", arguments, stdin);
    let installed = |files: &[&str]| {
        let arguments = [&["--installation", "installation.yaml"], files].concat();
        render(&arguments, "")
    };

    let whole = installed(&["good.yaml", "secret.yaml"]);
    assert_eq!((whole.code, &*whole.stderr), (0, ""));
    assert!(
        whole.stdout.starts_with("---\n") && whole.stdout.contains("name: quick-start"),
        "{}",
        whole.stdout
    );
    assert!(!whole.stdout.contains("hunter2"), "{}", whole.stdout);
    assert_eq!(
        installed(&["secret.yaml", "good.yaml"]).stdout,
        whole.stdout
    );

    let without = installed(&["good.yaml"]);
    assert_eq!(without.code, 0);
    assert!(
        without.stderr.starts_with(
            "left out: LoggingPolicy quick-start, sink splunk: Secret katonic-logging/splunk does not exist"
        ),
        "{}",
        without.stderr
    );

    let twice = render(&["--installation", "-", "-"], INSTALLATION);
    for (ended, code, words) in [
        (
            installed(&["bad.yaml"]),
            1,
            "nothing is rendered of files with mistakes:\nbad.yaml:",
        ),
        (
            render(&["good.yaml"], ""),
            1,
            "there is no installation among the files: name it with --installation",
        ),
        (
            twice,
            2,
            "stdin can be the installation or a file with policies, and not both",
        ),
        (installed(&["none.yaml"]), 3, "none.yaml cannot be read"),
    ] {
        assert_eq!(ended.code, code, "{words}");
        assert_eq!(ended.stdout, "", "{words}");
        assert!(ended.stderr.contains(words), "{}", ended.stderr);
    }
}

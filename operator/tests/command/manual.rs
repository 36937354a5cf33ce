//! What `katonic-logging` says of itself, as a user asks it.

use std::{
    fs,
    process::{Command, Output},
};

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn printed(arguments: &[&str]) -> String {
    let output = run(env!("CARGO_BIN_EXE_katonic-logging"), arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Every command that people use.
const COMMANDS: [&str; 11] = [
    "status",
    "doctor",
    "logs",
    "audit",
    "inject",
    "lint",
    "render",
    "explain",
    "crds",
    "completion",
    "controller",
];

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completion", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let other = run(
        env!("CARGO_BIN_EXE_katonic-logging"),
        &["completion", "csh"],
    );
    assert_eq!(other.status.code(), Some(2));
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let man = folder.path().join("man1");
    printed(&["man", man.to_str().unwrap()]);
    for command in COMMANDS {
        let page = fs::read_to_string(man.join(format!("katonic-logging-{command}.1"))).unwrap();
        assert!(
            page.contains(&format!(".SH NAME\nkatonic\\-logging\\-{command}"))
                && page.contains(".SH SYNOPSIS"),
            "{command}: {page}"
        );
    }
    let page = fs::read_to_string(man.join("katonic-logging-lint.1")).unwrap();
    assert!(page.contains("Exit codes"), "{page}");
}

#[test]
fn a_field_is_explained_and_another_is_not() {
    let text = printed(&["explain", "lp.spec.retention"]);
    assert!(text.contains("FIELD: retention <string>"), "{text}");
    let unknown = run(
        env!("CARGO_BIN_EXE_katonic-logging"),
        &["explain", "lp.spec.retension"],
    );
    assert_eq!(unknown.status.code(), Some(1));
    let stderr = String::from_utf8(unknown.stderr).unwrap();
    assert_eq!(
        stderr,
        "error: LoggingPolicy.spec has no field `retension`: did you mean `retention`?\n"
    );
}

#[cfg(unix)]
#[test]
fn kubectl_finds_the_program_as_a_plugin_with_the_same_commands() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-katonic_logging");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_katonic-logging"), &plugin).unwrap();
    let plugin = plugin.to_str().unwrap();
    let help = |program: &str| {
        let output = run(program, &["lint", "--help"]);
        String::from_utf8(output.stdout).unwrap()
    };
    let as_plugin = help(plugin);
    assert!(
        as_plugin.contains("Usage: kubectl katonic-logging lint"),
        "{as_plugin}"
    );
    let by_itself = help(env!("CARGO_BIN_EXE_katonic-logging"));
    assert_eq!(
        as_plugin.replace("Usage: kubectl katonic-logging", "Usage: katonic-logging"),
        by_itself
    );
}

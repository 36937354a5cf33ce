//! `katonic-logging doctor` and `status --watch` against a real cluster.

use std::{path::Path, process::Stdio};

use katonic_logging_core::names;
use katonic_logging_e2e::{
    operator::{COMPUTE, Installed, PLATFORM},
    program,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
    task::spawn_blocking,
};

use crate::{in_force, installed};

async fn command(installed: &Installed, arguments: &[&str]) -> Command {
    command_as(installed.cluster.kubeconfig(), arguments).await
}

async fn command_as(kubeconfig: &Path, arguments: &[&str]) -> Command {
    let program = spawn_blocking(|| program::build("katonic-logging-operator", "katonic-logging"))
        .await
        .unwrap()
        .unwrap();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .env_remove("KUBECONFIG")
        .env("HOME", "/nonexistent");
    command
}

/// What it finds, by check and subject, and its exit code.
async fn findings(installed: &Installed) -> (Vec<Value>, Option<i32>) {
    let mut command = command(installed, &["doctor", "-o", "json"]).await;
    let output = command.output().await.unwrap();
    let diagnosis: Value = serde_json::from_slice(&output.stdout).unwrap();
    (
        diagnosis["findings"].as_array().unwrap().clone(),
        output.status.code(),
    )
}

fn verdict<'a>(findings: &'a [Value], check: &str, subject: &str) -> &'a Value {
    let mut all = findings.iter();
    let found = all.find(|one| one["check"] == check && one["subject"] == subject);
    assert!(found.is_some(), "no {check} {subject} in {findings:#?}");
    found.unwrap()
}

#[tokio::test]
async fn a_sound_installation_is_found_sound_and_what_is_taken_away_is_found() {
    let installed = installed().await;
    let operator = in_force(&installed).await;
    let (found, _) = findings(&installed).await;
    let own = names::OPERATOR_NAMESPACE;
    for (check, subject) in [
        (
            "definition",
            "loggingpolicies.logging.katonic.ai".to_owned(),
        ),
        ("definition", "auditpolicies.logging.katonic.ai".to_owned()),
        (
            "installation",
            format!("{own}/katonic-logging-installation"),
        ),
        ("claim", "default/katonic-logging".to_owned()),
        ("guard", "katonic-logging-dry-run-only".to_owned()),
        ("guard", "katonic-logging-claim-only".to_owned()),
        ("guard", "katonic-logging-restart-only".to_owned()),
        ("rights", "cluster".to_owned()),
        ("rights", format!("namespace {own}")),
        ("rights", format!("namespace {PLATFORM}")),
        ("rights", format!("namespace {COMPUTE}")),
        ("leader", format!("{own}/{}", names::LEASE)),
        ("namespace", PLATFORM.to_owned()),
        ("injection", COMPUTE.to_owned()),
        ("secret", format!("{own}/splunk")),
        ("policy", "logs".to_owned()),
    ] {
        let found = verdict(&found, check, &subject);
        assert_eq!(found["verdict"], "ok", "{found:#?}");
    }
    // Without a kubelet no pod of the Deployment runs: the operator of the test stands beside it.
    let deployment = verdict(
        &found,
        "deployment",
        &format!("{own}/{}", names::FIELD_MANAGER),
    );
    assert_eq!(deployment["verdict"], "fail");
    for arguments in [
        &["delete", "clusterrolebinding", "katonic-logging"][..],
        &[
            "delete",
            "validatingadmissionpolicybinding",
            "katonic-logging-dry-run-only",
        ],
        &["-n", own, "delete", "secret", "splunk"],
        &[
            "label",
            "namespace",
            PLATFORM,
            "pod-security.kubernetes.io/enforce=restricted",
        ],
    ] {
        installed
            .cluster
            .kubectl(arguments)
            .await
            .unwrap()
            .ok()
            .unwrap();
    }
    operator.kill().await.unwrap();
    let (found, code) = findings(&installed).await;
    assert_eq!(code, Some(1));
    for (check, subject, words) in [
        ("rights", "cluster".to_owned(), "loggingpolicies"),
        (
            "guard",
            "katonic-logging-dry-run-only".to_owned(),
            "missing",
        ),
        ("secret", format!("{own}/splunk"), "policies name it"),
        ("namespace", PLATFORM.to_owned(), "restricted"),
        (
            "leader",
            format!("{own}/{}", names::LEASE),
            "does not renew it",
        ),
    ] {
        let found = verdict(&found, check, &subject);
        assert_eq!(found["verdict"], "fail", "{found:#?}");
        assert!(
            found["message"].as_str().unwrap().contains(words),
            "{found:#?}"
        );
        assert!(found["mend"].is_string(), "{found:#?}");
    }
    let text = command(&installed, &["doctor"])
        .await
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("FAIL  secret"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

#[tokio::test]
async fn what_may_not_be_read_is_told_and_is_no_failure() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    let bound = format!("--serviceaccount={PLATFORM}:reader");
    for arguments in [
        &["create", "serviceaccount", "reader", "-n", PLATFORM][..],
        &[
            "create",
            "clusterrole",
            "reader",
            "--verb=list",
            "--resource=loggingpolicies.logging.katonic.ai",
        ],
        &[
            "create",
            "clusterrolebinding",
            "reader",
            "--clusterrole=reader",
            &bound,
        ],
    ] {
        installed
            .cluster
            .kubectl(arguments)
            .await
            .unwrap()
            .ok()
            .unwrap();
    }
    let reader = installed
        .cluster
        .kubeconfig_for(PLATFORM, "reader")
        .await
        .unwrap();
    let mut doctor = command_as(&reader, &["doctor", "-o", "json"]).await;
    let output = doctor.output().await.unwrap();
    let diagnosis: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = diagnosis["findings"].as_array().unwrap();
    let rights = verdict(found, "rights", "cluster");
    assert_eq!(rights["verdict"], "warn", "{rights:#?}");
    let installation = format!("{}/katonic-logging-installation", names::OPERATOR_NAMESPACE);
    for (check, subject) in [
        ("installation", installation.as_str()),
        ("claim", "default/katonic-logging"),
        ("guard", "katonic-logging-claim-only"),
    ] {
        let unread = verdict(found, check, subject);
        assert_eq!(unread["verdict"], "warn", "{unread:#?}");
    }
    assert_eq!(output.status.code(), Some(0), "{found:#?}");
    let definition = verdict(found, "definition", "loggingpolicies.logging.katonic.ai");
    assert_eq!(definition["verdict"], "warn", "{definition:#?}");
    let words = "you have no right to read";
    assert!(
        definition["message"].as_str().unwrap().contains(words),
        "{definition:#?}"
    );
}

#[tokio::test]
async fn a_watched_status_is_one_line_for_each_change() {
    let installed = installed().await;
    let _operator = in_force(&installed).await;
    let mut watching = command(&installed, &["status", "--watch"]).await;
    let mut watching = watching
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut until = async |words: &str| {
        loop {
            let line = lines.next_line().await.unwrap().unwrap();
            assert!(!line.contains('\x1b'), "{line}");
            if line.contains(words) {
                return;
            }
        }
    };
    until("logs Ready True InForce").await;
    installed.audit("everything", &[]).await.unwrap();
    until("audit/everything Ready True").await;
    let suspend = [
        "patch",
        "lp",
        "logs",
        "--type=merge",
        "-p",
        r#"{"spec":{"suspend":true}}"#,
    ];
    installed
        .cluster
        .kubectl(&suspend)
        .await
        .unwrap()
        .ok()
        .unwrap();
    until("logs Ready True Suspended").await;
    installed.delete("logs").await.unwrap();
    until("logs is gone").await;
    watching.kill().await.unwrap();
    let shown = command(&installed, &["status", "-o", "json"])
        .await
        .output()
        .await
        .unwrap();
    let overview: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(overview["policies"][0]["kind"], "AuditPolicy");
    assert!(
        !overview["policies"][0]["events"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

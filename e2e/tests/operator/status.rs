//! `katonic-logging status` as a person and a script use it.

use std::{fs, process::Output};

use katonic_logging_crds::LoggingPolicy;
use katonic_logging_e2e::{
    eventually::eventually,
    operator::{Installed, PLATFORM, SOON, splunk_policy},
    program,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
    config::Kubeconfig,
};
use serde_json::{Value, json};
use tokio::{process::Command, task::spawn_blocking};

use super::{ENDPOINT, installed, pod, with_policy};

async fn command(arguments: &[&str]) -> Command {
    let program = spawn_blocking(|| program::build("katonic-logging-operator", "katonic-logging"))
        .await
        .unwrap()
        .unwrap();
    let mut command = Command::new(program);
    command.arg("status").args(arguments);
    // Nothing of this machine's own configuration is read.
    command.env_remove("KUBECONFIG").env("HOME", "/nonexistent");
    command
}

async fn status(installed: &Installed, arguments: &[&str]) -> Output {
    let mut command = command(arguments).await;
    command
        .arg("--kubeconfig")
        .arg(installed.cluster.kubeconfig());
    command.output().await.unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn fails(output: &Output, words: &str) {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains(words), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn policies_and_their_pods_are_shown_and_the_exit_code_says_whether_all_is_well() {
    let installed = installed().await;
    let nothing = status(&installed, &[]).await;
    assert_eq!(stdout(&nothing), "There is no logging policy.\n");
    assert_eq!(nothing.status.code(), Some(0));

    let pods: Api<k8s_openapi::api::core::v1::Pod> =
        Api::namespaced(installed.client.clone(), PLATFORM);
    pods.create(&PostParams::default(), &pod("before", "web"))
        .await
        .unwrap();
    let _operator = with_policy(&installed).await;
    installed
        .ready("logs", "False", "PodsWithoutAgent")
        .await
        .unwrap();
    let shown = status(&installed, &["--pods"]).await;
    assert_eq!(shown.status.code(), Some(1));
    let text = stdout(&shown);
    for words in [
        "logs  not Ready  Platform,Compute  0/1 pods",
        "Injected           False  PodsWithoutAgent",
        "→ splunk  splunk  Configured",
        "pods without the present agent: 1 CreatedBefore",
        "katonic-platform  before  -      CreatedBefore",
        "# has no owner: it gets the agent when it is next created",
    ] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    assert!(!text.contains('\x1b'), "{text}");

    let json = stdout(&status(&installed, &["logs", "--pods", "-o", "json"]).await);
    let overview: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(overview["policies"][0]["ready"], false);
    assert_eq!(overview["pods"][0]["name"], "before");
    let yaml = stdout(&status(&installed, &["--pods", "-o", "yaml"]).await);
    let same: Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(same, overview);

    let restricted =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(installed.client.clone());
    namespaces
        .patch(PLATFORM, &PatchParams::default(), &Patch::Merge(restricted))
        .await
        .unwrap();
    installed
        .ready("logs", "False", "Unsupported")
        .await
        .unwrap();
    let text = stdout(&status(&installed, &["--pods"]).await);
    assert!(text.contains("NamespaceRefused"), "{text}");
}

#[tokio::test]
async fn what_keeps_the_status_from_being_shown_is_said_in_one_line() {
    let installed = installed().await;
    fails(
        &status(&installed, &["nobody"]).await,
        "there is no LoggingPolicy of the name nobody",
    );
    fails(
        &status(&installed, &["--context", "elsewhere"]).await,
        "no cluster is configured",
    );
    fails(
        &command(&["--kubeconfig", "/nonexistent/config"])
            .await
            .output()
            .await
            .unwrap(),
        "no cluster is configured",
    );
    fails(
        &command(&[]).await.output().await.unwrap(),
        "name a kubeconfig with --kubeconfig or KUBECONFIG",
    );
    fails(
        &status(&installed, &["--pods", "--namespace", "elsewhere"]).await,
        "name the operator's namespace with --namespace",
    );
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_as_wanted_is_said_in_one_line() {
    let installed = installed().await;
    // Somebody who may read policies, and no pods.
    let account = ["create", "serviceaccount", "reader", "-n", PLATFORM];
    let role = [
        "create",
        "clusterrole",
        "reader",
        "--verb=list",
        "--resource=loggingpolicies.logging.katonic.ai",
    ];
    let bound = format!("--serviceaccount={PLATFORM}:reader");
    let binding = [
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole=reader",
        &bound,
    ];
    for arguments in [&account[..], &role, &binding] {
        installed
            .cluster
            .kubectl(arguments)
            .await
            .unwrap()
            .ok()
            .unwrap();
    }
    let kubeconfig = installed
        .cluster
        .kubeconfig_for(PLATFORM, "reader")
        .await
        .unwrap();
    let path = kubeconfig.to_str().unwrap();
    let reader = command(&["--kubeconfig", path])
        .await
        .output()
        .await
        .unwrap();
    assert_eq!(reader.status.code(), Some(0));
    let refused = command(&["--kubeconfig", path, "--pods"])
        .await
        .output()
        .await
        .unwrap();
    fails(
        &refused,
        "you have no right to read ConfigMap katonic-logging/katonic-logging-installation",
    );

    cannot_know(&installed, path).await;

    // No answer, and a cluster without the product.
    let mut dead = Kubeconfig::read_from(installed.cluster.kubeconfig()).unwrap();
    let cluster = dead.clusters[0].cluster.as_mut().unwrap();
    cluster.server = Some("https://127.0.0.1:1".into());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dead");
    fs::write(&path, serde_json::to_string(&dead).unwrap()).unwrap();
    let unanswered = command(&["--kubeconfig", path.to_str().unwrap()])
        .await
        .output()
        .await
        .unwrap();
    fails(&unanswered, "failed to read LoggingPolicies");
    let definition = ["delete", "crd", "loggingpolicies.logging.katonic.ai"];
    installed
        .cluster
        .kubectl(&definition)
        .await
        .unwrap()
        .ok()
        .unwrap();
    eventually("the definition is gone", SOON, async || {
        let policy: LoggingPolicy = splunk_policy("p", ENDPOINT, "splunk");
        Ok(installed.create(&policy).await.is_err().then_some(()))
    })
    .await
    .unwrap();
    fails(
        &status(&installed, &[]).await,
        "install katonic-logging first",
    );
}

/// A reader who may see policies, pods and the installation, and not what pods have been given.
async fn cannot_know(installed: &Installed, kubeconfig: &str) {
    let mut older = pod("older", "web");
    let agent = json!([{
        "name": "katonic-log-agent", "image": "localhost/katonic-log-agent:0.0.9", "restartPolicy": "Always",
        "volumeMounts": [{"name": "katonic-podlogs", "mountPath": "/var/log/pod"}],
    }]);
    let volumes = json!([{"name": "katonic-podlogs", "hostPath": {"path": "/var/log/pods"}}]);
    let spec = older.spec.as_mut().unwrap();
    spec.init_containers = Some(serde_json::from_value(agent).unwrap());
    spec.volumes = Some(serde_json::from_value(volumes).unwrap());
    let pods: Api<k8s_openapi::api::core::v1::Pod> =
        Api::namespaced(installed.client.clone(), PLATFORM);
    pods.create(&PostParams::default(), &older).await.unwrap();
    installed
        .create(&splunk_policy("seen", ENDPOINT, "splunk"))
        .await
        .unwrap();
    let account = format!("--serviceaccount={PLATFORM}:reader");
    for arguments in [
        &[
            "create",
            "clusterrole",
            "pods",
            "--verb=get,list",
            "--resource=pods,configmaps",
        ][..],
        &[
            "create",
            "clusterrolebinding",
            "pods",
            "--clusterrole=pods",
            &account,
        ],
    ] {
        let created = installed.cluster.kubectl(arguments).await.unwrap();
        created.ok().unwrap();
    }
    let shown = command(&["--kubeconfig", kubeconfig, "--pods"])
        .await
        .output()
        .await
        .unwrap();
    let text = stdout(&shown);
    for words in [
        "older  -      Unknown",
        "you have no right to read mutatingadmissionpolicybindings.admissionregistration.k8s.io/katonic-log-agent.logging.katonic.ai",
    ] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    assert!(!text.contains("OlderAgent"), "{text}");
}

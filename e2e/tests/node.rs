//! The harness with a node: pods run, log completely and are reached; two clusters with the same addresses do not meet.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Service},
};
use katonic_logging_e2e::{
    cluster::{Cluster, Tier},
    eventually::eventually,
    images,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const WITHIN: Duration = Duration::from_mins(1);

fn container(arguments: &[&str]) -> Value {
    json!({"name": "main", "image": images::WORKLOAD, "args": arguments})
}

/// Runs a Job to its end and returns its pod.
async fn run_job(client: &Client, namespace: &str, name: &str, arguments: &[&str]) -> Result<Pod> {
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {
            "spec": {"restartPolicy": "Never", "containers": [container(arguments)]},
        }},
    }))?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    jobs.create(&PostParams::default(), &job).await?;
    eventually(format!("the Job {name} has ended"), WITHIN, async || {
        let status = jobs.get(name).await?.status.context("no status yet")?;
        Ok((status.succeeded.is_some() || status.failed.is_some()).then_some(()))
    })
    .await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let found = pods
        .list(&ListParams::default().labels(&format!("job-name={name}")))
        .await?;
    found
        .items
        .into_iter()
        .next()
        .context("a Job without a pod")
}

/// What a container wrote, without the CRI prefix, parts joined.
fn logged(folder: &Path, container: &str) -> Result<Vec<u8>> {
    let path = folder.join(container).join("0.log");
    let file = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let mut content = Vec::new();
    for line in file.split_inclusive(|byte| *byte == b'\n') {
        let mut fields = line.splitn(4, |byte| *byte == b' ').skip(2);
        let tag = fields.next().context("a line without a tag")?;
        let text = fields.next().context("a line without text")?;
        content.extend_from_slice(if tag == b"P" {
            &text[..text.len() - 1]
        } else {
            text
        });
    }
    Ok(content)
}

fn logs_of(cluster: &Cluster, pod: &Pod) -> Result<std::path::PathBuf> {
    let uid = pod.uid().context("a pod without uid")?;
    cluster.pod_logs(
        &pod.namespace().context("a pod without namespace")?,
        &pod.name_any(),
        &uid,
    )
}

#[tokio::test]
async fn a_job_logs_every_line_before_it_ends() {
    let Some(cluster) = Cluster::start_or_skip(Tier::Node).await.unwrap() else {
        return;
    };
    cluster.namespace("compute").await.unwrap();
    let client = cluster.client().await.unwrap();
    let pod = run_job(
        &client,
        "compute",
        "twenty-thousand",
        &["lines", "20000", "--stderr-every", "100"],
    )
    .await
    .unwrap();
    let content = logged(&logs_of(&cluster, &pod).unwrap(), "main").unwrap();
    let mut lines: Vec<&str> = std::str::from_utf8(&content).unwrap().lines().collect();
    // stdout and stderr are two pipes: each is in order, the two together need not be.
    lines.sort_unstable();
    let expected: Vec<String> = (1..=20_000)
        .map(|index| format!("line {index:06} of 020000"))
        .collect();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn what_is_hard_to_read_reaches_the_log_file_unchanged() {
    let Some(cluster) = Cluster::start_or_skip(Tier::Node).await.unwrap() else {
        return;
    };
    cluster.namespace("compute").await.unwrap();
    let pod = run_job(&cluster.client().await.unwrap(), "compute", "raw", &["raw"])
        .await
        .unwrap();
    let content = logged(&logs_of(&cluster, &pod).unwrap(), "main").unwrap();
    let contains = |bytes: &[u8]| content.windows(bytes.len()).any(|window| window == bytes);
    assert!(contains(b"\ninvalid \xff\xfe\xc3( bytes\n"));
    assert!(contains(b"\nbefore\0after\n"));
    assert!(contains(b"\nnext: empty line\n\n"));
    assert!(contains(&vec![b'x'; 1 << 20]));
}

#[tokio::test]
async fn pods_reach_services_receivers_and_the_api_server() {
    let Some(cluster) = Cluster::start_or_skip(Tier::Node).await.unwrap() else {
        return;
    };
    cluster.namespace("platform").await.unwrap();
    let client = cluster.client().await.unwrap();
    let server: Pod = serde_json::from_value(json!({
        "metadata": {"name": "server", "labels": {"app": "server"}},
        "spec": {"containers": [container(&["serve", "8080"])]},
    }))
    .unwrap();
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "server"},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }))
    .unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "platform");
    pods.create(&PostParams::default(), &server).await.unwrap();
    let services: Api<Service> = Api::namespaced(client.clone(), "platform");
    let service = services
        .create(&PostParams::default(), &service)
        .await
        .unwrap();
    let address = service.spec.unwrap().cluster_ip.unwrap();

    // From the node itself, which is where a webhook's caller is.
    let target = format!("{address}:80");
    eventually("the Service answers on the node", WITHIN, async || {
        let target = target.clone();
        Ok(Some(
            cluster
                .inside(tokio::net::TcpStream::connect(target))
                .await??,
        ))
    })
    .await
    .unwrap();

    // From a pod.
    let pod = run_job(
        &client,
        "platform",
        "caller",
        &["get", &target, "/from-a-pod"],
    )
    .await
    .unwrap();
    let answer = logged(&logs_of(&cluster, &pod).unwrap(), "main").unwrap();
    assert!(
        answer.starts_with(b"answer "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let server = pods.get("server").await.unwrap();
    let seen = logged(&logs_of(&cluster, &server).unwrap(), "main").unwrap();
    assert!(String::from_utf8_lossy(&seen).contains("/from-a-pod"));

    // A receiver of the test's own, inside the cluster's network.
    let address = cluster.receiver_address().unwrap();
    let listener = cluster
        .inside(TcpListener::bind((address, 0)))
        .await
        .unwrap()
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    let receiver = cluster.handle().unwrap().spawn(async move {
        let (mut stream, from) = listener.accept().await.unwrap();
        // However many segments it comes in.
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\n\r\nreceived\n")
            .await
            .unwrap();
        (from.ip(), String::from_utf8_lossy(&request).into_owned())
    });
    let target = format!("{address}:{port}");
    let pod = run_job(
        &client,
        "platform",
        "sender",
        &["get", &target, "/to-the-receiver"],
    )
    .await
    .unwrap();
    let (from, request) = receiver.await.unwrap();
    assert!(request.starts_with("GET /to-the-receiver "), "{request}");
    assert_eq!(
        pod.status.unwrap().pod_ip.unwrap(),
        from.to_string(),
        "pods are not masqueraded"
    );
}

#[tokio::test]
async fn two_nodes_side_by_side_have_the_same_addresses_and_do_not_meet() {
    let Some(first) = Cluster::start_or_skip(Tier::Node).await.unwrap() else {
        return;
    };
    let second = Cluster::start(Tier::Node).await.unwrap();
    assert_eq!(
        first.receiver_address().unwrap(),
        second.receiver_address().unwrap()
    );
    for (cluster, name) in [(&first, "first"), (&second, "second")] {
        cluster.namespace("compute").await.unwrap();
        let pod = run_job(
            &cluster.client().await.unwrap(),
            "compute",
            name,
            &["lines", "100"],
        )
        .await
        .unwrap();
        assert!(
            logged(&logs_of(cluster, &pod).unwrap(), "main")
                .unwrap()
                .ends_with(b"line 000100 of 000100\n")
        );
    }
    let elsewhere = Api::<Pod>::namespaced(second.client().await.unwrap(), "compute");
    let found = elsewhere
        .list(&ListParams::default().labels("job-name=first"))
        .await
        .unwrap();
    assert!(found.items.is_empty());
}

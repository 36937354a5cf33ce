//! The demo on a node of its own: the operator as a pod, the agents injected by the API server.

use std::{fs, os::unix::fs::OpenOptionsExt as _, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use k8s_openapi::api::{apps::v1::Deployment, batch::v1::Job, core::v1::Pod};
use katonic_log_config::layout;
use katonic_logging_core::names;
use kube::{Api, ResourceExt as _, api::ListParams};
use tokio::task::spawn_blocking;

use super::{
    Account, Outcome, PATIENCE, apply_policies,
    archive::Archive,
    collect, show,
    show::Steps,
    sink::{INDEX, Sink},
    workloads,
};
use crate::{
    cluster::{
        Cluster, Minor, Tier,
        binaries::{Binaries, Binary},
        progress::{Progress, say},
        supervisor::Process,
    },
    eventually::eventually,
    images::Image,
    operator::{COMPUTE, PLATFORM},
    program,
    receiver::Receiver,
};

const PORT: u16 = 8088;

/// Runs the demo with a node.
pub async fn run(keep: bool) -> Result<Outcome> {
    let mut steps = Steps::new(7);
    steps.begin("Building what is not built yet: Kubernetes, the images");
    let (archives, program) = spawn_blocking(|| {
        Binaries::of(Tier::Node, Minor::Newest)?;
        let archives = Image::ALL.map(Image::build).into_iter();
        let archives = archives.collect::<Result<Vec<_>>>()?;
        anyhow::Ok((archives, Image::Operator.executable()?))
    })
    .await??;

    steps.begin("Starting a cluster of its own: control plane and one node");
    let progress = Progress::start(
        "etcd, kube-apiserver, controllers, scheduler, containerd, kubelet, kube-proxy",
    );
    let cluster = Cluster::start(Tier::Node).await?;
    for archive in &archives {
        cluster.load_image(archive).await?;
    }
    progress.done();

    steps.begin(
        "Starting a Splunk HTTP Event Collector that refuses what Splunk refuses, and MinIO",
    );
    let address = cluster.receiver_address()?;
    let sink = Sink::new(address)?;
    let (rules, identity) = (sink.rules(), sink.identity.clone());
    let mut receiver = cluster
        .inside(async move { Receiver::start_tls((address, PORT).into(), rules, &identity).await })
        .await??;
    let archive = cluster.inside(Archive::start(address)).await??;
    say(&format!(
        "listening on {} and {}",
        receiver.url(),
        archive.url()
    ));

    steps.begin("Installing the operator as a user does");
    for plane in [PLATFORM, COMPUTE] {
        cluster.namespace(plane).await?;
    }
    let manifests = program::workspace().join("manifests");
    let arguments = ["apply", "--server-side", "-k", &manifests.to_string_lossy()];
    let said = cluster.kubectl(&arguments).await?.ok()?;
    show::output("kubectl apply --server-side -k manifests", &said);
    let progress = Progress::start("the operator's pod becomes available");
    available(&cluster, names::OPERATOR_NAMESPACE, "katonic-logging", 1).await?;
    progress.done();

    steps.begin("Applying two policies: application logs to Splunk, execution logs to an archive");
    let ready_after = apply_policies(&cluster, (&receiver, &sink), &archive).await?;

    steps.begin("Running the platform: a Deployment, and a Job of 20,000 lines");
    let workloads = format!("{}\n---\n{}", workloads::frontend(), workloads::job());
    cluster
        .kubectl_with(&["apply", "-f", "-"], &workloads)
        .await?
        .ok()?;
    let progress = Progress::start("the Job completes, the Deployment becomes available");
    let job = completed(&cluster).await?;
    available(&cluster, PLATFORM, workloads::FRONTEND, 2).await?;
    progress.done();
    let account = account(&job)?;
    let command = cluster.command(program)?;
    let read_back = archive.read_back(command).await?;
    let measured = (ready_after, read_back);
    let outcome = collect(&receiver, &job.name_any(), account, measured, None).await?;
    frontends_arrive(&receiver).await?;

    steps.begin("What there is to see");
    show::kubectl(&cluster, &["get", "lp"]).await?;
    show::kubectl(&cluster, &["get", "pods", "-A"]).await?;
    show::output("the first record of each container, as it arrived", "");
    show::records(&receiver);
    if keep {
        // The store ends with the demo, and nothing is to be held up by that.
        let arguments = ["delete", "lp", super::archive::POLICY];
        cluster.kubectl(&arguments).await?.ok()?;
        receiver.close_port().await;
        leave_up(cluster, &sink, receiver.address()).await?;
    } else {
        let progress = Progress::start("taking everything down");
        drop((receiver, archive));
        spawn_blocking(move || drop(cluster)).await?;
        progress.done();
    }
    Ok(outcome)
}

async fn available(cluster: &Cluster, namespace: &str, name: &str, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(cluster.client().await?, namespace);
    let waited = eventually(format!("{name} is available"), PATIENCE, async || {
        let status = deployments.get(name).await?.status.unwrap_or_default();
        Ok((status.available_replicas >= Some(replicas)).then_some(()))
    });
    if let Err(error) = waited.await {
        let described = cluster
            .kubectl(&["describe", "pods", "-n", namespace])
            .await?;
        return Err(error.context(described.stdout));
    }
    Ok(())
}

/// The pod of the Job, once the Job is complete: then its sidecar has ended too.
async fn completed(cluster: &Cluster) -> Result<Pod> {
    let client = cluster.client().await?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), COMPUTE);
    eventually("the Job is complete", PATIENCE, async || {
        let status = jobs.get(workloads::JOB).await?.status.unwrap_or_default();
        anyhow::ensure!(status.failed.is_none(), "the Job has failed");
        Ok(status.succeeded)
    })
    .await?;
    let pods: Api<Pod> = Api::namespaced(client, COMPUTE);
    let of_job = ListParams::default().labels(&format!("job-name={}", workloads::JOB));
    let pods = pods
        .list(&of_job)
        .await
        .context("failed to list the Job's pods")?;
    pods.items.into_iter().next().context("the Job has no pod")
}

/// What the Job's agent said at its end.
fn account(pod: &Pod) -> Result<Account> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.init_container_statuses.as_ref());
    let message = statuses
        .into_iter()
        .flatten()
        .find(|status| status.name == layout::CONTAINER)
        .and_then(|status| status.state.as_ref()?.terminated.as_ref()?.message.as_ref())
        .context("the Job's pod has no agent, or the agent left no termination message")?;
    say(&format!("the Job's agent says: {message}"));
    serde_json::from_str(message).context("failed to read the agent's termination message")
}

/// Both pods of the Deployment have the agent, and lines of both have arrived.
async fn frontends_arrive(receiver: &Receiver) -> Result<()> {
    receiver
        .until(
            "lines of both nucleus-frontend pods",
            PATIENCE,
            |received| {
                let mut pods: Vec<_> = received
                    .records
                    .iter()
                    .filter(|record| record.field("container") == workloads::FRONTEND)
                    .map(|record| record.field("pod"))
                    .collect();
                pods.sort_unstable();
                pods.dedup();
                pods.len() == 2
            },
        )
        .await
}

/// Gives the receiver's port to a process of the cluster's own and lets both go on without the demo.
async fn leave_up(cluster: Cluster, sink: &Sink, address: std::net::SocketAddr) -> Result<()> {
    let folder = cluster.directory()?.join("receiver");
    fs::create_dir(&folder).context("failed to make the receiver's folder")?;
    let file = |name: &str, content: &str| -> Result<String> {
        let path = folder.join(name);
        write_private(&path, content)?;
        Ok(path.to_string_lossy().into_owned())
    };
    let token = file("token", &sink.token)?;
    let certificate = file("tls.crt", sink.identity.certificate_pem())?;
    let key = file("tls.key", sink.identity.key_pem())?;
    let program = spawn_blocking(|| program::build("katonic-logging-e2e", "receiver")).await??;
    let address = address.to_string();
    let receiver = Process::new("receiver", &program).with([
        "splunk",
        "--listen",
        &address,
        "--token-file",
        &token,
        "--index",
        INDEX,
        "--certificate",
        &certificate,
        "--key",
        &key,
    ]);
    cluster.spawn(&receiver)?;
    let log = cluster.logs()?.join("receiver.log");
    eventually(
        "the receiver listens again",
        Duration::from_secs(20),
        async || {
            Ok(fs::read_to_string(&log)?
                .contains("listening on")
                .then_some(()))
        },
    )
    .await?;
    let kubectl = spawn_blocking(|| Binaries::find(&[Binary::Kubectl])).await??;
    let kubectl = kubectl.path(Binary::Kubectl)?.display().to_string();
    let kept = cluster.keep()?;
    println!("\nThe cluster stays up.");
    for (what, how) in [
        (
            "use it",
            format!("export KUBECONFIG={}", kept.kubeconfig.display()),
        ),
        ("its kubectl", kubectl),
        ("what arrives", format!("tail -f {}", log.display())),
        ("take it down", "make demo-stop".to_owned()),
    ] {
        println!("  {what:13} {how}");
    }
    println!();
    Ok(())
}

fn write_private(path: &Path, content: &str) -> Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .with_context(|| format!("failed to write {}", path.display()))
}

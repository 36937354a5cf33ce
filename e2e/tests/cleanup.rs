//! However the owner of a cluster ends, and even if its supervisor is killed: nothing of the run remains.

use std::{
    fmt::Display,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use katonic_logging_e2e::{
    cluster::{Cluster, Tier, run, supervisor::Process},
    eventually::eventually,
    images,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

const WITHIN: Duration = Duration::from_secs(30);

/// What a run has on the machine, found by its own names.
#[derive(Debug, Default, PartialEq)]
struct Traces {
    processes: Vec<String>,
    mounts: Vec<String>,
    cgroups: Vec<PathBuf>,
    networks: Vec<String>,
}

/// Every process of the machine that mentions the run in its arguments, or is in one of its namespaces.
fn traces(directory: &Path, networks: &[PathBuf]) -> Result<Traces> {
    let name = directory
        .file_name()
        .context("a run without a name")?
        .to_string_lossy()
        .into_owned();
    let mut traces = Traces {
        cgroups: run::cgroups(directory),
        ..Traces::default()
    };
    for entry in fs::read_dir("/proc")?.flatten() {
        if !entry
            .file_name()
            .to_string_lossy()
            .starts_with(|first: char| first.is_ascii_digit())
        {
            continue;
        }
        let process = entry.path();
        // It may end between one look and the next.
        let arguments = fs::read(process.join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let network = fs::read_link(process.join("ns/net")).unwrap_or_default();
        if arguments.contains(&name) || networks.contains(&network) {
            traces
                .processes
                .push(format!("{}: {arguments}", process.display()));
        }
        if networks.contains(&network) {
            traces
                .networks
                .push(format!("{}: {}", process.display(), network.display()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    traces.mounts = mounts
        .lines()
        .filter(|mount| mount.contains(&name))
        .map(str::to_owned)
        .collect();
    Ok(traces)
}

async fn gone(directory: &Path, networks: &[PathBuf]) -> Result<()> {
    eventually("nothing of the run is left", WITHIN, async || {
        let traces = traces(directory, networks)?;
        if traces != Traces::default() {
            bail!("left: {traces:#?}");
        }
        Ok((!directory.exists()).then_some(()))
    })
    .await
}

/// A process's network, held open: the kernel gives the number of one that is gone to the next that somebody makes.
fn hold_network(process: impl Display) -> Result<(PathBuf, File)> {
    let path = format!("/proc/{process}/ns/net");
    let held = File::open(&path)?;
    Ok((fs::read_link(path)?, held))
}

/// The owner in a process of its own, so that it can be killed.
struct Owner {
    process: Child,
    directory: PathBuf,
    supervisor: i32,
    networks: Vec<PathBuf>,
    _held: File,
}

impl Owner {
    async fn start(tier: Tier) -> Result<Self> {
        let tier = if tier == Tier::Node {
            "node"
        } else {
            "api-server"
        };
        let mut process = Command::new(env!("CARGO_BIN_EXE_cluster"))
            .arg(tier)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().context("no output")?;
        let kubeconfig = BufReader::new(output)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("export KUBECONFIG=").map(PathBuf::from))
            .context("the owner has no cluster")?;
        let directory = kubeconfig
            .parent()
            .context("a kubeconfig without a folder")?
            .to_owned();
        let supervisor = fs::read_to_string(directory.join("supervisor.pid"))?.parse()?;
        let (network, held) = hold_network(supervisor)?;
        let mine = fs::read_link("/proc/self/ns/net")?;
        let networks = if network == mine {
            Vec::new()
        } else {
            vec![network]
        };
        if !networks.is_empty() {
            run_a_pod(&kubeconfig).await?;
        }
        Ok(Self {
            process,
            directory,
            supervisor,
            networks,
            _held: held,
        })
    }

    fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

/// A container of its own: the hardest to get rid of.
async fn run_a_pod(kubeconfig: &Path) -> Result<()> {
    let options = KubeConfigOptions::default();
    let config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &options).await?;
    let pods: Api<Pod> = Api::default_namespaced(Client::try_from(config)?);
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "lasting"},
        "spec": {"containers": [{"name": "main", "image": images::WORKLOAD, "args": ["forever"]}]},
    }))?;
    eventually("the pod is admitted", WITHIN, async || {
        Ok(Some(pods.create(&PostParams::default(), &pod).await?))
    })
    .await?;
    eventually("the pod runs", WITHIN, async || {
        let phase = pods
            .get("lasting")
            .await?
            .status
            .and_then(|status| status.phase);
        Ok((phase.as_deref() == Some("Running")).then_some(()))
    })
    .await
}

#[tokio::test]
async fn nothing_remains_of_a_cluster_that_is_dropped() {
    let Some(cluster) = Cluster::start_or_skip(Tier::Node).await.unwrap() else {
        return;
    };
    let directory = cluster.directory().unwrap().to_owned();
    let (network, _held) = hold_network(cluster.supervisor().unwrap()).unwrap();
    let networks = [network];
    let sleeper = Process::new("sleeper", Path::new("/bin/sleep")).with(["1000"]);
    cluster.spawn(&sleeper).unwrap();
    let running = eventually(
        "the process runs in the cluster's network",
        WITHIN,
        async || {
            let traces = traces(&directory, &networks)?;
            let sleeps = traces.networks.len() > 7
                && traces
                    .processes
                    .iter()
                    .any(|process| process.ends_with("/bin/sleep 1000 "));
            Ok(sleeps.then_some(traces))
        },
    )
    .await
    .unwrap();
    assert!(!running.cgroups.is_empty());
    drop(cluster);
    assert_eq!(traces(&directory, &networks).unwrap(), Traces::default());
    assert!(!directory.exists());
}

#[tokio::test]
async fn nothing_remains_when_the_owner_of_a_node_is_killed() {
    if !Tier::Node.available_or_skip().unwrap() {
        return;
    }
    let mut owner = Owner::start(Tier::Node).await.unwrap();
    assert!(
        traces(&owner.directory, &owner.networks)
            .unwrap()
            .processes
            .len()
            > 8
    );
    owner.kill().unwrap();
    gone(&owner.directory, &owner.networks).await.unwrap();
}

#[tokio::test]
async fn nothing_remains_when_the_owner_of_an_api_server_is_killed() {
    let mut owner = Owner::start(Tier::ApiServer).await.unwrap();
    assert_eq!(
        traces(&owner.directory, &owner.networks)
            .unwrap()
            .processes
            .len(),
        3
    );
    owner.kill().unwrap();
    gone(&owner.directory, &owner.networks).await.unwrap();
}

#[tokio::test]
async fn the_next_start_cleans_up_after_a_supervisor_that_was_killed_with_its_owner() {
    for tier in [Tier::Node, Tier::ApiServer] {
        if tier == Tier::Node && tier.available().is_err() {
            continue;
        }
        let mut owner = Owner::start(tier).await.unwrap();
        kill(Pid::from_raw(owner.supervisor), Signal::SIGKILL).unwrap();
        owner.kill().unwrap();
        // Processes, mounts and networks are the kernel's to take down, at once; the rest waits for the next start.
        eventually("no process is left", WITHIN, async || {
            let traces = traces(&owner.directory, &owner.networks)?;
            Ok(traces.processes.is_empty().then_some(()))
        })
        .await
        .unwrap();
        let next = Cluster::start(Tier::ApiServer).await.unwrap();
        gone(&owner.directory, &owner.networks).await.unwrap();
        assert!(next.kubectl(&["get", "namespaces"]).await.unwrap().success);
    }
}

#[tokio::test]
async fn a_kept_cluster_outlives_its_owner_until_it_is_stopped() {
    let cluster = Cluster::start(Tier::ApiServer).await.unwrap();
    let directory = cluster.directory().unwrap().to_owned();
    let kept = cluster.keep().unwrap();
    assert!(kept.kubeconfig.exists());
    assert_eq!(traces(&directory, &[]).unwrap().processes.len(), 3);
    kept.stop().unwrap();
    gone(&directory, &[]).await.unwrap();
}

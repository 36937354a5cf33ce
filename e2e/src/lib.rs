//! The test harness: real clusters, real images, and receivers that count what arrives. A dependency of nothing.
//!
//! # A cluster
//!
//! ```no_run
//! # use katonic_logging_e2e::{cluster::{Cluster, Tier}, images::Image};
//! # async fn test() -> anyhow::Result<()> {
//! // None, and counted as skipped, where this machine cannot run a node.
//! let Some(cluster) = Cluster::start_or_skip(Tier::Node).await? else { return Ok(()) };
//! cluster.namespace("compute").await?;                        // with its `default` service account, on every tier
//! cluster.load_image(&Image::Agent.build()?).await?;          // no registry: `localhost/…`, `IfNotPresent`
//! cluster.kubectl(&["apply", "-k", "manifests"]).await?.ok()?;
//! let client = cluster.client().await?;                       // system:masters
//! let operator = cluster.client_for("katonic-logging", "katonic-logging").await?; // only what its rules grant
//! // On the node's tier everything has a network of its own; what listens there must be spawned inside:
//! let address = cluster.receiver_address()?;                  // reached by pods
//! let listener = cluster.inside(tokio::net::TcpListener::bind((address, 8088))).await??;
//! cluster.handle()?.spawn(async move { listener.accept().await });
//! cluster.command("ip")?.arg("addr").status()?;               // a program inside
//! # drop((client, operator));
//! # Ok(())
//! # }
//! ```
//!
//! `kubeconfig()`, `client()` and `kubectl()` work from anywhere on this machine, on every tier; `stop_component` and
//! `start_component` are `kill -9` and restart; `audit_log()` is there after [`cluster::Options::audit_log`];
//! `pod_logs()` is the node's `/var/log/pods/…` of a pod; `keep()` lets the cluster outlive the process.
//! Dropping the cluster ends it, and so does every other end of the process; see [`cluster::supervisor`].
//!
//! Environment: `KATONIC_E2E_KUBECONFIG` tests against that cluster instead (no other kubeconfig is ever read),
//! `KATONIC_E2E_CACHE` is where built programs are kept, `KATONIC_E2E_KEEP_LOGS` keeps the components' logs of every
//! run (a panic keeps them anyway), `KATONIC_E2E_SKIPPED` names the file to which skipped tests are added.

pub mod bench;
pub mod certificate;
pub mod child;
pub mod cluster;
pub mod demo;
pub mod eventually;
pub mod images;
pub mod operator;
pub mod program;
pub mod receiver;
pub mod simulated;
pub mod suite;
pub mod webhook;

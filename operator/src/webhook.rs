//! The webhook: answers API servers that ask about pods, with what the controller decided. Decides nothing itself.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use katonic_logging_core::{names, sidecar::Sidecar, webhook::configuration};
use kube::{Api, Client, ResourceExt, core::PartialObjectMeta, runtime::watcher::Config};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    args::WebhookArgs,
    cache::{Cache, Change, Signal},
    https::{self, Bounds, Farewell, Identity},
};

mod handler;
mod health;
mod identity;
mod metrics;

use metrics::Metrics;

/// How it ends: both are shorter than what the Deployment's grace period leaves after the pause before SIGTERM.
const FAREWELL: Farewell = Farewell {
    parting: Duration::from_secs(5),
    ending: Duration::from_secs(10),
};

/// What its connections may take.
const BOUNDS: Bounds = Bounds {
    // An API server holds some tens of them open.
    connections: 512,
    beginning: Duration::from_secs(5),
    // Longer than an API server waits.
    answer: Duration::from_secs(5),
    // Longer than an API server keeps one (Go's transport: 90 s), so that none is closed here while a question is on its way.
    quiet: Duration::from_mins(3),
};

/// What the webhook knows.
#[derive(Debug)]
struct Webhook {
    metrics: Metrics,
    identity: Arc<Identity>,
    /// What to add, from the webhook's own configuration in the cluster.
    sidecar: Cache<Option<Arc<Sidecar>>>,
}

impl Webhook {
    /// What to add to pods; none while nobody has said.
    fn sidecar(&self) -> Option<Arc<Sidecar>> {
        self.sidecar
            .with(|all| all.get(names::WEBHOOK_CONFIGURATION).cloned().flatten())?
    }

    /// Why it cannot be asked yet.
    fn unready(&self) -> Option<&'static str> {
        if self.identity.is_missing() {
            Some("there is no usable certificate yet")
        } else if !self.sidecar.is_synced() {
            Some("the API server has not been asked yet what to add to pods")
        } else {
            None
        }
    }
}

/// Runs the webhook until it is told to stop; answers that are under way are finished.
///
/// # Errors
/// When it cannot be started.
pub async fn run(args: WebhookArgs) -> anyhow::Result<()> {
    let client = Client::try_default()
        .await
        .context("failed to find the API server")?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to listen for SIGINT")?;
    let webhook = Arc::new(Webhook {
        metrics: Metrics::default(),
        identity: Arc::default(),
        sidecar: watch(client),
    });
    let listener = TcpListener::bind(args.address)
        .await
        .with_context(|| format!("failed to listen on {}", args.address))?;
    let health = TcpListener::bind(args.health_address)
        .await
        .with_context(|| format!("failed to listen on {}", args.health_address))?;
    tokio::spawn(identity::follow(webhook.clone(), args.certificates));
    let health = tokio::spawn(health::serve(health, webhook.clone()));
    tracing::info!(address = %args.address, "listening");
    let stopped = async {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    };
    let served = https::serve(
        listener,
        webhook.identity.clone(),
        handler::router(webhook),
        BOUNDS,
        (stopped, FAREWELL),
    );
    tokio::select! {
        () = served => Ok(()),
        ended = health => match ended {
            Ok(Err(error)) => Err(anyhow::Error::new(error).context("failed to serve health and metrics")),
            _ => Err(anyhow::anyhow!("the health endpoint ended")),
        },
    }
}

/// What is unreadable leaves in force what was there before: a controller of another version wrote it perhaps.
fn watch(client: Client) -> Cache<Option<Arc<Sidecar>>> {
    Cache::watch(
        Api::<PartialObjectMeta<MutatingWebhookConfiguration>>::all(client),
        Config::default().fields(&format!("metadata.name={}", names::WEBHOOK_CONFIGURATION)),
        Arc::new(Signal::default()),
        |configuration, before| {
            let sidecar = configuration::sidecar_in_force(configuration.annotations());
            if let Some(sidecar) = sidecar {
                tracing::info!(revision = %sidecar.revision, "told what to add to pods");
                return Some(Arc::new(sidecar));
            }
            tracing::error!(
                "the annotation of the webhook's configuration cannot be read; what was to be added before is added still"
            );
            before.cloned().flatten()
        },
        |_, _| Change::Plan,
    )
}

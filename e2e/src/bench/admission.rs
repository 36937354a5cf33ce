//! What injection costs those who create pods: by the admission policy and by the webhook, each beside no injection at all on
//! the same API server; and the webhook alone, asked as often as promised.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration},
    core::v1::{ConfigMap, Pod},
};
use katonic_logging_core::{
    names,
    webhook::configuration::{PATH, published},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    task::{JoinSet, spawn_blocking},
    time::{Instant, interval},
};
use tokio_rustls::TlsConnector;

use super::{Figure, median, process::processor_time};
use crate::{
    cluster::{Cluster, Options, Tier, progress::Progress},
    eventually::eventually,
    images::Image,
    operator::{COMPUTE, Installed, Operator, PLATFORM, splunk_policy},
    program,
    webhook::{Address, Webhook},
};

/// Pods of each kind whose creation is timed, one after another.
const ROUNDS: usize = 200;

/// Pods whose creation is counted in processor time, and how many at a time.
const PODS: usize = 1000;
const AT_A_TIME: usize = 16;

/// How often the webhook is asked in a second, for how long, and on how many connections: an API server keeps some tens.
const RATE: u32 = 500;
const SECONDS: u32 = 10;
const CONNECTIONS: usize = 16;

/// How long the webhook may take for an answer in 99 of 100 cases, in milliseconds (`docs/performance.md`).
const BUDGET: f64 = 3.0;

const POLICY: &str = "application-logs";

/// A namespace that no policy reaches.
const BARE: &str = "bare";

const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn measure() -> Result<Vec<Figure>> {
    let program = spawn_blocking(|| Image::Operator.executable()).await??;
    let progress = Progress::start("measuring injection: what creating a pod costs");
    let options = Options {
        durable_writes: true,
        ..Options::default()
    };
    let installed = Installed::new(Cluster::start_with(Tier::ApiServer, options).await?).await?;
    installed.cluster.namespace(BARE).await?;
    let folder = program::workspace().join("manifests/webhook");
    let apply = ["apply", "--server-side", "-k", &folder.to_string_lossy()];
    installed.cluster.kubectl(&apply).await?.ok()?;
    let address = Address::free()?;
    choose(&installed, "AdmissionPolicy").await?;
    let url = address.url();
    let arguments = ["--webhook-url", url.as_str()];
    let operator = Operator::run_shipped(&program, &installed.cluster, "bench", &arguments).await?;
    let webhook = Webhook::run(&program, &installed, address).await?;
    webhook.ready().await?;
    installed.sink_secret("splunk", "token", "measured").await?;
    let policy = splunk_policy(POLICY, "https://hec.example.com:8088", "splunk");
    installed.create(&policy).await?;
    let api_server = process_of("kube-apiserver", installed.cluster.directory()?)?;
    let bench = Bench {
        client: installed.client.clone(),
        processes: vec![
            ("the API server", api_server),
            ("the operator", operator.pid()?),
            ("the webhook", webhook.pid()?),
        ],
    };

    let mut figures = Vec::new();
    for (mode, way) in [
        ("AdmissionPolicy", "the admission policy"),
        ("Webhook", "the webhook"),
    ] {
        choose(&installed, mode).await?;
        alone(&installed.client, mode == "Webhook").await?;
        figures.extend(bench.way(way).await?);
    }
    figures.extend(bench.cost(BARE, "nothing").await?);
    figures.extend(handler(&installed.client, &webhook, address).await?);
    progress.done();
    Ok(figures)
}

async fn choose(installed: &Installed, mode: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(installed.client.clone(), names::OPERATOR_NAMESPACE);
    let yaml = format!(
        "namespaces: {{platform: {{name: {PLATFORM}}}, compute: {{name: {COMPUTE}}}}}\n\
         logging: {{injection: {{mode: {mode}}}, agent: {{image: 'localhost/katonic-log-agent:0.1.0'}}}}\n"
    );
    let patch = Patch::Merge(json!({"data": {names::INSTALLATION_KEY: yaml}}));
    maps.patch(names::INSTALLATION, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// Waits until pods are injected in one way and no more in the other.
async fn alone(client: &Client, by_webhook: bool) -> Result<()> {
    let bindings: Api<MutatingAdmissionPolicyBinding> = Api::all(client.clone());
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let pods: Api<Pod> = Api::namespaced(client.clone(), PLATFORM);
    eventually(
        "one way of injection is in force, alone",
        PATIENCE,
        async || {
            let binding = bindings.get_opt(names::ADMISSION_BINDING).await?;
            let configuration = configurations.get_opt(names::WEBHOOK_CONFIGURATION).await?;
            if (binding.is_some(), configuration.is_some()) != (!by_webhook, by_webhook) {
                return Ok(None);
            }
            let dry_run = PostParams {
                dry_run: true,
                ..PostParams::default()
            };
            Ok(is_injected(&pods.create(&dry_run, &pod()?).await?).then_some(()))
        },
    )
    .await
}

/// A cluster, and the processes in it whose time is counted.
struct Bench {
    client: Client,
    processes: Vec<(&'static str, u32)>,
}

impl Bench {
    async fn way(&self, way: &str) -> Result<Vec<Figure>> {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(self.create(BARE, false).await?);
            with.push(self.create(PLATFORM, true).await?);
        }
        let medians = (median(&mut with), median(&mut without));
        let tails = (quantile(&with, 0.99), quantile(&without, 0.99));
        let name = |what: &str| format!("creating a pod with {way}, {what}");
        let mut figures = vec![
            Figure::told(&name("of without"), medians.0 / medians.1, "times"),
            Figure::told(&name("of without, p99"), tails.0 / tails.1, "times"),
            Figure::told(&name("more than without"), medians.0 - medians.1, "ms"),
        ];
        figures.extend(self.cost(PLATFORM, way).await?);
        Ok(figures)
    }

    /// Milliseconds until a pod is created.
    async fn create(&self, namespace: &str, injected: bool) -> Result<f64> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let begun = Instant::now();
        let created = pods.create(&PostParams::default(), &pod()?).await?;
        let took = begun.elapsed();
        ensure!(
            is_injected(&created) == injected,
            "a pod of {namespace} is not as it should be"
        );
        Ok(took.as_secs_f64() * 1000.0)
    }

    /// Processor time that many pods cost.
    async fn cost(&self, namespace: &str, way: &str) -> Result<Vec<Figure>> {
        let before = self.times()?;
        stream::iter(0..PODS)
            .map(|_| self.create(namespace, namespace == PLATFORM))
            .buffer_unordered(AT_A_TIME)
            .try_collect::<Vec<_>>()
            .await?;
        let after = self.times()?;
        let figures = self.processes.iter().zip(before.iter().zip(after));
        let figures = figures.map(|((process, _), (before, after))| {
            let name = format!("processor time of {process} for {PODS} pods, injected by {way}");
            Figure::told(&name, after - before, "ms")
        });
        let figures = figures.collect();
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        pods.delete_collection(
            &DeleteParams::default().grace_period(0),
            &ListParams::default(),
        )
        .await?;
        Ok(figures)
    }

    fn times(&self) -> Result<Vec<f64>> {
        let all = self.processes.iter();
        all.map(|(_, id)| processor_time(*id)).collect()
    }
}

fn pod() -> Result<Pod> {
    let pod = json!({
        "metadata": {"generateName": "web-", "labels": {"app": "web"}},
        "spec": {"containers": [{
            "name": "web", "image": "localhost/none:v1", "args": ["serve", "--port=8080"],
            "env": [{"name": "LEVEL", "value": "info"}],
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        }]},
    });
    serde_json::from_value(pod).context("failed to make a pod")
}

fn is_injected(pod: &Pod) -> bool {
    katonic_logging_core::probe::is_injected(pod)
}

/// The process of this program that was started for this run.
fn process_of(program: &str, run: &Path) -> Result<u32> {
    let run = run.to_string_lossy().into_owned();
    let processes = fs::read_dir("/proc").context("failed to list processes")?;
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .find(|id| {
            let line = fs::read(PathBuf::from(format!("/proc/{id}/cmdline"))).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            let name = line.split('\0').next().unwrap_or_default();
            name.ends_with(program) && line.contains(&run)
        })
        .with_context(|| format!("{program} does not run"))
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    // A few hundred values: exact.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "an index of a short list"
    )]
    let index = (sorted.len() as f64 * part) as usize;
    sorted
        .get(index.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

/// The webhook asked as an API server asks, at a fixed rate.
async fn handler(client: &Client, webhook: &Webhook, address: Address) -> Result<Vec<Figure>> {
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let configuration = configurations.get(names::WEBHOOK_CONFIGURATION).await?;
    let trusted = published(&configuration).context("nobody is trusted")?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(address, &trusted).await?);
    }
    let question = question()?;
    let before = Histogram::read(&webhook.get("/metrics").await?.1);
    let mut asked = JoinSet::new();
    let mut next = interval(Duration::from_secs(1) / RATE);
    let connections: Vec<_> = connections
        .into_iter()
        .map(|one| Arc::new(tokio::sync::Mutex::new(one)))
        .collect();
    let turns = connections.iter().cycle();
    let all = usize::try_from(RATE * SECONDS)?;
    for connection in turns.take(all) {
        next.tick().await;
        let (connection, question) = (connection.clone(), question.clone());
        asked.spawn(async move {
            let begun = Instant::now();
            let mut connection = connection.lock().await;
            ask(&mut connection, question).await?;
            anyhow::Ok(begun.elapsed().as_secs_f64() * 1000.0)
        });
    }
    let mut round_trips = Vec::new();
    while let Some(took) = asked.join_next().await {
        round_trips.push(took??);
    }
    let answered = Histogram::read(&webhook.get("/metrics").await?.1).since(&before);
    round_trips.sort_by(f64::total_cmp);
    let name = |what: &str| format!("webhook, {RATE} pods a second, {what}");
    Ok(vec![
        Figure::at_most(
            &name("in the handler, p99 at most"),
            answered.quantile(0.99)?,
            "ms",
            BUDGET,
        ),
        Figure::told(
            &name("in the handler, p50 at most"),
            answered.quantile(0.5)?,
            "ms",
        ),
        Figure::told(
            &name("with TLS and HTTP, p50"),
            quantile(&round_trips, 0.5),
            "ms",
        ),
        Figure::told(
            &name("with TLS and HTTP, p99"),
            quantile(&round_trips, 0.99),
            "ms",
        ),
    ])
}

async fn connect(address: Address, trusted: &str) -> Result<SendRequest<Full<bytes::Bytes>>> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(authority?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address.socket()).await?;
    stream.set_nodelay(true)?;
    let host = ServerName::IpAddress(address.socket().ip().into());
    let stream = TlsConnector::from(Arc::new(config))
        .connect(host, stream)
        .await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn question() -> Result<bytes::Bytes> {
    let question = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "operation": "CREATE", "object": pod()?},
    });
    Ok(serde_json::to_vec(&question)?.into())
}

async fn ask(
    connection: &mut SendRequest<Full<bytes::Bytes>>,
    question: bytes::Bytes,
) -> Result<()> {
    connection.ready().await?;
    let request = http::Request::post(PATH)
        .header("host", "webhook")
        .header("content-type", "application/json")
        .body(Full::new(question))?;
    let answer = connection.send_request(request).await?;
    let body = answer.into_body().collect().await?.to_bytes();
    let answer: Value = serde_json::from_slice(&body)?;
    ensure!(answer["response"]["patch"].is_string(), "{answer}");
    Ok(())
}

/// How many answers took at most so many seconds.
#[derive(Debug)]
struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    fn read(metrics: &str) -> Self {
        let buckets = metrics.lines().filter_map(|line| {
            let line = line
                .strip_prefix("katonic_logging_webhook_admission_duration_seconds_bucket{le=\"")?;
            let (bound, count) = line.split_once("\"} ")?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
        });
        Self(buckets.collect())
    }

    fn since(self, before: &Self) -> Self {
        let both = self.0.into_iter().zip(&before.0);
        Self(
            both.map(|((bound, now), (_, then))| (bound, now - then))
                .collect(),
        )
    }

    /// An upper bound of the quantile, in milliseconds: that of its bucket.
    fn quantile(&self, part: f64) -> Result<f64> {
        let all = self.0.last().map(|(_, count)| *count);
        let all = all
            .filter(|count| *count > 0.0)
            .context("nothing was answered")?;
        let bucket = self.0.iter().find(|(_, count)| *count >= all * part);
        Ok(bucket.context("a histogram without an end")?.0 * 1000.0)
    }
}

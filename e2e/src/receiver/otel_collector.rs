//! The OpenTelemetry Collector as a receiver: OTLP over HTTP on loopback, everything that it takes written to a file
//! by its own file exporter and read back.

mod otlp;

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::{
    Authority, Received, ServerIdentity,
    port::{self, HERE},
    written::Written,
};
use crate::{
    child::Program,
    cluster::binaries::{Binaries, Binary},
    eventually::eventually,
};

/// How long a start or an end may take.
const LIMIT: Duration = Duration::from_secs(20);

/// What the Collector is to be.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The certificate that it shows; none: plain HTTP.
    pub identity: Option<ServerIdentity>,
    /// The authority whose clients it takes, as PEM; none: any client.
    pub clients: Option<String>,
    /// How many bytes of a body it takes, compressed and unpacked; none: 20 MiB, its own limit.
    pub max_body: Option<usize>,
}

impl Settings {
    /// HTTPS, and only clients of this authority.
    pub fn with_clients_of(authority: &Authority) -> Result<Self> {
        Ok(Self {
            identity: Some(authority.server(HERE)?),
            clients: Some(authority.certificate_pem()),
            max_body: None,
        })
    }
}

/// A running Collector. Dropping it ends it.
#[derive(Debug)]
pub struct OtelCollector {
    executable: PathBuf,
    program: Option<Program>,
    settings: Settings,
    port: u16,
    taken: Written,
    /// After the program, so that it is there as long as the program is.
    folder: TempDir,
}

impl OtelCollector {
    /// Starts it, built first where that was not done yet, and waits until its port is open.
    pub async fn start(settings: Settings) -> Result<Self> {
        let wanted = || Binaries::find(&[Binary::OtelCollector]);
        let binaries = spawn_blocking(wanted).await??;
        let folder = TempDir::with_prefix("katonic-otelcol-")
            .context("failed to make a folder for the Collector")?;
        let mut collector = Self {
            executable: binaries.path(Binary::OtelCollector)?.to_owned(),
            program: None,
            settings,
            port: port::free()?,
            taken: Written::new(folder.path().join("taken"), otlp::read),
            folder,
        };
        collector.start_again().await?;
        Ok(collector)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (HERE, self.port).into()
    }

    /// Its base address, without `/v1/logs`.
    pub fn url(&self) -> String {
        let scheme = if self.settings.identity.is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}://{}", self.address())
    }

    /// SIGTERM: what it has answered is written before it ends.
    pub async fn stop(&mut self) -> Result<()> {
        let program = self.program.take().context("the Collector does not run")?;
        let status = program.terminate(LIMIT).await?;
        ensure!(status.success(), "the Collector ended with {status}");
        Ok(())
    }

    /// `kill -9`: what it has answered in its last moments may be lost, because its file exporter has a buffer.
    pub fn kill(&mut self) -> Result<()> {
        let program = self.program.take().context("the Collector does not run")?;
        program.kill()
    }

    /// Starts it after its end, with the settings of now, on the same port.
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.program.is_none(), "the Collector runs already");
        let configuration = self.configure()?;
        let output = self.path("output");
        let program = Program::start(&self.executable, &output, |command| {
            command.arg("--config").arg(configuration);
        })?;
        let program = self.program.insert(program);
        let address = (HERE, self.port);
        let started = eventually("the Collector listens", LIMIT, || {
            let is_running = program.is_running();
            async move {
                ensure!(is_running, "the Collector has ended");
                TcpStream::connect(address).context("failed to connect")?;
                Ok(Some(()))
            }
        })
        .await;
        started.with_context(|| format!("it said: {}", self.said().unwrap_or_default()))
    }

    /// The settings, which are in force when it is started again.
    pub fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// What came so far.
    pub fn received(&self) -> Result<Received> {
        self.taken.inspect(Received::clone)
    }

    /// Looks at what came so far without copying it.
    pub fn inspect<T>(&self, look: impl FnOnce(&Received) -> T) -> Result<T> {
        self.taken.inspect(look)
    }

    /// Waits until what came fulfils a condition, at most `limit`.
    ///
    /// # Errors
    /// When the time is over; the error says what did come.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        condition: impl FnMut(&Received) -> bool,
    ) -> Result<()> {
        self.taken.until(what, limit, condition).await
    }

    /// What it says of itself.
    pub fn said(&self) -> Result<String> {
        fs::read_to_string(self.path("output")).context("failed to read what the Collector said")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self) -> Result<PathBuf> {
        let Settings {
            identity,
            clients,
            max_body,
        } = &self.settings;
        let mut http = json!({"endpoint": self.address().to_string()});
        if let Some(identity) = identity {
            let tls = &mut http["tls"];
            tls["cert_file"] = self.write("certificate.pem", identity.certificate_pem())?;
            tls["key_file"] = self.write("key.pem", identity.key_pem())?;
            if let Some(clients) = clients {
                tls["client_ca_file"] = self.write("clients.pem", clients)?;
            }
        }
        if let Some(bytes) = max_body {
            http["max_request_body_size"] = (*bytes).into();
        }
        let configuration = json!({
            "receivers": {"otlp": {"protocols": {"http": http}}},
            "exporters": {"file": {"path": self.path("taken"), "append": true, "flush_interval": "20ms"}},
            "service": {"pipelines": {"logs": {"receivers": ["otlp"], "exporters": ["file"]}}},
        });
        // YAML, of which JSON is a part.
        self.write("configuration.yaml", &configuration.to_string())?;
        Ok(self.path("configuration.yaml"))
    }

    /// Writes a file and says where it is.
    fn write(&self, name: &str, content: &str) -> Result<Value> {
        let path = self.path(name);
        fs::write(&path, content)
            .with_context(|| format!("failed to write {name} for the Collector"))?;
        Ok(json!(path))
    }
}

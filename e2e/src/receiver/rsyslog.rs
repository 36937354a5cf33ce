//! rsyslog as a receiver: UDP, TCP and TLS on loopback, everything that it takes written to a file and read back.
//!
//! It is a child of the test with a configuration of its own, never the system's service. Each message is written
//! twice, as it came and as rsyslog understands it; one that RFC 5424 does not know, or that rsyslog understands
//! otherwise, is malformed.

mod message;

use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use self::message::Message;
use super::{
    Authority, Received, Record, ServerIdentity,
    port::{self, HERE},
    written::Written,
};
use crate::{
    child::Program,
    cluster::{prerequisites, skip},
    eventually::eventually,
};

/// How long a start or an end may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A message that rsyslog does not write to the file of all others: once it has come, the port that took it is open.
const READY: &str = "<14>1 - - - - KATONIC-READY -";

/// What rsyslog is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The certificate that it shows.
    pub identity: ServerIdentity,
    /// The authority whose clients it takes, as PEM; none: any client.
    pub clients: Option<String>,
    /// How many bytes of a message it takes; the rest is taken for another message.
    pub max_message: usize,
}

impl Settings {
    /// rsyslog's own limit, and only clients of this authority.
    pub fn with_clients_of(authority: &Authority) -> Result<Self> {
        Ok(Self {
            identity: authority.server(HERE)?,
            clients: Some(authority.certificate_pem()),
            max_message: 8_192,
        })
    }
}

/// A running rsyslog. Dropping it ends it.
#[derive(Debug)]
pub struct Rsyslog {
    executable: PathBuf,
    program: Option<Program>,
    settings: Settings,
    ports: Ports,
    taken: Written,
    /// After the program, so that it is there as long as the program is.
    folder: TempDir,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    udp: u16,
    tcp: u16,
    tls: u16,
}

impl Rsyslog {
    /// Starts it, installed first where that is possible, and waits until all its ports are open.
    pub async fn start(settings: Settings) -> Result<Self> {
        let executable = spawn_blocking(prerequisites::rsyslog).await??;
        let folder = TempDir::with_prefix("katonic-rsyslog-")
            .context("failed to make a folder for rsyslog")?;
        let mut rsyslog = Self {
            executable,
            program: None,
            settings,
            ports: Ports::free()?,
            taken: Written::new(folder.path().join("taken"), read),
            folder,
        };
        rsyslog.start_again().await?;
        Ok(rsyslog)
    }

    /// As [`Self::start`]; none, and the calling test counted as skipped, where rsyslog is missing and cannot be
    /// installed.
    pub async fn start_or_skip(settings: Settings) -> Result<Option<Self>> {
        match spawn_blocking(prerequisites::rsyslog).await? {
            Ok(_) => Self::start(settings).await.map(Some),
            Err(reason) => skip(&format!("{reason:#}")).map(|()| None),
        }
    }

    /// Where it takes a message a datagram.
    pub fn udp(&self) -> SocketAddr {
        (HERE, self.ports.udp).into()
    }

    /// Where it takes counted messages.
    pub fn tcp(&self) -> SocketAddr {
        (HERE, self.ports.tcp).into()
    }

    /// Where it takes counted messages inside TLS.
    pub fn tls(&self) -> SocketAddr {
        (HERE, self.ports.tls).into()
    }

    /// SIGTERM: what it has in its queue is written before it ends.
    pub async fn stop(&mut self) -> Result<()> {
        let program = self.program.take().context("rsyslog does not run")?;
        let status = program.terminate(LIMIT).await?;
        ensure!(status.success(), "rsyslog ended with {status}");
        Ok(())
    }

    /// `kill -9`: what it has in its queue is lost, and every connection reset or closed.
    pub fn kill(&mut self) -> Result<()> {
        self.program.take().context("rsyslog does not run")?.kill()
    }

    /// Starts it after its end, with the settings of now, on the same ports.
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.program.is_none(), "rsyslog runs already");
        let configuration = self.configure()?;
        let output = self.path("output");
        let program = Program::start(&self.executable, &output, |command| {
            command.args(["-n", "-i", "NONE", "-f"]).arg(configuration);
        })?;
        let program = self.program.insert(program);
        let (ready, ports) = (self.folder.path().join("ready"), self.ports);
        let started = eventually("rsyslog takes messages", LIMIT, || {
            let probe = probe(program, ports, &ready);
            async { probe }
        })
        .await;
        started.with_context(|| format!("rsyslog said: {}", self.said().unwrap_or_default()))
    }

    /// The settings, which are in force when it is started again.
    pub fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// SIGSTOP: it does not read any more.
    pub fn pause(&self) -> Result<()> {
        self.program
            .as_ref()
            .context("rsyslog does not run")?
            .pause()
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.program
            .as_ref()
            .context("rsyslog does not run")?
            .resume()
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

    /// What it says of itself: refused handshakes, messages that are too large.
    pub fn said(&self) -> Result<String> {
        let mut said = String::new();
        for name in ["output", "said"] {
            said += &fs::read_to_string(self.path(name)).unwrap_or_default();
        }
        Ok(said)
    }

    /// The file in which it keeps what came, a JSON object for each message.
    pub fn file(&self) -> PathBuf {
        self.path("taken")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn configure(&self) -> Result<PathBuf> {
        let Settings {
            identity,
            clients,
            max_message,
        } = &self.settings;
        let mode = if clients.is_some() {
            "x509/certvalid"
        } else {
            "anon"
        };
        let authority = clients
            .as_deref()
            .unwrap_or_else(|| identity.certificate_pem());
        let configuration = configuration(self.folder.path(), self.ports, mode, *max_message);
        for (name, content) in [
            ("authority.pem", authority),
            ("certificate.pem", identity.certificate_pem()),
            ("key.pem", identity.key_pem()),
            ("rsyslog.conf", &configuration),
            ("ready", ""),
        ] {
            fs::write(self.path(name), content)
                .with_context(|| format!("failed to write {name} for rsyslog"))?;
        }
        Ok(self.path("rsyslog.conf"))
    }
}

impl Ports {
    fn free() -> Result<Self> {
        Ok(Self {
            udp: port::free()?,
            tcp: port::free()?,
            tls: port::free()?,
        })
    }
}

/// Whether every port is open; by UDP and TCP, that it is this rsyslog that has opened them.
fn probe(program: &mut Program, ports: Ports, ready: &Path) -> Result<Option<()>> {
    ensure!(program.is_running(), "rsyslog has ended");
    let socket = UdpSocket::bind((HERE, 0)).context("failed to open a socket")?;
    socket
        .send_to(READY.as_bytes(), (HERE, ports.udp))
        .context("failed to send a datagram")?;
    let mut stream = TcpStream::connect((HERE, ports.tcp)).context("failed to connect by TCP")?;
    write!(stream, "{} {READY}", READY.len()).context("failed to send a message by TCP")?;
    TcpStream::connect((HERE, ports.tls)).context("failed to connect for TLS")?;
    let came = fs::read_to_string(ready).context("failed to read what came to rsyslog")?;
    let inputs: Vec<_> = came.lines().collect();
    Ok((inputs.contains(&"udp") && inputs.contains(&"tcp")).then_some(()))
}

/// Control characters and the end of a message stay as they are, so that what is read back is what was sent.
fn configuration(folder: &Path, ports: Ports, clients: &str, max_message: usize) -> String {
    let folder = folder.display();
    let Ports { udp, tcp, tls } = ports;
    format!(
        r#"global(
  workDirectory="{folder}"
  maxMessageSize="{max_message}"
  parser.escapeControlCharactersOnReceive="off"
  parser.dropTrailingLFOnReception="off"
  processInternalMessages="on"
  defaultNetstreamDriverCAFile="{folder}/authority.pem"
  defaultNetstreamDriverCertFile="{folder}/certificate.pem"
  defaultNetstreamDriverKeyFile="{folder}/key.pem"
)
module(load="imudp")
module(load="imtcp")
template(name="taken" type="list" option.jsonf="on") {{
  property(outname="input" name="inputname" format="jsonf")
  property(outname="raw" name="rawmsg" format="jsonf")
  property(outname="priority" name="pri" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="process" name="procid" format="jsonf")
  property(outname="id" name="msgid" format="jsonf")
  property(outname="data" name="structured-data" format="jsonf")
  property(outname="text" name="msg" format="jsonf")
}}
template(name="ready" type="string" string="%inputname%\n")
ruleset(name="taken") {{
  if $msgid == "KATONIC-READY" then {{
    action(type="omfile" file="{folder}/ready" template="ready")
    stop
  }}
  action(type="omfile" file="{folder}/taken" template="taken")
}}
action(type="omfile" file="{folder}/said")
input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="taken" name="udp"
  rcvbufSize="16m")
input(type="imtcp" address="127.0.0.1" port="{tcp}" ruleset="taken" name="tcp"
  streamDriver.name="ptcp" streamDriver.mode="0")
input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="taken" name="tls"
  streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="{clients}")
"#
    )
}

/// A message as rsyslog writes it.
#[derive(Deserialize)]
struct Entry {
    input: String,
    raw: String,
    #[serde(flatten)]
    understood: Understood,
}

/// What rsyslog takes the parts of a message for, as text.
#[derive(Debug, Deserialize, Eq, PartialEq)]
struct Understood {
    priority: String,
    host: String,
    app: String,
    process: String,
    id: String,
    data: String,
    text: String,
}

fn read(entry: &[u8], received: &mut Received) {
    match read_entry(entry) {
        Ok(record) => received.take([record]),
        Err(reason) => {
            let entry = String::from_utf8_lossy(entry);
            received.malformed.push(format!("{reason}: {entry}"));
        }
    }
}

fn read_entry(entry: &[u8]) -> Result<Record, String> {
    // What is not UTF-8 is no JSON either.
    let Entry {
        input,
        raw,
        understood,
    } = serde_json::from_slice(entry).map_err(|error| error.to_string())?;
    let message = Message::parse(&raw)?;
    let ours = Understood {
        priority: message.priority.to_string(),
        host: message.host.to_owned(),
        app: message.app.to_owned(),
        process: message.process.to_owned(),
        id: message.id.to_owned(),
        data: message.data.to_owned(),
        text: message.text.to_owned(),
    };
    if ours != understood {
        return Err(format!("rsyslog reads {understood:?}"));
    }
    let mut envelope = message.envelope();
    envelope.insert("input".to_owned(), input.into());
    Ok(Record {
        line: message.text.to_owned(),
        fields: message.fields()?,
        envelope,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rsyslog_understands_otherwise_is_malformed() {
        let entry = |host: &str| {
            serde_json::json!({
                "input": "tcp", "raw": "<14>1 - h a 1 - [x@1 k=\"v\"] text", "priority": "14", "host": host,
                "app": "a", "process": "1", "id": "-", "data": "[x@1 k=\"v\"]", "text": "text",
            })
            .to_string()
        };
        let mut received = Received::default();
        read(entry("h").as_bytes(), &mut received);
        read(entry("other").as_bytes(), &mut received);
        read(b"{", &mut received);
        assert_eq!(received.records[0].field("k"), "v");
        assert_eq!(received.records[0].about("input"), "tcp");
        assert_eq!((received.records.len(), received.malformed.len()), (1, 2));
    }
}

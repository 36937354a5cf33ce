//! A receiver of logs by hand: prints what arrives, and a count by sequence number when it is told to stop.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use katonic_logging_e2e::receiver::{
    Protocol, Receiver, ServerIdentity, Tally, json, loggly, new_relic,
    splunk::{Rules, Token},
};
use tokio::signal::unix::{SignalKind, signal};

/// Receives logs, as strictly as the real thing, and prints them.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Splunk's HTTP Event Collector.
    Splunk {
        #[command(flatten)]
        port: Port,
        /// File with the token.
        #[arg(long)]
        token_file: PathBuf,
        /// Index that the token allows; may be given several times. Default: any.
        #[arg(long)]
        index: Vec<String>,
    },
    /// Loggly's bulk endpoint.
    Loggly {
        #[command(flatten)]
        port: Port,
        /// File with the customer token.
        #[arg(long)]
        token_file: PathBuf,
    },
    /// New Relic's Log API.
    NewRelic {
        #[command(flatten)]
        port: Port,
        /// File with the license key.
        #[arg(long)]
        license_key_file: PathBuf,
    },
    /// A server of JSON lines.
    Http {
        #[command(flatten)]
        port: Port,
        /// Path that takes them.
        #[arg(long, default_value = "/")]
        path: String,
    },
}

#[derive(Args, Debug)]
struct Port {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8088")]
    listen: SocketAddr,
    /// Listen for HTTPS with this certificate (PEM).
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// Key of the certificate (PEM).
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (port, protocol) = match Arguments::parse().kind {
        Kind::Splunk {
            port,
            token_file,
            index,
        } => {
            let mut rules = Rules::with_token("");
            let token = Token {
                indexes: index.into_iter().collect(),
                ..Token::default()
            };
            rules.tokens = [(read(&token_file)?.trim_end().to_owned(), token)].into();
            (port, Protocol::Splunk(rules))
        }
        Kind::Loggly { port, token_file } => {
            let rules = loggly::Rules::with_token(read(&token_file)?.trim_end());
            (port, Protocol::Loggly(rules))
        }
        Kind::NewRelic {
            port,
            license_key_file,
        } => {
            let rules = new_relic::Rules::with_license_key(read(&license_key_file)?.trim_end());
            (port, Protocol::NewRelic(rules))
        }
        Kind::Http { port, path } => (port, Protocol::Json(json::Rules::at(&path))),
    };
    let receiver = match (&port.certificate, &port.key) {
        (Some(certificate), Some(key)) => {
            let identity = ServerIdentity::from_pem(&read(certificate)?, &read(key)?)?;
            Receiver::start_tls(port.listen, protocol, &identity).await?
        }
        _ => Receiver::start(port.listen, protocol).await?,
    };
    println!("listening on {}", receiver.url());
    let mut terminate = signal(SignalKind::terminate()).context("failed to wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to wait for SIGINT")?;
    let mut changes = receiver.subscribe();
    let (mut records, mut answers) = (0, 0);
    loop {
        tokio::select! {
            _ = changes.changed() => {
                let now = changes.borrow_and_update();
                for record in &now.records[records..] {
                    println!("{record}");
                }
                for answered in now.answered[answers..].iter().filter(|one| one.status >= 300) {
                    println!("refused with {}: {}", answered.status, answered.body);
                }
                (records, answers) = (now.records.len(), now.answered.len());
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    for (source, tally) in receiver.inspect(|received| Tally::by_source(&received.records)) {
        println!("{source}: {tally}");
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
}

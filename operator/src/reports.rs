//! Where agents report their deliveries: an HTTPS server that knows from its token which pod a report is of. What reports mean is
//! decided elsewhere.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use katonic_logging_core::delivery::Fleet;
use kube::Client;
use tokio::net::TcpListener;

use crate::{
    cache::{Signal, chain},
    health::Health,
    https::{self, Bounds, Farewell, Identity},
};

mod handler;
mod rate_limit;
mod review;
mod roster;
mod token;
mod tokens;

use handler::Desk;
pub use roster::Roster;
use tokens::Tokens;

/// What its connections may take.
const BOUNDS: Bounds = Bounds {
    // Fifty reports a second are wanted at most, and each takes milliseconds.
    connections: 256,
    // Longer than an API server is waited for.
    beginning: Duration::from_secs(10),
    answer: Duration::from_secs(10),
    // A pod reports once a minute or less often: only changes that follow each other are worth a connection that stays.
    quiet: Duration::from_secs(10),
};

/// When an address is tried again that cannot be listened on.
const AGAIN: Duration = Duration::from_secs(10);

/// How a report ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was taken.
    Accepted,
    /// Nobody vouches for whoever has sent it.
    Unauthorized,
    /// It is a pod's of a namespace that is no plane.
    Forbidden,
    /// It is no report.
    Malformed,
    /// It is larger than a report may be.
    TooLarge,
    /// More came than is looked at.
    Throttled,
    /// It is not known yet who has sent it, or whether that one may.
    Unavailable,
}

impl Outcome {
    /// As a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What the API server says of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Review {
    /// It is a pod's, and for us.
    Authenticated,
    /// It is not.
    Refused,
    /// Nothing: it could not be asked.
    Failed,
}

impl Review {
    /// As a label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authenticated => "authenticated",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Receives reports for ever. An address that cannot be listened on is tried again: nothing else must suffer from it.
pub async fn serve(
    client: Client,
    address: SocketAddr,
    identity: Arc<Identity>,
    (fleet, pods): (Arc<Mutex<Fleet>>, Arc<Roster>),
    (signal, health): (Arc<Signal>, Arc<Health>),
) {
    let listener = listen(address).await;
    tracing::info!(%address, "listening for reports");
    let tokens = Arc::new(Tokens::reviewed_by(client, health.clone()));
    let router = handler::router(Desk {
        tokens,
        roster: pods,
        fleet,
        signal,
        health,
    });
    // It ends with the process, and a report that is lost costs nothing but freshness.
    let never = (std::future::pending(), Farewell::default());
    https::serve(listener, identity, router, BOUNDS, never).await;
}

async fn listen(address: SocketAddr) -> TcpListener {
    let mut complaint = None;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                let words = chain(&error);
                // Said once, not every ten seconds.
                if complaint.as_ref() != Some(&words) {
                    tracing::error!(%address, error = %words, "failed to listen for reports");
                    complaint = Some(words);
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

//! An HTTPS server whose connections are bounded in number and in time. What is asked and answered is for its router.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header::CONNECTION},
};
use hyper::{body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use rustls::{ServerConfig, crypto::ring};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::cache::chain;

mod identity;
mod places;

pub use identity::{Error as IdentityError, Identity};
use places::{Place, Places};

/// What is read of a connection at a time, in bytes.
const READ: usize = 16 << 10;

/// Pause after the system refused a connection, for want of descriptors perhaps.
const BREATH: Duration = Duration::from_millis(100);

/// How many connections there are, and how long each thing may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at a time. Anybody in the cluster can open one, and loses it to the next one when they are all taken.
    pub connections: usize,
    /// From the beginning of a connection until its first question is answered: whoever connects has one.
    pub beginning: Duration,
    /// For a question to arrive and to be answered.
    pub answer: Duration,
    /// How long a connection may be quiet.
    pub quiet: Duration,
}

/// How a server ends.
#[derive(Clone, Copy, Debug, Default)]
pub struct Farewell {
    /// How long it goes on answering once it is told to stop, each connection for the last time: whoever holds one asks elsewhere
    /// then. One that is closed while it is quiet may be closed under a question that is on its way, which Go's transport, an
    /// API server's, asks nobody else.
    pub parting: Duration,
    /// How long what is under way then may take.
    pub ending: Duration,
}

/// Serves until it is told to stop, and then takes its farewell.
pub async fn serve(
    listener: TcpListener,
    identity: Arc<Identity>,
    router: Router,
    bounds: Bounds,
    (stopped, farewell): (impl Future<Output = ()>, Farewell),
) {
    let acceptor = match acceptor(identity) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            tracing::error!(error = %chain(&error), "failed to prepare TLS");
            return;
        }
    };
    let talk = Talk {
        acceptor,
        router: TowerToHyperService::new(router),
        bounds,
        is_parting: Arc::default(),
    };
    let graceful = GracefulShutdown::new();
    let places = Places::new(bounds.connections);
    {
        let ends = async {
            stopped.await;
            tracing::info!("told to stop: each connection is answered once more");
            talk.is_parting.store(true, Ordering::Relaxed);
            let parted = async {
                while graceful.count() > 0 {
                    tokio::time::sleep(BREATH).await;
                }
            };
            let _ = timeout(farewell.parting, parted).await;
        };
        tokio::pin!(ends);
        loop {
            let accepted = tokio::select! {
                accepted = next(&listener, &places) => accepted,
                () = &mut ends => break,
            };
            let Some((stream, place)) = accepted else {
                tokio::time::sleep(BREATH).await;
                continue;
            };
            let place = Arc::new(place);
            let connection = talk
                .clone()
                .until_it_ends(graceful.watcher(), stream, place.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = connection => (),
                    () = place.lost() => tracing::debug!("a quiet connection made room for another one"),
                    () = place.unused(bounds.beginning) => tracing::debug!("a connection asked nothing"),
                }
            });
        }
    }
    if timeout(farewell.ending, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections were still busy");
    }
}

async fn next(listener: &TcpListener, places: &Arc<Places>) -> Option<(TcpStream, Place)> {
    let (stream, _) = listener.accept().await.ok()?;
    // Answers are small and awaited.
    stream.set_nodelay(true).ok()?;
    Some((stream, places.take().await))
}

/// What every connection needs.
#[derive(Clone)]
struct Talk {
    acceptor: TlsAcceptor,
    router: TowerToHyperService<Router>,
    bounds: Bounds,
    /// Whether each answer is the last one of its connection.
    is_parting: Arc<AtomicBool>,
}

impl Talk {
    /// Answers what is asked by one connection.
    async fn until_it_ends(self, watcher: Watcher, stream: TcpStream, place: Arc<Place>) {
        let Ok(stream) = self.acceptor.accept(stream).await else {
            return;
        };
        let (router, within) = (self.router, self.bounds.answer);
        let service = hyper::service::service_fn(move |question: Request<Incoming>| {
            let answer = bounded(router.clone(), place.clone(), question, within);
            let is_parting = self.is_parting.clone();
            async move {
                let mut answer = answer.await?;
                if is_parting.load(Ordering::Relaxed) {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(CONNECTION, close);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.quiet)
            .max_buf_size(READ)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(error = %chain(&error), "a connection broke");
        }
    }
}

async fn bounded(
    router: TowerToHyperService<Router>,
    place: Arc<Place>,
    question: Request<Incoming>,
    within: Duration,
) -> Result<Response<Body>, Infallible> {
    place.moves(false);
    let Ok(answer) = timeout(within, router.call(question)).await else {
        let mut late = Response::new(Body::from("the question took too long to arrive\n"));
        *late.status_mut() = StatusCode::REQUEST_TIMEOUT;
        return Ok(late);
    };
    let is_answered = |answer: &Response<Body>| answer.status().is_success();
    place.moves(answer.as_ref().is_ok_and(is_answered));
    answer
}

fn acceptor(identity: Arc<Identity>) -> Result<TlsAcceptor, rustls::Error> {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(identity);
    Ok(TlsAcceptor::from(Arc::new(config)))
}

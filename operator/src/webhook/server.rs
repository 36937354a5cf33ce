//! The HTTPS server: connections that are bounded in number and in time.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, Response, StatusCode},
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

use super::{
    Webhook, handler,
    identity::Current,
    places::{Place, Places},
};
use crate::cache::chain;

/// Connections at a time. An API server holds some tens of them open; anybody in the cluster can open one, and loses it to the
/// next one when they are all taken.
const CONNECTIONS: usize = 512;

/// How long it may take from the beginning of a connection until its first question is answered: an API server connects when it
/// has one.
const BEGINNING: Duration = Duration::from_secs(5);

/// What is read of a connection at a time, in bytes.
const READ: usize = 16 << 10;

/// How long a question may take to arrive and to be answered: longer than an API server waits.
const ANSWER: Duration = Duration::from_secs(5);

/// How long a connection may be quiet: longer than an API server keeps it (Go's transport: 90 s), so that none is closed here
/// while a question is on its way.
const QUIET: Duration = Duration::from_mins(3);

/// Pause after the system refused a connection, for want of descriptors perhaps.
const BREATH: Duration = Duration::from_millis(100);

type Router = TowerToHyperService<axum::Router>;

/// Serves until it is told to stop, and then finishes what is under way.
pub(super) async fn serve(
    listener: TcpListener,
    webhook: Arc<Webhook>,
    stopped: impl Future<Output = ()>,
    farewell: Duration,
) {
    let acceptor = match acceptor(webhook.clone()) {
        Ok(acceptor) => acceptor,
        Err(error) => {
            tracing::error!(error = %chain(&error), "failed to prepare TLS");
            return;
        }
    };
    let router = TowerToHyperService::new(handler::router(webhook));
    let graceful = GracefulShutdown::new();
    let places = Places::new(CONNECTIONS);
    tokio::pin!(stopped);
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &places) => accepted,
            () = &mut stopped => break,
        };
        let Some((stream, place)) = accepted else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let place = Arc::new(place);
        let connection = talk(
            (acceptor.clone(), router.clone(), graceful.watcher()),
            stream,
            place.clone(),
        );
        tokio::spawn(async move {
            tokio::select! {
                () = connection => (),
                () = place.lost() => tracing::debug!("a quiet connection made room for another one"),
                () = place.unused(BEGINNING) => tracing::debug!("a connection asked nothing"),
            }
        });
    }
    tracing::info!("told to stop: finishing what is under way");
    if timeout(farewell, graceful.shutdown()).await.is_err() {
        tracing::warn!("some connections were still busy");
    }
}

async fn next(listener: &TcpListener, places: &Arc<Places>) -> Option<(TcpStream, Place)> {
    let (stream, _) = listener.accept().await.ok()?;
    // Answers are small and awaited.
    stream.set_nodelay(true).ok()?;
    Some((stream, places.take().await))
}

/// Answers what is asked by one connection, until it ends.
async fn talk(
    (acceptor, router, watcher): (TlsAcceptor, Router, Watcher),
    stream: TcpStream,
    place: Arc<Place>,
) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = hyper::service::service_fn(move |question: Request<Incoming>| {
        bounded(router.clone(), place.clone(), question)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(QUIET)
        .max_buf_size(READ)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = %chain(&error), "a connection broke");
    }
}

async fn bounded(
    router: Router,
    place: Arc<Place>,
    question: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    place.moves(false);
    let Ok(answer) = timeout(ANSWER, router.call(question)).await else {
        let mut late = Response::new(Body::from("the question took too long to arrive\n"));
        *late.status_mut() = StatusCode::REQUEST_TIMEOUT;
        return Ok(late);
    };
    let is_answered = |answer: &Response<Body>| answer.status().is_success();
    place.moves(answer.as_ref().is_ok_and(is_answered));
    answer
}

fn acceptor(webhook: Arc<Webhook>) -> Result<TlsAcceptor, rustls::Error> {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Current(webhook)));
    Ok(TlsAcceptor::from(Arc::new(config)))
}

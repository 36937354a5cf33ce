//! The port of a receiver: accepts, reads requests, carries out faults, answers. The protocol judges.

use std::{convert::Infallible, future, net::SocketAddr, sync::Arc, time::Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::server::TlsStream;

use super::{Answered, Fault, Request, Shared, Verdict, lock, tls::ServerIdentity};

/// An open port.
#[derive(Debug)]
pub(super) struct Serving {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Serving {
    pub(super) async fn start(
        address: SocketAddr,
        tls: Option<ServerIdentity>,
        shared: Arc<Shared>,
    ) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("failed to listen on {address}"))?;
        let address = listener
            .local_addr()
            .context("failed to read the receiver's address")?;
        let accepting = tokio::spawn(accept(listener, tls, shared));
        Ok(Self { address, accepting })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and waits until it is closed.
    pub(super) async fn stop(mut self) {
        self.accepting.abort();
        // The only error is the one that was asked for.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<ServerIdentity>, shared: Arc<Shared>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // An error here is one of the sender's connection, which is gone.
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(stream, tls.clone(), Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<ServerIdentity>, shared: Arc<Shared>) {
    // Answers are small and must not wait for the sender's acknowledgement.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, shared).await,
        Some(identity) => {
            // A failed handshake is the sender's refusal.
            if let Ok(stream) = identity.acceptor().accept(stream).await {
                serve(stream, shared).await;
            }
        }
    }
}

/// A connection that can be cut off.
trait Cut: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn tcp(&self) -> &TcpStream;
}

impl Cut for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Cut for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

async fn serve<S: Cut>(stream: S, shared: Arc<Shared>) {
    let cut = Arc::new(Notify::new());
    let service = service_fn(|request| answer(request, Arc::clone(&shared), Arc::clone(&cut)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let reset = tokio::select! {
        // An error is the sender's to notice.
        _ = &mut connection => false,
        () = cut.notified() => true,
    };
    if reset {
        let stream = connection.into_parts().io.into_inner();
        // Closing a socket that does not linger sends RST instead of FIN.
        let _ = stream.tcp().set_zero_linger();
    }
}

async fn answer(
    request: http::Request<Incoming>,
    shared: Arc<Shared>,
    cut: Arc<Notify>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let fault = lock(&shared.script).next();
    if fault == Some(Fault::Reset) {
        cut.notify_one();
        return future::pending().await;
    }
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        // The sender went away in the middle of its request.
        return future::pending().await;
    };
    let body = body.to_bytes();
    let mut retry = None;
    let verdict = match &fault {
        Some(Fault::Stall) => return future::pending().await,
        Some(Fault::Answer {
            status,
            retry_after,
            body,
        }) => {
            retry = *retry_after;
            Verdict {
                status: *status,
                body: body.clone(),
                records: Vec::new(),
            }
        }
        Some(Fault::TakeThenReset | Fault::Late(_) | Fault::Reset) | None => {
            let request = Request {
                method: &head.method,
                uri: &head.uri,
                headers: &head.headers,
                body: &body,
            };
            let protocol = lock(&shared.protocol).clone();
            protocol.judge(&request)
        }
    };
    let answered = Answered {
        status: verdict.status,
        body: verdict.body.clone(),
        request_size: body.len(),
        taken: verdict.records.len(),
        at: Instant::now(),
    };
    let is_answered = fault != Some(Fault::TakeThenReset);
    shared.received.send_modify(|received| {
        received.records.extend(verdict.records);
        if is_answered {
            received.answered.push(answered);
        }
    });
    match fault {
        Some(Fault::TakeThenReset) => {
            cut.notify_one();
            future::pending().await
        }
        Some(Fault::Late(by)) => {
            tokio::time::sleep(by).await;
            Ok(response(verdict.status, verdict.body, retry))
        }
        _ => Ok(response(verdict.status, verdict.body, retry)),
    }
}

fn response(status: u16, body: String, retry_after: Option<u64>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; charset=UTF-8"),
    );
    if let Some(seconds) = retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

//! The port of a receiver: accepts, reads requests, carries out faults, answers. The protocol judges.

use std::{
    convert::Infallible,
    future,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use httpdate::fmt_http_date;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::server::TlsStream;

use super::{
    Answered, Fault, Request, RetryAfter, Shared, Verdict, behind, lock,
    pace::{Pace, Paced},
};
use crate::eventually::eventually;

/// How long a port may take to be free.
const OPENING: Duration = Duration::from_secs(10);

/// An open port.
#[derive(Debug)]
pub(super) struct Serving {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Serving {
    pub(super) async fn start(address: SocketAddr, shared: Arc<Shared>) -> Result<Self> {
        // Somebody's connection may use the port for a moment after it was closed.
        let listener = eventually(format!("{address} is free"), OPENING, async || {
            Ok(Some(TcpListener::bind(address).await?))
        })
        .await?;
        let address = listener
            .local_addr()
            .context("failed to read the receiver's address")?;
        let accepting = tokio::spawn(accept(listener, shared));
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

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // An error here is one of the sender's connection, which is gone.
                if let Ok((stream, _)) = accepted {
                    shared.received.send_modify(|received| received.connections += 1);
                    connections.spawn(connection(stream, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    if lock(&shared.script).leaves_connection_alone() {
        return future::pending().await;
    }
    // Answers are small and must not wait for the sender's acknowledgement.
    let _ = stream.set_nodelay(true);
    let identity = lock(&shared.tls).clone();
    match identity {
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

/// What the requests of a connection can do to it.
#[derive(Debug, Default)]
struct Hold {
    cut: Notify,
    pace: Pace,
}

async fn serve<S: Cut>(stream: S, shared: Arc<Shared>) {
    let hold = Arc::new(Hold::default());
    let stream = Paced::new(stream, hold.pace.clone());
    let service = service_fn(|request| answer(request, Arc::clone(&shared), Arc::clone(&hold)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let reset = tokio::select! {
        // An error is the sender's to notice.
        _ = &mut connection => false,
        () = hold.cut.notified() => true,
    };
    if reset {
        let stream = connection.into_parts().io.into_inner().into_inner();
        // Closing a socket that does not linger sends RST instead of FIN.
        let _ = stream.tcp().set_zero_linger();
    }
}

async fn answer(
    request: http::Request<Incoming>,
    shared: Arc<Shared>,
    hold: Arc<Hold>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    shared
        .received
        .send_modify(|received| received.requests += 1);
    let (head, body) = request.into_parts();
    let fault = lock(&shared.script).next(head.uri.path());
    hold.pace.set(match fault {
        Some(Fault::Slow(pause)) => Some(pause),
        _ => None,
    });
    let cut = async || {
        hold.cut.notify_one();
        future::pending().await
    };
    let limit = match fault {
        Some(Fault::HalfOpen) => return future::pending().await,
        Some(Fault::Reset) => return cut().await,
        Some(Fault::ResetDuring(after)) => after,
        _ => usize::MAX,
    };
    let Some(body) = collect(body, limit).await else {
        // The sender went away in the middle of its request.
        return future::pending().await;
    };
    let verdict = match &fault {
        Some(Fault::Stall) => return future::pending().await,
        Some(Fault::ResetDuring(_) | Fault::ResetAfter) => return cut().await,
        Some(Fault::Answer { status, body, .. }) => Verdict::refused(*status, body.clone()),
        _ => {
            let request = Request {
                method: &head.method,
                uri: &head.uri,
                headers: &head.headers,
                body: &body,
            };
            let judged = lock(&shared.protocol).judge(&request);
            match judged {
                Ok(verdict) => verdict,
                Err(server) => behind::ask(server, &head, body.clone()).await,
            }
        }
    };
    let answered = Answered {
        path: head.uri.path().to_owned(),
        status: verdict.status,
        body: String::from_utf8_lossy(&verdict.body).into_owned(),
        request_size: body.len(),
        taken: verdict.records.len(),
        at: Instant::now(),
    };
    let is_answered = fault != Some(Fault::TakeThenReset);
    shared.received.send_modify(|received| {
        received.take(verdict.records);
        received.warnings.extend(verdict.warnings);
        if is_answered {
            received.answered.push(answered);
        }
    });
    let retry_after = match fault {
        Some(Fault::TakeThenReset) => return cut().await,
        Some(Fault::Late(by)) => {
            tokio::time::sleep(by).await;
            None
        }
        Some(Fault::Answer { retry_after, .. }) => retry_after,
        _ => None,
    };
    let mut response = response(
        verdict.status,
        verdict.content_type,
        verdict.body,
        retry_after,
    );
    response.headers_mut().extend(verdict.headers);
    Ok(response)
}

/// The body, or as much of it as came first when that is `limit` bytes or more; nothing when the sender went away.
async fn collect(mut body: Incoming, limit: usize) -> Option<Bytes> {
    let mut whole = BytesMut::new();
    while whole.len() < limit
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame.ok()?.into_data() {
            whole.extend_from_slice(&data);
        }
    }
    Some(whole.freeze())
}

fn response(
    status: u16,
    content_type: HeaderValue,
    body: Bytes,
    retry_after: Option<RetryAfter>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::IM_A_TEAPOT);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    let retry_after = match retry_after {
        Some(RetryAfter::Seconds(seconds)) => Some(HeaderValue::from(seconds)),
        Some(RetryAfter::At(time)) => HeaderValue::try_from(fmt_http_date(time)).ok(),
        None => None,
    };
    if let Some(value) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

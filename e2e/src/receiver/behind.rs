//! The server behind a receiver: asks it what it says of a request. Changes nothing of either.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, Request, header, request::Parts};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Verdict;

/// What the server answers, or 502 where it does not.
pub(super) async fn ask(server: SocketAddr, head: &Parts, body: Bytes) -> Verdict {
    forward(server, head, body)
        .await
        .unwrap_or_else(|error| Verdict::refused(502, format!("{error:#}")))
}

async fn forward(server: SocketAddr, head: &Parts, body: Bytes) -> Result<Verdict> {
    let mut request = Request::new(Full::<Bytes>::new(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = end_to_end(&head.headers);
    let stream = TcpStream::connect(server)
        .await
        .context("failed to connect to the server behind")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .context("failed to speak to the server behind")?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, hyper::Error>((head, body))
    };
    // The connection ends with the exchange, which is the only one.
    let (head, body) = tokio::select! {
        exchanged = exchange => exchanged,
        ended = connection => return ended
            .context("the server behind failed")
            .and_then(|()| anyhow::bail!("the server behind closed the connection")),
    }
    .context("failed to ask the server behind")?;
    let mut verdict = Verdict::refused(head.status.as_u16(), String::new());
    verdict.body = body;
    if let Some(content_type) = head.headers.get(header::CONTENT_TYPE) {
        verdict.content_type = content_type.clone();
    }
    Ok(verdict)
}

/// Headers that are not about one connection only (RFC 9110 §7.6.1); the body comes whole, so its length is new.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::UPGRADE,
        header::TE,
    ] {
        headers.remove(name);
    }
    headers
}

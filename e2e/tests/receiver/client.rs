//! A client that sends exactly what a test says.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use katonic_logging_e2e::receiver::{Authority, ClientIdentity, Receiver};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long anything may take.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Any free port.
pub fn anywhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

pub fn gzip(text: &str) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes())?;
    Ok(encoder.finish()?)
}

pub fn zstd(text: &str) -> Vec<u8> {
    compress_to_vec(text.as_bytes(), CompressionLevel::Fastest)
}

/// One request over a new connection: status, `Retry-After` and body of the answer.
pub async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(u16, Option<String>, String)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get(header::RETRY_AFTER);
    let retry_after = retry_after
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let body = response.into_body().collect().await?.to_bytes();
    drop(sender);
    connection.abort();
    Ok((status, retry_after, String::from_utf8(body.to_vec())?))
}

/// A request with these headers.
pub fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Request<Full<Bytes>>> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "receiver");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ok(request.body(Full::from(body.to_vec()))?)
}

/// One request over a new connection.
pub async fn send(receiver: &Receiver, request: Request<Full<Bytes>>) -> Result<(u16, String)> {
    let stream = TcpStream::connect(receiver.address()).await?;
    let (status, _, body) = exchange(stream, request).await?;
    Ok((status, body))
}

/// A TLS connection of a client that trusts this authority.
pub async fn handshake(
    server: SocketAddr,
    authority: &Authority,
    client: Option<&ClientIdentity>,
) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(
        authority.certificate_pem().as_bytes(),
    )?)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match client {
        None => config.with_no_client_auth(),
        Some(identity) => config.with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(
                identity.certificate_pem.as_bytes(),
            )?],
            PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())?,
        )?,
    };
    let stream = TcpStream::connect(server).await?;
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector
        .connect(ServerName::from(server.ip()), stream)
        .await?)
}

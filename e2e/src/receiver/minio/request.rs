//! Requests to MinIO, each on a connection of its own. Repeats none.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Method, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use katonic_log_agent::{
    credential::Secret,
    signature::{Date, Signer, Unsigned, encode},
};
use katonic_log_config::bundle::hex_digest;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::User;
use crate::receiver::Authority;

/// How MinIO is reached.
pub(super) struct Connector {
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Connector")
            .field("is_secure", &self.is_secure())
            .finish()
    }
}

/// A request before it is signed.
pub(super) struct Request<'a> {
    pub(super) user: &'a User,
    pub(super) method: &'a Method,
    /// Not encoded.
    pub(super) path: &'a str,
    /// Encoded and sorted.
    pub(super) query: &'a str,
    pub(super) body: Bytes,
    /// Beside those that every request has; names in lower case.
    pub(super) headers: &'a [(&'static str, &'a str)],
    /// When it says that it is sent.
    pub(super) time: SystemTime,
}

/// What MinIO answers.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
    /// What time it is for MinIO, as its header says.
    pub date: Option<String>,
}

impl Connector {
    pub(super) fn new(authority: Option<&Authority>) -> Result<Self> {
        let Some(authority) = authority else {
            return Ok(Self { tls: None });
        };
        let pem = authority.certificate_pem();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            tls: Some(TlsConnector::from(Arc::new(config))),
        })
    }

    pub(super) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    pub(super) async fn send(&self, address: SocketAddr, request: Request<'_>) -> Result<Answer> {
        self.exchange(address, sign(address, request)?).await
    }

    /// A form that nobody has signed.
    pub(super) async fn post(&self, address: SocketAddr, form: String) -> Result<Answer> {
        let request = http::Request::post("/")
            .header(header::HOST, address.to_string())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::new(form.into()))
            .context("failed to build a request")?;
        self.exchange(address, request).await
    }

    async fn exchange(
        &self,
        address: SocketAddr,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Answer> {
        let stream = TcpStream::connect(address)
            .await
            .context("failed to connect to MinIO")?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some(tls) => {
                let name = ServerName::from(address.ip());
                exchange(tls.connect(name, stream).await?, request).await
            }
        }
    }
}

fn sign(address: SocketAddr, request: Request<'_>) -> Result<http::Request<Full<Bytes>>> {
    let Request {
        user,
        method,
        path,
        query,
        body,
        headers: further,
        time,
    } = request;
    let path = encode(path);
    let payload = hex_digest(&body);
    let date = Date::from(time);
    let mut headers = BTreeMap::from([
        ("host", address.to_string()),
        ("x-amz-content-sha256", payload.clone()),
        ("x-amz-date", date.as_str().to_owned()),
    ]);
    if !body.is_empty() {
        // Without it, lifecycle rules are refused.
        let checksum = BASE64_STANDARD.encode(Sha256::digest(&body));
        headers.insert("x-amz-checksum-sha256", checksum);
    }
    let further = further.iter();
    headers.extend(further.map(|(name, value)| (*name, (*value).to_owned())));
    let signer = Signer {
        access_key_id: &user.id,
        secret_access_key: &Secret::from(user.secret.as_bytes().to_vec()),
        region: "us-east-1",
        service: "s3",
    };
    let authorization = signer.authorization(
        &Unsigned {
            method,
            path: &path,
            query,
            headers: &headers,
            payload: &payload,
        },
        &date,
    );
    let mut built = http::Request::builder()
        .method(method)
        .uri(format!("{path}?{query}"))
        .header(header::AUTHORIZATION, authorization);
    for (name, value) in headers {
        built = built.header(name, value);
    }
    built
        .body(Full::new(body))
        .context("failed to build a request")
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: http::Request<Full<Bytes>>,
) -> Result<Answer> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let response: http::Response<Incoming> = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let date = response.headers().get(header::DATE);
    let date = date.and_then(|date| Some(date.to_str().ok()?.to_owned()));
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Answer { status, body, date })
}

/// The value of a parameter.
pub(super) fn encode_value(value: &str) -> String {
    encode(value).replace('/', "%2F")
}

/// The texts of all elements of this name; none that MinIO sends is nested in one of its own name.
pub(super) fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open)
        .skip(1)
        .filter_map(|rest| rest.split_once(&close))
        .map(|(text, _)| {
            let entities = [
                ("&lt;", "<"),
                ("&gt;", ">"),
                ("&#34;", "\""),
                ("&#39;", "'"),
                ("&amp;", "&"),
            ];
            entities
                .iter()
                .fold(text.to_owned(), |text, (entity, character)| {
                    text.replace(entity, character)
                })
        })
        .collect()
}

//! Somebody who reports, as an agent does or worse.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use http::{Request, header};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use katonic_log_config::{
    Reporting,
    report::{PATH, Reply},
};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Reports to whoever has a certificate as the bundle says.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "a connector has none")]
pub struct Reporter {
    connector: TlsConnector,
    name: ServerName<'static>,
    address: SocketAddr,
}

/// What was said to a report.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// By name, in small letters.
    pub headers: BTreeMap<String, String>,
    /// What else was said.
    pub body: String,
}

impl Answer {
    /// It was refused with this status, and with words that say why.
    ///
    /// # Panics
    /// If it was not.
    pub fn is_refused(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.body.contains(words), "{words}: {self:?}");
    }

    /// In how many seconds the next one is wanted.
    ///
    /// # Errors
    /// When it was not taken.
    pub fn reply(&self) -> Result<u64> {
        ensure!(self.status == 200, "a report was refused: {self:?}");
        let reply: Reply = serde_json::from_str(&self.body)?;
        Ok(reply.interval.into())
    }

    /// The same where it must have been taken.
    ///
    /// # Panics
    /// If it was not.
    pub fn interval(&self) -> u64 {
        let reply = self.reply();
        assert!(reply.is_ok(), "{reply:?}");
        reply.unwrap_or_default()
    }
}

impl Reporter {
    /// As agents are told it, but for the address: that of a Service leads nowhere on a machine without nodes.
    ///
    /// # Errors
    /// When what agents are told cannot be used.
    pub fn new(reporting: &Reporting, address: SocketAddr) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for authority in
            CertificateDer::pem_slice_iter(reporting.certificate_authorities.as_bytes())
        {
            roots.add(authority?)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A session that is resumed shows the certificate of its beginning.
        config.resumption = Resumption::disabled();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            name: ServerName::try_from(reporting.server_name.clone())?,
            address,
        })
    }

    /// A connection to the operator.
    ///
    /// # Errors
    /// When it cannot be reached, or is somebody else.
    pub async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let connected = self.connector.connect(self.name.clone(), stream).await;
        connected.context("failed to greet the operator")
    }

    /// Sends this over a connection of its own.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, token: Option<&str>, body: &[u8]) -> Result<Answer> {
        let mut stream = self.connect().await?;
        let authorization = token.map_or_else(String::new, |token| {
            format!("authorization: Bearer {token}\r\n")
        });
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n{authorization}content-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        // An answer may come before all of it has been read.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer).await
            && answer.is_empty()
        {
            return Err(error).context("no answer");
        }
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("half an answer")?;
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.filter_map(|line| line.split_once(": "));
        Ok(Answer {
            status: status.context("no status")?.parse()?,
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        })
    }

    /// The least that a report can be.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn report(&self, token: &str) -> Result<Answer> {
        self.send(Some(token), b"{}").await
    }

    /// A connection that stays.
    ///
    /// # Errors
    /// As of [`Self::connect`].
    pub async fn session(&self) -> Result<Session> {
        let stream = TokioIo::new(self.connect().await?);
        let (sender, connection) = handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Session { sender })
    }
}

/// A connection for many reports.
#[derive(Debug)]
pub struct Session {
    sender: SendRequest<String>,
}

impl Session {
    /// The status that a report is answered with.
    ///
    /// # Errors
    /// When the connection has ended.
    pub async fn report(&mut self, token: &str) -> Result<u16> {
        let request = Request::post(PATH)
            .header(header::HOST, "operator")
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .body("{}".to_owned())?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status().as_u16();
        http_body_util::BodyExt::collect(response.into_body()).await?;
        Ok(status)
    }
}

//! A server that takes what a sink takes and refuses what a sink refuses, as the test tells it.

use std::{
    io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring};
use rustls_pki_types::PrivateKeyDer;
use serde_json::Value;

use crate::witness::Witness;

/// A request, read and decoded.
#[derive(Debug)]
pub struct Request {
    /// Its place among all requests of this server, from 0.
    pub number: usize,
    /// When it began to come.
    pub begun: Instant,
    /// First line.
    pub line: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Size of the body after decompression.
    pub size: usize,
    /// The body after decompression.
    pub body: Vec<u8>,
    /// The records in it, if it is JSON objects one after the other.
    pub records: Vec<Value>,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map_or("", |(_, value)| value)
    }
}

/// What a server does with a request.
#[derive(Debug)]
pub enum Reply {
    /// Accepts its records.
    Accept,
    /// Accepts these records with this status and body.
    AcceptAs(u16, Vec<u8>, Vec<Value>),
    /// Answers with this status, headers and body, and accepts nothing.
    Refuse(u16, &'static str, String),
    /// Reads no further and never answers.
    Stall,
    /// Answers so slowly that nobody can wait for it.
    Trickle,
}

/// A running server; it stops with the test.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Starts a server on a free port.
    pub fn start(
        witness: &Witness,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::start_on("127.0.0.1:0", witness, reply)
    }

    /// Starts a server on a given address.
    pub fn start_on(
        address: &str,
        witness: &Witness,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::listen(address, None, witness, reply)
    }

    /// Starts a server with a certificate of its own; gives that too, as PEM.
    pub fn start_tls(
        witness: &Witness,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Result<(Self, String)> {
        Self::start_tls_as("127.0.0.1", witness, reply)
    }

    /// The same with a certificate for this name alone.
    pub fn start_tls_as(
        name: &str,
        witness: &Witness,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Result<(Self, String)> {
        let (config, certificate) = certified(name)?;
        let server = Self::listen("127.0.0.1:0", Some(config), witness, reply)?;
        Ok((server, certificate))
    }

    fn listen(
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        witness: &Witness,
        reply: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = bind(address)?;
        let server = Self {
            address: listener.local_addr()?,
            scheme: if tls.is_some() { "https" } else { "http" },
            stop: Arc::default(),
            connections: Arc::default(),
        };
        let (stop, connections) = (Arc::clone(&server.stop), Arc::clone(&server.connections));
        let (witness, reply) = (witness.clone(), Arc::new(reply));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                connections.fetch_add(1, Ordering::SeqCst);
                let (witness, reply, stop) =
                    (witness.clone(), Arc::clone(&reply), Arc::clone(&stop));
                let tls = tls.clone();
                thread::spawn(move || {
                    stream.set_read_timeout(Some(Duration::from_mins(2)))?;
                    match tls {
                        None => serve(stream, &witness, &*reply, &stop),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).map_err(Error::other)?;
                            serve(
                                StreamOwned::new(connection, stream),
                                &witness,
                                &*reply,
                                &stop,
                            )
                        }
                    }
                });
            }
        });
        Ok(server)
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, which then closes its port.
        let _ = TcpStream::connect(self.address);
    }
}

/// Listens on an address that a server has just left, or that somebody's connection uses for a moment.
pub fn bind(address: &str) -> Result<TcpListener> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
}

/// A free port on which nothing listens.
pub fn closed_port() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn serve(
    stream: impl Read + Write,
    witness: &Witness,
    reply: &dyn Fn(&Request) -> Reply,
    stop: &AtomicBool,
) -> Result<()> {
    let mut input = BufReader::new(stream);
    while let Some(mut request) = read_request(&mut input)? {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        witness.add(|seen| {
            request.number = seen.requests;
            seen.requests += 1;
        });
        let (status, headers, body) = match reply(&request) {
            Reply::Accept => {
                witness.add(|seen| seen.records.append(&mut request.records));
                (200, "", br#"{"text":"Success","code":0}"#.to_vec())
            }
            Reply::AcceptAs(status, body, mut records) => {
                witness.add(|seen| seen.records.append(&mut records));
                (status, "", body)
            }
            Reply::Refuse(status, headers, body) => (status, headers, body.into_bytes()),
            Reply::Stall => {
                // Until the agent gives up.
                let _ = input.read_to_end(&mut Vec::new());
                break;
            }
            Reply::Trickle => {
                for byte in b"HTTP/1.1 200 -\r\nContent-Length: 0\r\n\r\n" {
                    input.get_mut().write_all(&[*byte])?;
                    input.get_mut().flush()?;
                    thread::park_timeout(Duration::from_secs(1));
                }
                break;
            }
        };
        let answer = format!(
            "HTTP/1.1 {status} -\r\nContent-Length: {}\r\nContent-Type: application/json\r\n{headers}\r\n",
            body.len()
        );
        input
            .get_mut()
            .write_all(&[answer.as_bytes(), &body].concat())?;
        input.get_mut().flush()?;
    }
    Ok(())
}

fn read_request(input: &mut impl BufRead) -> Result<Option<Request>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let begun = Instant::now();
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        input.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request {
        number: 0,
        begun,
        line: line.trim_end().to_owned(),
        headers,
        size: 0,
        body: Vec::new(),
        records: Vec::new(),
    };
    let length = request
        .header("content-length")
        .parse()
        .map_err(Error::other)?;
    let mut packed = vec![0; length];
    input.read_exact(&mut packed)?;
    let mut body = Vec::new();
    match request.header("content-encoding") {
        "gzip" => drop(GzDecoder::new(&packed[..]).read_to_end(&mut body)?),
        "zstd" => body = zstd::stream::decode_all(&packed[..])?,
        _ => body = packed,
    }
    request.size = body.len();
    let records: serde_json::Result<_> = serde_json::Deserializer::from_slice(&body)
        .into_iter()
        .collect();
    request.records = records.unwrap_or_default();
    request.body = body;
    Ok(Some(request))
}

/// The server's side of TLS with a certificate of its own for a name or address; gives that too, as PEM.
pub fn certified(name: &str) -> Result<(Arc<ServerConfig>, String)> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).map_err(Error::other)?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], key)
        })
        .map_err(Error::other)?;
    Ok((Arc::new(config), made.cert.pem()))
}

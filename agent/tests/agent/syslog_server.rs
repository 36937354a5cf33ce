//! A syslog server: takes RFC 5424 by UDP, TCP and TLS, exactly or not at all, and breaks when the test says so.

use std::{
    collections::BTreeMap,
    io::{Error, Read, Result},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Map, Value};

use crate::{
    rfc5424::{Message, frames, parse},
    server::bind,
    witness::Witness,
};

/// What a server does with a connection.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Reads it to its end.
    Read,
    /// Reads so many messages and breaks it off, whatever was sent after them.
    Reset(usize),
    /// Accepts it and never reads.
    Stall,
}

type Open = Arc<Mutex<BTreeMap<usize, TcpStream>>>;

/// A running server; it stops with the test.
#[derive(Debug)]
pub struct SyslogServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    /// Those that are open, by number.
    open: Open,
    /// How many were ended by `close_notify` and not just by closing them.
    said_goodbye: Arc<AtomicUsize>,
}

impl SyslogServer {
    /// Starts a TCP server; the manner is that of the connection of this number, from 0.
    pub fn tcp(
        address: &str,
        witness: &Witness,
        manner: impl Fn(usize) -> Manner + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::listen(address, None, witness, manner)
    }

    /// Starts a TLS server.
    pub fn tls(config: Arc<ServerConfig>, witness: &Witness) -> Result<Self> {
        Self::listen("127.0.0.1:0", Some(config), witness, |_| Manner::Read)
    }

    /// Starts a UDP server.
    pub fn udp(address: &str, witness: &Witness) -> Result<Self> {
        let socket = UdpSocket::bind(address)?;
        // Room for what comes while this process is not running; only root gets more than the system's limit.
        let room = 8 << 20;
        if setsockopt(&socket, sockopt::RcvBufForce, &room).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &room)?;
        }
        let server = Self::at(socket.local_addr()?);
        let (witness, stop) = (witness.clone(), Arc::clone(&server.stop));
        // What is not read at once is lost.
        let (read, unread) = channel::<Vec<u8>>();
        thread::spawn(move || -> Result<()> {
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            let mut buffer = vec![0; 1 << 16];
            while !stop.load(Ordering::SeqCst) {
                if let Ok(length) = socket.recv(&mut buffer) {
                    read.send(buffer[..length].to_vec()).map_err(Error::other)?;
                }
            }
            Ok(())
        });
        thread::spawn(move || {
            unread
                .iter()
                .try_for_each(|message| take(&witness, &message))
        });
        Ok(server)
    }

    fn at(address: SocketAddr) -> Self {
        Self {
            address,
            stop: Arc::default(),
            connections: Arc::default(),
            open: Arc::default(),
            said_goodbye: Arc::default(),
        }
    }

    fn listen(
        address: &str,
        tls: Option<Arc<ServerConfig>>,
        witness: &Witness,
        manner: impl Fn(usize) -> Manner + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = bind(address)?;
        let server = Self::at(listener.local_addr()?);
        let (stop, open) = (Arc::clone(&server.stop), Arc::clone(&server.open));
        let (connections, said_goodbye) = (
            Arc::clone(&server.connections),
            Arc::clone(&server.said_goodbye),
        );
        let (witness, manner) = (witness.clone(), Arc::new(manner));
        thread::spawn(move || -> Result<()> {
            for stream in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let manner = manner(number);
                lock(&open)?.insert(number, stream.try_clone()?);
                let (witness, tls) = (witness.clone(), tls.clone());
                let (said_goodbye, open) = (Arc::clone(&said_goodbye), Arc::clone(&open));
                thread::spawn(move || -> Result<()> {
                    let outcome = match tls {
                        None => serve(stream.try_clone()?, &stream, &witness, manner),
                        Some(config) => {
                            let connection = ServerConnection::new(config).map_err(Error::other)?;
                            let secured = StreamOwned::new(connection, stream.try_clone()?);
                            let outcome = serve(secured, &stream, &witness, manner);
                            said_goodbye.fetch_add(usize::from(outcome.is_ok()), Ordering::SeqCst);
                            outcome
                        }
                    };
                    // Closed with its last handle.
                    lock(&open)?.remove(&number);
                    outcome
                });
            }
            Ok(())
        });
        Ok(server)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many connections were ended as TLS asks.
    pub fn said_goodbye(&self) -> usize {
        self.said_goodbye.load(Ordering::SeqCst)
    }

    /// Closes all connections as a server does that ends.
    pub fn hang_up(&self) {
        for stream in lock(&self.open).iter().flat_map(|open| open.values()) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for SyslogServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.hang_up();
        // Wakes the listener, which then closes its port.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock(open: &Open) -> Result<MutexGuard<'_, BTreeMap<usize, TcpStream>>> {
    open.lock().map_err(|_| Error::other("poisoned"))
}

/// Reads until the other side ends it as it should; an error otherwise.
fn serve(
    mut input: impl Read,
    stream: &TcpStream,
    witness: &Witness,
    manner: Manner,
) -> Result<()> {
    let left = match manner {
        Manner::Read => usize::MAX,
        Manner::Reset(messages) => messages,
        Manner::Stall => {
            // Until the test ends.
            thread::park();
            return Ok(());
        }
    };
    let mut left = left;
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 16 << 10];
    loop {
        let length = input.read(&mut chunk)?;
        if length == 0 {
            return if buffer.is_empty() {
                Ok(())
            } else {
                Err(Error::other("half a message"))
            };
        }
        buffer.extend_from_slice(&chunk[..length]);
        let (messages, rest) = frames(&buffer).map_err(Error::other)?;
        let rest = rest.to_vec();
        for message in messages {
            if left == 0 {
                let at_once = libc::linger {
                    l_onoff: 1,
                    l_linger: 0,
                };
                setsockopt(stream, sockopt::Linger, &at_once)?;
                // Both handles are closed when this returns, and the kernel resets.
                return Err(Error::other("reset"));
            }
            left -= 1;
            take(witness, message)?;
        }
        buffer = rest;
    }
}

/// What the server cannot read is told as it came, and is no record.
fn take(witness: &Witness, message: &[u8]) -> Result<()> {
    let message = match parse(message) {
        Ok(message) => message,
        Err(fault) => {
            let text = String::from_utf8_lossy(message).into_owned();
            let fault = format!("not RFC 5424: {fault}: {text}");
            witness.add(|seen| seen.said.push(fault.clone().into()));
            return Err(Error::other(fault));
        }
    };
    witness.add(|seen| seen.records.push(record(&message)));
    Ok(())
}

fn record(message: &Message) -> Value {
    let mut record = Map::new();
    for (name, value) in message.data.iter().flat_map(|(_, parameters)| parameters) {
        record.insert(name.clone(), value.clone().into());
    }
    record.insert("priority".into(), message.priority.into());
    record.insert("time".into(), message.time.clone().into());
    record.insert("host".into(), message.host_name.clone().into());
    record.insert("app".into(), message.app_name.clone().into());
    record.insert("message".into(), message.text.clone().into());
    Value::Object(record)
}

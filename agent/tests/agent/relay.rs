//! Stands between an agent and a server and does to each connection what networks do.

use std::{
    io::{Error, Read, Result, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};

/// What becomes of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// It works.
    Works,
    /// It is reset when the client has sent so many bytes; the server gets none of them.
    ResetAfter(usize),
    /// The server gets the request, and the connection is closed instead of the answer.
    LosesAnswer,
    /// It is open and carries nothing.
    HalfOpen,
    /// The answer comes byte by byte, so long apart.
    Drips(Duration),
    /// A body of more bytes than this is refused (413) and not read, and the connection closed, so that it is reset.
    RefusesUnread(usize),
}

/// A running relay; it stops with the test.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Relay {
    /// Starts a relay to a server; the fate is that of the connection of this number, from 0.
    pub fn start(
        server: SocketAddr,
        fate: impl Fn(usize) -> Fate + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let relay = Self {
            address: listener.local_addr()?,
            stop: Arc::default(),
        };
        let stop = Arc::clone(&relay.stop);
        thread::spawn(move || {
            for (number, client) in listener.incoming().map_while(Result::ok).enumerate() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let fate = fate(number);
                thread::spawn(move || carry(client, server, fate));
            }
        });
        Ok(relay)
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener, which then closes its port.
        let _ = TcpStream::connect(self.address);
    }
}

fn carry(mut client: TcpStream, server: SocketAddr, fate: Fate) -> Result<()> {
    match fate {
        Fate::HalfOpen => {
            // Until the client gives up.
            let mut ignored = Vec::new();
            client.read_to_end(&mut ignored).map(drop)
        }
        Fate::ResetAfter(bytes) => {
            let mut ignored = vec![0; bytes];
            client.read_exact(&mut ignored)?;
            reset(&client)
        }
        Fate::RefusesUnread(limit) => {
            let (head, length) = read_head(&mut client)?;
            if length > limit {
                let answer =
                    b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                return client.write_all(answer);
            }
            let mut server = TcpStream::connect(server)?;
            server.write_all(&head)?;
            std::io::copy(&mut client.try_clone()?.take(length as u64), &mut server)?;
            server.shutdown(Shutdown::Write)?;
            std::io::copy(&mut server, &mut client)?;
            client.shutdown(Shutdown::Both)
        }
        Fate::Works => {
            let mut server = TcpStream::connect(server)?;
            let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
            thread::spawn(move || {
                // Broken off by either side, which is its end.
                let _ = std::io::copy(&mut from_server, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
            std::io::copy(&mut client, &mut server)?;
            server.shutdown(Shutdown::Both)
        }
        Fate::LosesAnswer | Fate::Drips(_) => {
            let mut server = TcpStream::connect(server)?;
            let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
            thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            let mut byte = [0];
            while server.read(&mut byte)? == 1 {
                let Fate::Drips(pause) = fate else {
                    // The thread above holds a handle too, so that dropping this one would close nothing.
                    return client.shutdown(Shutdown::Both);
                };
                client.write_all(&byte)?;
                thread::park_timeout(pause);
            }
            Err(Error::other("the server has hung up"))
        }
    }
}

/// Everything before a body, byte by byte so that nothing of the body is read, and the body's length.
fn read_head(client: &mut TcpStream) -> Result<(Vec<u8>, usize)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let text = String::from_utf8_lossy(&head).to_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    Ok((head, length.unwrap_or_default()))
}

/// Closes without the usual farewell when the last handle is dropped.
fn reset(stream: &TcpStream) -> Result<()> {
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    Ok(setsockopt(stream, sockopt::Linger, &at_once)?)
}

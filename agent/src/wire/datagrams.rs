//! One message a datagram.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{UdpSocket, lookup_host},
    time::{Instant, sleep, timeout},
};

use super::Broken;
use crate::dial::DialError;

/// After so many datagrams the server has a moment to read them: a usual receive buffer holds four times as many, and
/// nobody tells us when it is full.
const BURST: usize = 64;
const MOMENT: Duration = Duration::from_millis(1);

/// The server's name may mean another address by then, and nothing says that the old one is dead.
const RESOLVED: Duration = Duration::from_mins(1);

/// A socket that talks to one server.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    opened: Instant,
}

impl Datagrams {
    pub(super) async fn open(host: &str, port: u16) -> Result<Self, DialError> {
        let mut failure = io::Error::from(io::ErrorKind::NotFound);
        let found = lookup_host((host, port))
            .await
            .map_err(DialError::Connect)?;
        for address in found {
            match connect(address).await {
                Ok(socket) => {
                    return Ok(Self {
                        socket,
                        opened: Instant::now(),
                    });
                }
                Err(error) => failure = error,
            }
        }
        Err(DialError::Connect(failure))
    }

    /// Whether the server's name should be looked up again.
    pub fn is_old(&self) -> bool {
        self.opened.elapsed() >= RESOLVED
    }

    pub(super) async fn send(&mut self, messages: &[u8]) -> Result<(), Broken> {
        for (number, message) in (1..).zip(split(messages)) {
            match self.socket.send(message).await {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    return Err(Broken::MessageTooLong);
                }
                Err(error) => return Err(error.into()),
            }
            if number % BURST == 0 {
                sleep(MOMENT).await;
            }
        }
        Ok(())
    }

    /// An ICMP message that nobody listens is the next thing that is "received".
    pub(super) async fn broken(&mut self) -> Broken {
        let mut ignored = [0; 16];
        loop {
            if let Err(error) = self.socket.recv(&mut ignored).await {
                return error.into();
            }
        }
    }

    /// Waits whether anything is refused.
    pub(super) async fn quiet(&mut self, patience: Duration) -> Result<(), Broken> {
        match timeout(patience, self.broken()).await {
            Ok(broken) => Err(broken),
            Err(_) => Ok(()),
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// The messages of a body without the length in front of each.
fn split(mut messages: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let blank = messages.iter().position(|byte| *byte == b' ')?;
        let length: usize = str::from_utf8(&messages[..blank]).ok()?.parse().ok()?;
        let (message, rest) = messages[blank + 1..].split_at_checked(length)?;
        messages = rest;
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_split_at_its_lengths() {
        let found: Vec<&[u8]> = split(b"3 <1>9 <2> 3 x \n1 y").collect();
        assert_eq!(found, [&b"<1>"[..], b"<2> 3 x \n", b"y"]);
        assert_eq!(split(b"").count(), 0);
    }
}

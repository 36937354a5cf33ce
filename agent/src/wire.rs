//! The way to a syslog server, and how far what went there has come. Makes no messages and decides nothing.
//!
//! Syslog has no acknowledgement. What can be known instead is known here: by TCP, how many bytes the other side's TCP
//! has; that a connection which is closed by both sides after the last byte was read to its end; and that nothing
//! refuses datagrams.

mod datagrams;
mod stream;

use std::{io, time::Duration};

use tokio::time::Instant;

use crate::{
    dial::{self, DialError, Security},
    sink::syslog::{Carrier, Receiver},
};
use datagrams::Datagrams;
use stream::Connection;

/// How long a server may have lost what its TCP took: it is sent again when the connection breaks within this time.
const SETTLED: Duration = Duration::from_secs(5);

/// How soon a refusal of a datagram is told (ICMP), if at all.
const REFUSED: Duration = Duration::from_secs(1);

/// The same at the end of the pod, which nothing should hold up.
const REFUSED_AT_END: Duration = Duration::from_millis(200);

/// How long a server may take to close what we have closed, before what its TCP has is enough.
const CLOSE: Duration = Duration::from_secs(2);

/// What was written within this time is confirmed together, so that a fast sender has little to remember.
const JOINED: Duration = Duration::from_millis(250);

/// Where in a connection something ends, and since when.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    end: u64,
    /// When the first of what it stands for was written, and the last.
    begun: Instant,
    written: Instant,
}

impl Mark {
    /// Whether a later mark is so near that this one can stand for both; then it does.
    pub fn joins(&mut self, later: &Self) -> bool {
        let near = later.written.duration_since(self.begun) < JOINED;
        if near {
            self.end = later.end;
            self.written = later.written;
        }
        near
    }
}

/// Why a connection is of no use any more.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The server has closed it.
    #[error("the server closed the connection")]
    Closed,
    /// It broke, or was refused.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The server reads nothing.
    #[error("the server took nothing for {} s", stream::STALL.as_secs())]
    Stalled,
    /// Closing it showed nothing.
    #[error("the server did not confirm the end of the connection")]
    Unconfirmed,
    /// The network has no room for it.
    #[error("a message of this size cannot be sent in a datagram here: lower maxMessageBytes")]
    MessageTooLong,
}

/// The way to a server.
#[derive(Debug)]
pub enum Wire {
    /// TCP, encrypted or not.
    Stream(Connection),
    /// UDP.
    Datagrams(Datagrams),
}

impl Wire {
    /// Makes the way.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open(receiver: &Receiver) -> Result<Self, DialError> {
        let Receiver {
            host,
            port,
            carrier,
        } = receiver;
        let security = match carrier {
            Carrier::Udp => {
                let opened = dial::in_time(Datagrams::open(host, *port)).await?;
                return Ok(Self::Datagrams(opened));
            }
            Carrier::Tcp => None,
            Carrier::Tls(trust) => Some(Security::new(trust, host)?),
        };
        let opening = Connection::open(host, *port, security.as_ref());
        Ok(Self::Stream(dial::in_time(opening).await?))
    }

    /// Sends messages, each behind its length, and says where they end.
    ///
    /// # Errors
    /// When they cannot be sent, or what was sent before has not arrived.
    pub async fn send(&mut self, messages: &[u8]) -> Result<Mark, Broken> {
        let end = match self {
            Self::Stream(connection) => connection.send(messages).await?,
            Self::Datagrams(datagrams) => {
                datagrams.send(messages).await?;
                0
            }
        };
        let written = Instant::now();
        Ok(Mark {
            end,
            begun: written,
            written,
        })
    }

    /// Waits until it breaks, for ever if it does not.
    pub async fn broken(&mut self) -> Broken {
        match self {
            Self::Stream(connection) => connection.broken().await,
            Self::Datagrams(datagrams) => datagrams.broken().await,
        }
    }

    /// Whether it should be made anew before it is used again.
    pub fn is_old(&self) -> bool {
        match self {
            Self::Stream(_) => false,
            Self::Datagrams(datagrams) => datagrams.is_old(),
        }
    }

    /// How far everything has come.
    pub fn progress(&self) -> Progress {
        Progress {
            received: match self {
                Self::Stream(connection) => connection.received(),
                Self::Datagrams(_) => Some(0),
            },
            settled: self.settled(),
        }
    }

    /// Before that it is not worth asking how far this has come.
    pub fn due(&self, mark: &Mark) -> Instant {
        mark.written + self.settled()
    }

    fn settled(&self) -> Duration {
        match self {
            Self::Stream(_) => SETTLED,
            Self::Datagrams(_) => REFUSED,
        }
    }

    /// Ends it, and makes sure that everything has arrived.
    ///
    /// # Errors
    /// When that is not known.
    pub async fn close(self) -> Result<(), Broken> {
        match self {
            Self::Stream(connection) => connection.close(CLOSE).await,
            Self::Datagrams(mut datagrams) => datagrams.quiet(REFUSED_AT_END).await,
        }
    }
}

/// How far what was sent has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Bytes that the server's TCP has; none where the system does not say.
    received: Option<u64>,
    settled: Duration,
}

impl Progress {
    /// Whether what ends here needs not be sent again.
    pub fn settles(&self, mark: &Mark) -> bool {
        let age = mark.written.elapsed();
        match self.received {
            Some(received) => received >= mark.end && age >= self.settled,
            // By then TCP would have given up.
            None => age >= 2 * stream::STALL,
        }
    }
}

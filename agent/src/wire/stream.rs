//! Messages over TCP, encrypted or not, in one connection that lasts.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf, split},
    net::TcpStream,
    select,
    time::timeout,
};

use super::Broken;
use crate::dial::{self, BoxedStream, DialError, Security};

/// A server that takes nothing for so long is given up: the time that TCP itself is given too (RFC 5482).
pub const STALL: Duration = Duration::from_mins(1);

/// An idle connection is probed after so many seconds, because a firewall may have forgotten it.
const PROBE_AFTER: u32 = 30;
const PROBE_EVERY: u32 = 10;

/// What waits in the kernel to be sent; it counts towards the agent's memory too.
const SEND_BUFFER: usize = 256 << 10;

/// A connection.
pub struct Connection {
    reader: ReadHalf<BoxedStream>,
    writer: WriteHalf<BoxedStream>,
    /// The same socket, for what lies below encryption.
    socket: OwnedFd,
    /// Bytes that were given to the socket.
    sent: Arc<AtomicU64>,
    /// What the other side's TCP had acknowledged when we began to count.
    before: u64,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Connection")
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When there is nothing to connect to, or the two sides do not agree on encryption.
    pub async fn open(
        host: &str,
        port: u16,
        security: Option<&Security>,
    ) -> Result<Self, DialError> {
        let stream = dial::tcp(host, port).await?;
        let socket = prepare(&stream).map_err(DialError::Connect)?;
        let before = acknowledged(&socket).unwrap_or_default();
        let sent = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            stream,
            sent: Arc::clone(&sent),
        };
        let stream: BoxedStream = match security {
            Some(security) => security.secure(counted).await?,
            None => Box::new(counted),
        };
        let (reader, writer) = split(stream);
        Ok(Self {
            reader,
            writer,
            socket,
            sent,
            before,
        })
    }

    /// Sends bytes; gives the place in the stream of the socket where they end.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) -> Result<u64, Broken> {
        let Self { reader, writer, .. } = self;
        let writing = async {
            while !bytes.is_empty() {
                let written = in_time(writer.write(bytes)).await?;
                if written == 0 {
                    return Err(Broken::Closed);
                }
                bytes = &bytes[written..];
            }
            in_time(writer.flush()).await
        };
        select! {
            biased;
            broken = broken(reader) => Err(broken),
            written = writing => written.map(|()| self.sent.load(Ordering::Relaxed)),
        }
    }

    pub(super) async fn broken(&mut self) -> Broken {
        broken(&mut self.reader).await
    }

    /// How many of the bytes that were given to the socket the other side's TCP has.
    pub(super) fn received(&self) -> Option<u64> {
        Some(acknowledged(&self.socket)?.saturating_sub(self.before))
    }

    /// Says that nothing more will come, and waits until the server has closed too: then it has read everything, because
    /// a side that closes with something unread resets the connection (RFC 9293 §3.6, RFC 2525 §2.17).
    pub(super) async fn close(mut self, patience: Duration) -> Result<(), Broken> {
        let closing = async {
            in_time(self.writer.shutdown()).await?;
            match broken(&mut self.reader).await {
                Broken::Closed => Ok(()),
                // Many a server ends TLS without saying so.
                Broken::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                other => Err(other),
            }
        };
        if let Ok(closed) = timeout(patience, closing).await {
            return closed;
        }
        // It keeps the connection open, but its TCP may have everything.
        let sent = self.sent.load(Ordering::Relaxed);
        if self.received().is_some_and(|received| received >= sent) {
            Ok(())
        } else {
            Err(Broken::Unconfirmed)
        }
    }
}

async fn in_time<T>(io: impl Future<Output = io::Result<T>>) -> Result<T, Broken> {
    match timeout(STALL, io).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(Broken::Stalled),
    }
}

/// Reads until there is an end; what a server says is of no interest.
async fn broken(reader: &mut ReadHalf<BoxedStream>) -> Broken {
    let mut ignored = [0; 256];
    loop {
        match reader.read(&mut ignored).await {
            Ok(0) => return Broken::Closed,
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
}

/// Sets what TCP is to do by itself.
fn prepare(stream: &TcpStream) -> io::Result<OwnedFd> {
    let socket = stream.as_fd().try_clone_to_owned()?;
    let stall = u32::try_from(STALL.as_millis()).unwrap_or(u32::MAX);
    setsockopt(&socket, sockopt::TcpUserTimeout, &stall)?;
    setsockopt(&socket, sockopt::KeepAlive, &true)?;
    setsockopt(&socket, sockopt::TcpKeepIdle, &PROBE_AFTER)?;
    setsockopt(&socket, sockopt::TcpKeepInterval, &PROBE_EVERY)?;
    setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER)?;
    Ok(socket)
}

/// The beginning of Linux's `struct tcp_info` as words, up to `tcpi_bytes_acked`: there since Linux 4.1.
type TcpInfo = [u64; 16];
const BYTES_ACKED: usize = 15;

mod option {
    //! In a module of its own, because the macro makes a public type.

    use nix::{getsockopt_impl, sockopt_impl};

    use super::TcpInfo;

    sockopt_impl!(
        /// What TCP knows of a connection.
        Info,
        GetOnly,
        libc::IPPROTO_TCP,
        libc::TCP_INFO,
        TcpInfo
    );
}

/// Bytes that the other side's TCP has acknowledged (RFC 4898, `tcpEStatsAppHCThruOctetsAcked`).
fn acknowledged(socket: &OwnedFd) -> Option<u64> {
    getsockopt(socket, option::Info)
        .ok()
        .map(|info| info[BYTES_ACKED])
}

/// A socket that counts what it was given.
#[derive(Debug)]
struct Counted {
    stream: TcpStream,
    sent: Arc<AtomicU64>,
}

impl Counted {
    fn count(&self, written: usize) -> usize {
        self.sent.fetch_add(written as u64, Ordering::Relaxed);
        written
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        Poll::Ready(Ok(self.count(written)))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))?;
        Poll::Ready(Ok(self.count(written)))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

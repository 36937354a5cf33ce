//! A wire to a receiver that can be cut, blocked and restored. Knows nothing of what it carries.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// How a wire is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    /// It carries everything.
    #[default]
    Whole,
    /// It carries so many bytes more towards the receiver, of all connections together; with the next, all are reset.
    CutAfter(usize),
    /// It accepts connections and carries nothing, in no direction.
    Blocked,
}

/// A TCP port that carries everything to another one and back. Dropping it closes it.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    state: watch::Sender<State>,
    /// Grows with each cut: the connections before it are reset.
    cuts: watch::Sender<u64>,
    /// Connections that were accepted.
    connections: watch::Sender<usize>,
}

impl Wire {
    /// A whole wire to a receiver.
    pub async fn to(receiver: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("failed to lay a wire")?;
        let address = listener
            .local_addr()
            .context("failed to read the wire's address")?;
        let shared = Arc::new(Shared {
            to: receiver,
            state: watch::Sender::default(),
            cuts: watch::Sender::default(),
            connections: watch::Sender::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            accepting,
        })
    }

    /// Its near end.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were made through it.
    pub fn connections(&self) -> usize {
        *self.shared.connections.borrow()
    }

    /// Resets every connection, both ways; new ones work.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Resets every connection when so many bytes more, and another one, came for the receiver; new ones work after
    /// that.
    pub fn cut_after(&self, bytes: usize) {
        self.shared.state.send_replace(State::CutAfter(bytes));
    }

    /// Carries nothing any more: neither end is told, and what is sent stays in the kernel's buffers.
    pub fn block(&self) {
        self.shared.state.send_replace(State::Blocked);
    }

    /// Carries everything again, also what was held back.
    pub fn restore(&self) {
        self.shared.state.send_replace(State::Whole);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // An error here is one of the sender's connection, which is gone.
                if let Ok((near, _)) = accepted {
                    shared.connections.send_modify(|connections| *connections += 1);
                    connections.spawn(connection(near, Arc::clone(&shared)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(mut near: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    // A receiver that does not listen refuses: the sender sees the end of the connection.
    let Ok(mut far) = TcpStream::connect(shared.to).await else {
        return;
    };
    // What is carried arrives as early as it came.
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (from_near, to_near) = near.split();
    let (from_far, to_far) = far.split();
    let both = async {
        tokio::try_join!(
            carry(from_near, to_far, &shared, true),
            carry(from_far, to_near, &shared, false),
        )
    };
    let is_whole = tokio::select! {
        _ = cuts.changed() => false,
        ended = both => ended.is_ok(),
    };
    if !is_whole {
        // Closing a socket that does not linger sends RST instead of FIN.
        let _ = (near.set_zero_linger(), far.set_zero_linger());
    }
}

/// Carries one direction to its end.
///
/// # Errors
/// When one of the connections is reset.
async fn carry(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    towards_receiver: bool,
) -> io::Result<()> {
    let mut state = shared.state.subscribe();
    let mut buffer = vec![0; 16 << 10];
    loop {
        // The sender of the state lives as long as this.
        let _ = state.wait_for(|state| *state != State::Blocked).await;
        let bytes = tokio::select! {
            read = from.read(&mut buffer) => read?,
            // Blocked while there was nothing to carry.
            _ = state.changed() => continue,
        };
        if bytes == 0 {
            return to.shutdown().await;
        }
        let carried = if towards_receiver {
            shared.carry(bytes)
        } else {
            bytes
        };
        to.write_all(&buffer[..carried]).await?;
        if carried < bytes {
            shared.cuts.send_modify(|cuts| *cuts += 1);
        }
    }
}

impl Shared {
    /// How many of so many bytes are carried before the cut, if there is one to be.
    fn carry(&self, bytes: usize) -> usize {
        let mut carried = bytes;
        self.state.send_if_modified(|state| {
            let State::CutAfter(left) = state else {
                return false;
            };
            if *left >= bytes {
                *left -= bytes;
            } else {
                carried = *left;
                *state = State::Whole;
            }
            // Nobody waits for this.
            false
        });
        carried
    }
}

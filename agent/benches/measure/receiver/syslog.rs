//! Syslog over TCP and UDP: nothing is answered, and the messages are not looked into before the count.

use std::{
    io::Read,
    net::UdpSocket,
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};

use super::Shared;
use crate::{
    Outcome,
    count::{self, Encoding, Taken},
};

/// Pieces of about this size are kept.
const PIECE: usize = 256 << 10;

/// What the kernel may hold of datagrams that are not read yet, where it allows as much.
const QUEUE: usize = 256 << 20;

pub(super) fn stream(mut stream: impl Read, shared: &Shared) -> Outcome<()> {
    let mut buffer = vec![0; PIECE];
    let mut held = 0;
    loop {
        if held == buffer.len() {
            buffer.resize(2 * held, 0);
        }
        let read = stream.read(&mut buffer[held..])?;
        if read == 0 {
            return Ok(());
        }
        held += read;
        // A number that is cut goes on in the next piece.
        let end = count::whole(&buffer[..held]);
        if end > 0 {
            shared.take(piece(buffer[..end].to_vec()));
            buffer.copy_within(end..held, 0);
            held -= end;
        }
    }
}

/// Asks for a queue that holds what comes while this process is not running.
pub(super) fn widen(socket: &UdpSocket) -> Outcome<()> {
    // Only root gets more than the system's limit.
    if setsockopt(socket, sockopt::RcvBufForce, &QUEUE).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &QUEUE)?;
    }
    Ok(())
}

pub(super) fn datagrams(socket: &UdpSocket, shared: &Shared) -> Outcome<()> {
    const LARGEST: usize = 64 << 10;
    socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    let mut buffer = vec![0; PIECE];
    let mut held = 0;
    loop {
        let more = socket.recv(&mut buffer[held..]).ok();
        held += more.unwrap_or_default();
        if held > 0 && (more.is_none() || buffer.len() - held < LARGEST) {
            shared.take(piece(buffer[..held].to_vec()));
            held = 0;
        }
    }
}

fn piece(bytes: Vec<u8>) -> Taken {
    Taken {
        at: Instant::now(),
        encoding: Encoding::Plain,
        bytes,
    }
}

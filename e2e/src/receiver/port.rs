//! Ports for programs that cannot be given an open one. Keeps none open.

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

/// Where the receivers that are programs of their own listen.
pub(super) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Below what Linux gives to those who ask for any port, so that nobody gets one of these by chance.
const FIRST: u32 = 15_000;
const COUNT: u32 = 15_000;
/// Ports of one process: another process has others, unless there are very many of them.
const STRIDE: u32 = 25;

/// Ports that this process asked for so far.
static ASKED: AtomicU32 = AtomicU32::new(0);

/// A port that is free for both UDP and TCP on loopback.
pub(super) fn free() -> Result<u16> {
    (0..COUNT)
        .map(|_| {
            let place = process::id()
                .wrapping_mul(STRIDE)
                .wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed));
            FIRST + place % COUNT
        })
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| {
            TcpListener::bind((HERE, *port)).is_ok() && UdpSocket::bind((HERE, *port)).is_ok()
        })
        .context("failed to find a free port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_and_given_once() {
        let (one, other) = (free().unwrap(), free().unwrap());
        assert_ne!(one, other);
        let _open = TcpListener::bind((HERE, one)).unwrap();
    }
}

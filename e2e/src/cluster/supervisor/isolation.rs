//! The namespaces of a cluster with a node: network, mounts and processes of its own. Runs nothing inside them itself.
//!
//! Two processes: the outer one stays in the machine's mounts, so that it can clean up, and forwards a port of the
//! machine to the API server; the inner one is process 1 of the process-id namespace. When the inner one ends, the
//! kernel kills every process of the node, and their mounts and network go with the last of them.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};

use super::{
    mounts,
    serve::{die_with_parent, serve},
};
use crate::cluster::network;

/// The outer process: makes the namespaces, runs the inner process and waits for its end.
pub fn outer(directory: &Path) -> Result<()> {
    // Made before the namespace, so it listens on the machine; what it accepts is forwarded from inside.
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to listen on 127.0.0.1")?;
    let port = listener
        .local_addr()
        .context("failed to find the port of the forward")?
        .port();
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block().context("failed to block signals")?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC)
        .context("failed to make namespaces")?;
    thread::spawn(move || forward(&listener));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        if let (Ok(_), Ok(inner)) = (signals.wait(), receiver.recv()) {
            let _ = kill(Pid::from_raw(inner), Signal::SIGKILL);
        }
    });
    // Last, because from here on this thread can start processes, but no threads.
    unshare(CloneFlags::CLONE_NEWPID).context("failed to make a process-id namespace")?;
    let mut inner = Command::new("/proc/self/exe")
        .arg("inner")
        .arg(directory)
        .arg(port.to_string())
        .spawn()
        .context("failed to start the inner supervisor")?;
    sender
        .send(i32::try_from(inner.id()).context("a process id out of range")?)
        .context("failed to watch for signals")?;
    inner
        .wait()
        .context("failed to wait for the inner supervisor")?;
    Ok(())
}

/// The inner process: process 1. Returns when the owner is gone.
pub fn inner(directory: &Path, forward: u16) -> Result<()> {
    die_with_parent()?;
    mounts::make(directory)?;
    for arguments in [
        format!("addr add {}/32 dev lo", network::NODE),
        "link set lo up".to_owned(),
        // Service addresses must not leave the machine; kube-proxy rewrites them on the way out.
        format!("route add {} dev lo", network::SERVICES),
    ] {
        run("ip", &arguments)?;
    }
    serve(directory, Some(forward))
}

fn run(program: &str, arguments: &str) -> Result<()> {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to run {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn forward(listener: &TcpListener) {
    for outside in listener.incoming().flatten() {
        thread::spawn(move || {
            let Ok(inside) = TcpStream::connect((network::NODE, network::API_PORT)) else {
                return;
            };
            let (Ok(from_inside), Ok(to_outside)) = (inside.try_clone(), outside.try_clone())
            else {
                return;
            };
            let _ = outside
                .set_nodelay(true)
                .and_then(|()| inside.set_nodelay(true));
            let answers = thread::spawn(move || pass(&from_inside, &to_outside));
            pass(&outside, &inside);
            let _ = answers.join();
        });
    }
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

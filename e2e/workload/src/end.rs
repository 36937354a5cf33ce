//! Containers that end in ways that are hard on a log reader. Prints numbered lines like the others.

use std::{
    fs, io,
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use nix::sys::signal::{SigSet, Signal};

use crate::lines::{self, Options};

/// The exit code of a container that fails on purpose.
pub const FAILURE: u8 = 3;

/// One of several attempts of a container that is started again until it succeeds. Each goes on counting where the one
/// before it ended.
pub fn attempt(failures: u64, folder: &Path, count: u64) -> io::Result<ExitCode> {
    let memory = folder.join("attempts");
    let before = match fs::read_to_string(&memory) {
        Ok(text) => crate::number(&text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(error),
    };
    fs::write(&memory, (before + 1).to_string())?;
    lines::print_from(
        before * count,
        Some((before + 1) * count),
        Some((failures + 1) * count),
        &Options::parse(&[], None)?,
        &AtomicBool::new(false),
    )?;
    Ok(if before < failures {
        ExitCode::from(FAILURE)
    } else {
        ExitCode::SUCCESS
    })
}

/// Prints until SIGTERM, and has more to say then.
pub fn farewell(count: u64, more: u64, options: &Options) -> io::Result<()> {
    let signals: SigSet = [Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let waiting = thread::spawn(move || {
        // Without the signal there is nothing to wait for either.
        let _ = signals.wait();
        told.store(true, Ordering::Relaxed);
    });
    let total = Some(count + more);
    let printed = lines::print_from(0, Some(count), total, options, &stop)?;
    waiting
        .join()
        .map_err(|_| io::Error::other("the thread that waits for SIGTERM has panicked"))?;
    let at_once = Options::parse(&[], None)?;
    lines::print_from(
        printed,
        Some(printed + more),
        total,
        &at_once,
        &AtomicBool::new(false),
    )?;
    Ok(())
}

/// Never takes the signal, and never ends.
pub fn stubborn(count: u64, options: &Options) -> io::Result<()> {
    let signals: SigSet = [Signal::SIGTERM].into_iter().collect();
    signals.thread_block()?;
    lines::print(Some(count), options)?;
    loop {
        thread::park();
    }
}

/// Takes memory, and uses it, until the kernel ends it.
pub fn hoard() -> ! {
    let mut all: Vec<Vec<u8>> = Vec::new();
    loop {
        // What is not zero is really there.
        all.push(vec![1; 1 << 20]);
        std::hint::black_box(&all);
    }
}

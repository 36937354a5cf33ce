//! Numbered lines: `line 000001 of 020000` and so on, so that a test can count what arrives.

use std::{
    io::{self, BufWriter, Write},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::number;

/// How the lines are printed.
pub struct Options {
    /// Lines a second; as fast as possible without.
    rate: Option<u32>,
    /// Every how many lines one goes to stderr; none without.
    stderr_every: Option<u64>,
}

impl Options {
    /// The time from one line to the next, if there is one.
    pub fn pause(&self) -> Duration {
        self.rate
            .map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.max(1))
    }

    pub fn parse(words: &[&str], rate: Option<u32>) -> io::Result<Self> {
        let mut options = Self {
            rate,
            stderr_every: None,
        };
        for pair in words.chunks(2) {
            match *pair {
                ["--rate", value] => options.rate = Some(number(value)?),
                ["--stderr-every", value] => options.stderr_every = Some(number(value)?),
                _ => {
                    return Err(io::Error::other(format!(
                        "unknown option: {}",
                        pair.join(" ")
                    )));
                }
            }
        }
        Ok(options)
    }
}

/// Prints `count` lines, or lines without end.
pub fn print(count: Option<u64>, options: &Options) -> io::Result<()> {
    print_from(0, count, count, options, &AtomicBool::new(false))?;
    Ok(())
}

/// Prints the lines after number `printed` up to number `last`, of `total`, until told to stop; says which was the last.
pub fn print_from(
    printed: u64,
    last: Option<u64>,
    total: Option<u64>,
    options: &Options,
    stop: &AtomicBool,
) -> io::Result<u64> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    let mut stderr = io::stderr().lock();
    let started = Instant::now();
    let mut index = printed;
    while last.is_none_or(|last| index < last) && !stop.load(Ordering::Relaxed) {
        if let Some(rate) = options.rate {
            // By the clock, not by the last line, so that the rate holds on a busy machine.
            let due = Duration::from_secs_f64(
                f64::from(u32::try_from(index - printed).unwrap_or(u32::MAX))
                    / f64::from(rate.max(1)),
            );
            let early = due.saturating_sub(started.elapsed());
            if !early.is_zero() {
                stdout.flush()?;
                thread::sleep(early);
            }
        }
        index += 1;
        let to_stderr = options
            .stderr_every
            .is_some_and(|every| index.is_multiple_of(every));
        let output: &mut dyn Write = if to_stderr {
            // Keeps the order between the two as far as two pipes have one.
            stdout.flush()?;
            &mut stderr
        } else {
            &mut stdout
        };
        match total {
            Some(total) => writeln!(output, "line {index:06} of {total:06}")?,
            None => writeln!(output, "line {index:06}")?,
        }
    }
    stdout.flush()?;
    Ok(index)
}

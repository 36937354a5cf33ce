//! What the pods of the tests run: a pause process, and containers that log in ways a test can count. Reads no logs.

use std::{
    env,
    io::{self, Write as _},
    process::ExitCode,
    thread,
};

use nix::sys::{
    signal::{SigSet, Signal},
    wait::{WaitPidFlag, waitpid},
};

mod end;
mod lines;
mod raw;
mod serve;
mod tracker;

const USAGE: &str = "usage: katonic-e2e-workload COMMAND
  pause                                       do nothing until SIGTERM
  lines N [--rate N] [--stderr-every N]       print N numbered lines and exit; rate in lines a second
  forever [--rate N] [--stderr-every N]       print numbered lines until SIGTERM, 1 a second unless told otherwise
  workspace N [--rate N] [--stderr-every N]   print N numbered lines, then do nothing until SIGTERM
  fail N [--rate N] [--stderr-every N]        print N numbered lines and exit with code 3
  attempts FAILURES FOLDER N                  print the next N numbered lines and exit with code 3, with 0 after so many
                                              FAILURES; the folder remembers
  farewell N M [--rate N] [--stderr-every N]  print N numbered lines; at SIGTERM stop there, print M more and exit
  stubborn N [--rate N] [--stderr-every N]    print N numbered lines, then do nothing; pay no heed to SIGTERM
  hoard N [--rate N] [--stderr-every N]       print N numbered lines, then take memory until killed
  serve PORT                                  print the path of every HTTP request as a line, until SIGTERM
  get HOST:PORT PATH                          send one HTTP request and print the answer's body
  tracker FOLDER [--rate N]                   be an event tracker: of one action after the other, N a second (10), write the audit
                                              events that FOLDER enables, until SIGTERM
  raw                                         print what is hard to read: see the source
  exit CODE                                   exit with this code";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> io::Result<ExitCode> {
    match *words {
        ["pause"] => pause()?,
        ["lines", count, ref options @ ..] => {
            lines::print(Some(number(count)?), &lines::Options::parse(options, None)?)?;
        }
        ["forever", ref options @ ..] => {
            exit_on_sigterm()?;
            lines::print(None, &lines::Options::parse(options, Some(1))?)?;
        }
        ["workspace", count, ref options @ ..] => {
            exit_on_sigterm()?;
            lines::print(Some(number(count)?), &lines::Options::parse(options, None)?)?;
            loop {
                thread::park();
            }
        }
        ["fail", count, ref options @ ..] => {
            lines::print(Some(number(count)?), &lines::Options::parse(options, None)?)?;
            return Ok(ExitCode::from(end::FAILURE));
        }
        ["attempts", failures, folder, count] => {
            return end::attempt(number(failures)?, folder.as_ref(), number(count)?);
        }
        ["farewell", count, more, ref options @ ..] => end::farewell(
            number(count)?,
            number(more)?,
            &lines::Options::parse(options, None)?,
        )?,
        ["stubborn", count, ref options @ ..] => {
            end::stubborn(number(count)?, &lines::Options::parse(options, None)?)?;
        }
        ["hoard", count, ref options @ ..] => {
            lines::print(Some(number(count)?), &lines::Options::parse(options, None)?)?;
            end::hoard();
        }
        ["serve", port] => {
            exit_on_sigterm()?;
            serve::serve(port)?;
        }
        ["get", address, path] => serve::get(address, path)?,
        ["tracker", folder, ref options @ ..] => {
            exit_on_sigterm()?;
            tracker::track(folder.as_ref(), &lines::Options::parse(options, Some(10))?)?;
        }
        ["raw"] => raw::print()?,
        ["exit", code] => return Ok(ExitCode::from(number::<u8>(code)?)),
        _ => return Err(io::Error::other(USAGE)),
    }
    Ok(ExitCode::SUCCESS)
}

fn number<T: std::str::FromStr>(word: &str) -> io::Result<T> {
    word.parse()
        .map_err(|_| io::Error::other(format!("not a number: {word}\n{USAGE}")))
}

/// The pause process of a pod: may be process 1 of its containers, so it reaps what they leave.
fn pause() -> io::Result<()> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]
        .into_iter()
        .collect();
    signals.thread_block()?;
    while signals.wait()? == Signal::SIGCHLD {
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status.pid().is_some()) {
        }
    }
    Ok(())
}

/// Process 1 of a container gets SIGTERM only if it asks for it.
fn exit_on_sigterm() -> io::Result<()> {
    let signals: SigSet = [Signal::SIGTERM].into_iter().collect();
    // Before any other thread, so that they all block it and the one below gets it.
    signals.thread_block()?;
    thread::spawn(move || {
        if signals.wait().is_ok() {
            std::process::exit(0);
        }
    });
    Ok(())
}

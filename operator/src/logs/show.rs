//! What a person or a script sees: lines on stdout, progress and messages on stderr. Reads nothing.

use std::{
    borrow::Cow,
    io::{self, BufWriter, IsTerminal as _, Stdout, Write as _},
};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use k8s_openapi::jiff::Timestamp;
use katonic_logging_core::execution::terminal;

/// The form of lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum Form {
    /// For people: the time, the pod and its container where there are several, and the line.
    Text,
    /// For programs: one record a line, as the archive has it.
    Json,
}

/// A line as it is shown.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// When it was written.
    pub time: Timestamp,
    /// The line, or lines, with their ends.
    pub bytes: Vec<u8>,
}

/// Why nothing more can be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Whoever reads has seen enough.
    #[error("nobody reads the output any more")]
    Closed,
    /// Anything else.
    #[error("failed to write the output: {0}")]
    Failed(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(error),
        }
    }
}

/// Where lines go.
#[derive(Debug)]
pub struct Output {
    stdout: BufWriter<Stdout>,
    /// The form of lines for a terminal that obeys what it is sent; none: the bytes are whoever's who reads them.
    terminal: Option<Form>,
    bar: Option<ProgressBar>,
    lines: u64,
}

impl Output {
    /// Shows how far it has come of so many bytes where somebody sees that, and does not see the lines themselves.
    pub fn new(bytes: u64, form: Form) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self::seen(bytes, form, io::stderr().is_terminal() && !is_terminal)
    }

    /// The same where no line is shown before the end.
    pub fn of_result(bytes: u64) -> Self {
        Self::seen(bytes, Form::Text, io::stderr().is_terminal())
    }

    fn seen(bytes: u64, form: Form, is_seen: bool) -> Self {
        let bar = is_seen.then(|| {
            let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
            if let Ok(style) =
                ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {msg}, {eta} left")
            {
                bar.set_style(style);
            }
            bar
        });
        Self {
            stdout: BufWriter::with_capacity(128 << 10, io::stdout()),
            terminal: io::stdout().is_terminal().then_some(form),
            bar,
            lines: 0,
        }
    }

    /// Shows a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, rendered: &Rendered) -> Result<(), Error> {
        self.lines += 1;
        let Some(form) = self.terminal else {
            return Ok(self.stdout.write_all(&rendered.bytes)?);
        };
        let lines = String::from_utf8_lossy(&rendered.bytes);
        let shown: Cow<'_, str> = match form {
            Form::Text => terminal::text(&lines),
            Form::Json => terminal::json(&lines),
        };
        Ok(self.stdout.write_all(shown.as_bytes())?)
    }

    /// A line was read that is not shown.
    pub fn pass(&mut self) {
        self.lines += 1;
    }

    /// Makes seen what was written.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn flush(&mut self) -> Result<(), Error> {
        Ok(self.stdout.flush()?)
    }

    /// So many bytes more were read.
    pub fn progress(&self, bytes: u64) {
        if let Some(bar) = &self.bar
            && bytes > 0
        {
            bar.set_message(format!("{} lines", HumanCount(self.lines)));
            bar.inc(bytes);
        }
    }

    /// Takes the progress away.
    pub fn done(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Says something to the person, or to the log of a script. Names of objects, pods and containers may be anybody's.
pub fn say(message: &str) {
    // Without a stderr there is nobody to tell.
    let message = terminal::message(message);
    let _ = writeln!(io::stderr(), "katonic-logging: {message}");
}

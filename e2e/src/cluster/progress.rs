//! Progress of long steps on the terminal: a moving line where there is a terminal, plain lines elsewhere.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    sync::{
        LazyLock,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// A step that is done sooner than this leaves no line.
const WORTH_A_LINE: Duration = Duration::from_secs(1);
/// How often a plain line says that a step goes on.
const REMINDER: Duration = Duration::from_secs(30);

/// Steps that run side by side have a line each.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A step that takes so long that a person wants to see it move.
#[derive(Debug)]
pub struct Progress {
    shown: Shown,
    step: String,
    started: Instant,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    /// Dropping the sender ends the thread that prints.
    Lines(Sender<()>),
}

impl Progress {
    /// Shows the step, such as `building kube-apiserver 1.37.2 (3 of 14)`.
    pub fn start(step: &str) -> Self {
        let started = Instant::now();
        let shown = if stderr().is_terminal() {
            let bar = BARS.add(ProgressBar::new_spinner().with_message(step.to_owned()));
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} … {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            Shown::Bar(bar)
        } else {
            let (sender, ended) = mpsc::channel();
            let step = step.to_owned();
            thread::spawn(move || {
                let mut wait = WORTH_A_LINE;
                while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                    let elapsed = if wait == REMINDER {
                        seconds(started)
                    } else {
                        String::new()
                    };
                    say(&format!("{step} …{elapsed}"));
                    wait = REMINDER;
                }
            });
            Shown::Lines(sender)
        };
        Self {
            shown,
            step: step.to_owned(),
            started,
        }
    }

    /// The step is done: leaves one line with its time, if it took long.
    pub fn done(self) {
        let worth = self.started.elapsed() >= WORTH_A_LINE;
        let line = format!("{} …{}", self.step, seconds(self.started));
        self.end();
        if worth {
            say(&line);
        }
    }

    /// The step failed: leaves one line that says so; the caller's error says why.
    pub fn failed(self) {
        let line = format!("{} … failed after{}", self.step, seconds(self.started));
        self.end();
        say(&line);
    }

    fn end(self) {
        match self.shown {
            Shown::Bar(bar) => {
                bar.finish_and_clear();
                BARS.remove(&bar);
            }
            Shown::Lines(sender) => drop(sender),
        }
    }
}

fn seconds(since: Instant) -> String {
    let seconds = since.elapsed().as_secs_f64();
    let digits = usize::from(seconds < 10.0);
    format!(" {seconds:.digits$} s")
}

/// One line on stderr, also from inside a test (the test runner swallows only what the macros print).
pub fn say(line: &str) {
    BARS.suspend(|| {
        let _ = writeln!(stderr(), "{line}");
    });
}

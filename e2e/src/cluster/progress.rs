//! Progress of long steps on the terminal: a moving line where there is a terminal, plain lines elsewhere.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// A step that takes so long that a person wants to see it move.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    step: String,
    started: Instant,
}

impl Progress {
    /// Shows the step, such as `building kube-apiserver 1.37.2 (3 of 14)`.
    pub fn start(step: &str) -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_message(step.to_owned());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} … {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            say(&format!("{step} …"));
        }
        Self {
            bar,
            step: step.to_owned(),
            started: Instant::now(),
        }
    }

    /// The step is done: leaves one line with its time.
    pub fn done(self) {
        self.end("");
    }

    /// The step failed: leaves one line that says so; the caller's error says why.
    pub fn failed(self) {
        self.end("failed after ");
    }

    fn end(self, outcome: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let digits = usize::from(seconds < 10.0);
        say(&format!("{} … {outcome}{seconds:.digits$} s", self.step));
    }
}

/// One line on stderr, also from inside a test (the test runner swallows only what the macros print).
pub fn say(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

//! A long log from its beginning to the sink, for each kind of sink and each kind of processing.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use katonic_log_config::{
    Filter, Multiline, MultilineRule, Parse, Pattern, Policy, Redact, Replacement,
};

use super::{
    Outcome,
    count::Lines,
    kinds::{self, Kind},
    lines::{Content, Logs},
    pod::{Pod, policy},
    process::Process,
    receiver::Receiver,
    report,
};

/// What is delivered for the budget.
const LINES: u32 = 3_000_000;

/// What is delivered for information.
const FEWER_LINES: u32 = 1_000_000;

/// What must be delivered in a second of processor time.
const BUDGET: f64 = 1_000_000.0;

/// What the agent may take at full speed, in MiB.
const MEMORY_BUDGET: f64 = 16.0;

/// How often what is compared is measured, in turns.
const ROUNDS: usize = 3;

/// The step whose work can be seen in what comes.
const REDACTION: &str = "one redaction";

/// After so long without a request the agent may have come to the end.
pub const PAUSE: Duration = Duration::from_millis(50);

/// How long anything may take before it counts as stuck.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Over loopback a datagram that has not come after this is lost.
const LOST: Duration = Duration::from_secs(1);

/// A log that was delivered.
struct Run {
    begun: Instant,
    cpu: Duration,
    /// Seconds and MiB.
    memory: Vec<(f64, f64)>,
    peak_memory: f64,
    lines: Lines,
}

impl Run {
    /// Lines for each second of processor time.
    fn rate(&self) -> f64 {
        number(self.lines.unique) / self.cpu.as_secs_f64()
    }
}

/// The kind that the budget is about, with curves.
pub fn of_splunk(logs: &Logs) -> Outcome<()> {
    let log = logs.of(LINES, Content::Text)?;
    let mut runs = Vec::new();
    for _ in 0..ROUNDS {
        runs.push(run(&log, LINES, &kinds::SPLUNK, |_| Ok(()))?);
    }
    let mut rates: Vec<f64> = runs.iter().map(Run::rate).collect();
    let paces = runs.iter().map(|run| run.lines.pace(run.begun));
    let mut paces: Vec<f64> = paces.flatten().collect();
    let peak = runs.iter().map(|run| run.peak_memory).fold(0.0, f64::max);
    report::at_least(
        "lines delivered, splunk, gzip",
        report::median(&mut rates),
        "lines/s of CPU second",
        BUDGET,
    );
    report::told(
        "lines delivered, splunk, gzip, by the clock",
        report::median(&mut paces),
        "lines/s",
    );
    report::at_most("memory at full speed", peak, "MiB", MEMORY_BUDGET);
    if let Some(run) = runs.pop() {
        report::told(
            "bytes sent for a line of 150 B, splunk, gzip",
            number(run.lines.bytes) / f64::from(LINES),
            "B",
        );
        let rates = run.lines.rates(run.begun, 0.1);
        report::curve("throughput", "splunk, gzip", &rates);
        report::curve("memory", "splunk, gzip", &run.memory);
    }
    Ok(())
}

/// All other kinds, for information.
pub fn of_every_kind(logs: &Logs) -> Outcome<()> {
    let log = logs.of(FEWER_LINES, Content::Text)?;
    let mut failures = Vec::new();
    for kind in kinds::OTHERS {
        let run = match run(&log, FEWER_LINES, &kind, |_| Ok(())) {
            Ok(run) => run,
            Err(error) => {
                failures.push(format!("{}: {error}", kind.name));
                continue;
            }
        };
        report::told(
            &format!("lines delivered, {}", kind.name),
            run.rate(),
            "lines/s of CPU second",
        );
        if kind.may_lose() {
            report::told(
                &format!("lines lost by the network, {}", kind.name),
                100.0 * number(run.lines.missing()) / f64::from(FEWER_LINES),
                "%",
            );
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("\n").into())
    }
}

/// What each step of processing costs, as a ratio to the same without it.
pub fn of_processing(logs: &Logs) -> Outcome<()> {
    type Change = fn(&mut Policy) -> Outcome<()>;
    let steps: [(&str, Content, Change); 4] = [
        ("one drop filter", Content::Text, |policy| {
            policy.filters = vec![Filter::Drop(pattern("GET /livez")?)];
            Ok(())
        }),
        (REDACTION, Content::Text, |policy| {
            policy.filters = vec![Filter::Redact(Redact {
                pattern: pattern(r"\b\d{3}-\d{2}-\d{4}\b")?,
                with: Replacement::Text("***".to_owned()),
            })];
            Ok(())
        }),
        ("Java multi-line", Content::Text, |policy| {
            policy.multiline = Some(Multiline {
                rule: MultilineRule::Java,
                timeout_ms: 1000.try_into()?,
                max_bytes: (256 << 10).try_into()?,
            });
            Ok(())
        }),
        ("JSON parsed", Content::Json, |policy| {
            policy.parse = Parse::Json;
            Ok(())
        }),
    ];
    for content in [Content::Text, Content::Json] {
        let log = logs.of(FEWER_LINES, content)?;
        let mut without = Vec::new();
        let of_content = steps.iter().filter(|(_, of, _)| *of == content);
        let mut with: Vec<(&str, Change, Vec<f64>)> = of_content
            .map(|(name, _, change)| (*name, *change, Vec::new()))
            .collect();
        for _ in 0..ROUNDS {
            let plain = run(&log, FEWER_LINES, &kinds::SPLUNK, |_| Ok(()))?;
            without.push(plain.cpu.as_secs_f64());
            for (name, change, times) in &mut with {
                let run = run(&log, FEWER_LINES, &kinds::SPLUNK, *change)
                    .map_err(|error| format!("{name}: {error}"))?;
                if *name == REDACTION && run.lines.secrets > 0 {
                    return Err(format!("{} secrets were not redacted", run.lines.secrets).into());
                }
                times.push(run.cpu.as_secs_f64());
            }
        }
        let without = report::median(&mut without);
        for (name, _, mut times) in with {
            report::told(
                &format!("CPU with {name}, of that without"),
                report::median(&mut times) / without,
                "times",
            );
        }
    }
    Ok(())
}

fn pattern(text: &str) -> Outcome<Pattern> {
    Ok(Pattern::try_from(text.to_owned())?)
}

/// Delivers a log to a receiver of this kind and counts its lines.
fn run(
    log: &Path,
    lines: u32,
    kind: &Kind,
    change: impl FnOnce(&mut Policy) -> Outcome<()>,
) -> Outcome<Run> {
    let receiver = kind.receiver()?;
    let mut policy = policy(vec![kind.sink("measured", &receiver)?]);
    change(&mut policy)?;
    let pod = Pod::over(log, vec![policy])?;
    let begun = Instant::now();
    let agent = pod.start(&[])?;
    let watch = agent.watch_memory(begun, Duration::from_millis(20));
    let mut counted = Lines::expected(lines)?;
    let cpu = until_complete(&agent, &receiver, &mut counted, kind.may_lose())
        .map_err(|error| format!("{error}\n{}", agent.said()))?;
    let peak_memory = agent.peak_memory()?;
    Ok(Run {
        begun,
        cpu,
        memory: watch.stop()?,
        peak_memory,
        lines: counted,
    })
}

/// Waits until every line has come; returns the processor time that it took. Counts only while nothing is sent.
fn until_complete(
    agent: &Process,
    receiver: &Receiver,
    lines: &mut Lines,
    may_lose: bool,
) -> Outcome<Duration> {
    let pause = if may_lose { LOST } else { PAUSE };
    loop {
        receiver.until_rest(pause, PATIENCE).map_err(|error| {
            let (came, all) = (lines.unique, lines.arrived.len());
            format!("{error}; {came} of {all} lines had come")
        })?;
        let cpu = agent.cpu()?;
        receiver.count(lines)?;
        if lines.complete() || may_lose {
            return Ok(cpu);
        }
    }
}

/// A count for arithmetic; exact up to 2^53.
pub fn number(count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let number = count as f64;
    number
}

//! Whether healthy sinks notice that others are ill: pods with and without such sinks get the same lines at the same
//! time.

use std::{
    num::NonZeroU32,
    thread,
    time::{Duration, Instant},
};

use katonic_log_config::Sink;

use super::{
    Outcome,
    count::Lines,
    kinds::SPLUNK,
    lines::{self, Logs},
    pod::{Pod, policy},
    process::Process,
    receiver::{Mode, Receiver},
    report,
    throughput::PATIENCE,
};

/// Pods of each sort.
const PODS: usize = 3;

/// Times at which lines are written.
const ROUNDS: usize = 800;

/// What is compared is compared within each stretch of so many of them, side by side; of all stretches the middle one counts.
const STRETCH: usize = 100;

/// Lines of a round, to each pod.
const LINES_OF_ROUND: u32 = 10;

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_millis(20);

/// What the 99th percentile may grow to by sinks that are ill.
const BUDGET: f64 = 1.2;

/// Where those without ill sinks are themselves so far apart from stretch to stretch, the machine was busy with something else,
/// and no ratio says anything.
const NOISE: f64 = 1.5;

/// What the ill sink does, one after the other and again.
const ILLS: [Mode; 7] = [
    Mode::Refusing(503),
    Mode::Closing,
    Mode::Refusing(429),
    Mode::Dripping,
    Mode::Healthy,
    Mode::Refusing(401),
    Mode::Refusing(500),
];

/// How long the healthy sinks wait for more lines.
const FLUSH_MS: NonZeroU32 = NonZeroU32::new(50).unwrap();

/// After so many rounds it does something else.
const ROUNDS_OF_ILL: usize = 10;

/// A pod, its healthy sinks, and what came of its lines.
struct Watched {
    pod: Pod,
    receivers: Vec<Receiver>,
    _agent: Process,
}

impl Watched {
    /// With so many healthy sinks, and after those that are not.
    fn start(healthy: usize, others: Vec<Sink>) -> Outcome<Self> {
        let receivers: Vec<Receiver> = (0..healthy)
            .map(|_| SPLUNK.receiver())
            .collect::<Outcome<_>>()?;
        let mut sinks = others;
        for (number, receiver) in receivers.iter().enumerate() {
            let mut sink = SPLUNK.sink(&format!("healthy-{number}"), receiver)?;
            // As short as may be: what an ill sink adds must not drown in a wait for more lines.
            sink.batch.flush_ms = Some(FLUSH_MS);
            sinks.push(sink);
        }
        let pod = Pod::new(vec![policy(sinks)])?;
        Ok(Self {
            _agent: pod.start(&[])?,
            pod,
            receivers,
        })
    }

    /// Adds the milliseconds that each line took to each healthy sink to those of its stretch; the first round waits for the
    /// agent to start.
    fn add_waits(&self, written: &[Instant], stretches: &mut [Vec<f64>]) -> Outcome<()> {
        for receiver in &self.receivers {
            let mut lines = Lines::expected(u32::try_from(ROUNDS)? * LINES_OF_ROUND)?;
            receiver.until_complete(&mut lines, PATIENCE)?;
            let rounds = lines.arrived.chunks(usize::try_from(LINES_OF_ROUND)?);
            for (round, (arrived, written)) in rounds.zip(written).enumerate().skip(1) {
                let wait = |at: &Instant| at.duration_since(*written).as_secs_f64() * 1000.0;
                stretches[round / STRETCH].extend(arrived.iter().flatten().map(wait));
            }
        }
        Ok(())
    }
}

/// A sort of pods.
struct Sort {
    what: &'static str,
    /// How many of its sinks are healthy.
    healthy: usize,
    /// Whether it also has a sink that never answers, and one that is ill in every way.
    dead: bool,
    ill: bool,
}

/// Each pair is compared: with as many healthy sinks, and others beside them.
const SORTS: [Sort; 4] = [
    Sort {
        what: "two healthy sinks",
        healthy: 2,
        dead: false,
        ill: false,
    },
    Sort {
        what: "two healthy sinks, one dead",
        healthy: 2,
        dead: true,
        ill: false,
    },
    Sort {
        what: "a healthy sink",
        healthy: 1,
        dead: false,
        ill: false,
    },
    Sort {
        what: "a healthy sink, one dead, one ill",
        healthy: 1,
        dead: true,
        ill: true,
    },
];

pub fn measure(_: &Logs) -> Outcome<()> {
    let (dead, ill) = (SPLUNK.receiver()?, SPLUNK.receiver()?);
    dead.become_(Mode::Silent);
    ill.become_(ILLS[0]);
    let mut pods: [Vec<Watched>; SORTS.len()] = Default::default();
    for (sort, pods) in SORTS.iter().zip(&mut pods) {
        for _ in 0..PODS {
            let mut others = Vec::new();
            if sort.dead {
                others.push(SPLUNK.sink("dead", &dead)?);
            }
            if sort.ill {
                others.push(SPLUNK.sink("ill", &ill)?);
            }
            pods.push(Watched::start(sort.healthy, others)?);
        }
    }
    let all = || pods.iter().flatten();
    let mut written = Vec::new();
    let mut ills = ILLS.iter().cycle();
    for round in 0..ROUNDS {
        written.push(Instant::now());
        let first = u32::try_from(round)? * LINES_OF_ROUND;
        let numbers = first..first + LINES_OF_ROUND;
        for watched in all() {
            lines::append(&watched.pod.container("web"), numbers.clone())?;
        }
        if round == 0 {
            for watched in all() {
                watched.receivers[0].until_requests("the first lines", PATIENCE, |n| n > 0)?;
            }
            dead.until_requests("the dead sink's requests", PATIENCE, |n| n >= 2 * PODS)?;
        }
        if round.is_multiple_of(ROUNDS_OF_ILL)
            && let Some(mode) = ills.next()
        {
            ill.become_(*mode);
        }
        // The pace of the lines, not a wait for anything.
        thread::sleep(INTERVAL);
    }
    let mut quantiles = Vec::new();
    for (sort, pods) in SORTS.iter().zip(&pods) {
        let mut stretches = vec![Vec::new(); ROUNDS.div_ceil(STRETCH)];
        for watched in pods {
            watched.add_waits(&written, &mut stretches)?;
        }
        let of_stretches = stretches.iter_mut();
        let of_stretches: Vec<f64> = of_stretches
            .map(|waits| report::quantile(waits, 0.99))
            .collect();
        let middle = report::median(&mut of_stretches.clone());
        report::told(&format!("p99 of {}", sort.what), middle, "ms");
        quantiles.push(of_stretches);
    }
    for (pair, sorts) in quantiles.chunks_exact(2).zip(SORTS.chunks_exact(2)) {
        let [without, with] = pair else { continue };
        let ratios = with
            .iter()
            .zip(without)
            .map(|(with, without)| with / without);
        let ratio = report::median(&mut ratios.collect::<Vec<_>>());
        let what = format!("p99 with {}, of that with {}", sorts[1].what, sorts[0].what);
        let least = without.iter().copied().fold(f64::INFINITY, f64::min);
        let most = without.iter().copied().fold(0.0, f64::max);
        if most / least > NOISE {
            let noise = format!(
                "{what}: says nothing, because the latter alone varied by a factor of {:.1}",
                most / least
            );
            report::told(&noise, ratio, "times");
        } else {
            report::at_most(&what, ratio, "times", BUDGET);
        }
    }
    Ok(())
}

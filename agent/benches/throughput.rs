//! What the agent costs: lines delivered for each second of processor time, memory, and how long lines and pods wait.
//!
//! The agent runs as it is shipped, as a process over a log file of CRI lines of 150 bytes, and posts gzip to a Splunk
//! HEC endpoint over loopback. The divisor is the processor time of the agent alone, kernel time included. Every
//! record is counted after the timed part. Prints one JSON object for each figure.

use std::{
    error::Error,
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use flate2::read::GzDecoder;
use katonic_log_config::{
    Bundle, ContainerFilter, CredentialKey, Endpoint, Policy, Selector, Sink, Splunk, Target, Tls,
    layout,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

/// As many lines are delivered, unless the environment variable `LINES` says otherwise.
const LINES: u32 = 3_000_000;

/// Length of what the container wrote in each line.
const LENGTH: usize = 150;

/// Without a request for so long, the agent has nothing more to send.
const QUIET: Duration = Duration::from_secs(3);

/// Clock ticks in a second of `/proc/<pid>/stat`: fixed on Linux for programs (`USER_HZ`).
const TICKS: f64 = 100.0;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let lines = std::env::var("LINES").map_or(Ok(LINES), |lines| lines.parse())?;
    let directory = tempfile::tempdir()?;
    let (sender, bodies) = channel();
    let address = receive(sender)?;
    prepare(directory.path(), &address)?;

    let mut idle = start(directory.path())?;
    // Long enough for the bundle to be applied and the files to be looked at several times.
    let _ = bodies.recv_timeout(QUIET);
    let idle_memory = memory(&idle, "VmRSS")?;
    let latency = latency(directory.path(), &bodies)?;
    stop(&mut idle)?;
    let held_up = held_up(directory.path(), &bodies)?;

    fs::remove_dir_all(directory.path().join("logs/sample"))?;
    write_log(directory.path(), lines)?;
    let begun = Instant::now();
    let mut busy = start(directory.path())?;
    let (packed, last) = collect(&bodies)?;
    let wall = last.duration_since(begun).as_secs_f64();
    let processor = processor_seconds(&busy)?;
    let busy_memory = memory(&busy, "VmHWM")?;
    let after_memory = memory(&busy, "VmRSS")?;
    stop(&mut busy)?;

    let delivered = count(&packed)?;
    if delivered != u64::from(lines) {
        return Err(format!("{delivered} of {lines} lines were delivered").into());
    }
    let sent: u32 = packed.iter().map(Vec::len).sum::<usize>().try_into()?;
    let rate = f64::from(lines) / processor;
    report(
        "agent throughput",
        rate,
        "lines/s of CPU second",
        Some((1_000_000.0, rate >= 1_000_000.0)),
    );
    report(
        "agent throughput by the clock",
        f64::from(lines) / wall,
        "lines/s",
        None,
    );
    report(
        "agent bytes sent for a line of 150 B",
        f64::from(sent) / f64::from(lines),
        "B",
        None,
    );
    report(
        "agent memory, idle",
        idle_memory,
        "MiB",
        Some((6.0, idle_memory <= 6.0)),
    );
    report(
        "agent memory, at full speed",
        busy_memory,
        "MiB",
        Some((16.0, busy_memory <= 16.0)),
    );
    report(
        "line written to acknowledged, slowest of 20",
        latency,
        "ms",
        Some((1200.0, latency <= 1200.0)),
    );
    report(
        "pod held up at its end, slowest of 30",
        held_up,
        "ms",
        Some((300.0, held_up <= 300.0)),
    );
    report("agent memory, idle again", after_memory, "MiB", None);
    Ok(())
}

fn report(name: &str, value: f64, unit: &str, budget: Option<(f64, bool)>) {
    let mut line = json!({"name": name, "value": (value * 100.0).round() / 100.0, "unit": unit});
    if let Some((budget, holds)) = budget {
        line["budget"] = budget.into();
        line["holds"] = holds.into();
    }
    println!("{line}");
}

/// A HEC endpoint that keeps what it gets and answers at once.
fn receive(bodies: Sender<Vec<u8>>) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let bodies = bodies.clone();
            thread::spawn(move || answer(stream, &bodies).is_ok());
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream, bodies: &Sender<Vec<u8>>) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::with_capacity(256 << 10, stream.try_clone()?);
    let mut output = stream;
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse()?;
                }
                None if line == "\r\n" => break,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        input.read_exact(&mut body)?;
        bodies.send(body)?;
        output.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{\"text\":\"Success\",\"code\":0}",
        )?;
    }
}

fn prepare(directory: &Path, address: &str) -> Outcome<()> {
    for name in ["logs", "bundle", "state"] {
        fs::create_dir(directory.join(name))?;
    }
    let sink = Splunk {
        endpoint: Endpoint::try_from(format!("http://{address}"))?,
        token: CredentialKey::try_from("token".to_owned())?,
        index: Some("platform".to_owned()),
        source: None,
        sourcetype: None,
        tls: Tls::default(),
    };
    let policy = Policy {
        name: "bench".to_owned(),
        uid: "bench".to_owned(),
        selector: Selector::default(),
        components: [].into(),
        containers: ContainerFilter::default(),
        sinks: vec![Sink {
            name: "splunk".to_owned(),
            target: Target::Splunk(sink),
        }],
    };
    let bundle = Bundle {
        execution_id_label: None,
        policies: vec![policy],
    };
    fs::write(
        directory.join("bundle").join(layout::BUNDLE_FILE),
        bundle.encode()?,
    )?;
    fs::write(directory.join("bundle/token"), "secret")?;
    fs::write(
        directory.join("labels"),
        "app.kubernetes.io/name=\"nucleus-frontend\"\npod-template-hash=\"7d4b9c6f5d\"\n",
    )?;
    Ok(())
}

fn append(directory: &Path, line: &str) -> Outcome<()> {
    let container = directory.join("logs/sample");
    fs::create_dir_all(&container)?;
    let mut log = File::options()
        .append(true)
        .create(true)
        .open(container.join("0.log"))?;
    writeln!(log, "2026-11-23T10:15:07.123456789Z stdout F {line}")?;
    Ok(())
}

/// Longest time in milliseconds from a line's being written to its arrival, at any moment of the agent's own clock.
fn latency(directory: &Path, bodies: &Receiver<Vec<u8>>) -> Outcome<f64> {
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let begun = Instant::now();
        append(directory, &format!("sample {number}"))?;
        bodies.recv_timeout(Duration::from_secs(10))?;
        slowest = slowest.max(begun.elapsed());
        // Nothing comes: this only moves the next line to another moment.
        let _ = bodies.recv_timeout(Duration::from_millis(37 * number % 200));
    }
    Ok(slowest.as_secs_f64() * 1000.0)
}

/// Longest time in milliseconds from SIGTERM to the agent's end, with a line that was written just before.
fn held_up(directory: &Path, bodies: &Receiver<Vec<u8>>) -> Outcome<f64> {
    let mut slowest = Duration::ZERO;
    for number in 0..30 {
        let mut agent = start(directory)?;
        append(directory, &format!("first line of run {number}"))?;
        bodies.recv_timeout(Duration::from_secs(10))?;
        append(directory, &format!("last line of run {number}"))?;
        let begun = Instant::now();
        kill(Pid::from_raw(i32::try_from(agent.id())?), Signal::SIGTERM)?;
        agent.wait()?;
        slowest = slowest.max(begun.elapsed());
        // The last line was delivered before the end.
        bodies.try_recv()?;
    }
    Ok(slowest.as_secs_f64() * 1000.0)
}

/// Lines of a web server, which compress neither very well nor very badly.
fn write_log(directory: &Path, lines: u32) -> Outcome<()> {
    let container = directory.join("logs/nucleus-frontend");
    fs::create_dir(&container)?;
    let mut log = BufWriter::with_capacity(1 << 20, File::create(container.join("0.log"))?);
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut chance = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let pick = |chance: u64| usize::from(chance.to_le_bytes()[0] % 4);
    let paths = ["/v4/projects", "/v4/users/self", "/healthz", "/v1/jobs"];
    for number in 0..lines {
        let level = ["INFO", "DEBUG", "WARN", "ERROR"][pick(chance())];
        let path = paths[pick(chance())];
        let mut line = format!(
            "{level} nucleus.frontend request {number:09} GET {path}/{:016x} status {} in {} ms trace {:016x} ",
            chance(),
            200 + chance() % 300,
            chance() % 2000,
            chance(),
        );
        while line.len() < LENGTH {
            line.push_str("user agent Mozilla/5.0 ");
        }
        line.truncate(LENGTH);
        let (minute, second) = (number / 60_000 % 60, number / 1000 % 60);
        let nanos = chance() % 1_000_000_000;
        writeln!(
            log,
            "2026-11-23T10:{minute:02}:{second:02}.{nanos:09}Z stdout F {line}"
        )?;
    }
    log.flush()?;
    Ok(())
}

fn start(directory: &Path) -> Outcome<Child> {
    let child = Command::new(env!("CARGO_BIN_EXE_katonic-log-agent"))
        .arg("--log-dir")
        .arg(directory.join("logs"))
        .arg("--bundle-dir")
        .arg(directory.join("bundle"))
        .arg("--labels-file")
        .arg(directory.join("labels"))
        .arg("--state-dir")
        .arg(directory.join("state"))
        .arg("--termination-log")
        .arg(directory.join("termination"))
        .envs([
            (layout::ENV_NAMESPACE, "domino-platform"),
            (layout::ENV_NODE, "ip-10-0-12-34.ec2.internal"),
        ])
        .envs([(layout::ENV_POD, "nucleus-frontend-7d4b9c6f5d-x2x9k")])
        .envs([(layout::ENV_POD_UID, "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")])
        .stderr(Stdio::null())
        .spawn()?;
    Ok(child)
}

fn stop(agent: &mut Child) -> Outcome<()> {
    agent.kill()?;
    agent.wait()?;
    Ok(())
}

fn collect(bodies: &Receiver<Vec<u8>>) -> Outcome<(Vec<Vec<u8>>, Instant)> {
    let mut packed = vec![bodies.recv_timeout(Duration::from_secs(30))?];
    let mut last = Instant::now();
    loop {
        match bodies.recv_timeout(QUIET) {
            Ok(body) => packed.push(body),
            Err(RecvTimeoutError::Timeout) => return Ok((packed, last)),
            Err(RecvTimeoutError::Disconnected) => return Err("the receiver has ended".into()),
        }
        last = Instant::now();
    }
}

fn count(packed: &[Vec<u8>]) -> Outcome<u64> {
    let mut records = 0;
    let mut body = Vec::new();
    for packed in packed {
        body.clear();
        GzDecoder::new(&packed[..]).read_to_end(&mut body)?;
        records += memchr::memmem::find_iter(&body, b"\"event\":\"").count() as u64;
    }
    Ok(records)
}

/// User and system time of a process so far.
fn processor_seconds(agent: &Child) -> Outcome<f64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.id()))?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no process")?;
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

/// A figure of `/proc/<pid>/status`, in MiB.
fn memory(agent: &Child, name: &str) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id()))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .ok_or("no such figure")?;
    let kib: f64 = line
        .trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()?;
    Ok(kib / 1024.0)
}

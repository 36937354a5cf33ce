//! Archiving executions in a store: how many lines, with how much memory, and how soon after a Job's end all is there.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use katonic_log_config::{ArchiveLayout, Bundle};
use tokio::{task::spawn_blocking, time::sleep};

use super::{
    Figure, median,
    process::{cpu_of_children, peak},
};
use crate::{
    cluster::progress::Progress,
    images::Image,
    receiver::{
        Minio,
        minio::{User, documented_policy},
    },
    simulated::{
        Agent, Pod, Stream,
        policy::{self, ACCESS_KEY_ID_FILE, SECRET_ACCESS_KEY_FILE},
    },
};

const BUCKET: &str = "bench";

/// Pods carry their execution's id there.
const LABEL: &str = "katonic.ai/execution-id";

/// The agent's defaults (`docs/object-storage.md`, Objects).
const OBJECT: (u32, u32) = (16_000_000, 60_000);

/// Lines of the long log.
const LINES: usize = 1_000_000;

/// Short Jobs, and what each prints.
const JOBS: usize = 30;
const LINES_OF_A_JOB: usize = 10;

/// What is promised: the object of a short Job is there so many milliseconds after its end.
const END: f64 = 1000.0;

/// What is promised of the agent's memory at full speed, in MiB (`docs/performance.md`).
const MEMORY: f64 = 16.0;

/// How long an agent may take to its end.
const LIMIT: Duration = Duration::from_mins(2);

/// Where agents archive, and with what.
struct Store {
    minio: Minio,
    agents: User,
    program: PathBuf,
}

/// A long log that was archived.
struct Long {
    cpu: Duration,
    took: Duration,
    memory: f64,
}

pub(super) async fn measure() -> Result<Vec<Figure>> {
    let program = spawn_blocking(|| Image::Agent.executable()).await??;
    let minio = Minio::start(None).await?;
    minio.make_bucket(BUCKET).await?;
    let rights = documented_policy("agents", BUCKET, "logs")?;
    let agents = minio.user("agent", "of-the-agents", &rights).await?;
    let store = Store {
        minio,
        agents,
        program,
    };
    let progress = Progress::start("archiving a long log");
    let long = store.archive_long().await?;
    progress.done();
    let progress = Progress::start("archiving short Jobs");
    let mut ends = store.archive_jobs().await?;
    progress.done();
    let slowest = ends.iter().copied().fold(0.0, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "a million is exact")]
    let lines = LINES as f64;
    Ok(vec![
        Figure::told(
            "lines archived in S3, gzip",
            lines / long.cpu.as_secs_f64(),
            "lines/s of CPU second",
        ),
        Figure::told(
            "the same by the clock, beside its store",
            lines / long.took.as_secs_f64(),
            "lines/s",
        ),
        Figure::at_most("memory while it archives", long.memory, "MiB", MEMORY),
        Figure::at_most(
            "a short Job's end to its last object, slowest of 30",
            slowest,
            "ms",
            END,
        ),
        Figure::told(
            "a short Job's end to its last object, median",
            median(&mut ends),
            "ms",
        ),
    ])
}

impl Store {
    fn pod(&self, name: &str) -> Result<Pod> {
        let mut pod = Pod::new("katonic-compute", name, &[(LABEL, name)])?;
        let (bytes, age) = OBJECT;
        let sink = policy::archive(
            &self.minio.url(),
            BUCKET,
            ArchiveLayout::Executions,
            bytes,
            age,
        )?;
        let bundle = Bundle {
            execution_id_label: Some(LABEL.to_owned()),
            ..policy::bundle(vec![sink])
        };
        let credentials = [
            (ACCESS_KEY_ID_FILE, self.agents.id.as_str()),
            (SECRET_ACCESS_KEY_FILE, &self.agents.secret),
        ];
        pod.mount(&bundle, &credentials)?;
        Ok(pod)
    }

    /// From the agent's start to its end: it ends once everything is archived.
    async fn archive_long(&self) -> Result<Long> {
        let pod = self.pod("long")?;
        print(&pod, LINES)?;
        let (began, before) = (Instant::now(), cpu_of_children()?);
        let mut agent = Agent::start(&self.program, &pod, &[])?;
        started(&pod, &mut agent).await?;
        let id = agent.id();
        let watched = spawn_blocking(move || {
            let mut memory = 0.0;
            while let Some(now) = peak(id) {
                memory = now;
                std::thread::sleep(Duration::from_millis(5));
            }
            memory
        });
        end(agent).await?;
        let took = began.elapsed();
        let cpu = cpu_of_children()?.saturating_sub(before);
        let memory = watched.await?;
        self.verify("long", LINES).await?;
        Ok(Long { cpu, took, memory })
    }

    /// Milliseconds from the last line of each Job to the end of its agent.
    async fn archive_jobs(&self) -> Result<Vec<f64>> {
        let mut ends = Vec::new();
        for job in 0..JOBS {
            let name = format!("job-{job}");
            let pod = self.pod(&name)?;
            let mut agent = Agent::start(&self.program, &pod, &[])?;
            started(&pod, &mut agent).await?;
            print(&pod, LINES_OF_A_JOB)?;
            let ended = Instant::now();
            end(agent).await?;
            ends.push(ended.elapsed().as_secs_f64() * 1e3);
            self.verify(&name, LINES_OF_A_JOB).await?;
        }
        Ok(ends)
    }

    /// Every line is in the archive, and its completeness record proves it.
    async fn verify(&self, execution: &str, lines: usize) -> Result<()> {
        let prefix = format!("logs/executions/{execution}/");
        let archived = self.minio.archived(BUCKET, &prefix).await?;
        let verified = archived.verify()?;
        ensure!(
            verified == u64::try_from(lines)?,
            "{verified} of {lines} lines of {execution} are archived"
        );
        Ok(())
    }
}

/// Lines of 150 bytes with the runtime's own.
fn print(pod: &Pod, lines: usize) -> Result<()> {
    let mut log = pod.container("user-container", u64::MAX)?;
    for line in 0..lines {
        let text = format!(
            "epoch {:06} step {line:09} loss 0.{:06} learning rate 0.0003 throughput {:04} samples/s eta {:05} s",
            line / 1000,
            line % 999_983,
            900 + line % 97,
            line % 86_400
        );
        log.line(Stream::Stdout, text.as_bytes())?;
    }
    Ok(())
}

/// Waits until the agent would not be ended by a signal.
async fn started(pod: &Pod, agent: &mut Agent) -> Result<()> {
    loop {
        let said = std::fs::read_to_string(pod.agent_output()).unwrap_or_default();
        if said.contains(r#""started""#) {
            return Ok(());
        }
        ensure!(agent.is_running(), "the agent has ended: {said}");
        sleep(Duration::from_millis(1)).await;
    }
}

async fn end(agent: Agent) -> Result<()> {
    let status = agent.terminate(LIMIT).await.context("the agent hangs")?;
    ensure!(status.success(), "the agent ended with {status}");
    Ok(())
}

//! The whole product before one's eyes: installs it on a cluster of the demo's own and counts what arrives.
//!
//! Everything in the last line is measured in the run; nothing of it is assumed.

mod archive;
mod local;
mod node;
mod show;
mod sink;
mod workloads;

use std::{env, fmt, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use katonic_logging_crds::LoggingPolicy;
use kube::{Api, runtime::wait::await_condition};
use tokio::time::{Instant, timeout};

use crate::{
    cluster::{Cluster, GIVEN, Tier, progress::say},
    operator::condition,
    receiver::{Receiver, Tally},
};
use archive::{Archive, ReadBack};
use sink::Sink;

/// Lines of the Job.
const LINES: usize = 20_000;

/// The policy of the sample.
const POLICY: &str = "application-logs";

/// The container of the Job whose lines are counted; the container `run` beside it is user code.
const SUPPORTING: &str = "dataset-sync";

/// How long any one step may take; none takes a tenth of it on two idle cores.
const PATIENCE: Duration = Duration::from_mins(3);

/// What a run has measured.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The lines of the Job's supporting container.
    tally: Tally,
    /// Records of the container that runs user code: there must be none.
    user_records: usize,
    /// The same container's log, as it was read back from the archive.
    archive: ReadBack,
    /// What the agent itself says that it delivered, rejected and lost of the Job.
    account: Account,
    /// From `kubectl apply` of the policy to its condition `Ready`.
    ready_after: Duration,
    /// What was different from the usual.
    note: Option<String>,
}

/// An agent's termination message.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
struct Account {
    delivered: usize,
    rejected: usize,
    lost: usize,
}

impl Outcome {
    /// Whether the product did what it promises.
    pub fn holds(&self) -> bool {
        let Account {
            delivered,
            rejected,
            lost,
        } = self.account;
        self.tally.is_complete(LINES)
            && self.tally.duplicates == 0
            && self.user_records == 0
            && self.archive.holds()
            && (delivered, rejected, lost) == (LINES + workloads::USER_LINES, 0, 0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally {
            unique, duplicates, ..
        } = self.tally;
        writeln!(
            formatter,
            "archive: {}, of execution {}, read back by katonic-logging logs",
            self.archive.verdict,
            workloads::EXECUTION
        )?;
        // As many as the Job prints, not as many as the lines that came say there are: it may be that none came.
        let missing = LINES.saturating_sub(unique);
        write!(
            formatter,
            "demo: {unique} of {LINES} lines delivered, {missing} missing, {duplicates} duplicates, \
             policy {POLICY} Ready after {:.1} s",
            self.ready_after.as_secs_f64()
        )?;
        if self.user_records > 0 {
            let records = self.user_records;
            write!(
                formatter,
                ", {records} records of user code that should not be there"
            )?;
        }
        match &self.note {
            Some(note) => write!(formatter, " ({note})"),
            None => Ok(()),
        }
    }
}

/// Runs the demo; `keep` leaves the cluster up where there is a node.
///
/// # Errors
/// When a step fails; what it left behind is cleaned up.
pub async fn run(keep: bool) -> Result<Outcome> {
    match Tier::Node.available() {
        Ok(()) => {
            only_its_own_cluster()?;
            node::run(keep).await
        }
        Err(reason) => without_node(keep, &reason).await,
    }
}

/// Runs the demo as on a machine that cannot run a node, because of `reason`.
///
/// # Errors
/// As [`run`].
pub async fn without_node(keep: bool, reason: &str) -> Result<Outcome> {
    only_its_own_cluster()?;
    local::run(keep, reason).await
}

fn only_its_own_cluster() -> Result<()> {
    ensure!(
        env::var_os(GIVEN).is_none(),
        "the demo never touches a cluster but its own: unset {GIVEN}"
    );
    Ok(())
}

/// Applies a sample policy and waits until the operator says that it is in force.
async fn apply_policy(cluster: &Cluster, name: &str, manifest: &str) -> Result<Duration> {
    let policies: Api<LoggingPolicy> = Api::all(cluster.client().await?);
    // Before the policy is there, so that no moment of its life is missed.
    let (watched, awaited) = (policies.clone(), name.to_owned());
    let ready = tokio::spawn(timeout(PATIENCE, async move {
        await_condition(watched, &awaited, is_ready).await
    }));
    let applied = Instant::now();
    let said = cluster
        .kubectl_with(&["apply", "-f", "-"], manifest)
        .await?
        .ok()?;
    show::output(&format!("kubectl apply -f {name}.yaml"), &said);
    let waited = ready.await.context("failed to watch the policy")?;
    if waited.is_err() {
        let policy = policies
            .get(name)
            .await
            .context("failed to read the policy")?;
        let status = policy.status.unwrap_or_default();
        bail!(
            "policy {name} is not Ready after {PATIENCE:?}: {:?}",
            status.conditions
        );
    }
    Ok(applied.elapsed())
}

fn is_ready(policy: Option<&LoggingPolicy>) -> bool {
    policy.is_some_and(|policy| {
        let status = policy.status.as_ref();
        status
            .and_then(|status| condition(status, "Ready"))
            .is_some_and(|ready| {
                ready.status == "True" && ready.observed_generation == policy.metadata.generation
            })
    })
}

/// Applies both sample policies, the archive's first; says how long that of the application logs took.
async fn apply_policies(
    cluster: &Cluster,
    (receiver, sink): (&Receiver, &Sink),
    archive: &Archive,
) -> Result<Duration> {
    for secret in [sink.secret(), archive.secret()] {
        let arguments = ["apply", "--server-side", "-f", "-"];
        cluster.kubectl_with(&arguments, &secret).await?.ok()?;
    }
    apply_policy(cluster, archive::POLICY, &archive.policy()?).await?;
    let ready_after = apply_policy(cluster, POLICY, &Sink::policy(receiver)?).await?;
    say(&format!("Ready after {:.1} s", ready_after.as_secs_f64()));
    Ok(ready_after)
}

/// Waits for the Job's lines and judges what came.
async fn collect(
    receiver: &Receiver,
    job: &str,
    account: Account,
    (ready_after, archive): (Duration, ReadBack),
    note: Option<String>,
) -> Result<Outcome> {
    // Not forever, and not an error: what is missing is the result.
    let _ = receiver
        .until("the Job's lines", PATIENCE, |received| {
            tally_of(&received.records, job).is_complete(LINES)
        })
        .await;
    let outcome = receiver.inspect(|received| Outcome {
        tally: tally_of(&received.records, job),
        user_records: received
            .records
            .iter()
            .filter(|record| record.field("container") == "run")
            .count(),
        archive,
        account,
        ready_after,
        note,
    });
    Ok(outcome)
}

fn tally_of(records: &[crate::receiver::Record], job: &str) -> Tally {
    Tally::of(
        records
            .iter()
            .filter(|record| record.field("pod") == job && record.field("container") == SUPPORTING),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run in which everything came.
    fn promised() -> Outcome {
        let lines = (1..=workloads::USER_LINES)
            .map(|number| format!("12:00:00 line {number:06} of {:06}", workloads::USER_LINES));
        Outcome {
            tally: Tally {
                expected: LINES,
                unique: LINES,
                identified: 0,
                ..Tally::default()
            },
            user_records: 0,
            archive: ReadBack {
                code: Some(0),
                lines: lines.collect(),
                verdict: "verified: 100 lines, complete".to_owned(),
            },
            account: Account {
                delivered: LINES + workloads::USER_LINES,
                rejected: 0,
                lost: 0,
            },
            ready_after: Duration::from_millis(1840),
            note: None,
        }
    }

    fn last_line(outcome: &Outcome) -> String {
        let text = outcome.to_string();
        text.lines().last().unwrap_or_default().to_owned()
    }

    #[test]
    fn the_promise_is_one_line() {
        assert!(promised().holds());
        assert_eq!(
            last_line(&promised()),
            "demo: 20000 of 20000 lines delivered, 0 missing, 0 duplicates, policy application-logs Ready after 1.8 s"
        );
    }

    #[test]
    fn what_is_missing_or_came_twice_breaks_it_and_is_told() {
        let mut none_came = promised();
        none_came.tally = Tally::default();
        let mut one_missing = promised();
        one_missing.tally.unique -= 1;
        one_missing.tally.missing = 1;
        let mut twice = promised();
        twice.tally.duplicates = 2;
        let mut user_code = promised();
        user_code.user_records = 3;
        for (outcome, told) in [
            (none_came, "0 of 20000 lines delivered, 20000 missing"),
            (one_missing, "19999 of 20000 lines delivered, 1 missing"),
            (twice, "0 missing, 2 duplicates"),
            (user_code, "3 records of user code that should not be there"),
        ] {
            assert!(!outcome.holds(), "{told}");
            assert!(last_line(&outcome).contains(told), "{outcome}");
        }
    }

    #[test]
    fn an_archive_with_a_hole_or_an_agent_that_counts_otherwise_breaks_it() {
        let mut hole = promised();
        hole.archive.lines.remove(50);
        let mut unproven = promised();
        unproven.archive.code = Some(3);
        let mut lost = promised();
        lost.account.lost = 1;
        let mut fewer = promised();
        fewer.account.delivered -= 1;
        for outcome in [hole, unproven, lost, fewer] {
            assert!(!outcome.holds(), "{outcome:?}");
        }
    }
}

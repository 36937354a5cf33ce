//! The agent against the contract servers, over logs that are written, rotated and restarted as on a node.
//!
//! Every test counts by sequence number.

use std::{
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use katonic_log_agent::cursor::Store;
use katonic_logging_e2e::{
    cluster::skip,
    eventually::eventually,
    program,
    receiver::{
        Authority, Fault, Protocol, Received, Receiver, Record, Tally, Times, json,
        splunk::{Reply, Rules},
    },
    simulated::{
        Agent, ContainerLog, Pod, Stream,
        policy::{self, CA_FILE, TOKEN_FILE},
    },
};

const TOKEN: &str = "9b0a6c86-6d3f-4f0e-8a55-0c8e0f4c2a11";
const LIMIT: Duration = Duration::from_mins(1);
const NEVER: u64 = u64::MAX;

fn start(pod: &Pod) -> Result<Agent> {
    let program = program::build("katonic-log-agent", "katonic-log-agent")?;
    // As the sidecar runs, but for the time that a line waits for others.
    Agent::start(&program, pod, &["--flush-ms", "50"])
}

fn pod() -> Result<Pod> {
    Pod::new("katonic-compute", "run-1", &[("app", "dataset")])
}

async fn collector(rules: Rules) -> Result<Receiver> {
    Receiver::start(([127, 0, 0, 1], 0).into(), Protocol::Splunk(rules)).await
}

/// A pod whose bundle sends everything to one collector.
fn mounted(receiver: &Receiver) -> Result<Pod> {
    let mut pod = pod()?;
    let sink = policy::splunk("splunk", &receiver.url())?;
    pod.mount(&policy::bundle(vec![sink]), &[(TOKEN_FILE, TOKEN)])?;
    Ok(pod)
}

/// Writes the lines `numbers` of `total`, each with some text after its number.
fn write(
    log: &mut ContainerLog,
    numbers: impl IntoIterator<Item = usize>,
    total: usize,
) -> Result<()> {
    for number in numbers {
        let line = format!(
            "line {number:06} of {total:06} {}",
            "the rest of it ".repeat(number % 8)
        );
        log.line(Stream::Stdout, line.as_bytes())?;
    }
    Ok(())
}

fn complete(total: usize) -> impl FnMut(&Received) -> bool {
    move |received| {
        received.records.len() >= total && Tally::of(&received.records).is_complete(total)
    }
}

/// What came is complete; the same line always came with the same id.
fn assert_nothing_missing(receiver: &Receiver, total: usize) -> Tally {
    let came = receiver.received();
    let tally = Tally::of(&came.records);
    assert!(tally.is_complete(total), "{tally:?}");
    assert_eq!(tally.unnumbered, 0);
    let mut ids: Vec<_> = came
        .records
        .iter()
        .map(|record| (&record.line, record.id()))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(
        ids.len(),
        total,
        "a line that came again has the id that it had"
    );
    tally
}

/// As before, and each line came once and in order.
fn assert_exactly_once(receiver: &Receiver, total: usize) {
    let tally = assert_nothing_missing(receiver, total);
    assert_eq!((tally.duplicates, tally.out_of_order), (0, 0), "{tally:?}");
}

fn counts(pod: &Pod) -> Result<(u64, u64, u64)> {
    let message =
        std::fs::read_to_string(pod.termination_log()).context("no termination message")?;
    let message: serde_json::Value = serde_json::from_str(&message)?;
    let count = |name: &str| {
        message[name]
            .as_u64()
            .with_context(|| format!("{name} in {message}"))
    };
    Ok((count("delivered")?, count("rejected")?, count("lost")?))
}

#[tokio::test]
async fn every_line_arrives_once_in_order_and_with_its_origin() -> Result<()> {
    let authority = Authority::new()?;
    let rules = Protocol::Splunk(Rules::with_token(TOKEN));
    let receiver = Receiver::start_tls(
        ([127, 0, 0, 1], 0).into(),
        rules,
        &authority.server([127, 0, 0, 1].into())?,
    )
    .await?;
    let mut pod = pod()?;
    let sink = policy::splunk("splunk", &receiver.url())?;
    let credentials = [(TOKEN_FILE, TOKEN), (CA_FILE, &authority.certificate_pem())];
    pod.mount(&policy::bundle(vec![sink]), &credentials)?;
    let mut log = pod.container("dataset-sync", NEVER)?;
    write(&mut log, 1..=10_000, 20_000)?;
    let agent = start(&pod)?;
    wait_until_open(&agent, 1).await?;
    write(&mut log, 10_001..=12_000, 20_000)?;
    log.rotate()?;
    write(&mut log, 12_001..=20_000, 20_000)?;
    receiver
        .until("20,000 lines", LIMIT, complete(20_000))
        .await?;
    let begun = Instant::now();
    assert!(agent.terminate(LIMIT).await?.success());
    let drained = begun.elapsed();
    assert!(
        drained < Duration::from_secs(10),
        "{drained:?} with nothing left to deliver"
    );
    assert_exactly_once(&receiver, 20_000);
    assert_eq!(counts(&pod)?, (20_000, 0, 0));
    let came = receiver.received();
    let record = came.records.last().context("no record")?;
    let origin = [
        "namespace",
        "pod",
        "pod_uid",
        "container",
        "stream",
        "node",
        "labels.app",
    ]
    .map(|field| record.field(field));
    let expected = [
        "katonic-compute",
        "run-1",
        &pod.uid,
        "dataset-sync",
        "stdout",
        "node1",
        "dataset",
    ];
    assert_eq!(origin, expected);
    Ok(())
}

#[tokio::test]
async fn a_short_pod_ends_with_all_its_lines_delivered() -> Result<()> {
    let receiver = collector(Rules::with_token(TOKEN)).await?;
    let pod = mounted(&receiver)?;
    let agent = start(&pod)?;
    let mut log = pod.container("dataset-sync", NEVER)?;
    write(&mut log, 1..=5_000, 5_001)?;
    // The container ended in the middle of a line; nothing marks its end.
    log.unfinished_line(Stream::Stdout, b"line 005001 of 005001")?;
    assert!(agent.terminate(LIMIT).await?.success());
    assert_exactly_once(&receiver, 5_001);
    assert_eq!(counts(&pod)?, (5_001, 0, 0));
    Ok(())
}

#[tokio::test]
async fn lines_that_are_hard_to_carry_arrive() -> Result<()> {
    let receiver = collector(Rules::with_token(TOKEN)).await?;
    let pod = mounted(&receiver)?;
    let mut log = pod.container("raw", NEVER)?;
    let umlauts = "ä".repeat(300_000);
    let lines: [(&[u8], &str); 6] = [
        (b"invalid \xff\xfe", "invalid \u{fffd}\u{fffd}"),
        (b"nul \0 and \x1b[31m", "nul \0 and \u{1b}[31m"),
        (b"", ""),
        (b"  ", "  "),
        (br#"{"quoted":"\\"}"#, r#"{"quoted":"\\"}"#),
        (umlauts.as_bytes(), &umlauts),
    ];
    for (line, _) in lines {
        log.line(Stream::Stdout, line)?;
    }
    let agent = start(&pod)?;
    let all = |received: &Received| received.records.len() == lines.len();
    receiver.until("six lines", LIMIT, all).await?;
    assert!(agent.terminate(LIMIT).await?.success());
    let came = receiver.received();
    for (record, (_, expected)) in came.records.iter().zip(lines) {
        assert!(
            record.line == expected,
            "{:.80} instead of {expected:.80}",
            record.line
        );
    }
    assert_eq!(came.records.len(), lines.len());
    assert_eq!(
        came.answered
            .iter()
            .filter(|answered| answered.status != 200)
            .count(),
        0
    );
    Ok(())
}

#[tokio::test]
async fn a_token_that_is_refused_is_read_again_and_nothing_is_dropped() -> Result<()> {
    let receiver = collector(Rules::with_token(TOKEN)).await?;
    let mut pod = pod()?;
    let bundle = policy::bundle(vec![policy::splunk("splunk", &receiver.url())?]);
    pod.mount(&bundle, &[(TOKEN_FILE, "an old token")])?;
    let mut log = pod.container("dataset-sync", NEVER)?;
    write(&mut log, 1..=500, 1_000)?;
    let mut agent = start(&pod)?;
    let refused = |received: &Received| received.answers(403) >= 2;
    receiver.until("two refusals", LIMIT, refused).await?;
    write(&mut log, 501..=1_000, 1_000)?;
    assert!(agent.is_running());
    pod.mount(&bundle, &[(TOKEN_FILE, TOKEN)])?;
    receiver
        .until("1,000 lines", LIMIT, complete(1_000))
        .await?;
    assert!(agent.terminate(LIMIT).await?.success());
    assert_exactly_once(&receiver, 1_000);
    assert_eq!(counts(&pod)?, (1_000, 0, 0));
    let said = std::fs::read_to_string(pod.agent_output())?;
    assert!(
        !said.contains(TOKEN) && !said.contains("an old token"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_closed_port_is_waited_for_and_rotated_files_are_read_to_their_end() -> Result<()> {
    let mut receiver = collector(Rules::with_token(TOKEN)).await?;
    let pod = mounted(&receiver)?;
    let mut log = pod.container("dataset-sync", NEVER)?;
    write(&mut log, 1..=1_000, 8_000)?;
    let mut agent = start(&pod)?;
    let some = |received: &Received| Tally::of(&received.records).unique >= 1_000;
    receiver.until("the first lines", LIMIT, some).await?;
    receiver.close_port().await;
    // Seven rotations: the first files are compressed and then deleted before anything of them was delivered.
    for round in 1..8 {
        write(&mut log, round * 1_000 + 1..=round * 1_000 + 1_000, 8_000)?;
        wait_until_open(&agent, round).await?;
        log.rotate()?;
    }
    assert!(agent.is_running());
    receiver.open_port().await?;
    receiver
        .until("8,000 lines", LIMIT, complete(8_000))
        .await?;
    assert!(agent.terminate(LIMIT).await?.success());
    assert_exactly_once(&receiver, 8_000);
    assert_eq!(counts(&pod)?, (8_000, 0, 0));
    Ok(())
}

/// Waits until the agent holds so many log files open: real rotations are at least ten seconds apart.
async fn wait_until_open(agent: &Agent, files: usize) -> Result<()> {
    let descriptors = format!("/proc/{}/fd", agent.id());
    eventually(
        format!("the agent holds {files} files open"),
        LIMIT,
        async || {
            let mut open = 0;
            for entry in std::fs::read_dir(&descriptors)? {
                // A descriptor may be closed in between.
                let Ok(target) = std::fs::read_link(entry?.path()) else {
                    continue;
                };
                open += usize::from(target.to_string_lossy().contains("/dataset-sync/0.log"));
            }
            Ok((open >= files).then_some(()))
        },
    )
    .await
}

#[tokio::test]
async fn a_busy_collector_is_given_the_time_that_it_asks_for() -> Result<()> {
    let receiver = collector(Rules::with_token(TOKEN)).await?;
    let pod = mounted(&receiver)?;
    receiver.misbehave(Reply::Busy.fault(Some(2)), Times::Exactly(1));
    receiver.misbehave(Fault::status(500), Times::Exactly(1));
    receiver.misbehave(Reply::QueuesFull.fault(None), Times::Exactly(1));
    let mut log = pod.container("dataset-sync", NEVER)?;
    write(&mut log, 1..=2_000, 2_000)?;
    let agent = start(&pod)?;
    receiver
        .until("2,000 lines", LIMIT, complete(2_000))
        .await?;
    assert!(agent.terminate(LIMIT).await?.success());
    assert_exactly_once(&receiver, 2_000);
    let answered = receiver.received().answered;
    let statuses: Vec<_> = answered
        .iter()
        .take(4)
        .map(|answered| answered.status)
        .collect();
    assert_eq!(statuses, [503, 500, 503, 200]);
    let pause = answered[1].at - answered[0].at;
    assert!(
        pause >= Duration::from_secs(2),
        "{pause:?} after Retry-After: 2"
    );
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_too_large_is_sent_in_pieces_and_a_line_is_cut_at_last() -> Result<()> {
    let mut rules = Rules::with_token(TOKEN);
    rules.max_content_length = 4_000;
    let receiver = collector(rules).await?;
    let pod = mounted(&receiver)?;
    let mut log = pod.container("dataset-sync", NEVER)?;
    write(&mut log, 1..=1_000, 2_001)?;
    // Noise does not compress: this line alone is above the limit.
    let noise: Vec<String> = (1..2_000_u64)
        .map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        .collect();
    let noise = noise.concat();
    log.line(
        Stream::Stdout,
        format!("line 001001 of 002001 {noise}").as_bytes(),
    )?;
    write(&mut log, 1_002..=2_001, 2_001)?;
    let agent = start(&pod)?;
    receiver
        .until("2,001 lines", LIMIT, complete(2_001))
        .await?;
    assert!(agent.terminate(LIMIT).await?.success());
    assert_exactly_once(&receiver, 2_001);
    let came = receiver.received();
    assert!(came.answers(413) > 0);
    let is_cut = |record: &&Record| {
        record.line.starts_with("line 001001") && record.line.ends_with("line cut]")
    };
    assert_eq!(came.records.iter().filter(is_cut).count(), 1);
    assert_eq!(counts(&pod)?, (2_001, 0, 0));
    Ok(())
}

async fn poison(names_event: bool) -> Result<()> {
    let mut rules = Rules::with_token(TOKEN);
    rules.max_event_size = 2_000;
    rules.names_event = names_event;
    let receiver = collector(rules).await?;
    let pod = mounted(&receiver)?;
    let mut log = pod.container("dataset-sync", NEVER)?;
    write(&mut log, 1..=700, 2_000)?;
    log.line(Stream::Stdout, &[b'x'; 3_000])?;
    write(&mut log, 701..=1_400, 2_000)?;
    log.line(Stream::Stdout, &[b'y'; 3_000])?;
    write(&mut log, 1_401..=2_000, 2_000)?;
    let agent = start(&pod)?;
    receiver
        .until("2,000 lines", LIMIT, complete(2_000))
        .await?;
    assert!(agent.terminate(LIMIT).await?.success());
    assert_exactly_once(&receiver, 2_000);
    assert_eq!(counts(&pod)?, (2_000, 2, 0));
    let said = std::fs::read_to_string(pod.agent_output())?;
    assert!(said.contains("Invalid data format"), "{said}");
    assert!(
        !said.contains("xxxx"),
        "no line's content in the agent's own log"
    );
    Ok(())
}

#[tokio::test]
async fn an_event_that_the_collector_names_is_put_aside_and_the_rest_goes_on() -> Result<()> {
    poison(true).await
}

#[tokio::test]
async fn an_event_that_the_collector_does_not_name_is_found() -> Result<()> {
    poison(false).await
}

#[tokio::test]
async fn resets_lost_answers_and_stalls_lose_nothing() -> Result<()> {
    let mut receiver = collector(Rules::with_token(TOKEN)).await?;
    let pod = mounted(&receiver)?;
    receiver.misbehave(Fault::Reset, Times::Exactly(2));
    receiver.misbehave(Fault::TakeThenReset, Times::Exactly(1));
    receiver.misbehave(Fault::Late(Duration::from_millis(300)), Times::Exactly(1));
    receiver.misbehave(Fault::Stall, Times::UntilTold);
    let mut log = pod.container("dataset-sync", NEVER)?;
    write(&mut log, 1..=1_000, 2_000)?;
    let agent = start(&pod)?;
    let late = |received: &Received| received.answers(200) == 1;
    receiver.until("the late answer", LIMIT, late).await?;
    write(&mut log, 1_001..=2_000, 2_000)?;
    // The stalled collector is restarted.
    receiver.behave();
    receiver.close_port().await;
    receiver.open_port().await?;
    receiver
        .until("2,000 lines", LIMIT, complete(2_000))
        .await?;
    assert!(agent.terminate(LIMIT).await?.success());
    let tally = assert_nothing_missing(&receiver, 2_000);
    assert!(tally.duplicates > 0, "the answer that was lost: {tally:?}");
    assert_eq!(tally.out_of_order, 0);
    Ok(())
}

#[tokio::test]
async fn killed_again_and_again_it_loses_nothing() -> Result<()> {
    const TOTAL: usize = 60_000;
    let receiver = collector(Rules::with_token(TOKEN)).await?;
    let pod = mounted(&receiver)?;
    let mut log = pod.container("dataset-sync", 2_000_000)?;
    let mut agent = start(&pod)?;
    let mut kills = 0;
    for batch in 0..TOTAL / 3_000 {
        let first = batch * 3_000 + 1;
        write(&mut log, first..first + 3_000, TOTAL)?;
        // Anywhere from just read to almost acknowledged, and different in every round.
        let wanted = batch * 3_000 * 9 / 10;
        let some = |received: &Received| Tally::of(&received.records).unique >= wanted;
        receiver
            .until("most of what was written before", LIMIT, some)
            .await?;
        agent.kill()?;
        kills += 1;
        agent = start(&pod)?;
    }
    receiver
        .until("60,000 lines", LIMIT, complete(TOTAL))
        .await?;
    assert!(agent.terminate(LIMIT).await?.success());
    let tally = assert_nothing_missing(&receiver, TOTAL);
    assert_eq!(kills, 20);
    assert_eq!(tally.out_of_order, 0, "{tally:?}");
    Ok(())
}

#[tokio::test]
async fn a_container_that_restarts_and_one_that_comes_late_are_followed() -> Result<()> {
    let receiver = collector(Rules::with_token(TOKEN)).await?;
    let pod = mounted(&receiver)?;
    let agent = start(&pod)?;
    let mut first = pod.container("dataset-sync", NEVER)?;
    write(&mut first, 1..=500, 1_500)?;
    first.restart()?;
    write(&mut first, 501..=1_000, 1_500)?;
    first.restart()?;
    write(&mut first, 1_001..=1_500, 1_500)?;
    let mut second = pod.container("late", NEVER)?;
    write(&mut second, 1..=700, 700)?;
    let all = |received: &Received| received.records.len() >= 2_200;
    receiver.until("the lines of both", LIMIT, all).await?;
    assert!(agent.terminate(LIMIT).await?.success());
    let came = receiver.received();
    let tallies: Vec<_> = Tally::by_source(&came.records).into_iter().collect();
    ensure!(tallies.len() == 2, "{tallies:?}");
    for ((source, tally), (container, lines)) in
        tallies.iter().zip([("dataset-sync", 1_500), ("late", 700)])
    {
        assert_eq!(source.container, container);
        assert!(
            tally.is_complete(lines) && tally.duplicates == 0 && tally.out_of_order == 0,
            "{tally:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_dead_sink_delays_no_other_and_its_loss_is_counted_to_the_line() -> Result<()> {
    let healthy = collector(Rules::with_token(TOKEN)).await?;
    let mut dead = collector(Rules::with_token(TOKEN)).await?;
    let rules = Protocol::Json(json::Rules::at("/in"));
    let stalled = Receiver::start(([127, 0, 0, 1], 0).into(), rules).await?;
    stalled.misbehave(Fault::Stall, Times::UntilTold);
    dead.close_port().await;
    let mut pod = pod()?;
    let sinks = vec![
        policy::splunk("dead", &dead.url())?,
        policy::json_lines("stalled", &format!("{}/in", stalled.url()))?,
        policy::splunk("healthy", &healthy.url())?,
    ];
    pod.mount(&policy::bundle(sinks), &[(TOKEN_FILE, TOKEN)])?;
    let program = program::build("katonic-log-agent", "katonic-log-agent")?;
    let agent = Agent::start(
        &program,
        &pod,
        &["--flush-ms", "50", "--drain-seconds", "3"],
    )?;
    let mut log = pod.container("dataset-sync", NEVER)?;
    write(&mut log, 1..=5_000, 5_000)?;
    let begun = Instant::now();
    healthy
        .until("5,000 lines at the healthy one", LIMIT, complete(5_000))
        .await?;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(9), "{took:?} beside a dead sink");
    assert!(agent.terminate(Duration::from_secs(10)).await?.success());
    assert_exactly_once(&healthy, 5_000);
    assert_eq!(counts(&pod)?, (5_000, 0, 10_000));
    Ok(())
}

#[tokio::test]
async fn a_sink_that_moves_goes_on_where_it_was() -> Result<()> {
    let before = collector(Rules::with_token(TOKEN)).await?;
    let after = collector(Rules::with_token(TOKEN)).await?;
    let mut pod = mounted(&before)?;
    let agent = start(&pod)?;
    let mut log = pod.container("dataset-sync", NEVER)?;
    write(&mut log, 1..=1_000, 2_000)?;
    let half = |received: &Received| Tally::of(&received.records).unique == 1_000;
    before.until("the first half", LIMIT, half).await?;
    let sink = policy::splunk("splunk", &after.url())?;
    pod.mount(&policy::bundle(vec![sink]), &[(TOKEN_FILE, TOKEN)])?;
    eventually("the agent applies the second bundle", LIMIT, async || {
        let said = std::fs::read_to_string(pod.agent_output())?;
        Ok((said.matches("bundle applied").count() == 2).then_some(()))
    })
    .await?;
    write(&mut log, 1_001..=2_000, 2_000)?;
    let rest = |received: &Received| received.records.len() == 1_000;
    after.until("the second half", LIMIT, rest).await?;
    assert!(agent.terminate(LIMIT).await?.success());
    let mut records = before.received().records;
    records.extend(after.received().records);
    let tally = Tally::of(&records);
    assert!(tally.is_complete(2_000), "{tally:?}");
    assert_eq!((tally.duplicates, tally.out_of_order), (0, 0), "{tally:?}");
    Ok(())
}

/// A file system gives the next file the inode of one that was deleted, here while no agent looks: it has the name, the inode and
/// about the size of a file that was read to its end.
#[tokio::test]
async fn a_log_file_with_the_inode_of_a_deleted_one_is_another_file_also_after_a_kill() -> Result<()>
{
    const LINES: usize = 1_000;
    let receiver = collector(Rules::with_token(TOKEN)).await?;
    let pod = mounted(&receiver)?;
    let live = pod.log_dir().join("run/0.log");
    for life in 0..3 {
        let mut log = pod.container("run", NEVER)?;
        write(&mut log, life * LINES + 1..=(life + 1) * LINES, 3 * LINES)?;
        // Nothing holds the file but the agent.
        drop(log);
        let agent = start(&pod)?;
        let all = (life + 1) * LINES;
        let came = |received: &Received| Tally::of(&received.records).unique == all;
        receiver.until("its lines", LIMIT, came).await?;
        let size = std::fs::metadata(&live)?.len();
        eventually("the cursor is saved", LIMIT, async || {
            let (saved, _) = Store::new(&pod.state_dir()).load();
            let cursors = saved.context("no cursors")?.cursors;
            let places = cursors.values().flat_map(|progress| &progress.files);
            let is_read = places
                .map(|(_, place)| place.position.next)
                .any(|next| next == size);
            Ok(is_read.then_some(()))
        })
        .await?;
        agent.kill()?;
        if !replace_with_same_inode(&live)? {
            return skip("this file system gives no inode again");
        }
    }
    let tally = assert_nothing_missing(&receiver, 3 * LINES);
    assert_eq!(tally.duplicates, 0, "{tally}");
    Ok(())
}

/// Deletes a file and puts an empty one with its inode in its place, unless the file system gives no inode again.
fn replace_with_same_inode(path: &Path) -> Result<bool> {
    const MOST: usize = 1_000;
    let wanted = std::fs::metadata(path)?.ino();
    // Those with other inodes stay until there is the right one, so that each is another.
    let folder = tempfile::tempdir_in(path.parent().context("no folder")?)?;
    std::fs::remove_file(path)?;
    for number in 0..MOST {
        let other = folder.path().join(number.to_string());
        if std::fs::File::create(&other)?.metadata()?.ino() == wanted {
            std::fs::rename(other, path)?;
            return Ok(true);
        }
    }
    Ok(false)
}

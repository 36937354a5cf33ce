//! A pod whose execution nobody knows: its log is where its name says, and is read by that.

use anyhow::Result;
use katonic_log_config::ArchiveLayout;
use katonic_logging_e2e::simulated::{Pod, Stream, load::numbered_line, policy};
use serde_json::Value;

use super::{Said, whole};
use crate::{BUCKET, CONTAINER, EXECUTION, Store, end, mount, rights_of, says, start};

/// As the documented rights of readers, and for such pods.
fn rights() -> Result<Value> {
    let rights = rights_of("readers")?.to_string();
    Ok(serde_json::from_str(
        &rights.replace("executions", "unidentified"),
    )?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_an_execution_is_read_by_its_name() -> Result<()> {
    const LINES: usize = 100;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let url = store.minio.url();
    let sink = policy::archive(&url, BUCKET, ArchiveLayout::Executions, 1_000_000, 200)?;
    // The second one's name begins as that of the first.
    for (name, lines) in [("odd-1", LINES), ("odd-10", 7)] {
        let mut pod = Pod::new("katonic-compute", name, &[])?;
        mount(&mut pod, &store.user, sink.clone())?;
        let agent = start(&pod).await?;
        let mut log = pod.container(CONTAINER, 1_000_000)?;
        for number in 1..=lines {
            log.line(Stream::Stdout, numbered_line(number, lines).as_bytes())?;
        }
        says(&pod, "archived under unidentified/").await?;
        end(agent, &pod).await?;
    }
    let reader = store
        .minio
        .user("reader", "of-the-readers", &rights()?)
        .await?;
    let read = async |arguments: &[&str]| {
        let mut all = vec!["--bucket", BUCKET, "--prefix", "logs", "--endpoint", &url];
        all.extend(arguments);
        Said::of(&all, Some(&reader)).await
    };
    let said = read(&["--unidentified", "katonic-compute/odd-1", "-o", "json"]).await?;
    let verified = "verified: 100 lines, complete";
    assert_eq!(said.verdict(), (verified, Some(0)), "{}", said.stderr);
    assert_eq!(said.tally("odd-1")?, whole(LINES));
    let nothing = read(&["--unidentified", "other/odd-1"]).await?;
    nothing.fails(
        5,
        "nothing found of pod other/odd-1 below logs/unidentified/other/ in bucket",
    );
    nothing.fails(5, "check the name of the pod, and its namespace");
    for (arguments, words) in [
        (
            vec!["--unidentified", "odd-1"],
            "write --unidentified <namespace>/<pod>",
        ),
        (
            vec!["--unidentified", "a/b/c"],
            "write the name of a pod, or its namespace, `/` and its name",
        ),
        (vec!["--unidentified", "a/"], "write the name of a pod"),
        (
            vec!["--unidentified", "a/b", EXECUTION],
            "cannot be used with",
        ),
        (vec![], "EXECUTION ID"),
    ] {
        read(&arguments).await?.fails(2, words);
    }
    Ok(())
}

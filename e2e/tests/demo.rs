//! The demo keeps its promise, with a node and without.

use std::env;

use anyhow::Result;
use katonic_logging_e2e::{
    cluster::{GIVEN, Tier},
    demo,
};

const PROMISE: &str = "archive: verified: 100 lines, complete, of execution 63d16b3ebe3729589c5bd9d8, read back by \
                       katonic-logging logs\n\
                       demo: 20000 of 20000 lines delivered, 0 missing, 0 duplicates, \
                       policy application-logs Ready after ";

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_delivers_every_line_with_a_node() -> Result<()> {
    // It never touches a cluster that somebody else runs.
    if env::var_os(GIVEN).is_some() || !Tier::Node.available_or_skip()? {
        return Ok(());
    }
    let outcome = demo::run(false).await?;
    assert!(outcome.holds(), "{outcome:?}");
    let line = outcome.to_string();
    assert!(line.starts_with(PROMISE) && line.ends_with(" s"), "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_delivers_every_line_without_a_node_and_says_so() -> Result<()> {
    if env::var_os(GIVEN).is_some() {
        return Ok(());
    }
    let outcome = demo::without_node(false, "no node is wanted").await?;
    assert!(outcome.holds(), "{outcome:?}");
    let line = outcome.to_string();
    let note = " s (no node is wanted; agents as local processes over simulated pod logs)";
    assert!(line.starts_with(PROMISE) && line.ends_with(note), "{line}");
    Ok(())
}

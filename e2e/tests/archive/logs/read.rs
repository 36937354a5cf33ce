//! What is read back is what was written: by agents, by several pods, with restarts, under any id, in any order.

use std::{collections::BTreeSet, io::Read as _, os::fd::OwnedFd, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use katonic_logging_e2e::{
    receiver::{Authority, Minio},
    simulated::{Load, Stream, archive::Archive, load::numbered_line},
};
use nix::pty::{OpenptyResult, Winsize, openpty};
use serde_json::Value;
use tokio::{io::AsyncReadExt as _, task::spawn_blocking};

use super::{Said, Shelf, archive, at, command, pod_named, whole};
use crate::{BUCKET, CONTAINER, EXECUTION, Store, end, pod_of, rights_of, start};

/// The whole way: agents of three pods, two of them killed, and a reader.
#[tokio::test(flavor = "multi_thread")]
async fn what_agents_have_archived_is_read_back_in_time_order_and_verified() -> Result<()> {
    const LINES: usize = 3_000;
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let mut pods = Vec::new();
    for _ in 0..3 {
        let pod = pod_of(&store, store.sink(60_000, 200)?)?;
        let agent = start(&pod).await?;
        let load = Load::start(pod.container(CONTAINER, 100_000)?, LINES, 3_000.try_into()?);
        pods.push((pod, agent, load));
    }
    let mut uids = Vec::new();
    for (index, (pod, agent, load)) in pods.into_iter().enumerate() {
        load.finish().await?;
        let agent = if index == 0 {
            agent
        } else {
            agent.kill()?;
            start(&pod).await?
        };
        end(agent, &pod).await?;
        uids.push(pod.uid.clone());
    }
    let policy = rights_of("readers")?;
    let reader = store
        .minio
        .user("reader", "of-the-readers", &policy)
        .await?;
    let shelf = Shelf {
        minio: store.minio,
        reader,
    };
    let said = shelf.logs(&["-o", "json"]).await?;
    let verified = "verified: 9,000 lines, complete (3 pods, 3 runs)";
    assert_eq!(said.verdict(), (verified, Some(0)), "{}", said.stderr);
    let records = said.records()?;
    let times: Vec<_> = records.iter().map(|record| &record["time"]).collect();
    assert!(times.is_sorted_by_key(|time| time.as_str()), "out of order");
    for uid in uids {
        let of_pod = records.iter().filter(|record| record["pod_uid"] == *uid);
        let lines: Vec<&str> = of_pod
            .filter_map(|record| record["message"].as_str())
            .collect();
        let expected: Vec<String> = (1..=LINES).map(|n| numbered_line(n, LINES)).collect();
        assert_eq!(lines, expected);
    }
    let ids: BTreeSet<_> = records
        .iter()
        .map(|record| record["record_id"].as_str())
        .collect();
    assert_eq!(ids.len(), 3 * LINES, "a record came twice");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_say_where_they_come_from_when_that_is_not_clear() -> Result<()> {
    let Some(shelf) = Shelf::start_or_skip().await? else {
        return Ok(());
    };
    let mut one = pod_named("run-1");
    archive(&shelf, &mut one, 1..=2, 2, 1).await?;
    one.record(&shelf.minio).await?;
    let said = shelf.logs(&[]).await?;
    assert_eq!(said.verdict(), ("verified: 2 lines, complete", Some(0)));
    let (first, second) = (numbered_line(1, 2), numbered_line(2, 2));
    assert_eq!(
        said.stdout,
        format!("{:.9} {first}\n{:.9} {second}\n", at(1), at(2))
    );
    let mut two = pod_named("run-2");
    let joined = b"Error\n  at main".as_slice();
    two.object(&shelf.minio, [(at(1), joined)]).await?;
    two.record(&shelf.minio).await?;
    let said = shelf.logs(&[]).await?;
    let expected = format!(
        "{0:.9} run-1/run {first}\n{0:.9} run-2/run Error\n{0:.9} run-2/run   at main\n{1:.9} run-1/run {second}\n",
        at(1),
        at(2)
    );
    assert_eq!(said.stdout, expected);
    assert_eq!(
        said.verdict().0,
        "verified: 3 lines, complete (2 pods, 2 runs)"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_of_a_container_is_read_and_one_alone_can_be_open() -> Result<()> {
    let Some(shelf) = Shelf::start_or_skip().await? else {
        return Ok(());
    };
    let mut run = pod_named("run-1");
    archive(&shelf, &mut run, 1..=100, 300, 30).await?;
    run.record(&shelf.minio).await?;
    let mut run = run.restarted();
    archive(&shelf, &mut run, 101..=200, 300, 30).await?;
    run.record(&shelf.minio).await?;
    let mut last = run.restarted();
    archive(&shelf, &mut last, 201..=300, 300, 30).await?;
    let said = shelf.logs(&["-o", "json"]).await?;
    assert_eq!(said.tally("run-1")?, whole(300));
    let verdict = "not complete yet: 300 lines from the archive; no completeness record of run-1/run (restart 2) (3 runs)";
    assert_eq!(said.verdict(), (verdict, Some(3)));
    last.record(&shelf.minio).await?;
    let verdict = "verified: 300 lines, complete (3 runs)";
    assert_eq!(shelf.logs(&[]).await?.verdict(), (verdict, Some(0)));
    Ok(())
}

/// More runs than are opened at once, most of them one after the other, as a cluster of workers has them.
#[tokio::test(flavor = "multi_thread")]
async fn an_execution_of_sixty_pods_is_merged() -> Result<()> {
    const PODS: usize = 60;
    const LINES: usize = 50;
    let Some(shelf) = Shelf::start_or_skip().await? else {
        return Ok(());
    };
    for number in 0..PODS {
        let mut pod = pod_named(&format!("ray-{number}"));
        // Each overlaps with those before and after it.
        let lines: Vec<_> = (1..=LINES)
            .map(|line| (at(number * 20 + line), numbered_line(line, LINES)))
            .collect();
        for lines in lines.chunks(20) {
            let lines = lines.iter().map(|(time, line)| (*time, line.as_bytes()));
            pod.object(&shelf.minio, lines).await?;
        }
        pod.record(&shelf.minio).await?;
    }
    let said = shelf.logs(&["-o", "json"]).await?;
    let verdict = "verified: 3,000 lines, complete (60 pods, 60 runs)";
    assert_eq!(said.verdict(), (verdict, Some(0)));
    let records = said.records()?;
    let time = |record: &Value| record["time"].as_str().map(str::to_owned);
    assert!(records.is_sorted_by_key(time), "out of order");
    for number in 0..PODS {
        assert_eq!(said.tally(&format!("ray-{number}"))?, whole(LINES));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_keys_and_paths_do_not_like_are_found_and_nothing_else_is() -> Result<()> {
    let Some(shelf) = Shelf::start_or_skip().await? else {
        return Ok(());
    };
    let ids = [
        "a/../b ü?%",
        "..",
        ".",
        "a b",
        "a!2Fb",
        "a/b",
        "*",
        "ид",
        "a\nb",
        "'\"&<",
    ];
    for id in ids {
        let mut pod = Archive::new(BUCKET, "logs/", id, "run-1");
        let line = format!("of {id:?}");
        pod.object(&shelf.minio, [(at(1), line.as_bytes())]).await?;
        pod.record(&shelf.minio).await?;
    }
    for id in ids {
        let said = shelf.logs_as(&shelf.reader, id, &[]).await?;
        assert_eq!(said.stdout, format!("{:.9} of {id:?}\n", at(1)));
        assert_eq!(said.verdict(), ("verified: 1 line, complete", Some(0)));
    }
    let said = shelf.logs_as(&shelf.reader, "a", &[]).await?;
    said.fails(
        5,
        "nothing found of execution a below logs/executions/a/ in bucket `platform-logs`",
    );
    let said = Said::of(&["", "--bucket", BUCKET], None).await?;
    assert_eq!(said.code, Some(2), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_kinds_and_times_narrow_what_is_read() -> Result<()> {
    let Some(shelf) = Shelf::start_or_skip().await? else {
        return Ok(());
    };
    let label = "dominodatalab.com/workload-type";
    for (name, kind) in [
        ("run-1", Some("Batch")),
        ("run-2", Some("App")),
        ("run-3", None),
        ("model-1", None),
    ] {
        let mut pod = pod_named(name);
        pod.labels
            .extend(kind.map(|kind| (label.to_owned(), kind.to_owned())));
        archive(&shelf, &mut pod, 1..=10, 10, 5).await?;
        pod.record(&shelf.minio).await?;
    }
    for (kind, pod) in [("job", "run-1"), ("app", "run-2"), ("model-api", "model-1")] {
        let said = shelf.logs(&["--kind", kind, "-o", "json"]).await?;
        assert_eq!(
            said.verdict(),
            ("verified: 10 lines, complete", Some(0)),
            "{said:?}"
        );
        assert_eq!(said.tally(pod)?, whole(10));
        assert!(
            said.stderr
                .contains("1 pods whose kind is not known are left out, the first is run-3"),
            "{said:?}"
        );
    }
    shelf
        .logs(&["--kind", "workspace"])
        .await?
        .fails(5, "nothing found");
    shelf
        .logs(&["--container", "other"])
        .await?
        .fails(5, "nothing found");
    let said = shelf
        .logs(&[
            "--container",
            "r*",
            "--since",
            &at(9).to_string(),
            "-o",
            "json",
        ])
        .await?;
    assert_eq!(said.records()?.len(), 8, "two lines of each pod");
    // The objects were stored after that time, so all of them were read.
    assert_eq!(
        said.verdict(),
        ("verified: 40 lines, complete (4 pods, 4 runs)", Some(0))
    );
    let later = "2999-01-01T00:00:00Z";
    let said = shelf.logs(&["--since", later]).await?;
    let verdict = "complete by names and numbers: 0 lines read, and 8 objects from before not (4 pods, 4 runs)";
    assert_eq!(
        (said.stdout.as_str(), said.verdict()),
        ("", (verdict, Some(0)))
    );
    let said = shelf.logs(&["--since", "yesterday"]).await?;
    said.fails(
        2,
        "write a time, for example 2026-11-23T10:15:07Z, or how long ago",
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_sinks_have_archived_is_read_once() -> Result<()> {
    let Some(shelf) = Shelf::start_or_skip().await? else {
        return Ok(());
    };
    let mut whole_one = pod_named("run-1");
    let mut other = pod_named("run-1").of_sink("second");
    archive(&shelf, &mut whole_one, 1..=100, 100, 10).await?;
    whole_one.record(&shelf.minio).await?;
    archive(&shelf, &mut other, 1..=60, 100, 5).await?;
    let said = shelf.logs(&["-o", "json"]).await?;
    assert_eq!(said.tally("run-1")?, whole(100));
    assert_eq!(said.verdict(), ("verified: 100 lines, complete", Some(0)));
    assert!(
        said.stderr
            .contains("another sink's archive of the same container is not read, 12 objects"),
        "{said:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_seen_enough_ends_the_command_quietly() -> Result<()> {
    let Some(shelf) = Shelf::start_or_skip().await? else {
        return Ok(());
    };
    let mut pod = pod_named("run-1");
    archive(&shelf, &mut pod, 1..=50_000, 50_000, 10_000).await?;
    pod.record(&shelf.minio).await?;
    let url = shelf.minio.url();
    let arguments = [
        EXECUTION,
        "--bucket",
        BUCKET,
        "--prefix",
        "logs",
        "--endpoint",
        &url,
    ];
    let mut child = command(&arguments, Some(&shelf.reader))
        .await?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdout = child.stdout.take().context("no stdout")?;
    let mut some = [0; 100];
    stdout.read_exact(&mut some).await?;
    drop(stdout);
    let output = tokio::time::timeout(Duration::from_mins(1), child.wait_with_output()).await??;
    // Not everything was read, so nothing is proven.
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(String::from_utf8(output.stderr)?, "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_tls_is_read_when_its_authority_is_named() -> Result<()> {
    let authority = Authority::new()?;
    let Some(minio) = Minio::start_or_skip(Some(&authority)).await? else {
        return Ok(());
    };
    let shelf = Shelf::prepared(minio).await?;
    let mut pod = pod_named("run-1");
    archive(&shelf, &mut pod, 1..=10, 10, 10).await?;
    pod.record(&shelf.minio).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, authority.certificate_pem())?;
    let said = shelf.logs(&["--ca-file", &file.to_string_lossy()]).await?;
    assert_eq!(
        said.verdict(),
        ("verified: 10 lines, complete", Some(0)),
        "{said:?}"
    );
    shelf
        .logs(&["--ca-file", "/nonexistent"])
        .await?
        .fails(1, "/nonexistent cannot be read");
    std::fs::write(&file, "nothing")?;
    shelf
        .logs(&["--ca-file", &file.to_string_lossy()])
        .await?
        .fails(1, "the store's authorities are no certificates in PEM");
    Ok(())
}

/// A line on each stream at the same moment, empty lines, bytes of any kind: through an agent and back.
#[tokio::test(flavor = "multi_thread")]
async fn lines_of_any_kind_come_back_as_they_were() -> Result<()> {
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let pod = pod_of(&store, store.sink(1_000_000, 60_000)?)?;
    let agent = start(&pod).await?;
    let mut log = pod.container(CONTAINER, u64::MAX)?;
    let endless = "x".repeat(100_000);
    let lines = [
        "",
        "tab\tand \"quotes\" \\",
        "größe €",
        "\u{1b}[31mred\u{1b}[0m",
        endless.as_str(),
    ];
    for line in lines {
        log.line(Stream::Stderr, line.as_bytes())?;
    }
    log.line(Stream::Stdout, b"not \xff UTF-8")?;
    end(agent, &pod).await?;
    let policy = rights_of("readers")?;
    let reader = store
        .minio
        .user("reader", "of-the-readers", &policy)
        .await?;
    let shelf = Shelf {
        minio: store.minio,
        reader,
    };
    let said = shelf.logs(&[]).await?;
    assert_eq!(
        said.verdict(),
        ("verified: 6 lines, complete", Some(0)),
        "{}",
        said.stderr
    );
    let shown: Vec<&str> = said
        .stdout
        .lines()
        .filter_map(|line| Some(line.split_once(' ')?.1))
        .collect();
    assert_eq!(shown[..5], lines);
    assert_eq!(shown[5], "not \u{fffd} UTF-8");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_a_terminal_sees_how_far_a_long_reading_has_come() -> Result<()> {
    let Some(shelf) = Shelf::start_or_skip().await? else {
        return Ok(());
    };
    let mut pod = pod_named("run-1");
    archive(&shelf, &mut pod, 1..=60_000, 60_000, 10_000).await?;
    pod.record(&shelf.minio).await?;
    let url = shelf.minio.url();
    let arguments = [
        EXECUTION,
        "--bucket",
        BUCKET,
        "--prefix",
        "logs",
        "--endpoint",
        &url,
    ];
    let terminal = terminal()?;
    let mut command = command(&arguments, Some(&shelf.reader)).await?;
    let mut child = command
        .env("TERM", "xterm")
        .stdout(Stdio::null())
        .stderr(Stdio::from(terminal.slave))
        .spawn()?;
    // The terminal is gone with the last that has it open.
    drop(command);
    let seen = spawn_blocking(move || seen_on(terminal.master));
    assert_eq!(child.wait().await?.code(), Some(0));
    let seen = String::from_utf8(seen.await?)?;
    assert!(seen.contains(" lines, "), "no progress in {seen:?}");
    assert!(
        seen.contains("verified: 60,000 lines, complete"),
        "{seen:?}"
    );
    Ok(())
}

fn terminal() -> Result<OpenptyResult> {
    let size = Winsize {
        ws_row: 24,
        ws_col: 120,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(openpty(Some(&size), None)?)
}

fn seen_on(master: OwnedFd) -> Vec<u8> {
    let mut seen = Vec::new();
    let mut master = std::fs::File::from(master);
    // Linux ends a terminal that nobody has open any more with an error.
    let _ = master.read_to_end(&mut seen);
    seen
}

/// User code says to the reader's terminal what it likes; the terminal does none of it. A pipe gets it as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_gets_the_colours_of_user_code_and_nothing_else_that_it_would_obey() -> Result<()>
{
    let Some(shelf) = Shelf::start_or_skip().await? else {
        return Ok(());
    };
    let printed = "\u{1b}]0;title\u{7}\u{1b}[2J\u{1b}[31mred \u{9b}6n over\rwritten";
    let mut pod = pod_named("run-1");
    pod.object(&shelf.minio, [(at(1), printed.as_bytes())])
        .await?;
    pod.record(&shelf.minio).await?;
    let piped = shelf.logs(&[]).await?;
    assert!(piped.stdout.contains(printed), "{piped:?}");
    let url = shelf.minio.url();
    for (form, shown) in [
        (
            "text",
            "^[]0;title^G^[[2J\u{1b}[31mred <U+009B>6n over^Mwritten\u{1b}[0m\r\n",
        ),
        (
            "json",
            r"\u001b]0;title\u0007\u001b[2J\u001b[31mred \u009b6n over\rwritten",
        ),
    ] {
        let terminal = terminal()?;
        let arguments = [
            EXECUTION,
            "--bucket",
            BUCKET,
            "--prefix",
            "logs",
            "--endpoint",
            &url,
            "-o",
            form,
        ];
        let mut command = command(&arguments, Some(&shelf.reader)).await?;
        let mut child = command
            .env("TERM", "xterm")
            .stdout(Stdio::from(terminal.slave))
            .stderr(Stdio::null())
            .spawn()?;
        drop(command);
        let seen = spawn_blocking(move || seen_on(terminal.master));
        assert_eq!(child.wait().await?.code(), Some(0));
        let seen = String::from_utf8(seen.await?)?;
        assert!(seen.contains(shown), "{seen:?}");
    }
    Ok(())
}

//! What is missing or damaged is said, with the range or the key; everything else is shown.

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use katonic_logging_e2e::{
    receiver::{Minio, Tally},
    simulated::archive::put,
};

use super::{Said, Shelf, archive, at, pod_named, whole};
use crate::{BUCKET, EXECUTION};

const LINES: usize = 100;

/// A run of ten objects, and their keys.
async fn shelf() -> Result<Option<(Shelf, Vec<String>, String)>> {
    let Some(shelf) = Shelf::start_or_skip().await? else {
        return Ok(None);
    };
    let mut pod = pod_named("run-1");
    let keys = archive(&shelf, &mut pod, 1..=LINES, LINES, 10).await?;
    let record = pod.record(&shelf.minio).await?;
    Ok(Some((shelf, keys, record)))
}

pub(super) async fn delete(minio: &Minio, key: &str) -> Result<()> {
    let path = format!("/{BUCKET}/{key}");
    let answer = minio
        .request(&Method::DELETE, &path, "", Bytes::new())
        .await?;
    assert_eq!(answer.status, 204);
    Ok(())
}

/// All lines but these many.
fn all_but(missing: usize) -> Tally {
    Tally {
        unique: LINES - missing,
        missing,
        ..whole(LINES)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_was_deleted_by_hand_is_missed_with_its_range() -> Result<()> {
    let Some((shelf, keys, record)) = shelf().await? else {
        return Ok(());
    };
    let range = |key: &str| {
        let name = key.trim_end_matches(".ndjson.gz");
        let mut parts = name.rsplit('-');
        let (next, first, file) = (parts.next(), parts.next(), parts.next());
        format!(
            "bytes {} to {} of log file {}",
            first.unwrap_or_default(),
            next.unwrap_or_default(),
            file.unwrap_or_default()
        )
    };
    delete(&shelf.minio, &keys[3]).await?;
    let said = shelf.logs(&["-o", "json"]).await?;
    assert_eq!(said.tally("run-1")?, all_but(10));
    let run = record
        .trim_start_matches("logs/")
        .trim_end_matches("-complete.json");
    let missing = format!(
        "object 00000003 is missing, {}, between {} and {}: {run}\n",
        range(&keys[3]),
        at(30),
        at(41)
    );
    said.fails(4, &missing);
    assert_eq!(said.verdict().0, "not complete: 90 lines read, 1 fault");
    // At the end: only the record knows.
    delete(&shelf.minio, &keys[9]).await?;
    let said = shelf.logs(&[]).await?;
    said.fails(
        4,
        &format!(
            "object 00000009 is missing, {}, after {}",
            range(&keys[9]),
            at(90)
        ),
    );
    said.fails(4, "object 00000003 is missing");
    // And at the beginning, without a record.
    delete(&shelf.minio, &record).await?;
    delete(&shelf.minio, &keys[0]).await?;
    let said = shelf.logs(&[]).await?;
    said.fails(
        4,
        "object 00000000 is missing, the beginning of the log to byte",
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_run_that_was_removed_with_its_record_is_missed() -> Result<()> {
    let Some((shelf, keys, record)) = shelf().await? else {
        return Ok(());
    };
    let mut second = pod_named("run-1").restarted();
    archive(&shelf, &mut second, 1..=LINES, LINES, 10).await?;
    second.record(&shelf.minio).await?;
    let mut third = second.restarted();
    archive(&shelf, &mut third, 1..=LINES, LINES, 10).await?;
    third.record(&shelf.minio).await?;
    let verified = "verified: 300 lines, complete (3 runs)";
    assert_eq!(shelf.logs(&[]).await?.verdict(), (verified, Some(0)));
    let second = record.replace("/0000-", "/0001-");
    let (second, _) = second.rsplit_once('-').unwrap_or_default();
    for key in shelf.minio.keys(BUCKET, second).await? {
        delete(&shelf.minio, &key).await?;
    }
    let said = shelf.logs(&[]).await?;
    said.fails(
        4,
        "nothing of restart 1 of run-1/run is there, although restart 2 is: it was removed, or gone before it could be archived\n",
    );
    let verdict = "not complete: 200 lines read, 1 fault (2 runs)";
    assert_eq!(said.verdict().0, verdict);
    for key in keys.iter().chain([&record]) {
        delete(&shelf.minio, key).await?;
    }
    let said = shelf.logs(&[]).await?;
    said.fails(
        4,
        "nothing of its first run and restart 1 of run-1/run is there, although restart 2 is",
    );
    Ok(())
}

/// As agents wrote it that did not look how a run begins.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_older_agents_is_read_and_not_called_proven() -> Result<()> {
    let Some((shelf, _, record)) = shelf().await? else {
        return Ok(());
    };
    let stored = shelf.minio.object(BUCKET, &record).await?;
    let mut older = serde_json::from_slice::<serde_json::Value>(&stored)?;
    for field in ["begins", "followed"] {
        let fields = older.as_object_mut();
        assert!(fields.and_then(|fields| fields.remove(field)).is_some());
    }
    put(
        &shelf.minio,
        BUCKET,
        &record,
        older.to_string().into_bytes(),
    )
    .await?;
    let said = shelf.logs(&["-o", "json"]).await?;
    let verdict = "not proven complete: 100 lines, nothing missing from where the archive begins; nobody has seen whether anything was before it of run-1/run";
    assert_eq!(said.verdict(), (verdict, Some(3)));
    assert_eq!(said.tally("run-1")?, whole(LINES));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_unpacked_or_read_is_named_and_the_rest_is_shown() -> Result<()> {
    let Some((shelf, keys, _)) = shelf().await? else {
        return Ok(());
    };
    let whole_object = shelf.minio.object(BUCKET, &keys[4]).await?;
    let other = pod_named("run-1")
        .records([(at(1), b"of another".as_slice())])
        .1;
    let gzip = |content: &[u8]| -> Result<Vec<u8>> {
        use std::io::Write as _;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(content)?;
        Ok(gzip.finish()?)
    };
    let key = keys[4].trim_start_matches("logs/");
    let mut flipped = whole_object.to_vec();
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    for (content, fault) in [
        (b"no gzip at all".to_vec(), "it is no gzip"),
        (
            whole_object[..whole_object.len() / 2].to_vec(),
            "it is no gzip",
        ),
        (flipped, "it is no gzip"),
        (Vec::new(), "it is no gzip"),
        (
            gzip(b"{\"time\":\"2026-11-23T10:15:07Z\",\"message\":\"a\"}\nnot JSON\n")?,
            "line 2 is no record: ",
        ),
        (
            gzip(b"{\"message\":\"a\"}\n")?,
            "line 1 is no record: missing field `time`",
        ),
        (
            gzip(b"{\"time\":\"2026-11-23T10:15:07Z\",\"message\":\"a\"}")?,
            "its last line does not end",
        ),
    ] {
        put(&shelf.minio, BUCKET, &keys[4], content).await?;
        let said = shelf.logs(&[]).await?;
        said.fails(4, &format!("{key} cannot be read: {fault}"));
        assert!(said.stdout.lines().count() >= 90, "{said:?}");
        assert!(said.stderr.lines().count() == 2, "{}", said.stderr);
    }
    // What can be read and is not what was stored: the chain says so.
    put(&shelf.minio, BUCKET, &keys[4], gzip(&other)?).await?;
    let said = shelf.logs(&[]).await?;
    said.fails(4, "one of them is not what was stored");
    put(&shelf.minio, BUCKET, &keys[4], whole_object.to_vec()).await?;
    assert_eq!(
        shelf.logs(&[]).await?.verdict(),
        ("verified: 100 lines, complete", Some(0))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completeness_record_that_is_not_true_or_no_record_is_said() -> Result<()> {
    let Some((shelf, _, record)) = shelf().await? else {
        return Ok(());
    };
    let stored = shelf.minio.object(BUCKET, &record).await?;
    let said = serde_json::from_slice::<serde_json::Value>(&stored)?;
    let key = record.trim_start_matches("logs/");
    let changed = |field: &str, value: serde_json::Value| {
        let mut record = said.clone();
        record[field] = value;
        record.to_string().into_bytes()
    };
    for (content, words) in [
        (
            changed("sha256_chain", "00".into()),
            "the chain of its 10 objects is ",
        ),
        (
            changed("lines", 101.into()),
            "there are 100 lines, and it says 101",
        ),
        (changed("objects", 11.into()), "object 00000010 is missing"),
        (
            changed("format", 2.into()),
            "it has form 2, and this katonic-logging reads up to 1: use a newer one",
        ),
        (b"{".to_vec(), "it is no completeness record: "),
        (vec![b' '; 2 << 20], "bytes"),
    ] {
        put(&shelf.minio, BUCKET, &record, content).await?;
        let said = shelf.logs(&["-o", "json"]).await?;
        said.fails(4, words);
        assert!(
            said.stderr.contains(key.trim_end_matches("-complete.json")),
            "{said:?}"
        );
        assert_eq!(said.tally("run-1")?, whole(LINES));
    }
    let mut lost = said.clone();
    lost["complete"] = false.into();
    lost["lost"] = 7.into();
    put(&shelf.minio, BUCKET, &record, lost.to_string().into_bytes()).await?;
    let said = shelf.logs(&[]).await?;
    said.fails(
        4,
        "at least 7 lines were lost before they could be archived",
    );
    Ok(())
}

/// A name may be used again; a UID is not. Both pods are shown, and one that is damaged does not hide the other.
#[tokio::test(flavor = "multi_thread")]
async fn two_pods_that_claim_the_same_execution_are_both_read_and_judged_apart() -> Result<()> {
    let Some((shelf, keys, _)) = shelf().await? else {
        return Ok(());
    };
    let mut second = pod_named("run-1").of_pod("uid-of-the-second-one");
    archive(&shelf, &mut second, 1..=LINES, LINES, 10).await?;
    second.record(&shelf.minio).await?;
    let said = shelf.logs(&["-o", "json"]).await?;
    assert_eq!(
        said.verdict(),
        ("verified: 200 lines, complete (2 pods, 2 runs)", Some(0))
    );
    delete(&shelf.minio, &keys[2]).await?;
    let said = shelf.logs(&["-o", "json"]).await?;
    said.fails(4, "object 00000002 is missing");
    assert_eq!(said.records()?.len(), 190);
    assert_eq!(said.stderr.lines().count(), 2, "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_no_agent_has_written_are_passed_over_and_told() -> Result<()> {
    let Some((shelf, _, record)) = shelf().await? else {
        return Ok(());
    };
    let (folder, _) = record.rsplit_once('/').unwrap_or_default();
    for name in ["README.txt", "0000-copy-of-an-object.ndjson.gz"] {
        put(
            &shelf.minio,
            BUCKET,
            &format!("{folder}/{name}"),
            b"x".to_vec(),
        )
        .await?;
    }
    let said = shelf.logs(&["-o", "json"]).await?;
    assert!(
        said.stderr
            .contains("2 objects are not of an agent's making and are passed over"),
        "{said:?}"
    );
    assert_eq!(said.verdict(), ("verified: 100 lines, complete", Some(0)));
    assert_eq!(said.tally("run-1")?, whole(LINES));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_read_is_said_with_what_to_do() -> Result<()> {
    let Some((mut shelf, _, _)) = shelf().await? else {
        return Ok(());
    };
    let url = shelf.minio.url();
    let reader = shelf.reader.clone();
    let at = |bucket: &'static str, url: &str| {
        let arguments = [
            EXECUTION,
            "--bucket",
            bucket,
            "--prefix",
            "logs",
            "--endpoint",
            url,
        ];
        arguments.map(str::to_owned)
    };
    let run = async |arguments: [String; 7]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Said::of(&arguments, Some(&reader)).await
    };
    let root = shelf.minio.root().clone();
    let nowhere = shelf
        .logs_as(&root, EXECUTION, &["--from", "archive"])
        .await?;
    assert_eq!(nowhere.code, Some(0));
    let arguments = at("no-such-bucket", &url);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = Said::of(&arguments, Some(&root)).await?;
    said.fails(1, "there is no bucket `no-such-bucket` at");
    let unknown = katonic_logging_e2e::receiver::minio::User {
        id: "nobody".to_owned(),
        secret: "of-nobody".to_owned(),
    };
    let said = shelf.logs_as(&unknown, EXECUTION, &[]).await?;
    said.fails(
        1,
        "the store does not take these credentials (InvalidAccessKeyId)",
    );
    let wrong = katonic_logging_e2e::receiver::minio::User {
        secret: "of-somebody-else".to_owned(),
        ..reader.clone()
    };
    let said = shelf.logs_as(&wrong, EXECUTION, &[]).await?;
    said.fails(
        1,
        "the store does not take these credentials (SignatureDoesNotMatch)",
    );
    for (arguments, words) in [
        (
            vec![EXECUTION, "--bucket", "Not A Bucket"],
            "`Not A Bucket` is not the name of a bucket",
        ),
        (
            vec![EXECUTION, "--bucket", BUCKET, "--endpoint", "minio:9000"],
            "--endpoint",
        ),
        (vec![EXECUTION, "--endpoint", &url], "--bucket"),
        (
            vec![
                EXECUTION,
                "--bucket",
                BUCKET,
                "--endpoint",
                &url,
                "--from",
                "archive",
                "--follow",
            ],
            "--follow reads pods",
        ),
    ] {
        Said::of(&arguments, Some(&reader)).await?.fails(2, words);
    }
    let said = Said::of(&[EXECUTION, "--bucket", BUCKET], Some(&reader)).await?;
    said.fails(
        1,
        "name the bucket's --region, for example eu-central-1, or the --endpoint",
    );
    let said = Said::of(&[EXECUTION], Some(&reader)).await?;
    said.fails(1, "no cluster is configured");
    shelf.minio.kill()?;
    let said = run(at(BUCKET, &url)).await?;
    said.fails(1, "gave no answer: ");
    assert!(said.stdout.is_empty(), "{said:?}");
    Ok(())
}

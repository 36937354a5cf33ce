//! What the documented rights of a reader allow, and what is said where one of them is missing.

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::{Shelf, archive, pod_named};
use crate::{BUCKET, rights_of};

/// Every test of the command runs with these rights.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_allow_readers_to_read_below_executions_and_nothing_else()
-> Result<()> {
    let Some(shelf) = Shelf::start_or_skip().await? else {
        return Ok(());
    };
    let mut pod = pod_named("run-1");
    let keys = archive(&shelf, &mut pod, 1..=10, 10, 10).await?;
    pod.record(&shelf.minio).await?;
    let said = shelf.logs(&[]).await?;
    assert_eq!(
        said.verdict(),
        ("verified: 10 lines, complete", Some(0)),
        "{said:?}"
    );
    let object = format!("/{BUCKET}/{}", keys[0]);
    let elsewhere = format!("/{BUCKET}/logs/application/x");
    let bucket = format!("/{BUCKET}");
    for (method, path, query, status) in [
        (Method::GET, &object, "", 200),
        (
            Method::GET,
            &bucket,
            "list-type=2&prefix=logs%2Fexecutions%2F",
            200,
        ),
        (Method::GET, &bucket, "list-type=2", 403),
        (
            Method::GET,
            &bucket,
            "list-type=2&prefix=logs%2Fapplication%2F",
            403,
        ),
        (Method::GET, &elsewhere, "", 403),
        (Method::PUT, &object, "", 403),
        (Method::DELETE, &object, "", 403),
        (Method::GET, &bucket, "lifecycle=", 403),
        (Method::DELETE, &bucket, "", 403),
    ] {
        let answer = shelf
            .minio
            .request_as(&shelf.reader, &method, path, query, Bytes::new())
            .await?;
        assert_eq!(answer.status, status, "{method} {path}?{query}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named() -> Result<()> {
    let Some(shelf) = Shelf::start_or_skip().await? else {
        return Ok(());
    };
    let mut pod = pod_named("run-1");
    archive(&shelf, &mut pod, 1..=10, 10, 10).await?;
    let policy = rights_of("readers")?;
    let without = |action: &str| {
        let mut policy = policy.clone();
        if let Some(statements) = policy["Statement"].as_array_mut() {
            statements.retain(|statement| statement["Action"] != json!([action]));
            assert_eq!(statements.len(), 1);
        }
        policy
    };
    for (action, words) in [
        (
            "s3:ListBucket",
            "the store refuses to list the archive: allow these credentials s3:ListBucket on arn:aws:s3:::platform-logs for the prefix logs/executions/*",
        ),
        (
            "s3:GetObject",
            "the store refuses to give an object: allow these credentials s3:GetObject on arn:aws:s3:::platform-logs/logs/executions/*",
        ),
    ] {
        let policy: Value = without(action);
        let user = shelf.minio.user("other", "of-another", &policy).await?;
        let said = shelf.logs_as(&user, crate::EXECUTION, &[]).await?;
        said.fails(1, words);
        assert!(said.stdout.is_empty());
    }
    // The agents' own key can only write.
    let agents = rights_of("agents")?;
    let user = shelf.minio.user("agent", "of-the-agents", &agents).await?;
    let said = shelf.logs_as(&user, crate::EXECUTION, &[]).await?;
    said.fails(1, "s3:ListBucket");
    Ok(())
}

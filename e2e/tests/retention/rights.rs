//! Every other test here runs with the documented rights; they are the least, because nothing else is allowed by them.

use anyhow::Result;
use bytes::Bytes;
use http::Method;

use serde_json::json;

use crate::{BUCKET, World};

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_allow_the_operator_to_look_after_rules_and_to_read_no_log()
-> Result<()> {
    let Some(world) = World::start_or_skip().await? else {
        return Ok(());
    };
    world
        .minio
        .put(BUCKET, "logs/application/a", Bytes::from_static(b"x"))
        .await?;
    world
        .minio
        .put(BUCKET, "elsewhere/a", Bytes::from_static(b"x"))
        .await?;
    world
        .apply(&world.policy("logs", &json!({"retention": "30d"})))
        .await?;
    world
        .told("logs", "True", "Enforced", "for 30 days")
        .await?;
    let bucket = format!("/{BUCKET}");
    let object = format!("{bucket}/logs/application/a");
    for (method, path, query) in [
        (Method::GET, &object, ""),
        (Method::PUT, &object, ""),
        (Method::DELETE, &object, ""),
        (Method::GET, &bucket, "list-type=2"),
        (Method::GET, &bucket, "list-type=2&prefix=elsewhere%2F"),
        (Method::GET, &bucket, "policy="),
        (Method::PUT, &bucket, "versioning="),
        (Method::PUT, &bucket, "object-lock="),
        (Method::DELETE, &bucket, ""),
    ] {
        let answer = world
            .minio
            .request_as(&world.user, &method, path, query, Bytes::new())
            .await?;
        assert_eq!(answer.status, 403, "{method} {path}?{query}");
    }
    Ok(())
}

//! Where objects stand, and what the documented rights allow.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::Method;
use katonic_log_config::{Bundle, Pattern};
use katonic_logging_e2e::simulated::{
    Load, Pod,
    policy::{self, ACCESS_KEY_ID_FILE, SECRET_ACCESS_KEY_FILE},
};

use crate::{BUCKET, CONTAINER, LABEL, Store, assert_whole, end, pod_of, said, start};

const LINES: usize = 500;

/// Archives a log and gives the folder below which it is.
async fn folder_of(store: &Store, pod: &mut Pod) -> Result<String> {
    let bundle = Bundle {
        execution_id_label: Some(LABEL.to_owned()),
        execution_id_patterns: vec![Pattern::try_from("^run-([0-9a-f]{24})-".to_owned())?],
        ..policy::bundle(vec![store.sink(1_000_000, 1_000)?])
    };
    let (id, secret) = (&store.user.id, &store.user.secret);
    let credentials = [
        (ACCESS_KEY_ID_FILE, id.as_str()),
        (SECRET_ACCESS_KEY_FILE, secret),
    ];
    pod.mount(&bundle, &credentials)?;
    let agent = start(pod).await?;
    Load::start(
        pod.container(CONTAINER, u64::MAX)?,
        LINES,
        20_000.try_into()?,
    )
    .finish()
    .await?;
    end(agent, pod).await?;
    let keys = store.minio.keys(BUCKET, "logs/").await?;
    let key = keys.iter().find(|key| key.contains(&pod.uid));
    let key = key.with_context(|| format!("{keys:?}"))?;
    let (folder, _) = key
        .split_once(&format!("/{}_", pod.name))
        .context("another key")?;
    Ok(folder.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_execution_is_found_by_its_label_else_by_the_pods_name_else_it_is_told() -> Result<()> {
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let by_name = "run-63d16b3ebe3729589c5bd9d8-mwlc2";
    for (name, id, folder) in [
        (by_name, Some("a1"), "logs/executions/a1"),
        (
            by_name,
            Some(""),
            "logs/executions/63d16b3ebe3729589c5bd9d8",
        ),
        (by_name, None, "logs/executions/63d16b3ebe3729589c5bd9d8"),
        ("notebook-1", None, "logs/unidentified/katonic-compute"),
        // No label of Kubernetes has such a value; an agent does not rely on that.
        (
            "notebook-2",
            Some("a/../b ü?%"),
            "logs/executions/a!2F..!2Fb!20!C3!BC!3F!25",
        ),
        ("notebook-3", Some(".."), "logs/executions/!2E!2E"),
    ] {
        let labels: Vec<_> = id.map(|id| (LABEL, id)).into_iter().collect();
        let mut pod = Pod::new("katonic-compute", name, &labels)?;
        assert_eq!(folder_of(&store, &mut pod).await?, folder);
        let told = said(&pod)?.contains("the pod's execution is not known");
        assert_eq!(told, folder.contains("unidentified"), "{}", said(&pod)?);
    }
    Ok(())
}

/// The same execution twice, as a workspace that was paused has it: neither pod touches what is the other's.
#[tokio::test(flavor = "multi_thread")]
async fn two_pods_with_one_execution_id_have_folders_of_their_own() -> Result<()> {
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    for _ in 0..2 {
        let pod = pod_of(&store, store.sink(1_000_000, 1_000)?)?;
        let agent = start(&pod).await?;
        Load::start(
            pod.container(CONTAINER, u64::MAX)?,
            LINES,
            20_000.try_into()?,
        )
        .finish()
        .await?;
        end(agent, &pod).await?;
    }
    let archived = store.archived().await?;
    assert_eq!(archived.records.len(), 2);
    assert_eq!(archived.verify()?, 2 * LINES as u64);
    Ok(())
}

/// Every test here runs with the documented rights; they are the least, because nothing else is allowed by them.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_allow_agents_to_put_objects_below_the_prefix_and_nothing_else()
-> Result<()> {
    let Some(store) = Store::start_or_skip().await? else {
        return Ok(());
    };
    let pod = pod_of(&store, store.sink(1_000_000, 1_000)?)?;
    let agent = start(&pod).await?;
    Load::start(
        pod.container(CONTAINER, u64::MAX)?,
        LINES,
        20_000.try_into()?,
    )
    .finish()
    .await?;
    end(agent, &pod).await?;
    let archived = store.archived().await?;
    assert_whole(&archived, LINES)?;
    let key = archived.objects.keys().next().context("no object")?;
    let object = format!("/{BUCKET}/{key}");
    let bucket = format!("/{BUCKET}");
    let outside = format!("/{BUCKET}/elsewhere");
    for (method, path, query) in [
        (Method::GET, &object, ""),
        (Method::DELETE, &object, ""),
        (Method::GET, &bucket, "list-type=2"),
        (Method::GET, &bucket, "lifecycle="),
        (Method::PUT, &outside, ""),
        (Method::DELETE, &bucket, ""),
    ] {
        let answer = store
            .minio
            .request_as(&store.user, &method, path, query, Bytes::new())
            .await?;
        assert_eq!(answer.status, 403, "{method} {path}");
    }
    Ok(())
}

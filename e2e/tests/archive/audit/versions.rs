//! Object Lock keeps versions of the record, and what is put in front of them is seen.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Method;
use katonic_log_config::{LockMode, ObjectLock, Sink, Target};
use katonic_logging_e2e::receiver::{Minio, minio::User};
use serde_json::json;

use super::{Said, reader, record, remove, written_to};
use crate::{BUCKET, Store, least_privilege};

const EVENTS: usize = 60;
const COMPLETE: (&str, Option<i32>) = ("complete: 60 events, chain intact", Some(0));

/// A record whose objects nobody may delete before their time, and an auditor with the documented rights.
struct Locked {
    store: Store,
    auditor: User,
    /// Its objects, the completeness records last.
    keys: Vec<String>,
}

impl Locked {
    async fn written_or_skip() -> Result<Option<Self>> {
        let Some(minio) = Minio::start_or_skip(None).await? else {
            return Ok(None);
        };
        minio.make_bucket_with_lock(BUCKET).await?;
        let mut rights = least_privilege()?;
        rights["Statement"][0]["Action"] = json!(["s3:PutObject", "s3:PutObjectRetention"]);
        let user = minio.user("agent", "of-the-agents", &rights).await?;
        let store = Store { minio, user };
        written_to(&store, locking(record(&store, 4_000, 100)?)?, EVENTS).await?;
        let auditor = reader(&store.minio).await?;
        let mut keys = store.minio.keys(BUCKET, "logs/audit/").await?;
        keys.sort_by_key(|key| key.ends_with("-complete.json"));
        Ok(Some(Self {
            store,
            auditor,
            keys,
        }))
    }

    async fn verify(&self) -> Result<Said> {
        Said::of(&self.store.minio, &self.auditor, &["verify"]).await
    }

    /// Asks as whoever owns the store.
    async fn ask(&self, method: &Method, key: &str, query: &str, body: Bytes) -> Result<u16> {
        let path = format!("/{BUCKET}/{key}");
        let answer = self.store.minio.request(method, &path, query, body).await?;
        Ok(answer.status)
    }

    /// The versions of an object, the newest first.
    async fn versions(&self, key: &str) -> Result<Vec<String>> {
        let query = format!("prefix={key}&versions=").replace('/', "%2F");
        let path = format!("/{BUCKET}");
        let answer = self
            .store
            .minio
            .request(&Method::GET, &path, &query, Bytes::new())
            .await?;
        let xml = String::from_utf8(answer.body.to_vec())?;
        let ids = xml.split("<VersionId>").skip(1);
        let ids = ids.filter_map(|rest| rest.split('<').next());
        Ok(ids.map(str::to_owned).collect())
    }
}

fn locking(mut sink: Sink) -> Result<Sink> {
    let Target::ObjectStorage(storage) = &mut sink.target else {
        anyhow::bail!("the sink is no archive");
    };
    let katonic_log_config::Store::S3(s3) = &mut storage.store else {
        anyhow::bail!("MinIO is a store of S3's protocol");
    };
    s3.object_lock = Some(ObjectLock {
        mode: LockMode::Compliance,
        days: 1.try_into()?,
    });
    Ok(sink)
}

fn names(said: &Said, finding: &str) {
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(
        said.stdout.lines().any(|line| line.starts_with(finding)),
        "{finding}: {said:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_deletes_a_version_and_a_marker_in_front_of_it_is_named() -> Result<()> {
    let Some(locked) = Locked::written_or_skip().await? else {
        return Ok(());
    };
    let said = locked.verify().await?;
    assert_eq!(said.verdict(), COMPLETE, "{said:?}");
    for key in &locked.keys {
        let versions = locked.versions(key).await?;
        ensure!(versions.len() == 1, "{versions:?}");
        let version = format!("versionId={}", versions[0]);
        let status = locked
            .ask(&Method::DELETE, key, &version, Bytes::new())
            .await?;
        assert!(status >= 400, "the store's owner deleted {key}: {status}");
    }
    // The last object with everything that speaks of it: nothing that is left tells of it.
    let last = locked
        .keys
        .iter()
        .rfind(|key| key.ends_with(".ndjson.gz"))
        .context("no object")?;
    for key in [last, locked.keys.last().context("no record")?] {
        remove(&locked.store.minio, key).await?;
        let said = locked.verify().await?;
        names(&said, &format!("{key} was deleted, at 2"));
        let versions = locked.versions(key).await?;
        ensure!(versions.len() == 2, "{versions:?}");
        // The marker itself is locked by nobody.
        let marker = format!("versionId={}", versions[0]);
        let status = locked
            .ask(&Method::DELETE, key, &marker, Bytes::new())
            .await?;
        ensure!(status == 204, "HTTP {status}");
        let said = locked.verify().await?;
        assert_eq!(said.verdict(), COMPLETE, "{said:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_named_though_it_says_nothing_else() -> Result<()> {
    let Some(locked) = Locked::written_or_skip().await? else {
        return Ok(());
    };
    let key = &locked.keys[0];
    let content = locked.store.minio.object(BUCKET, key).await?;
    // The same bytes again are what an agent sends that was killed.
    let status = locked.ask(&Method::PUT, key, "", content.clone()).await?;
    ensure!(status == 200, "HTTP {status}");
    let said = locked.verify().await?;
    assert_eq!(said.verdict(), COMPLETE, "{said:?}");
    // A further member of gzip, which holds nothing.
    let nothing =
        flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()).finish()?;
    let more: Bytes = [&content[..], &nothing].concat().into();
    let status = locked.ask(&Method::PUT, key, "", more).await?;
    ensure!(status == 200, "HTTP {status}");
    let said = locked.verify().await?;
    names(
        &said,
        &format!("{key} was replaced: it has 3 versions that differ, the newest of 2"),
    );
    Ok(())
}

/// MinIO takes `s3:ListBucket` for `s3:ListBucketVersions`, and `s3:GetObject` for versions; Amazon does not.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_are_enough_for_auditors_and_allow_nothing_else() -> Result<()> {
    let Some(locked) = Locked::written_or_skip().await? else {
        return Ok(());
    };
    let minio = &locked.store.minio;
    let object = format!("/{BUCKET}/{}", locked.keys[0]);
    let bucket = format!("/{BUCKET}");
    let version = format!("versionId={}", locked.versions(&locked.keys[0]).await?[0]);
    for (method, path, query, status) in [
        (Method::GET, &object, "", 200),
        (
            Method::GET,
            &bucket,
            "prefix=logs%2Faudit%2F&versions=",
            200,
        ),
        (Method::GET, &bucket, "versions=", 403),
        (
            Method::GET,
            &bucket,
            "prefix=logs%2Fexecutions%2F&versions=",
            403,
        ),
        (Method::PUT, &object, "", 403),
        (Method::DELETE, &object, "", 403),
        (Method::DELETE, &object, version.as_str(), 403),
        (Method::GET, &bucket, "lifecycle=", 403),
    ] {
        let answer = minio
            .request_as(&locked.auditor, &method, path, query, Bytes::new())
            .await?;
        assert_eq!(answer.status, status, "{method} {path}?{query}");
    }
    Ok(())
}

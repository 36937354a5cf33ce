//! An archive as an agent would have written it, by the agent's own code, put into a store at once: for what would take an
//! agent hours, or would never happen to it.

use std::{collections::BTreeMap, io::Write as _};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::Method;
use k8s_openapi::jiff::Timestamp;
use katonic_log_agent::{
    archive::{
        key,
        ledger::{Addition, Run, Spot},
    },
    assemble::{FileNumber, Record},
    cri::Stream,
    cursor::RouteKey,
    encode::{Format, Heads, Origin, object::Dialect},
    pod::Pod,
    timestamp,
};
use katonic_log_config::{ArchiveLayout, JsonFormat, Parse, bundle::hex_digest};
use sha2::{Digest as _, Sha256};

use crate::receiver::{Minio, Receiver};

/// A store that takes objects, and asks nobody who brings them.
pub trait Keeps {
    /// Keeps an object, whatever was there.
    ///
    /// # Errors
    /// When the store does not take it.
    fn keep(
        &self,
        bucket: &str,
        key: &str,
        content: Vec<u8>,
    ) -> impl Future<Output = Result<()>> + Send;
}

impl Keeps for Minio {
    async fn keep(&self, bucket: &str, key: &str, content: Vec<u8>) -> Result<()> {
        put(self, bucket, key, content).await
    }
}

impl Keeps for Receiver {
    async fn keep(&self, bucket: &str, key: &str, content: Vec<u8>) -> Result<()> {
        let kept = self.change_rules(|protocol| {
            let bucket = protocol.bucket(bucket)?;
            bucket.put(key, &content);
            Some(())
        });
        kept.with_context(|| format!("there is no bucket {bucket}"))
    }
}

/// A container whose log is archived.
#[derive(Clone, Debug)]
pub struct Archive {
    /// Bucket.
    bucket: String,
    /// What stands before the keys; ends in `/`, or is empty.
    prefix: String,
    /// Whose log it is.
    pod: Pod,
    /// The execution.
    execution_id: String,
    /// Labels that its records carry.
    pub labels: BTreeMap<String, String>,
    route: RouteKey,
    run: Run,
    file: String,
    offset: u64,
}

impl Archive {
    /// The first run of the container `run` of a pod, of which nothing is archived.
    pub fn new(bucket: &str, prefix: &str, execution_id: &str, pod: &str) -> Self {
        let pod = Pod {
            namespace: "katonic-compute".to_owned(),
            name: pod.to_owned(),
            uid: format!("uid-of-{pod}"),
            node: "node-1".to_owned(),
        };
        Self::of(
            bucket.to_owned(),
            prefix.to_owned(),
            execution_id.to_owned(),
            pod,
        )
    }

    fn of(bucket: String, prefix: String, execution_id: String, pod: Pod) -> Self {
        let file = hex_digest(pod.uid.as_bytes())[..16].to_owned();
        let container: std::sync::Arc<str> = "run".into();
        let folder = key::folder(
            ArchiveLayout::Executions,
            &pod,
            Some(&execution_id),
            &container,
        );
        let first = Spot {
            file: file.clone(),
            offset: 0,
        };
        Self {
            bucket,
            prefix,
            execution_id,
            labels: BTreeMap::new(),
            route: RouteKey {
                policy_uid: "uid-of-a-policy".into(),
                sink: "archive".into(),
            },
            run: Run::new(&container, 0, folder, first, Some(true)),
            offset: 0,
            pod,
            file,
        }
    }

    /// As another sink of the policy archives it.
    #[must_use]
    pub fn of_sink(mut self, sink: &str) -> Self {
        self.route.sink = sink.into();
        self
    }

    /// The same of another pod, which may have the same name.
    #[must_use]
    pub fn of_pod(self, uid: &str) -> Self {
        let mut pod = self.pod.clone();
        uid.clone_into(&mut pod.uid);
        Self::of(self.bucket, self.prefix, self.execution_id, pod)
    }

    /// The run after its next restart.
    #[must_use]
    pub fn restarted(&self) -> Self {
        let restart = self.run.restart + 1;
        let file = hex_digest(format!("{}/{restart}", self.pod.uid).as_bytes())[..16].to_owned();
        let first = Spot {
            file: file.clone(),
            offset: 0,
        };
        Self {
            run: Run::new(
                &self.run.container,
                restart,
                self.run.folder.clone(),
                first,
                Some(true),
            ),
            offset: 0,
            file,
            ..self.clone()
        }
    }

    /// The lines as an object has them, before compression.
    pub fn records<'l>(
        &self,
        lines: impl IntoIterator<Item = (Timestamp, &'l [u8])>,
    ) -> (u64, Vec<u8>) {
        let origin = Origin {
            namespace: &self.pod.namespace,
            pod: &self.pod.name,
            pod_uid: &self.pod.uid,
            node: &self.pod.node,
            labels: &self.labels,
            execution_id: Some(&self.execution_id),
            container: &self.run.container,
            restart: self.run.restart,
            file_id: &self.file,
        };
        let format = Format::Object(Dialect::Any(JsonFormat::Lines));
        let heads = Heads::new(&format, Parse::Text, &origin);
        let (mut count, mut out, mut offset) = (0, Vec::new(), self.offset);
        for (time, content) in lines {
            let record = Record {
                time: timestamp::Timestamp {
                    seconds: time.as_second(),
                    nanos: time.subsec_nanosecond().unsigned_abs(),
                },
                stream: Stream::Stdout,
                file: FileNumber::default(),
                offset,
                content,
                continues: false,
                continued: false,
                audit: None,
            };
            heads.write(&record, usize::MAX, record.time, &mut out);
            out.push(b'\n');
            offset += content.len() as u64 + 40;
            count += 1;
        }
        (count, out)
    }

    /// Puts the next object into the store; gives its key.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn object<'l>(
        &mut self,
        store: &impl Keeps,
        lines: impl IntoIterator<Item = (Timestamp, &'l [u8])>,
    ) -> Result<String> {
        let (lines, records) = self.records(lines);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&records).context("failed to compress")?;
        let stored = gzip.finish().context("failed to compress")?;
        self.put_object(store, lines, records.len() as u64, stored)
            .await
    }

    /// Puts these bytes into the store as the next object with so many lines.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn put_object(
        &mut self,
        store: &impl Keeps,
        lines: u64,
        bytes: u64,
        stored: Vec<u8>,
    ) -> Result<String> {
        let next = self.offset + bytes;
        let key = key::object(&self.run, &self.route, &self.file, self.offset, next);
        let addition = Addition {
            lines,
            bytes,
            ..Addition::default()
        };
        let last = Spot {
            file: self.file.clone(),
            offset: next,
        };
        self.run = self
            .run
            .clone()
            .with_object(addition, Sha256::digest(&stored).into(), last);
        self.offset = next;
        self.put(store, &key, stored).await
    }

    /// Says in the store that the run is whole; gives the key.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn record(&self, store: &impl Keeps) -> Result<String> {
        let record = self.run.record(&self.pod, Some(&self.execution_id))?;
        let key = key::record(&self.run, &self.route);
        self.put(store, &key, record).await
    }

    async fn put(&self, store: &impl Keeps, key: &str, content: Vec<u8>) -> Result<String> {
        let key = format!("{}{key}", self.prefix);
        store.keep(&self.bucket, &key, content).await?;
        Ok(key)
    }
}

/// Puts an object into a store, whatever was there.
///
/// # Errors
/// When the store does not take it.
pub async fn put(minio: &Minio, bucket: &str, key: &str, content: Vec<u8>) -> Result<()> {
    let path = format!("/{bucket}/{key}");
    let answer = minio
        .request(&Method::PUT, &path, "", Bytes::from(content))
        .await?;
    let said = String::from_utf8_lossy(&answer.body);
    ensure!(
        answer.status == 200,
        "PUT {path}: HTTP {}: {said}",
        answer.status
    );
    Ok(())
}

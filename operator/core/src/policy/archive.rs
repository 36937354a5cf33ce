//! Archives: what the agents are told of a store of objects, that of the policy or that of the installation.

use std::num::NonZeroU32;

use katonic_log_config as config;
use katonic_log_config::{
    ArchiveLayout, BucketName, CredentialKey, Endpoint, KeyPrefix, Region, Store,
};
use katonic_logging_crds as api;
use katonic_logging_crds::{AccessKeySecretRef, SecretKeyRef, sink::MAX_AGE};

use super::{
    Management, Needs, Policy, Reader, Sink, Told, Usage, Violation, connection::Findings,
};
use crate::{
    execution::Location,
    installation::{Installation, LogStore},
    retention::Retention,
};

/// Keys of a Secret with an access key, as `ObjectBucketClaims` have them and AWS's own tools name them.
pub const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
/// See [`ACCESS_KEY_ID`].
pub const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// The region of stores that have none.
pub(crate) const REGION: &str = "us-east-1";

/// Bytes of an object before compression: of log lines some hundred thousand bytes after it.
const OBJECT_BYTES: NonZeroU32 = NonZeroU32::new(16_000_000).unwrap();

/// How long a line waits for others, in milliseconds.
const OBJECT_AGE_MS: NonZeroU32 = NonZeroU32::new(60_000).unwrap();

/// An archive in the store that the installation names, which may be another one tomorrow.
#[derive(Clone, Debug, PartialEq)]
pub struct OfInstallation {
    /// Its place among the policy's sinks.
    pub position: usize,
    /// Name of the sink.
    pub name: String,
    /// Whether it gets nothing but what the others could not deliver.
    pub is_fallback: bool,
    cut: Cut,
}

/// What is archived, and when an object is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cut {
    layout: ArchiveLayout,
    max_bytes: NonZeroU32,
    max_age_ms: NonZeroU32,
}

impl Cut {
    fn of(self, (s3, connection): (config::S3, config::Connection)) -> config::ObjectStorage {
        config::ObjectStorage {
            store: Store::S3(s3),
            layout: self.layout,
            max_bytes: self.max_bytes,
            max_age_ms: self.max_age_ms,
            connection,
        }
    }
}

impl Policy {
    /// The policy with the archives that are in the installation's store.
    ///
    /// # Errors
    /// When the installation names no store that can be used.
    pub fn resolved(&self, installation: &Installation) -> Result<Self, Vec<Violation>> {
        let mut policy = self.clone();
        let mut violations = Vec::new();
        for archive in policy.of_installation.drain(..) {
            match resolve(&archive, &installation.log_store) {
                Ok(sink) => policy
                    .sinks
                    .insert(archive.position.min(policy.sinks.len()), sink),
                Err(message) => violations.push(Violation {
                    path: format!(
                        "spec.sinks[{}].objectStorage.installation",
                        archive.position
                    ),
                    message,
                }),
            }
        }
        violations.extend(policy.outlasted());
        if violations.is_empty() {
            Ok(policy)
        } else {
            Err(violations)
        }
    }

    /// What is wrong where objects are locked for longer than they are to be kept.
    pub(super) fn outlasted(&self) -> Option<Violation> {
        let retention = self.retention();
        let locks = self.sinks.iter().filter_map(|sink| {
            let config::Target::ObjectStorage(storage) = &sink.config.target else {
                return None;
            };
            let Store::S3(s3) = &storage.store;
            Some((&sink.config.name, s3.object_lock?.days))
        });
        let (sink, days) = locks
            .filter(|(_, days)| Retention::Days(*days) > retention)
            .max_by_key(|(_, days)| *days)?;
        Some(Violation {
            path: "spec.retention".to_owned(),
            message: format!(
                "is {retention}, and sink {sink} locks each object for {days} days, in which nothing can delete it: raise retention, or lower objectLock.days"
            ),
        })
    }
}

fn resolve(archive: &OfInstallation, store: &LogStore) -> Result<Sink, String> {
    let store = match store {
        LogStore::S3(store) => store,
        LogStore::None => {
            return Err("the installation names no store of logs: set blob_storage.logs and logging.logStore in it, or spell out s3 here".to_owned());
        }
        LogStore::Unusable(reason) => {
            return Err(format!(
                "the installation's store of logs cannot be used: {reason}"
            ));
        }
    };
    let mut findings = Findings::default();
    let s3 = read(store, &mut findings)?;
    Ok(Sink {
        kind: "objectStorage",
        is_fallback: archive.is_fallback,
        config: config::Sink::new(
            &archive.name,
            config::Target::ObjectStorage(archive.cut.of(s3)),
        ),
        needs: findings.needs,
        warnings: findings.warnings,
        delivered_means: findings.delivered_means,
        management: findings.management,
    })
}

/// Where a store is.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn location(store: &api::S3Store) -> Result<Location, String> {
    let (s3, _) = read(store, &mut Findings::default())?;
    Ok(Location {
        endpoint: s3.endpoint,
        region: s3.region,
        bucket: s3.bucket,
        prefix: s3.prefix,
    })
}

/// What is wrong with a store that the installation names.
pub(crate) fn check(store: &api::S3Store) -> Result<(), String> {
    read(store, &mut Findings::default()).map(drop)
}

fn read(
    store: &api::S3Store,
    findings: &mut Findings,
) -> Result<(config::S3, config::Connection), String> {
    let mut reader = Reader::default();
    let read = reader.s3("", store, findings);
    let violations: Vec<String> = reader
        .violations
        .into_iter()
        .map(|Violation { path, message }| format!("{} {message}", path.trim_start_matches('.')))
        .collect();
    read.map_err(|Told| violations.join("; "))
}

impl Reader {
    /// An archive of the installation, if the sink is one.
    pub(super) fn of_installation(
        &mut self,
        path: &str,
        position: usize,
        sink: &api::Sink,
        layout: ArchiveLayout,
        is_fallback: bool,
    ) -> Option<Result<OfInstallation, Told>> {
        let archive = sink.object_storage.as_ref()?;
        if archive.installation != Some(true) || archive.s3.is_some() {
            return None;
        }
        // Whatever else it is, is told as of every sink.
        let alone = api::Sink {
            name: sink.name.clone(),
            object_storage: Some(archive.clone()),
            ..api::Sink::default()
        };
        if *sink != alone {
            return None;
        }
        let cut = self.cut(&format!("{path}.objectStorage"), archive, layout);
        Some(cut.map(|cut| OfInstallation {
            position,
            name: sink.name.clone(),
            is_fallback,
            cut,
        }))
    }

    pub(super) fn object_storage(
        &mut self,
        path: &str,
        sink: &api::ObjectStorageSink,
        layout: ArchiveLayout,
        findings: &mut Findings,
    ) -> Result<config::ObjectStorage, Told> {
        let cut = self.cut(path, sink, layout);
        match (&sink.s3, sink.installation) {
            (Some(s3), None | Some(false)) => {
                let s3 = self.s3(&format!("{path}.s3"), s3, findings)?;
                Ok(cut?.of(s3))
            }
            _ => Err(self.violation(
                path,
                "an archive is in exactly one store: write installation: true for the one that the installation names, or spell out s3",
            )),
        }
    }

    fn cut(
        &mut self,
        path: &str,
        sink: &api::ObjectStorageSink,
        layout: ArchiveLayout,
    ) -> Result<Cut, Told> {
        let objects = sink.objects.clone().unwrap_or_default();
        let max_bytes = objects
            .max_bytes
            .map(|bytes| self.positive(format!("{path}.objects.maxBytes"), bytes))
            .transpose();
        let max_age_ms = objects
            .max_age
            .map(|text| self.milliseconds(format!("{path}.objects.maxAge"), &text, MAX_AGE))
            .transpose();
        Ok(Cut {
            layout,
            max_bytes: max_bytes?.unwrap_or(OBJECT_BYTES),
            max_age_ms: max_age_ms?.unwrap_or(OBJECT_AGE_MS),
        })
    }

    fn s3(
        &mut self,
        path: &str,
        store: &api::S3Store,
        findings: &mut Findings,
    ) -> Result<(config::S3, config::Connection), Told> {
        if store.region.is_none() && store.endpoint.is_none() {
            return Err(self.violation(
                path,
                "needs the region of the bucket, for example eu-central-1, or the endpoint of a store that is not Amazon's",
            ));
        }
        let bucket = self.take(
            format!("{path}.bucket"),
            BucketName::try_from(store.bucket.clone()),
        );
        let region = store.region.as_deref().unwrap_or(REGION);
        let region = self.take(
            format!("{path}.region"),
            Region::try_from(region.to_owned()),
        );
        let prefix = store.prefix.clone().unwrap_or_default();
        let prefix = self.take(format!("{path}.prefix"), KeyPrefix::try_from(prefix));
        let agents = &store.credentials_secret_ref;
        let of_agents = format!("{path}.credentialsSecretRef");
        let access_key = self.access_key(&of_agents, agents, &mut findings.needs);
        let management = store.management_secret_ref.as_ref().map(|secret| {
            if secret == agents {
                findings.warnings.push(
                    "managementSecretRef is the access key of the agents, which may then change the bucket's rules: give the operator a key of its own".into(),
                );
            }
            self.management(&format!("{path}.managementSecretRef"), secret)
        });
        let connection =
            self.connection(path, &store.connection, config::Compression::Gzip, findings);
        let region = region?;
        let endpoint = match &store.endpoint {
            Some(endpoint) => self.endpoint(format!("{path}.endpoint"), endpoint, findings),
            None => self.take(format!("{path}.region"), amazon(&region)),
        };
        let (access_key_id, secret_access_key) = access_key?;
        findings.management = management.transpose()?;
        let object_lock = store.object_lock.as_ref().map(|lock| {
            let days = self.positive(format!("{path}.objectLock.days"), lock.days)?;
            let mode = match lock.mode {
                api::ObjectLockMode::Governance => config::LockMode::Governance,
                api::ObjectLockMode::Compliance => config::LockMode::Compliance,
            };
            Ok::<_, Told>(config::ObjectLock { mode, days })
        });
        let s3 = config::S3 {
            endpoint: endpoint?,
            region,
            bucket: bucket?,
            prefix: prefix?,
            access_key_id,
            secret_access_key,
            object_lock: object_lock.transpose()?,
        };
        Ok((s3, connection?))
    }

    fn management(&mut self, path: &str, secret: &AccessKeySecretRef) -> Result<Management, Told> {
        let mut needs = Needs::default();
        let (access_key_id, secret_access_key) = self.access_key(path, secret, &mut needs)?;
        Ok(Management {
            access_key_id,
            secret_access_key,
            needs,
        })
    }

    fn access_key(
        &mut self,
        path: &str,
        secret: &AccessKeySecretRef,
        needs: &mut Needs,
    ) -> Result<(CredentialKey, CredentialKey), Told> {
        let mut key = |key: &str| {
            let secret = SecretKeyRef {
                name: secret.name.clone(),
                key: key.to_owned(),
            };
            self.credential(path.to_owned(), &secret, Usage::AccessKey, needs)
        };
        let access_key_id = key(ACCESS_KEY_ID);
        let secret_access_key = key(SECRET_ACCESS_KEY);
        Ok((access_key_id?, secret_access_key?))
    }
}

/// Amazon's own address (AWS: "Amazon S3 endpoints and quotas"); that of China is another domain.
pub(crate) fn amazon(region: &Region) -> Result<Endpoint, config::endpoint::InvalidEndpoint> {
    let region = region.as_str();
    let domain = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    Endpoint::try_from(format!("https://s3.{region}.{domain}"))
}

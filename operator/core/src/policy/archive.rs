//! Archives: what the agents are told of a store of objects, that of the policy or that of the installation.

use std::num::NonZeroU32;

use katonic_log_config as config;
use katonic_log_config::{
    ArchiveLayout, AzureAccount, AzureContainer, AzureCredential, BucketName, CredentialKey,
    Endpoint, GcsBucketName, KeyPrefix, Region, Store,
};
use katonic_logging_crds as api;
use katonic_logging_crds::{AccessKeySecretRef, SecretKeyRef, sink::MAX_AGE};

use super::{Needs, Policy, Reader, Sink, Told, Usage, Violation, connection::Findings};
use crate::{
    execution::location::Reach,
    installation::{Installation, LogStore},
    retention::Retention,
};

/// Keys of a Secret with an access key, as `ObjectBucketClaims` have them and AWS's own tools name them.
pub const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
/// See [`ACCESS_KEY_ID`].
pub const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// Key of a Secret with the key file of a service account, as Google's documentation names the file.
pub const SERVICE_ACCOUNT_KEY: &str = "key.json";

/// Keys of a Secret with what opens a storage account, as Azure's own tools name them.
pub const STORAGE_KEY: &str = "AZURE_STORAGE_KEY";
/// See [`STORAGE_KEY`].
pub const SAS_TOKEN: &str = "AZURE_STORAGE_SAS_TOKEN";

/// Google's own address (Google: "XML API").
const GOOGLE: &str = "https://storage.googleapis.com";

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
    fn of(self, (store, connection): (Store, config::Connection)) -> config::ObjectStorage {
        config::ObjectStorage {
            store,
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
            let Store::S3(s3) = &storage.store else {
                return None;
            };
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
    let mut findings = Findings::default();
    let store = read(store, &mut findings)?;
    Ok(Sink {
        kind: "objectStorage",
        is_fallback: archive.is_fallback,
        config: config::Sink::new(
            &archive.name,
            config::Target::ObjectStorage(archive.cut.of(store)),
        ),
        needs: findings.needs,
        warnings: findings.warnings,
        delivered_means: findings.delivered_means,
        management: findings.management,
    })
}

/// A store that the installation names, and how it is reached, for who only reads: agents and operator have credentials of their
/// own.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn of_reader(store: &LogStore) -> Result<(Store, Reach), String> {
    let opened_by_nobody = match store {
        LogStore::S3(store) => LogStore::S3(Box::new(api::S3Store {
            credentials_secret_ref: None,
            management_secret_ref: None,
            ..(**store).clone()
        })),
        LogStore::Gcs(store) => LogStore::Gcs(Box::new(api::GcsStore {
            credentials_secret_ref: None,
            management_secret_ref: None,
            ..(**store).clone()
        })),
        LogStore::Azure(store) => LogStore::Azure(Box::new(api::AzureStore {
            credentials_secret_ref: None,
            management_secret_ref: None,
            subscription_id: None,
            resource_group: None,
            management_endpoint: None,
            authority_host: None,
            ..(**store).clone()
        })),
        LogStore::None | LogStore::Unusable(_) => store.clone(),
    };
    let mut findings = Findings::default();
    let (store, connection) = read(&opened_by_nobody, &mut findings)?;
    let needs = findings.needs;
    Ok((store, Reach { connection, needs }))
}

/// What is wrong with a store that the installation names.
pub(crate) fn check(store: &LogStore) -> Result<(), String> {
    read(store, &mut Findings::default()).map(drop)
}

fn read(store: &LogStore, findings: &mut Findings) -> Result<(Store, config::Connection), String> {
    let mut reader = Reader::default();
    let read = match store {
        LogStore::S3(store) => reader.s3("", store, findings).map(in_s3),
        LogStore::Gcs(store) => reader.gcs("", store, findings),
        LogStore::Azure(store) => reader.azure("", store, findings),
        LogStore::None => {
            return Err("the installation names no store of logs: set blob_storage.logs and logging.logStore in it, or spell out a store here".to_owned());
        }
        LogStore::Unusable(reason) => {
            return Err(format!(
                "the installation's store of logs cannot be used: {reason}"
            ));
        }
    };
    reader.outcome(read)
}

impl Reader {
    /// What was read, or what is wrong with it in words.
    fn outcome<T>(self, read: Result<T, Told>) -> Result<T, String> {
        let violations: Vec<String> = self
            .violations
            .into_iter()
            .map(|Violation { path, message }| {
                format!("{} {message}", path.trim_start_matches('.'))
            })
            .collect();
        // What is told is wrong, also where there is a value.
        match read {
            Ok(read) if violations.is_empty() => Ok(read),
            _ => Err(violations.join("; ")),
        }
    }

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
        let of_installation = api::ObjectStorageSink {
            installation: Some(true),
            s3: None,
            gcs: None,
            azure: None,
            objects: archive.objects.clone(),
        };
        if *archive != of_installation {
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
        let elsewhere = sink.installation == Some(true);
        let store = match (&sink.s3, &sink.gcs, &sink.azure) {
            (Some(s3), None, None) if !elsewhere => {
                self.s3(&format!("{path}.s3"), s3, findings).map(in_s3)
            }
            (None, Some(gcs), None) if !elsewhere => {
                self.gcs(&format!("{path}.gcs"), gcs, findings)
            }
            (None, None, Some(azure)) if !elsewhere => {
                self.azure(&format!("{path}.azure"), azure, findings)
            }
            _ => Err(self.violation(
                path,
                "an archive is in exactly one store: write installation: true for the one that the installation names, or spell out one of s3, gcs and azure",
            )),
        };
        Ok(cut?.of(store?))
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
        let prefix = self.prefix(path, store.prefix.as_ref());
        let agents = store.credentials_secret_ref.as_ref();
        let access_key = match agents {
            Some(secret) => {
                let path = format!("{path}.credentialsSecretRef");
                self.access_key(&path, secret, &mut findings.needs)
                    .map(Some)
            }
            None => Ok(by_identity(findings)),
        };
        let management = self.manages_s3(path, store, findings);
        let connection =
            self.connection(path, &store.connection, config::Compression::Gzip, findings);
        let region = region?;
        let endpoint = match &store.endpoint {
            Some(endpoint) => self.endpoint(format!("{path}.endpoint"), endpoint, findings),
            None => self.take(format!("{path}.region"), amazon(&region)),
        };
        findings.management = management?;
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
            access_key: access_key?,
            object_lock: object_lock.transpose()?,
        };
        Ok((s3, connection?))
    }

    pub(super) fn access_key(
        &mut self,
        path: &str,
        secret: &AccessKeySecretRef,
        needs: &mut Needs,
    ) -> Result<config::AccessKey, Told> {
        let mut key = |key: &str| self.opens(path, &secret.name, key, Usage::AccessKey, needs);
        let (id, secret) = (key(ACCESS_KEY_ID), key(SECRET_ACCESS_KEY));
        Ok(config::AccessKey {
            id: id?,
            secret: secret?,
        })
    }

    /// A key of the Secret that opens a store; `path` is that of its field.
    pub(super) fn opens(
        &mut self,
        path: &str,
        secret: &str,
        key: &str,
        usage: Usage,
        needs: &mut Needs,
    ) -> Result<CredentialKey, Told> {
        let secret = SecretKeyRef {
            name: secret.to_owned(),
            key: key.to_owned(),
        };
        self.credential(path.to_owned(), &secret, usage, needs)
    }

    fn gcs(
        &mut self,
        path: &str,
        store: &api::GcsStore,
        findings: &mut Findings,
    ) -> Result<(Store, config::Connection), Told> {
        let bucket = self.take(
            format!("{path}.bucket"),
            GcsBucketName::try_from(store.bucket.clone()),
        );
        let prefix = self.prefix(path, store.prefix.as_ref());
        let endpoint = store.endpoint.as_deref().unwrap_or(GOOGLE);
        let endpoint = self.endpoint(format!("{path}.endpoint"), endpoint, findings);
        let service_account_key = match &store.credentials_secret_ref {
            Some(secret) => {
                let key = secret.key.as_deref().unwrap_or(SERVICE_ACCOUNT_KEY);
                let path = format!("{path}.credentialsSecretRef");
                let needs = &mut findings.needs;
                self.opens(&path, &secret.name, key, Usage::ServiceAccountKey, needs)
                    .map(Some)
            }
            None => Ok(by_identity(findings)),
        };
        let connection =
            self.connection(path, &store.connection, config::Compression::Gzip, findings);
        findings.management = self.manages_gcs(path, store, findings)?;
        let gcs = config::Gcs {
            endpoint: endpoint?,
            bucket: bucket?,
            prefix: prefix?,
            service_account_key: service_account_key?,
        };
        Ok((Store::Gcs(gcs), connection?))
    }

    fn azure(
        &mut self,
        path: &str,
        store: &api::AzureStore,
        findings: &mut Findings,
    ) -> Result<(Store, config::Connection), Told> {
        let account = self.take(
            format!("{path}.account"),
            AzureAccount::try_from(store.account.clone()),
        );
        let container = self.take(
            format!("{path}.container"),
            AzureContainer::try_from(store.container.clone()),
        );
        let prefix = self.prefix(path, store.prefix.as_ref());
        if store.prefix.as_deref().is_some_and(ends_with_dot) {
            self.violation(
                format!("{path}.prefix"),
                "has a part that ends with a dot, which Azure does not take: remove the dot",
            );
        }
        let credential = match &store.credentials_secret_ref {
            Some(secret) => self.storage_account(path, secret, findings).map(Some),
            None => Ok(by_identity(findings)),
        };
        let connection =
            self.connection(path, &store.connection, config::Compression::Gzip, findings);
        findings.management = self.manages_azure(path, store, findings)?;
        let account = account?;
        let endpoint = match &store.endpoint {
            Some(endpoint) => self.endpoint(format!("{path}.endpoint"), endpoint, findings),
            None => self.take(format!("{path}.account"), microsoft(&account)),
        };
        let azure = config::Azure {
            endpoint: endpoint?,
            account,
            container: container?,
            prefix: prefix?,
            credential: credential?,
        };
        Ok((Store::Azure(azure), connection?))
    }

    fn storage_account(
        &mut self,
        path: &str,
        secret: &api::AzureCredentialsSecretRef,
        findings: &mut Findings,
    ) -> Result<AzureCredential, Told> {
        let path = format!("{path}.credentialsSecretRef");
        let needs = &mut findings.needs;
        let mut opens = |key, usage| self.opens(&path, &secret.name, key, usage, needs);
        match secret.key {
            None | Some(api::AzureCredential::SharedKey) => {
                opens(STORAGE_KEY, Usage::StorageKey).map(AzureCredential::SharedKey)
            }
            Some(api::AzureCredential::SasToken) => {
                opens(SAS_TOKEN, Usage::SasToken).map(AzureCredential::SasToken)
            }
        }
    }

    fn prefix(&mut self, path: &str, prefix: Option<&String>) -> Result<KeyPrefix, Told> {
        let prefix = prefix.cloned().unwrap_or_default();
        self.take(format!("{path}.prefix"), KeyPrefix::try_from(prefix))
    }
}

fn in_s3((s3, connection): (config::S3, config::Connection)) -> (Store, config::Connection) {
    (Store::S3(s3), connection)
}

/// No Secret: the identity of the pod opens the store.
fn by_identity<T>(findings: &mut Findings) -> Option<T> {
    findings.warnings.push("without credentialsSecretRef each pod writes with the identity of its service account, and whatever else runs in the pod can write, too: allow it to create objects and nothing else".into());
    None
}

/// Whether it is the beginning of names that Azure does not take (Azure: "Naming and Referencing Containers, Blobs, and Metadata").
pub(crate) fn ends_with_dot(prefix: &str) -> bool {
    prefix.split('/').any(|part| part.ends_with('.'))
}

/// Google's own address.
pub(crate) fn google() -> Result<Endpoint, config::endpoint::InvalidEndpoint> {
    Endpoint::try_from(GOOGLE.to_owned())
}

/// Azure's own address (Azure: "Storage account endpoints").
pub(crate) fn microsoft(
    account: &AzureAccount,
) -> Result<Endpoint, config::endpoint::InvalidEndpoint> {
    Endpoint::try_from(format!(
        "https://{}.blob.core.windows.net",
        account.as_str()
    ))
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

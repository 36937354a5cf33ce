//! The settings of whatever keeps logs, a bucket, a storage account, an index or an account, over the protocol of whoever runs it: reads and writes them. Decides
//! nothing, and reads no log.

mod azure;
pub mod connection;
mod gcs;
mod https;
mod new_relic;
mod s3;
mod splunk;
mod token;

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, header};
use katonic_log_config::Store;
use katonic_logging_core::{
    policy::ManagedSetting,
    retention::{
        BucketId, BucketLock, Custody, Identity, Subject, Trouble, Versioning, lifecycle::Lifecycle,
    },
};

/// Logs that are younger are of the policy that is to be looked after from now on, and not of one before.
const NEW: Duration = Duration::from_hours(24);

/// A bucket that can be asked.
#[derive(Debug)]
pub enum Bucket {
    /// Of S3.
    S3(Box<s3::Bucket>),
    /// Of Google's.
    Gcs(Box<gcs::Bucket>),
    /// A storage account of Azure's.
    Azure(Box<azure::Account>),
    /// An index of Splunk's.
    Splunk(splunk::Index),
    /// An account of New Relic's.
    NewRelic(new_relic::Account),
}

/// Lifecycle rules, and what goes with them from one answer to the next request.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The rules.
    pub lifecycle: Lifecycle,
    with: With,
}

#[derive(Clone, Debug)]
enum With {
    S3(s3::Rules),
    Gcs { metageneration: String },
    Azure,
    Setting,
}

/// What came of writing rules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// They are there.
    Done,
    /// Somebody else has changed the bucket since it was read, so nothing was written.
    Outrun,
}

impl Bucket {
    /// A bucket; nothing is asked yet.
    ///
    /// # Errors
    /// When it cannot be reached as it is written.
    pub fn new(custody: &Custody) -> Result<Self, Trouble> {
        match (&custody.subject, &custody.access.identity) {
            (Subject::Store(Store::S3(s3)), Identity::AccessKey { id, secret }) => {
                let bucket = s3::Bucket::new(custody, s3, id, secret)?;
                Ok(Self::S3(Box::new(bucket)))
            }
            (Subject::Store(Store::Gcs(gcs)), Identity::ServiceAccount(key)) => {
                Ok(Self::Gcs(Box::new(gcs::Bucket::new(custody, gcs, key)?)))
            }
            (
                Subject::Store(Store::Azure(azure)),
                Identity::ServicePrincipal {
                    tenant,
                    client,
                    secret,
                    account,
                },
            ) => {
                let principal = token::ServicePrincipal {
                    tenant,
                    client,
                    secret,
                };
                let account = azure::Account::new(custody, azure, account, &principal)?;
                Ok(Self::Azure(Box::new(account)))
            }
            (
                Subject::Setting(setting @ ManagedSetting::NewRelic { .. }),
                Identity::Secret(secret),
            ) => new_relic::Account::new(custody, setting, secret).map(Self::NewRelic),
            (Subject::Setting(setting), Identity::Secret(secret)) => {
                splunk::Index::new(custody, setting, secret).map(Self::Splunk)
            }
            _ => Err(Trouble::unusable(
                &custody.id,
                "its credentials are those of another kind of store",
            )),
        }
    }

    /// Reads its lifecycle rules.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn rules(&mut self) -> Result<Rules, Trouble> {
        match self {
            Self::S3(bucket) => {
                let rules = bucket.rules().await?;
                Ok(Rules {
                    lifecycle: Lifecycle::S3(rules.configuration.clone()),
                    with: With::S3(rules),
                })
            }
            Self::Gcs(bucket) => {
                let bucket = bucket.read().await?;
                Ok(Rules {
                    lifecycle: Lifecycle::Gcs(bucket.rules),
                    with: With::Gcs {
                        metageneration: bucket.metageneration,
                    },
                })
            }
            Self::Azure(account) => Ok(Rules {
                lifecycle: Lifecycle::Azure(account.rules().await?),
                with: With::Azure,
            }),
            Self::Splunk(index) => Ok(Rules {
                lifecycle: Lifecycle::Setting(index.read().await?),
                with: With::Setting,
            }),
            Self::NewRelic(account) => Ok(Rules {
                lifecycle: Lifecycle::Setting(account.read().await?),
                with: With::Setting,
            }),
        }
    }

    /// Writes them all, in place of those that are there. `read` are those that they were made of.
    ///
    /// # Errors
    /// When the store does not take them.
    pub async fn write_rules(
        &mut self,
        lifecycle: &Lifecycle,
        read: &Rules,
    ) -> Result<Written, Trouble> {
        match (self, lifecycle, &read.with) {
            (Self::S3(bucket), Lifecycle::S3(configuration), With::S3(rules)) => {
                bucket.write_rules(configuration, rules).await?;
                Ok(Written::Done)
            }
            (Self::Gcs(bucket), Lifecycle::Gcs(rules), With::Gcs { metageneration }) => {
                bucket.write(rules, metageneration).await
            }
            (Self::Azure(account), Lifecycle::Azure(rules), With::Azure) => {
                account.write(rules).await?;
                Ok(Written::Done)
            }
            (Self::Splunk(index), Lifecycle::Setting(setting), With::Setting) => {
                index.write(setting).await?;
                Ok(Written::Done)
            }
            (Self::NewRelic(account), Lifecycle::Setting(setting), With::Setting) => {
                account.write(setting).await?;
                Ok(Written::Done)
            }
            (bucket, ..) => Err(Trouble::unusable(
                bucket.id(),
                "its rules are those of another kind of store",
            )),
        }
    }

    /// Reads whether it keeps versions, and how long it locks each object by itself.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn safeguards(&mut self) -> Result<(Versioning, Option<BucketLock>), Trouble> {
        match self {
            Self::S3(bucket) => Ok((bucket.versioning().await?, bucket.lock().await?)),
            Self::Gcs(bucket) => {
                let bucket = bucket.read().await?;
                Ok((bucket.versioning, bucket.lock))
            }
            Self::Azure(account) => Ok((account.versioning().await?, None)),
            Self::Splunk(_) | Self::NewRelic(_) => Ok((Versioning::Never, None)),
        }
    }

    /// Whether there are logs of an earlier day below a prefix. Where there are more than a listing has at once, there are.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn has_earlier_logs(&mut self, prefix: &str) -> Result<bool, Trouble> {
        match self {
            Self::S3(bucket) => bucket.has_earlier_logs(prefix).await,
            Self::Gcs(bucket) => bucket.has_earlier_logs(prefix).await,
            Self::Azure(account) => account.has_earlier_logs(prefix).await,
            // Whoever sends there, what is there is somebody's.
            Self::Splunk(_) | Self::NewRelic(_) => Ok(true),
        }
    }

    fn id(&self) -> &BucketId {
        match self {
            Self::S3(bucket) => bucket.id(),
            Self::Gcs(bucket) => bucket.id(),
            Self::Azure(account) => account.id(),
            Self::Splunk(index) => index.id(),
            Self::NewRelic(account) => account.id(),
        }
    }
}

/// Whether something was stored before today. One of which nobody knows is not taken for a new one.
fn is_earlier(stored: Option<SystemTime>, headers: &HeaderMap) -> bool {
    let now = date(headers).unwrap_or_else(SystemTime::now);
    stored.is_none_or(|stored| now.duration_since(stored).is_ok_and(|age| age > NEW))
}

/// What time it is for the store.
fn date(headers: &HeaderMap) -> Option<SystemTime> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    httpdate::parse_http_date(text.trim()).ok()
}

/// A part of an address, with everything encoded but what RFC 3986 §2.3 leaves unreserved.
pub fn encode(value: &str) -> String {
    value.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

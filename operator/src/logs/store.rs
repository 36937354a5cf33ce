//! The store of an archive, as a reader sees it: lists and gets. Writes nothing.

mod client;
mod credentials;
mod refusal;
#[cfg(test)]
mod tests;
mod versions;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use k8s_openapi::jiff::Timestamp;
use katonic_log_config::{Connection, CredentialKey};
use katonic_logging_core::{
    credential::Credential,
    execution::{Location, Page, location::Bucket},
};
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt as _, RetryConfig, aws::AmazonS3Builder,
    azure::MicrosoftAzureBuilder, client::HttpConnector as _, gcp::GoogleCloudStorageBuilder,
    path::Path,
};
use tokio::sync::Semaphore;

use crate::cache::chain;
use client::Connector;
pub use credentials::{Credentials, needs};
pub use refusal::Error;
use refusal::{Asked, judge};
use versions::Versioned;

/// For how long a request is repeated that fails in a way that may pass.
const RETRIES: (usize, Duration) = (6, Duration::from_mins(1));

/// Requests at the same time.
const REQUESTS: usize = 16;

/// Most bytes of a completeness record: it has some hundred.
const RECORD: u64 = 1 << 20;

/// How a store is reached.
#[derive(Debug, Default)]
pub struct Way {
    /// As agents reach it.
    pub connection: Connection,
    /// The credentials that this names.
    pub credentials: BTreeMap<CredentialKey, Credential>,
    /// Certificates (PEM) of the authorities to trust instead.
    pub authorities: Option<Vec<u8>>,
}

/// A store that can be asked.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    /// Asks for versions of objects, where the store is S3.
    versioned: Option<Versioned>,
    /// Where it is.
    pub location: Location,
    requests: Arc<Semaphore>,
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client holds what opens the store.
        formatter
            .debug_struct("Store")
            .field("location", &self.location)
            .finish_non_exhaustive()
    }
}

/// What a listing says of an object.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// When it was stored.
    pub stored: Timestamp,
}

impl Store {
    /// A store; nothing is asked yet.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn new(location: Location, reader: Credentials, way: &Way) -> Result<Self, Error> {
        let connector = Connector::new(&location.endpoint, way);
        let connector = connector.map_err(|error| Error::Unusable(error.to_string()))?;
        let (inner, versioned) = client(&location, reader, connector)?;
        Ok(Self {
            inner,
            versioned,
            location,
            requests: Arc::new(Semaphore::new(REQUESTS)),
        })
    }

    /// Everything whose key begins with `prefix`, which ends in `/`.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed, Error>> {
        let prefix = match Path::parse(prefix) {
            Ok(prefix) => prefix,
            Err(error) => {
                let error = Error::Unusable(chain(&error));
                return futures::stream::once(async { Err(error) }).boxed();
            }
        };
        let store = self.clone();
        let listed = self.inner.list(Some(&prefix));
        let listed = listed.map_err(move |error| judge(&store.location, &error, Asked::List));
        let listed = listed.map_ok(|object| Listed {
            key: object.location.to_string(),
            size: object.size,
            stored: Timestamp::from_millisecond(object.last_modified.timestamp_millis())
                .unwrap_or(Timestamp::MAX),
        });
        listed.boxed()
    }

    /// All versions of everything whose key begins with `prefix`, in parts; none where the store is not S3.
    pub fn versions(&self, prefix: &str) -> Option<BoxStream<'static, Result<Page, Error>>> {
        let versioned = self.versioned.clone()?;
        Some(versioned.list(self.location.clone(), prefix.to_owned()))
    }

    /// Bytes of an object.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn bytes(&self, key: &str, range: std::ops::Range<u64>) -> Result<Bytes, Error> {
        let path = Path::parse(key).map_err(|error| Error::Unusable(chain(&error)))?;
        // Closed by nobody.
        let _permit = self.requests.acquire().await;
        let bytes = self.inner.get_range(&path, range).await;
        bytes.map_err(|error| judge(&self.location, &error, Asked::Get))
    }

    /// All of a small object.
    ///
    /// # Errors
    /// When it does not come, or is not small.
    pub async fn record(&self, key: &str) -> Result<Bytes, Error> {
        let path = Path::parse(key).map_err(|error| Error::Unusable(chain(&error)))?;
        let _permit = self.requests.acquire().await;
        let judge = |error: object_store::Error| judge(&self.location, &error, Asked::Get);
        let found = self.inner.get(&path).await.map_err(judge)?;
        if found.meta.size > RECORD {
            return Err(Error::Unusable(format!("it has {} bytes", found.meta.size)));
        }
        found.bytes().await.map_err(judge)
    }
}

/// The client of the vendor. What goes wrong with credentials is said without repeating them, as the client might.
fn client(
    location: &Location,
    reader: Credentials,
    connector: Connector,
) -> Result<(Arc<dyn ObjectStore>, Option<Versioned>), Error> {
    let endpoint = location.endpoint.to_string();
    let endpoint = endpoint.trim_end_matches('/');
    let retry = RetryConfig {
        max_retries: RETRIES.0,
        retry_timeout: RETRIES.1,
        ..RetryConfig::default()
    };
    match (&location.bucket, reader) {
        (Bucket::S3 { name, region }, Credentials::S3(reader)) => {
            let unusable = |error: object_store::Error| Error::Unusable(chain(&error));
            let client = connector.connect(&ClientOptions::default());
            let client = client.map_err(unusable)?;
            let builder = AmazonS3Builder::new();
            let store = reader
                .into_iter()
                .fold(builder, |builder, (key, value)| {
                    builder.with_config(key, value)
                })
                .with_endpoint(endpoint)
                .with_region(region.as_str())
                .with_bucket_name(name.as_str())
                .with_virtual_hosted_style_request(false)
                .with_allow_http(location.endpoint.is_plain_text())
                .with_http_connector(connector)
                .with_retry(retry)
                .build();
            let store = Arc::new(store.map_err(unusable)?);
            let versioned = Versioned::new(client, Arc::clone(&store));
            Ok((store, Some(versioned)))
        }
        (Bucket::Gcs(name), Credentials::Gcs(reader)) => {
            let builder = GoogleCloudStorageBuilder::new();
            let store = reader
                .into_iter()
                .fold(builder, |builder, (key, value)| {
                    builder.with_config(key, value)
                })
                .with_base_url(endpoint)
                .with_bucket_name(name.as_str())
                .with_http_connector(connector)
                .with_retry(retry)
                .build();
            let unusable = |_| {
                Error::UnusableCredentials(
                    "private_key in the key file is no RSA key in PEM: make a new key with `gcloud iam service-accounts keys create`".to_owned(),
                )
            };
            Ok((Arc::new(store.map_err(unusable)?), None))
        }
        (Bucket::Azure { account, container }, Credentials::Azure(reader)) => {
            let builder = MicrosoftAzureBuilder::new();
            let store = reader
                .into_iter()
                .fold(builder, |builder, (key, value)| {
                    builder.with_config(key, value)
                })
                .with_endpoint(endpoint.to_owned())
                .with_account(account.as_str())
                .with_container_name(container.as_str())
                .with_allow_http(location.endpoint.is_plain_text())
                .with_http_connector(connector)
                .with_retry(retry)
                .build();
            let unusable = |_| {
                Error::UnusableCredentials(
                    "AZURE_STORAGE_KEY is no key of a storage account in Base64, or AZURE_STORAGE_SAS_TOKEN no shared access signature".to_owned(),
                )
            };
            Ok((Arc::new(store.map_err(unusable)?), None))
        }
        _ => Err(Error::Unusable(
            "its credentials are those of another kind of store".to_owned(),
        )),
    }
}

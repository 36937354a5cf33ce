//! The store of an archive, as a reader sees it: lists and gets. Writes nothing.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream::BoxStream};
use k8s_openapi::jiff::Timestamp;
use katonic_log_config::{Connection, CredentialKey, Proxy, Tls};
use katonic_logging_core::{credential::Credential, execution::Location};
use object_store::{
    ClientOptions, ObjectStore as _, ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    client::{HttpClient, HttpConnector},
    path::Path,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

use crate::{bucket::connection, cache::chain};

/// How long to wait for a connection, and for the next bytes of an answer.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(1));

/// For how long a request is repeated that fails in a way that may pass.
const RETRIES: (usize, Duration) = (6, Duration::from_mins(1));

/// Requests at the same time.
const REQUESTS: usize = 16;

/// Most bytes of a completeness record: it has some hundred.
const RECORD: u64 = 1 << 20;

/// What the environment can say of who reads, as AWS's own tools name it. Where the store is, is said elsewhere.
const VARIABLES: [&str; 9] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

/// Where a machine of Amazon's asks for its role.
const ROLES: &str = "169.254.169.254:80";

/// Who reads.
pub struct Credentials(Vec<(AmazonS3ConfigKey, String)>);

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credentials(…)")
    }
}

impl Credentials {
    /// An access key.
    pub fn of_key(id: String, secret: String) -> Self {
        Self(vec![
            (AmazonS3ConfigKey::AccessKeyId, id),
            (AmazonS3ConfigKey::SecretAccessKey, secret),
        ])
    }

    /// Who the environment says: an access key, a web identity, a container's credentials, or the machine's own role.
    ///
    /// # Errors
    /// When it says nothing.
    pub async fn of_environment() -> Result<Self, Error> {
        let said = VARIABLES.iter().filter_map(|name| {
            let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
            Some((name.to_ascii_lowercase().parse().ok()?, value))
        });
        let said: Vec<_> = said.collect();
        if said.is_empty() {
            // To ask where nobody answers would take half a minute.
            let connected = timeout(Duration::from_secs(1), TcpStream::connect(ROLES)).await;
            if !matches!(connected, Ok(Ok(_))) {
                return Err(Error::NoCredentials);
            }
        }
        Ok(Self(said))
    }
}

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
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<AmazonS3>,
    /// Where it is.
    pub location: Location,
    requests: Arc<Semaphore>,
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

/// Why the store gave no answer, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be used as it was named.
    #[error("the store cannot be used: {0}")]
    Unusable(String),
    /// No such bucket.
    #[error(
        "there is no bucket `{bucket}` at {endpoint}: correct --bucket, or blob_storage.logs in the installation"
    )]
    NoBucket {
        /// Its name.
        bucket: String,
        /// The store.
        endpoint: String,
    },
    /// The reader may not do this.
    #[error(
        "the store refuses to {verb}: allow these credentials {action} on {resource} (docs/object-storage.md, Rights)"
    )]
    Denied {
        /// What was asked for, in words.
        verb: &'static str,
        /// The same as an action of a policy.
        action: &'static str,
        /// On what.
        resource: String,
    },
    /// The reader is not known.
    #[error(
        "the store does not take these credentials ({0}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to those of a reader, or name a Secret with --credentials-secret"
    )]
    Credentials(String),
    /// There are none.
    #[error(
        "there are no credentials for the store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to those of a reader, or name a Secret with --credentials-secret"
    )]
    NoCredentials,
    /// The bucket is elsewhere.
    #[error(
        "the bucket is not there ({0}): correct --region or --endpoint, or blob_storage.logs and logging.logStore in the installation"
    )]
    Elsewhere(String),
    /// The clocks differ.
    #[error("the store refuses the time of this machine (RequestTimeTooSkewed): set its clock")]
    Clock,
    /// An object that was listed is not there any more.
    #[error("it was deleted")]
    Gone,
    /// Anything else.
    #[error("the store at {endpoint} gave no answer: {reason}")]
    Unanswered {
        /// The store.
        endpoint: String,
        /// Why not.
        reason: String,
    },
}

/// Builds clients with our own TLS: `ring`, and the authorities that the agents trust.
#[derive(Debug)]
struct Connector {
    tls: ClientConfig,
    proxy: Option<reqwest::Proxy>,
    patience: Duration,
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls.clone())
            .connect_timeout(PATIENCE.0)
            .read_timeout(self.patience);
        // Without one, that of the environment is used.
        let builder = match &self.proxy {
            Some(proxy) => builder.proxy(proxy.clone()),
            None => builder,
        };
        let client = builder
            .build()
            .map_err(|error| object_store::Error::Generic {
                store: "S3",
                source: Box::new(error),
            })?;
        Ok(HttpClient::new(client))
    }
}

impl Store {
    /// A store; nothing is asked yet.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn new(location: Location, reader: Credentials, way: &Way) -> Result<Self, Error> {
        let Way {
            connection,
            credentials,
            authorities,
        } = way;
        let unusable = |error: connection::Error| Error::Unusable(error.to_string());
        let proxy = connection.proxy.as_ref();
        let patience = connection.timeout_ms.map(NonZeroU32::get);
        let connector = Connector {
            tls: tls(&connection.tls, credentials, authorities.as_deref()).map_err(unusable)?,
            proxy: proxy
                .map(|proxy| self::proxy(proxy, credentials))
                .transpose()
                .map_err(unusable)?,
            patience: patience.map_or(PATIENCE.1, |milliseconds| {
                Duration::from_millis(milliseconds.into())
            }),
        };
        let builder = reader
            .0
            .into_iter()
            .fold(AmazonS3Builder::new(), |builder, (key, value)| {
                builder.with_config(key, value)
            });
        let endpoint = location.endpoint.to_string();
        let store = builder
            .with_endpoint(endpoint.trim_end_matches('/'))
            .with_region(location.region.as_str())
            .with_bucket_name(location.bucket.as_str())
            .with_virtual_hosted_style_request(false)
            .with_allow_http(location.endpoint.is_plain_text())
            .with_http_connector(connector)
            .with_retry(RetryConfig {
                max_retries: RETRIES.0,
                retry_timeout: RETRIES.1,
                ..RetryConfig::default()
            })
            .build();
        let store = store.map_err(|error| Error::Unusable(chain(&error)))?;
        Ok(Self {
            inner: Arc::new(store),
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
        let listed = listed.map_err(move |error| store.judge(&error, Asked::List));
        let listed = listed.map_ok(|object| Listed {
            key: object.location.to_string(),
            size: object.size,
            stored: Timestamp::from_millisecond(object.last_modified.timestamp_millis())
                .unwrap_or(Timestamp::MAX),
        });
        listed.boxed()
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
        bytes.map_err(|error| self.judge(&error, Asked::Get))
    }

    /// All of a small object.
    ///
    /// # Errors
    /// When it does not come, or is not small.
    pub async fn record(&self, key: &str) -> Result<Bytes, Error> {
        let path = Path::parse(key).map_err(|error| Error::Unusable(chain(&error)))?;
        let _permit = self.requests.acquire().await;
        let judge = |error: object_store::Error| self.judge(&error, Asked::Get);
        let found = self.inner.get(&path).await.map_err(judge)?;
        if found.meta.size > RECORD {
            return Err(Error::Unusable(format!("it has {} bytes", found.meta.size)));
        }
        found.bytes().await.map_err(judge)
    }

    fn judge(&self, error: &object_store::Error, asked: Asked) -> Error {
        let Location {
            endpoint,
            bucket,
            prefix,
            ..
        } = &self.location;
        // Of what the store says only its code is told: the rest may repeat what it was asked.
        let text = chain(error);
        let code = text
            .split_once("<Code>")
            .and_then(|(_, rest)| rest.split_once("</Code>"))
            .map(|(code, _)| code.to_owned());
        let below = prefix.join("executions/*");
        match (code.as_deref(), error) {
            (Some("NoSuchBucket"), _) => Error::NoBucket {
                bucket: bucket.as_str().to_owned(),
                endpoint: endpoint.to_string(),
            },
            (Some("NoSuchKey"), _) | (None, object_store::Error::NotFound { .. }) => Error::Gone,
            (Some("AccessDenied" | "AllAccessDisabled"), _)
            | (None, object_store::Error::PermissionDenied { .. }) => match asked {
                Asked::List => Error::Denied {
                    verb: "list the archive",
                    action: "s3:ListBucket",
                    resource: format!("arn:aws:s3:::{} for the prefix {below}", bucket.as_str()),
                },
                Asked::Get => Error::Denied {
                    verb: "give an object",
                    action: "s3:GetObject",
                    resource: format!("arn:aws:s3:::{}/{below}", bucket.as_str()),
                },
            },
            (
                Some(
                    code @ ("InvalidAccessKeyId"
                    | "SignatureDoesNotMatch"
                    | "ExpiredToken"
                    | "InvalidToken"
                    | "TokenRefreshRequired"),
                ),
                _,
            ) => Error::Credentials(code.to_owned()),
            (
                Some(
                    code @ ("PermanentRedirect"
                    | "AuthorizationHeaderMalformed"
                    | "IllegalLocationConstraintException"),
                ),
                _,
            ) => Error::Elsewhere(code.to_owned()),
            (Some("RequestTimeTooSkewed"), _) => Error::Clock,
            (Some(code), _) => Error::Unanswered {
                endpoint: endpoint.to_string(),
                reason: code.to_owned(),
            },
            (None, _) if text.contains("redirect without LOCATION") => {
                Error::Elsewhere("PermanentRedirect".to_owned())
            }
            (None, _) => Error::Unanswered {
                endpoint: endpoint.to_string(),
                reason: innermost(error),
            },
        }
    }
}

/// What was asked for.
#[derive(Clone, Copy)]
enum Asked {
    List,
    Get,
}

/// The cause behind what wraps it.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn tls(
    tls: &Tls,
    credentials: &BTreeMap<CredentialKey, Credential>,
    authorities: Option<&[u8]>,
) -> Result<ClientConfig, connection::Error> {
    let of_installation = tls.ca.as_ref().and_then(|key| credentials.get(key));
    let authorities = authorities.or_else(|| of_installation.map(Credential::expose));
    let roots = connection::roots(authorities)?;
    let Some(name) = &tls.server_name else {
        return connection::identified(roots, tls, credentials);
    };
    let name =
        ServerName::try_from(name.as_str().to_owned()).map_err(|_| connection::Error::HostName)?;
    let mut config = connection::identified(roots.clone(), tls, credentials)?;
    let provider = config.crypto_provider().clone();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let inner = verifier.map_err(|_| connection::Error::Authorities)?;
    let named = Named { inner, name };
    config.dangerous().set_certificate_verifier(Arc::new(named));
    Ok(config)
}

/// Checks a server's certificate as usual, but for another name than that of its address.
#[derive(Debug)]
struct Named {
    inner: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let inner = &self.inner;
        inner.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// The proxy between us and the store, with its password.
fn proxy(
    proxy: &Proxy,
    credentials: &BTreeMap<CredentialKey, Credential>,
) -> Result<reqwest::Proxy, connection::Error> {
    let unusable = || connection::Error::ProxyCredentials;
    let found = reqwest::Proxy::all(proxy.url.to_string()).map_err(|_| unusable())?;
    let Some(basic) = &proxy.basic else {
        return Ok(found);
    };
    let password = credentials.get(&basic.password).ok_or_else(unusable)?;
    let password = std::str::from_utf8(password.expose()).map_err(|_| unusable())?;
    Ok(found.basic_auth(&basic.username, password))
}

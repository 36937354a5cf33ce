//! Bundles for simulated pods, as an operator would write them for sinks at these addresses.

use std::{
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32},
};

use anyhow::{Context as _, Result};
use katonic_log_config::{
    AccessKey, ArchiveLayout, Azure, AzureAccount, AzureContainer, AzureCredential, BucketName,
    Bundle, ClientCertificate, Connection, CredentialKey, Endpoint, Facility, Gcs, GcsBucketName,
    HostName, Http, JsonFormat, KeyPrefix, Loggly, LogglyTag, Mixpanel, MixpanelCredential,
    MixpanelRegion, NewRelic, NewRelicRegion, ObjectStorage, Otlp, OtlpEncoding, Policy, Region,
    S3, Sink, Splunk, Store, Syslog, SyslogTransport, Target, Tls,
};

/// The credential that [`splunk`] names: the token's file in the mounted Secret.
pub const TOKEN_FILE: &str = "splunk_token";

/// The authority that every sink trusts for `https` and TLS.
pub const CA_FILE: &str = "receivers_ca";

/// The credential that [`loggly`] names: the customer token.
pub const LOGGLY_TOKEN_FILE: &str = "loggly_token";

/// The credential that [`new_relic`] names: the license key.
pub const LICENSE_KEY_FILE: &str = "newrelic_license";

/// The credentials that [`archive`] names: access key id and secret.
pub const ACCESS_KEY_ID_FILE: &str = "archive_AWS_ACCESS_KEY_ID";
/// See [`ACCESS_KEY_ID_FILE`].
pub const SECRET_ACCESS_KEY_FILE: &str = "archive_AWS_SECRET_ACCESS_KEY";

/// The credential that [`gcs`] names: the key file of a service account.
pub const SERVICE_ACCOUNT_FILE: &str = "archive_key.json";

/// The credentials that [`azure`] names: a key of the account, or a shared access signature.
pub const STORAGE_KEY_FILE: &str = "archive_AZURE_STORAGE_KEY";
/// See [`STORAGE_KEY_FILE`].
pub const SAS_TOKEN_FILE: &str = "archive_AZURE_STORAGE_SAS_TOKEN";

/// The certificate that [`tls_with_client_certificate`] shows.
pub const CLIENT_CERTIFICATE_FILE: &str = "client_certificate";

/// The key of the certificate in [`CLIENT_CERTIFICATE_FILE`].
pub const CLIENT_KEY_FILE: &str = "client_key";

/// The private enterprise number that is kept for examples (RFC 5612).
pub const ENTERPRISE_ID: u32 = 32_473;

/// A Splunk sink with its token in [`TOKEN_FILE`].
pub fn splunk(name: &str, url: &str) -> Result<Sink> {
    let mut splunk = Splunk::to(endpoint(url)?, key(TOKEN_FILE)?);
    splunk.connection = connection(url)?;
    Ok(Sink::new(name, Target::Splunk(splunk)))
}

/// A Loggly sink with its token in [`LOGGLY_TOKEN_FILE`].
pub fn loggly(name: &str, url: &str, tags: &[&str]) -> Result<Sink> {
    let tags = tags
        .iter()
        .map(|tag| LogglyTag::try_from((*tag).to_owned()));
    let loggly = Loggly {
        endpoint: endpoint(url)?,
        token: key(LOGGLY_TOKEN_FILE)?,
        tags: tags.collect::<Result<_, _>>()?,
        connection: connection(url)?,
    };
    Ok(Sink::new(name, Target::Loggly(loggly)))
}

/// A New Relic sink at another address than its region's, with its key in [`LICENSE_KEY_FILE`].
pub fn new_relic(name: &str, url: &str) -> Result<Sink> {
    let new_relic = NewRelic {
        region: NewRelicRegion::Us,
        endpoint: Some(endpoint(url)?),
        license_key: key(LICENSE_KEY_FILE)?,
        connection: connection(url)?,
    };
    Ok(Sink::new(name, Target::NewRelic(new_relic)))
}

/// A syslog sink that sends messages of at most 8 KiB, which every receiver of RFC 5425 should take.
pub fn syslog(name: &str, server: SocketAddr, transport: SyslogTransport) -> Result<Sink> {
    let syslog = Syslog {
        host: HostName::try_from(server.ip().to_string())?,
        port: NonZeroU16::try_from(server.port())?,
        transport,
        facility: Facility::Local0,
        app_name: None,
        enterprise_id: NonZeroU32::try_from(ENTERPRISE_ID)?,
        max_message_bytes: NonZeroU32::try_from(8_192)?,
    };
    Ok(Sink::new(name, Target::Syslog(syslog)))
}

/// An OTLP sink.
pub fn otlp(name: &str, url: &str, encoding: OtlpEncoding) -> Result<Sink> {
    let otlp = Otlp {
        endpoint: endpoint(url)?,
        encoding,
        headers: Vec::new(),
        connection: connection(url)?,
    };
    Ok(Sink::new(name, Target::Otlp(otlp)))
}

/// An archive in a bucket of S3, below the prefix `logs`, of objects of at most so many bytes and so many milliseconds.
pub fn archive(
    url: &str,
    bucket: &str,
    layout: ArchiveLayout,
    max_bytes: u32,
    max_age_ms: u32,
) -> Result<Sink> {
    let s3 = S3 {
        endpoint: endpoint(url)?,
        region: Region::try_from("us-east-1".to_owned())?,
        bucket: BucketName::try_from(bucket.to_owned())?,
        prefix: prefix()?,
        access_key: Some(AccessKey {
            id: key(ACCESS_KEY_ID_FILE)?,
            secret: key(SECRET_ACCESS_KEY_FILE)?,
        }),
        object_lock: None,
    };
    archive_in(Store::S3(s3), url, layout, max_bytes, max_age_ms)
}

/// An archive in this store, which is at this address.
pub fn archive_in(
    store: Store,
    url: &str,
    layout: ArchiveLayout,
    max_bytes: u32,
    max_age_ms: u32,
) -> Result<Sink> {
    let archive = ObjectStorage {
        store,
        layout,
        max_bytes: NonZeroU32::try_from(max_bytes)?,
        max_age_ms: NonZeroU32::try_from(max_age_ms)?,
        connection: connection(url)?,
    };
    Ok(Sink::new("archive", Target::ObjectStorage(archive)))
}

/// The same sink without its credentials: the identity of the pod opens the store.
pub fn by_identity(mut sink: Sink) -> Sink {
    if let Target::ObjectStorage(archive) = &mut sink.target {
        match &mut archive.store {
            Store::S3(s3) => s3.access_key = None,
            Store::Gcs(gcs) => gcs.service_account_key = None,
            Store::Azure(azure) => azure.credential = None,
        }
    }
    sink
}

/// A bucket of Google's, below the prefix `logs`, with its service account in [`SERVICE_ACCOUNT_FILE`].
pub fn gcs(url: &str, bucket: &str) -> Result<Store> {
    Ok(Store::Gcs(Gcs {
        endpoint: endpoint(url)?,
        bucket: GcsBucketName::try_from(bucket.to_owned())?,
        prefix: prefix()?,
        service_account_key: Some(key(SERVICE_ACCOUNT_FILE)?),
    }))
}

/// A container of Azure's, below the prefix `logs`, with a key of the account in [`STORAGE_KEY_FILE`] or a shared access
/// signature in [`SAS_TOKEN_FILE`].
pub fn azure(url: &str, account: &str, container: &str, with_signature: bool) -> Result<Store> {
    Ok(Store::Azure(Azure {
        endpoint: endpoint(url)?,
        account: AzureAccount::try_from(account.to_owned())?,
        container: AzureContainer::try_from(container.to_owned())?,
        prefix: prefix()?,
        credential: Some(if with_signature {
            AzureCredential::SasToken(key(SAS_TOKEN_FILE)?)
        } else {
            AzureCredential::SharedKey(key(STORAGE_KEY_FILE)?)
        }),
    }))
}

fn prefix() -> Result<KeyPrefix> {
    Ok(KeyPrefix::try_from("logs".to_owned())?)
}

/// A sink of JSON in this form, without credentials.
pub fn http(name: &str, url: &str, format: JsonFormat) -> Result<Sink> {
    let mut http = Http::to(endpoint(url)?);
    http.format = format;
    http.connection = connection(url)?;
    Ok(Sink::new(name, Target::Http(http)))
}

/// A sink of JSON lines without credentials.
pub fn json_lines(name: &str, url: &str) -> Result<Sink> {
    http(name, url, JsonFormat::Lines)
}

/// TLS to servers of the authority in [`CA_FILE`].
pub fn tls() -> Result<Tls> {
    Ok(Tls {
        ca: Some(key(CA_FILE)?),
        ..Tls::default()
    })
}

/// As [`tls`], to servers that want to know the client, too.
pub fn tls_with_client_certificate() -> Result<Tls> {
    let client_certificate = ClientCertificate {
        certificate: key(CLIENT_CERTIFICATE_FILE)?,
        private_key: key(CLIENT_KEY_FILE)?,
    };
    Ok(Tls {
        client_certificate: Some(client_certificate),
        ..tls()?
    })
}

/// Mixpanel at this address, by the project's token in [`TOKEN_FILE`].
pub fn mixpanel(name: &str, url: &str) -> Result<Sink> {
    let sink = Mixpanel {
        region: MixpanelRegion::Us,
        endpoint: Some(endpoint(url)?),
        credential: MixpanelCredential::ProjectToken(key(TOKEN_FILE)?),
        connection: connection(url)?,
    };
    Ok(Sink::new(name, Target::Mixpanel(sink)))
}

/// A bundle with one policy, `application-logs`, that takes every container to these sinks.
pub fn bundle(sinks: Vec<Sink>) -> Bundle {
    let uid = "5a0d9d0e-7f0d-4b8e-9c58-0d5a1f6f3c11";
    let policy = Policy::of_everything("application-logs", uid, sinks);
    Bundle {
        policies: vec![policy],
        ..Bundle::default()
    }
}

/// How a receiver at this address is reached: one of `https` has a certificate of the authority in [`CA_FILE`].
fn connection(url: &str) -> Result<Connection> {
    let mut connection = Connection::default();
    if url.starts_with("https:") {
        connection.tls = tls()?;
    }
    Ok(connection)
}

fn key(name: &str) -> Result<CredentialKey> {
    CredentialKey::try_from(name.to_owned()).context("failed to name a credential")
}

fn endpoint(url: &str) -> Result<Endpoint> {
    Endpoint::try_from(url.to_owned()).with_context(|| format!("failed to use the address {url}"))
}

//! Where logs go: one type for each kind of sink.

mod azure;
mod gcs;
mod http;
mod loggly;
mod mixpanel;
mod new_relic;
mod object_storage;
mod otlp;
mod splunk;
mod syslog;

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

pub use azure::{Azure, AzureAccount, AzureContainer, AzureCredential};
pub use gcs::{Gcs, GcsBucketName, InvalidServiceAccountKey, ServiceAccountKey};
pub use http::{Authorization, Http, HttpMethod, JsonFormat};
pub use loggly::{InvalidTag, Loggly, LogglyTag};
pub use mixpanel::{Mixpanel, MixpanelCredential, MixpanelRegion};
pub use new_relic::{NewRelic, NewRelicRegion};
pub use object_storage::{
    AccessKey, ArchiveLayout, BucketName, InvalidStore, KeyPrefix, LockMode, MAX_PREFIX,
    ObjectLock, ObjectStorage, Region, S3, Store,
};
pub use otlp::{Otlp, OtlpEncoding};
pub use splunk::{Acknowledgement, Splunk};
pub use syslog::{AppName, Facility, InvalidAppName, Syslog, SyslogTransport};

use crate::{Connection, CredentialKey, Header, Tls};

/// A destination of a policy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sink {
    /// Name, unique within its policy.
    pub name: String,
    /// What is there.
    pub target: Target,
    /// How records are put together.
    #[serde(default, skip_serializing_if = "Batching::is_default")]
    pub batch: Batching,
}

/// How records are put together; what is not said is the sink kind's default, and never above the vendor's limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Batching {
    /// Most bytes of a request's body, before compression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<NonZeroU32>,
    /// Most records of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records: Option<NonZeroU32>,
    /// How long a record may wait for others, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flush_ms: Option<NonZeroU32>,
}

impl Batching {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The kinds of sinks.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Splunk HTTP Event Collector.
    Splunk(Splunk),
    /// Loggly's bulk endpoint.
    Loggly(Loggly),
    /// New Relic's Log API.
    NewRelic(NewRelic),
    /// Mixpanel's import of events.
    Mixpanel(Mixpanel),
    /// A syslog server.
    Syslog(Syslog),
    /// OTLP over HTTP.
    Otlp(Otlp),
    /// Any HTTP server that takes JSON.
    Http(Http),
    /// An archive of objects.
    ObjectStorage(ObjectStorage),
}

impl Target {
    /// How the connection is made; none where it is not HTTP.
    pub fn connection(&self) -> Option<&Connection> {
        match self {
            Self::Splunk(sink) => Some(&sink.connection),
            Self::Loggly(sink) => Some(&sink.connection),
            Self::NewRelic(sink) => Some(&sink.connection),
            Self::Mixpanel(sink) => Some(&sink.connection),
            Self::Otlp(sink) => Some(&sink.connection),
            Self::Http(sink) => Some(&sink.connection),
            Self::ObjectStorage(sink) => Some(&sink.connection),
            Self::Syslog(_) => None,
        }
    }

    /// How the server's certificate is checked and ours is shown; none where nothing is encrypted.
    pub fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Syslog(sink) => sink.transport.tls(),
            other => other.connection().map(|connection| &connection.tls),
        }
    }
}

impl Sink {
    /// A sink with everything else by default.
    pub fn new(name: &str, target: Target) -> Self {
        Self {
            name: name.to_owned(),
            target,
            batch: Batching::default(),
        }
    }

    /// Names of the credentials that this sink uses, each once and in order.
    pub fn credentials(&self) -> Vec<&CredentialKey> {
        fn of(headers: &[Header]) -> impl Iterator<Item = &CredentialKey> {
            headers.iter().filter_map(Header::credential)
        }
        let mut keys: Vec<&CredentialKey> = match &self.target {
            Target::Splunk(sink) => vec![&sink.token],
            Target::Loggly(sink) => vec![&sink.token],
            Target::NewRelic(sink) => vec![&sink.license_key],
            Target::Mixpanel(sink) => sink.credential.keys(),
            Target::Syslog(_) => Vec::new(),
            Target::Otlp(sink) => of(&sink.headers).collect(),
            Target::Http(sink) => of(&sink.headers)
                .chain(sink.authorization.as_ref().map(Authorization::credential))
                .collect(),
            Target::ObjectStorage(sink) => sink.store.credentials(),
        };
        if let Some(tls) = self.target.tls() {
            keys.extend(tls.credentials());
        }
        if let Some(proxy) = self
            .target
            .connection()
            .and_then(|connection| connection.proxy.as_ref())
        {
            keys.extend(proxy.basic.as_ref().map(|basic| &basic.password));
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BasicAuth, ClientCertificate, Endpoint, Proxy};

    fn key(name: &str) -> CredentialKey {
        CredentialKey::try_from(name.to_owned()).unwrap()
    }

    #[test]
    fn a_sink_names_each_credential_once() {
        let endpoint = |text: &str| Endpoint::try_from(text.to_owned()).unwrap();
        let mut splunk = Splunk::to(endpoint("https://hec.example.com"), key("b_token"));
        splunk.connection = Connection {
            tls: Tls {
                ca: Some(key("a_ca")),
                client_certificate: Some(ClientCertificate {
                    certificate: key("c_cert"),
                    private_key: key("a_ca"),
                }),
                ..Tls::default()
            },
            proxy: Some(Proxy {
                url: endpoint("http://proxy.example.com:3128"),
                basic: Some(BasicAuth {
                    username: "logs".into(),
                    password: key("d_password"),
                }),
            }),
            ..Connection::default()
        };
        let sink = Sink::new("s", Target::Splunk(splunk));
        let expected = ["a_ca", "b_token", "c_cert", "d_password"].map(key);
        assert_eq!(sink.credentials(), expected.iter().collect::<Vec<_>>());
    }
}

//! Where logs go, as a user writes it: one type for each kind of sink.

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

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

pub use azure::{
    AzureCredential, AzureCredentialsSecretRef, AzureStore, ServicePrincipalSecretRef,
};
pub use gcs::{GcsStore, ServiceAccountSecretRef};
pub use http::{HttpMethod, HttpSink, JsonFormat};
pub use loggly::LogglySink;
pub use mixpanel::{MixpanelAccountSecretRef, MixpanelRegion, MixpanelSink};
pub use new_relic::{NewRelicRegion, NewRelicSink};
pub use object_storage::{
    AccessKeySecretRef, ArchiveObjects, MAX_AGE, ObjectLock, ObjectLockMode, ObjectStorageSink,
    S3Store,
};
pub use otlp::{OtlpEncoding, OtlpSink};
pub use splunk::{ACKNOWLEDGEMENT_TIMEOUT, POLL_INTERVAL, SplunkAcknowledgement, SplunkSink};
pub use syslog::{SyslogFacility, SyslogSink, SyslogTransport};

use crate::rule::Period;

/// How long a record may wait for others.
pub const FLUSH_INTERVAL: Period = Period {
    least: "50ms",
    most: "1m",
};

/// A destination. Each sink of a policy gets every record (the fallback: only what the others could not deliver), and none of
/// them waits for another.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "[has(self.splunk), has(self.loggly), has(self.newRelic), has(self.syslog), has(self.otlp), has(self.http), has(self.objectStorage), has(self.mixpanel)].filter(set, set).size() == 1",
        "a sink has exactly one kind: set one of splunk, loggly, newRelic, syslog, otlp, http, objectStorage (in an AuditPolicy also mixpanel), and move a second kind into a sink of its own"
    ),
    validation = (
        "!has(self.newRelic) || !has(self.batch) || !has(self.batch.maxBytes) || self.batch.maxBytes <= 1000000",
        "New Relic takes at most 1000000 bytes in a request: lower batch.maxBytes, or remove it"
    ),
    validation = (
        "!has(self.mixpanel) || !has(self.batch) || ((!has(self.batch.maxBytes) || self.batch.maxBytes <= 2000000) && (!has(self.batch.maxRecords) || self.batch.maxRecords <= 2000))",
        "Mixpanel takes at most 2000 events and 2000000 bytes in a request: lower batch.maxBytes and batch.maxRecords, or remove them"
    ),
    validation = (
        "!has(self.objectStorage) || !has(self.batch)",
        "an object is no request: say how large and how old it may become in objectStorage.objects, and remove batch"
    )
)]
pub struct Sink {
    /// Name of the sink, unique within the policy. Delivery goes on where it was as long as the name stays.
    /// Example: `splunk`.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = (r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "name is not a sink's name: use lower-case letters, digits and `-`, for example splunk-eu"))]
    pub name: String,
    /// Splunk HTTP Event Collector (HEC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub splunk: Option<SplunkSink>,
    /// Loggly, by its bulk endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loggly: Option<LogglySink>,
    /// New Relic, by its Log API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_relic: Option<NewRelicSink>,
    /// A syslog server that takes RFC 5424, by UDP, TCP or TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syslog: Option<SyslogSink>,
    /// OpenTelemetry Protocol over HTTP: an OpenTelemetry Collector, or any backend that takes OTLP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otlp: Option<OtlpSink>,
    /// Any HTTP server that takes JSON and answers with 2xx when it has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSink>,
    /// A store of objects: an archive in which each line is exactly once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_storage: Option<ObjectStorageSink>,
    /// Mixpanel, by its import of events; in audit policies only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mixpanel: Option<MixpanelSink>,
    /// How records are put together into requests. Default: as its fields say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
}

/// How records are put together. A batch is sent as soon as one of the three is reached.
#[derive(Clone, Debug, Default, Deserialize, Eq, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// Most bytes of a request before compression, 10000 to 5000000 (New Relic: 1000000). One record is sent however
    /// long it is. Default: `1000000`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10_000, max = 5_000_000))]
    pub max_bytes: Option<i32>,
    /// Most records of a request, 1 to 100000. Default: no limit but that of the bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_records: Option<i32>,
    /// How long a record may wait for others, 50ms to 1m: less is sooner there, more is fewer requests. Default: `1s`.
    /// Example: `200ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 24))]
    #[x_kube(validation = FLUSH_INTERVAL.rule())]
    pub flush_interval: Option<String>,
}

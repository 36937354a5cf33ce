//! The API of katonic-logging: custom resources, their schema and their validation rules. Decides nothing.
//!
//! Everything that the schema or a CEL rule can refuse is refused by the API server; what spans objects
//! (a Secret that is missing, say) is a condition on the policy.

pub mod audit_policy;
pub mod connection;
pub mod labels;
pub mod logging_policy;
pub mod manifest;
pub mod processing;
mod rule;
pub mod secret;
pub mod sink;
pub mod status;

pub use audit_policy::{AuditPolicy, AuditPolicySpec, AuditPolicyStatus, AuditSource};
pub use connection::{BasicAuth, Compression, GzipOrNone, HttpConnection, HttpHeader, Tls};
pub use labels::{LabelSelector, LabelSelectorOperator, LabelSelectorRequirement};
pub use logging_policy::{
    ContainerSelector, LoggingPolicy, LoggingPolicySpec, Logs, Plane, Rollout,
};
pub use processing::{Filter, Match, Multiline, MultilineRule, Parse, RateLimit, Redact, Sample};
pub use rule::Period;
pub use secret::{CertificateSecretRef, SecretKeyRef};
pub use sink::{
    AccessKeySecretRef, ArchiveObjects, AzureCredential, AzureCredentialsSecretRef, AzureStore,
    Batch, GcsStore, HttpMethod, HttpSink, JsonFormat, LogglySink, MixpanelAccountSecretRef,
    MixpanelRegion, MixpanelSink, NewRelicRegion, NewRelicSink, ObjectLock, ObjectLockMode,
    ObjectStorageSink, OtlpEncoding, OtlpSink, S3Store, ServiceAccountSecretRef,
    ServicePrincipalSecretRef, Sink, SplunkAcknowledgement, SplunkSink, SyslogFacility, SyslogSink,
    SyslogTransport,
};
pub use status::{
    LoggingPolicyStatus, PodCount, PodLosses, PodName, PodsByReason, SinkDelivery, SinkLosses,
    SinkRetention, SinkStatus, UnidentifiedPods,
};

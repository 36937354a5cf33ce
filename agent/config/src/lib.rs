//! What the operator tells the agents: which logs of a pod go to which sinks.
//!
//! One typed value, [`Bundle`], is written by the operator into a Secret of each plane namespace and
//! read by every agent of that namespace. Both sides use the same types, so a configuration that the
//! operator can write is one that an agent of the same version can read. This crate does no I/O.
//!
//! An agent lives as long as its pod and so is often older than the operator. Changes are therefore
//! additive: a policy with anything that this version does not know is *unsupported* as a whole and
//! reported, never applied in part, because a field that is ignored could have been a redaction.

pub mod archive;
pub mod audit;
pub mod bundle;
pub mod connection;
pub mod credential;
pub mod endpoint;
pub mod execution;
pub mod layout;
pub mod policy;
pub mod processing;
pub mod report;
pub mod selector;
pub mod sink;

pub use audit::Audit;
pub use bundle::{Bundle, DecodeError, Decoded, Revision, Unsupported};
pub use connection::{
    BasicAuth, ClientCertificate, Compression, Connection, Header, HeaderName, HeaderValue, Proxy,
    Tls,
};
pub use credential::CredentialKey;
pub use endpoint::{Endpoint, HostName};
pub use execution::Execution;
pub use policy::{ContainerFilter, ContainerPattern, Parse, Policy};
pub use processing::{
    Filter, Multiline, MultilineRule, Pattern, Percent, RateLimit, Redact, Replacement, Sample,
};
pub use report::{Report, Reporting};
pub use selector::{Expression, Operator, Selector};
pub use sink::{
    AccessKey, Acknowledgement, AppName, ArchiveLayout, Authorization, Azure, AzureAccount,
    AzureContainer, AzureCredential, Batching, BucketName, Facility, Gcs, GcsBucketName, Http,
    HttpMethod, JsonFormat, KeyPrefix, LockMode, Loggly, LogglyTag, Mixpanel, MixpanelCredential,
    MixpanelRegion, NewRelic, NewRelicRegion, ObjectLock, ObjectStorage, Otlp, OtlpEncoding,
    Region, S3, ServiceAccountKey, Sink, Splunk, Store, Syslog, SyslogTransport, Target,
};

//! The API of katonic-logging: custom resources, their schema and their validation rules. Decides nothing.
//!
//! Everything that the schema or a CEL rule can refuse is refused by the API server; what spans objects
//! (a Secret that is missing, say) is a condition on the policy.

pub mod labels;
pub mod logging_policy;
pub mod manifest;
pub mod secret;
pub mod sink;
pub mod status;

pub use labels::{LabelSelector, LabelSelectorOperator, LabelSelectorRequirement};
pub use logging_policy::{ContainerSelector, LoggingPolicy, LoggingPolicySpec, Plane};
pub use secret::SecretKeyRef;
pub use sink::{HttpHeader, HttpSink, Sink, SplunkSink, Tls};
pub use status::{LoggingPolicyStatus, PodCount, SinkStatus};

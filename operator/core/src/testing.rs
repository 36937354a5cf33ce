//! Fixtures for tests, of this crate and of those above it.

use katonic_logging_crds::{
    HttpSink, LoggingPolicy, LoggingPolicySpec, SecretKeyRef, Sink, SplunkSink,
};

use crate::Installation;

/// A valid policy with one Splunk sink, created before policies with a greater name.
pub fn policy(name: &str) -> LoggingPolicy {
    let spec = LoggingPolicySpec {
        sinks: vec![splunk_sink("https://hec.example.com:8088")],
        ..LoggingPolicySpec::default()
    };
    let mut policy = LoggingPolicy::new(name, spec);
    policy.metadata.uid = Some(format!("uid-of-{name}"));
    policy.metadata.generation = Some(1);
    policy
}

/// A Splunk sink whose token is the key `token` of the Secret `splunk`.
pub fn splunk_sink(endpoint: &str) -> Sink {
    let token = SecretKeyRef {
        name: "splunk".into(),
        key: "token".into(),
    };
    Sink {
        name: "splunk".into(),
        splunk: Some(SplunkSink::to(endpoint, token)),
        ..Sink::default()
    }
}

/// An HTTP sink without headers.
pub fn http_sink(url: &str) -> Sink {
    Sink {
        name: "http".into(),
        http: Some(HttpSink::to(url)),
        ..Sink::default()
    }
}

/// The installation of the tests: namespaces `katonic-platform` and `katonic-compute`.
///
/// # Panics
/// Never: the text below is an installation.
#[expect(
    clippy::expect_used,
    reason = "a fixture that does not parse must fail its tests"
)]
pub fn installation() -> Installation {
    let yaml = "
namespaces: {platform: {name: katonic-platform}, compute: {name: katonic-compute}}
logging: {agent: {image: 'localhost/katonic-log-agent:0.1.0'}}
";
    Installation::validate(yaml, crate::names::OPERATOR_NAMESPACE)
        .expect("the installation of the tests")
}

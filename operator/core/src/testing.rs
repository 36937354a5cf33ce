//! Fixtures for tests, of this crate and of those above it.

use katonic_logging_crds::{
    HttpSink, LoggingPolicy, LoggingPolicySpec, SecretKeyRef, Sink, SplunkSink,
};

use crate::Installation;

/// A valid policy with one Splunk sink, created before policies with a greater name.
pub fn policy(name: &str) -> LoggingPolicy {
    let spec = LoggingPolicySpec {
        planes: None,
        selector: None,
        components: None,
        containers: None,
        suspend: None,
        sinks: vec![splunk_sink("https://hec.example.com:8088")],
    };
    let mut policy = LoggingPolicy::new(name, spec);
    policy.metadata.uid = Some(format!("uid-of-{name}"));
    policy.metadata.generation = Some(1);
    policy
}

/// A Splunk sink whose token is the key `token` of the Secret `splunk`.
pub fn splunk_sink(endpoint: &str) -> Sink {
    let splunk = SplunkSink {
        endpoint: endpoint.to_owned(),
        token_secret_ref: SecretKeyRef {
            name: "splunk".into(),
            key: "token".into(),
        },
        index: None,
        source: None,
        sourcetype: None,
        tls: None,
    };
    Sink {
        name: "splunk".into(),
        splunk: Some(splunk),
        http: None,
    }
}

/// An HTTP sink without headers.
pub fn http_sink(url: &str) -> Sink {
    let http = HttpSink {
        url: url.to_owned(),
        headers: None,
        tls: None,
    };
    Sink {
        name: "http".into(),
        splunk: None,
        http: Some(http),
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

//! Bundles for simulated pods, as an operator would write them for sinks at these addresses.

use anyhow::{Context as _, Result};
use katonic_log_config::{
    Bundle, ContainerFilter, CredentialKey, Endpoint, Http, Policy, Selector, Sink, Splunk, Target,
    Tls,
};

/// The credential that [`splunk`] names: the token's file in the mounted Secret.
pub const TOKEN_FILE: &str = "splunk_token";

/// The credential that [`splunk`] trusts for `https`.
pub const CA_FILE: &str = "splunk_ca";

/// A Splunk sink with its token in [`TOKEN_FILE`] and, for `https`, its authority in [`CA_FILE`].
pub fn splunk(name: &str, url: &str) -> Result<Sink> {
    let ca = url
        .starts_with("https:")
        .then(|| CredentialKey::try_from(CA_FILE.to_owned()))
        .transpose()?;
    let splunk = Splunk {
        endpoint: endpoint(url)?,
        token: CredentialKey::try_from(TOKEN_FILE.to_owned())?,
        index: None,
        source: None,
        sourcetype: None,
        tls: Tls {
            ca,
            insecure_skip_verify: false,
        },
    };
    Ok(Sink {
        name: name.to_owned(),
        target: Target::Splunk(splunk),
    })
}

/// A sink of JSON lines without credentials.
pub fn json_lines(name: &str, url: &str) -> Result<Sink> {
    let http = Http {
        url: endpoint(url)?,
        headers: Vec::new(),
        tls: Tls::default(),
    };
    Ok(Sink {
        name: name.to_owned(),
        target: Target::Http(http),
    })
}

/// A bundle with one policy, `application-logs`, that takes every container to these sinks.
pub fn bundle(sinks: Vec<Sink>) -> Bundle {
    let policy = Policy {
        name: "application-logs".to_owned(),
        uid: "5a0d9d0e-7f0d-4b8e-9c58-0d5a1f6f3c11".to_owned(),
        selector: Selector::default(),
        components: [].into(),
        containers: ContainerFilter::default(),
        sinks,
    };
    Bundle {
        execution_id_label: None,
        policies: vec![policy],
    }
}

fn endpoint(url: &str) -> Result<Endpoint> {
    Endpoint::try_from(url.to_owned()).with_context(|| format!("failed to use the address {url}"))
}

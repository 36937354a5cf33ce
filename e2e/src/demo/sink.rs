//! The Splunk of the demo: its token, its certificate, and the sample policy with its address. Serves nothing.

use std::{collections::hash_map::RandomState, fs, hash::BuildHasher as _, net::IpAddr};

use anyhow::{Context as _, Result};
use katonic_logging_core::names;
use katonic_logging_crds::{LoggingPolicy, SecretKeyRef, Tls};
use serde_json::json;

use crate::{
    program,
    receiver::{
        Authority, Protocol, Receiver, ServerIdentity,
        splunk::{Rules, Token},
    },
};

/// The index of the sample policy.
pub const INDEX: &str = "platform";

/// What the receiver and the Secret have to agree on.
pub struct Sink {
    /// The HEC token of this run.
    pub token: String,
    /// The receiver's certificate and key.
    pub identity: ServerIdentity,
    authority: Authority,
}

impl Sink {
    /// A token and a certificate for a receiver at this address, for this run only.
    pub fn new(address: IpAddr) -> Result<Self> {
        let authority = Authority::new()?;
        Ok(Self {
            token: random_token(),
            identity: authority.server(address)?,
            authority,
        })
    }

    /// A collector that takes this token, and for it only the index of the sample.
    pub fn rules(&self) -> Protocol {
        let mut rules = Rules::with_token(&self.token);
        let token = Token {
            indexes: [INDEX.to_owned()].into(),
            ..Token::default()
        };
        rules.tokens.insert(self.token.clone(), token);
        Protocol::Splunk(rules)
    }

    /// The Secret that the sample policy names, with the authority that the receiver needs beside its token.
    pub fn secret(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "splunk", "namespace": names::OPERATOR_NAMESPACE},
            "stringData": {"token": self.token, "ca.crt": self.authority.certificate_pem()},
        })
        .to_string()
    }

    /// The shipped sample with the receiver's address and authority.
    pub fn policy(receiver: &Receiver) -> Result<String> {
        let path = program::workspace().join("manifests/samples/application-logs.yaml");
        let sample = fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        let mut policy: LoggingPolicy =
            serde_saphyr::from_str(&sample).context("failed to parse the sample policy")?;
        for sink in &mut policy.spec.sinks {
            let splunk = sink
                .splunk
                .as_mut()
                .context("the sample has another sink")?;
            splunk.endpoint = receiver.url();
            splunk.connection.tls = Some(Tls {
                ca_secret_ref: Some(SecretKeyRef {
                    name: "splunk".to_owned(),
                    key: "ca.crt".to_owned(),
                }),
                ..Tls::default()
            });
        }
        serde_json::to_string(&policy).context("failed to write the policy")
    }
}

/// A token that nobody can have written down anywhere, in the form that Splunk gives its own.
pub fn random_token() -> String {
    let random = || RandomState::new().hash_one(());
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

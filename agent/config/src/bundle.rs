//! All policies that reach one namespace, and their form as bytes.

use std::{
    fmt,
    io::{Read, Write},
};

use flate2::{Compression, GzBuilder, read::GzDecoder};
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use sha2::{Digest, Sha256};

use crate::{Pattern, Policy, Reporting, Selector};

/// Version of the form of the bundle. An agent refuses a higher one: additions do not raise it.
pub const FORMAT: u32 = 1;

/// How much a bundle may be when it is not compressed, in bytes: a bound on an agent's memory.
pub const MAX_DECODED_SIZE: u64 = 32 << 20;

/// What the agents of one namespace are told.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bundle {
    /// Label of a pod that holds the id of the execution it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_id_label: Option<String>,
    /// Patterns of pod names; where the label is missing, the first one that matches has the id in its first group.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub execution_id_patterns: Vec<Pattern>,
    /// Where agents report; none: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reporting: Option<Reporting>,
    /// The policies, from the oldest to the newest: where not everything fits into an agent's memory, the oldest do.
    pub policies: Vec<Policy>,
    /// Of each policy, in the same order, what tells this form of it and of its credentials from every other; agents repeat it in
    /// their reports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<String>,
}

/// What an agent makes of a bundle.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// What it can apply.
    pub bundle: Bundle,
    /// What it cannot, because it is older than the operator.
    pub unsupported: Vec<Unsupported>,
    /// Why it cannot report, because where the operator is was told in a form that it does not know.
    pub reporting_unsupported: Option<String>,
    /// The content's digest.
    pub revision: Revision,
}

/// A policy that this version does not understand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unsupported {
    /// Its name, or its place when even that is missing.
    pub policy: String,
    /// UID of the custom resource, if that can be read.
    pub uid: Option<String>,
    /// The pods that it is for, if that can be read.
    pub selector: Option<Selector>,
    /// What is not understood.
    pub reason: String,
}

/// Digest of a bundle's content, SHA-256 in hex.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Revision(String);

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[derive(Serialize)]
struct Wire<'a> {
    format: u32,
    #[serde(flatten)]
    bundle: &'a Bundle,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LooseWire {
    format: u32,
    #[serde(default)]
    execution_id_label: Option<String>,
    #[serde(default)]
    execution_id_patterns: Vec<Pattern>,
    #[serde(default)]
    reporting: Option<Box<RawValue>>,
    #[serde(default)]
    revisions: Vec<String>,
    #[serde(default)]
    // Still text: as values two thousand policies would take ten times the room.
    policies: Vec<Box<RawValue>>,
}

impl Bundle {
    /// The bundle as it is written: gzip of JSON, the same bytes for the same bundle.
    ///
    /// # Errors
    /// Never for a bundle that was made from values of this crate; the signature says what its libraries say.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let json = serde_json::to_vec(&Wire {
            format: FORMAT,
            bundle: self,
        })?;
        // No name and no time in the header: they would make equal bundles differ.
        let mut encoder = GzBuilder::new()
            .mtime(0)
            .write(Vec::new(), Compression::best());
        encoder.write_all(&json)?;
        Ok(encoder.finish()?)
    }

    /// Reads a bundle, setting aside what this version does not understand.
    ///
    /// # Errors
    /// When the bytes are not a bundle at all; the caller then keeps the one it has.
    pub fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let mut json = Vec::new();
        GzDecoder::new(bytes)
            .take(MAX_DECODED_SIZE + 1)
            .read_to_end(&mut json)
            .map_err(DecodeError::Gzip)?;
        if json.len() as u64 > MAX_DECODED_SIZE {
            return Err(DecodeError::TooLarge);
        }
        let wire: LooseWire = serde_json::from_slice(&json).map_err(DecodeError::Json)?;
        if wire.format > FORMAT {
            return Err(DecodeError::Format(wire.format));
        }
        let reporting = wire.reporting.as_deref();
        let reporting = reporting.map(|text| serde_json::from_str::<Reporting>(text.get()));
        let (reporting, reporting_unsupported) = match reporting.transpose() {
            Ok(reporting) => (reporting, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut bundle = Self {
            execution_id_label: wire.execution_id_label,
            execution_id_patterns: wire.execution_id_patterns,
            reporting,
            ..Self::default()
        };
        let mut unsupported = Vec::new();
        // Without one for each, nobody knows whose they are.
        let revisions = Some(wire.revisions).filter(|all| all.len() == wire.policies.len());
        for (index, text) in wire.policies.iter().enumerate() {
            match serde_json::from_str::<Policy>(text.get()) {
                Ok(policy) => {
                    bundle.policies.push(policy);
                    let revision = revisions.as_ref().map(|all| all[index].clone());
                    bundle.revisions.extend(revision);
                }
                Err(error) => {
                    let Known {
                        name,
                        uid,
                        selector,
                    } = serde_json::from_str(text.get()).unwrap_or_default();
                    unsupported.push(Unsupported {
                        policy: name.unwrap_or_else(|| format!("policies[{index}]")),
                        uid,
                        selector: serde_json::from_value(selector).ok(),
                        reason: error.to_string(),
                    });
                }
            }
        }
        Ok(Decoded {
            bundle,
            unsupported,
            reporting_unsupported,
            revision: Revision(hex_digest(&json)),
        })
    }
}

/// What is read of a policy that cannot be read otherwise.
#[derive(Default, Deserialize)]
struct Known {
    name: Option<String>,
    uid: Option<String>,
    /// An object that is missing is one without members.
    #[serde(default = "nothing")]
    selector: Value,
}

fn nothing() -> Value {
    Value::Object(serde_json::Map::new())
}

/// SHA-256 in hex.
pub fn hex_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hex, as every digest of a bundle is shown.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// Why a bundle could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Not serialisable.
    #[error("failed to serialise the bundle")]
    Json(#[from] serde_json::Error),
    /// Not compressible.
    #[error("failed to compress the bundle")]
    Gzip(#[from] std::io::Error),
}

/// Why bytes are not a bundle.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not gzip, or cut short.
    #[error("failed to decompress the bundle")]
    Gzip(#[source] std::io::Error),
    /// Not JSON, or not of the expected form.
    #[error("failed to parse the bundle")]
    Json(#[source] serde_json::Error),
    /// More than [`MAX_DECODED_SIZE`].
    #[error("the bundle is larger than {MAX_DECODED_SIZE} bytes")]
    TooLarge,
    /// Written by an operator whose bundles this agent cannot read.
    #[error("the bundle has format {0}, and this agent reads up to {FORMAT}")]
    Format(u32),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Endpoint, Http, Sink, Target};

    fn policy(name: &str) -> Policy {
        let url = Endpoint::try_from("https://logs.example.com/in".to_owned()).unwrap();
        let sink = Sink::new("archive", Target::Http(Http::to(url)));
        Policy {
            components: ["keycloak".to_owned()].into(),
            ..Policy::of_everything(name, &format!("uid-of-{name}"), vec![sink])
        }
    }

    fn gzip(json: &str) -> Vec<u8> {
        let mut encoder = GzBuilder::new().write(Vec::new(), Compression::fast());
        encoder.write_all(json.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_bundle_survives_the_way_to_the_agent() {
        let bundle = Bundle {
            execution_id_label: Some("id".into()),
            execution_id_patterns: vec![Pattern::try_from("^run-([0-9a-f]+)-".to_owned()).unwrap()],
            reporting: Some(Reporting {
                url: Endpoint::try_from("https://10.96.0.17".to_owned()).unwrap(),
                server_name: "reports.example.svc".into(),
                certificate_authorities: "an authority".into(),
            }),
            policies: vec![policy("a"), policy("b")],
            revisions: vec!["1".into(), "2".into()],
        };
        let decoded = Bundle::decode(&bundle.encode().unwrap()).unwrap();
        assert_eq!(decoded.bundle, bundle);
        assert_eq!(decoded.unsupported, []);
    }

    #[test]
    fn equal_bundles_are_equal_bytes() {
        let bundle = Bundle {
            policies: vec![policy("a")],
            ..Bundle::default()
        };
        assert_eq!(bundle.encode().unwrap(), bundle.clone().encode().unwrap());
        assert_eq!(
            bundle.encode().unwrap()[4..8],
            [0; 4],
            "no time in the gzip header"
        );
    }

    #[test]
    fn a_policy_of_a_newer_operator_is_set_aside_as_a_whole() {
        let known = serde_json::to_value(policy("known")).unwrap();
        let mut newer_field = serde_json::to_value(policy("newer-field")).unwrap();
        newer_field["filters"] = serde_json::json!([{"translate": {"pattern": "x"}}]);
        let mut newer_sink = serde_json::to_value(policy("newer-sink")).unwrap();
        newer_sink["sinks"][0]["target"] = serde_json::json!({"carrierPigeon": {}});
        let mut newer_selector = serde_json::to_value(policy("newer-selector")).unwrap();
        newer_selector["selector"] = serde_json::json!({"matchMoon": "full"});
        let policies = [
            newer_field,
            known,
            newer_selector,
            newer_sink,
            serde_json::json!({}),
        ];
        let json = serde_json::json!({"format": 1, "later": true, "policies": policies});
        let decoded = Bundle::decode(&gzip(&json.to_string())).unwrap();
        assert_eq!(decoded.bundle.policies, [policy("known")]);
        let unsupported: Vec<_> = decoded
            .unsupported
            .iter()
            .map(|one| one.policy.as_str())
            .collect();
        assert_eq!(
            unsupported,
            ["newer-field", "newer-selector", "newer-sink", "policies[4]"]
        );
        let selectors: Vec<_> = decoded
            .unsupported
            .iter()
            .map(|one| one.selector.clone())
            .collect();
        assert_eq!(
            selectors,
            [
                Some(Selector::default()),
                None,
                Some(Selector::default()),
                Some(Selector::default())
            ]
        );
        assert!(
            decoded.unsupported[0].reason.contains("translate"),
            "{:?}",
            decoded.unsupported[0]
        );
    }

    #[test]
    fn a_newer_format_is_refused() {
        let error = Bundle::decode(&gzip(r#"{"format":2,"policies":[]}"#)).unwrap_err();
        assert!(matches!(error, DecodeError::Format(2)));
    }

    #[test]
    fn a_bomb_is_refused_without_being_unpacked() {
        let mut encoder = GzBuilder::new().write(Vec::new(), Compression::fast());
        let zeros = vec![b' '; 1 << 20];
        for _ in 0..40 {
            encoder.write_all(&zeros).unwrap();
        }
        assert!(matches!(
            Bundle::decode(&encoder.finish().unwrap()).unwrap_err(),
            DecodeError::TooLarge
        ));
    }

    #[test]
    fn two_thousand_policies_fit_into_a_secret() {
        let policies = (0..2000)
            .map(|n| policy(&format!("team-{n:04}-application-logs")))
            .collect();
        let bytes = Bundle {
            policies,
            ..Bundle::default()
        }
        .encode()
        .unwrap();
        assert!(bytes.len() < 200_000, "{} bytes", bytes.len());
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(Bundle::decode(&bytes).is_err());
        }
    }
}

//! The record that says that a run of a container is whole, and how that is proven.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{audit::Link, bundle::hex};

/// Version of the form of a completeness record. Additions do not raise it.
pub const FORMAT: u32 = 1;

/// A place in a log file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Spot {
    /// The file, as the ids of records begin.
    pub file: String,
    /// Offset of a byte.
    pub offset: u64,
}

/// What is said of a run of a container once everything of it is in the store.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Completeness {
    /// See [`FORMAT`].
    pub format: u32,
    /// The execution that the pod belongs to, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<String>,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// UID of the pod.
    pub pod_uid: String,
    /// Name of the container.
    pub container: String,
    /// How often the container had been restarted.
    pub restart: u32,
    /// Whether nothing was lost.
    pub complete: bool,
    /// How many objects there are.
    pub objects: u64,
    /// How many records they hold.
    pub lines: u64,
    /// How many bytes they hold, before compression.
    pub bytes: u64,
    /// How many records the policy's filters left out.
    pub dropped: u64,
    /// How many records, at least, were gone before they could be archived.
    pub lost: u64,
    /// Whether the run begins where the archive does; otherwise what came before was gone before it could be archived. None:
    /// nobody has seen what came before, or an older agent has written this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begins: Option<bool>,
    /// Whether the container was started again after this run; none: an older agent has written this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub followed: Option<bool>,
    /// Where the archive begins. Of a run that printed nothing there is no file.
    pub first: Spot,
    /// Where the last object ends.
    pub last: Spot,
    /// See [`chain`].
    pub sha256_chain: String,
    /// Of audit events: the place of the last one in the container's stream of them, which goes on with its next run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Link>,
}

/// The chain after one more object: SHA-256 over the chain before it and the SHA-256 of the object as it is stored, both
/// in hex; the chain before the first object is empty. So `sha256sum` is enough to follow it.
pub fn chain(before: &str, sha256: &[u8]) -> String {
    hex(&Sha256::digest(format!("{before}{}", hex(sha256))))
}

//! A form as it is sent (URL Standard: "application/x-www-form-urlencoded").

use crate::signature::encode as encode_path;

/// Its media type.
pub(super) const TYPE: &str = "application/x-www-form-urlencoded";

/// Names and values; the names are words.
pub(super) fn encode(fields: &[(&str, &str)]) -> String {
    let encode = |value: &str| encode_path(value).replace('/', "%2F");
    let pairs = fields
        .iter()
        .map(|(name, value)| format!("{name}={}", encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

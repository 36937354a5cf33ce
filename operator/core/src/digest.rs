//! Digests over several parts.

use sha2::{Digest, Sha256};

/// SHA-256 over parts. The length of each is part of it, so that no two lists of parts look alike.
pub fn of_parts(parts: impl IntoIterator<Item = impl AsRef<[u8]>>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_from_their_concatenation() {
        assert_eq!(of_parts(["ab", "c"]), of_parts(["ab", "c"]));
        assert_ne!(of_parts(["ab", "c"]), of_parts(["a", "bc"]));
        assert_ne!(of_parts(["abc"]), of_parts(["abc", ""]));
    }
}

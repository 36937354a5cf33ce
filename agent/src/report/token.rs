//! The token that an agent shows to the operator. Shows it to nobody else.

use std::{fs, io, path::Path};

use http::HeaderValue;

/// Why there is no token to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoToken {
    /// The pod was made without the volume, or the kubelet has not come to it.
    #[error("the pod has no token for reports")]
    Missing,
    /// Nothing but white space.
    #[error("the token for reports is empty")]
    Empty,
    /// Bytes that a header cannot hold.
    #[error("the token for reports cannot be sent in a header")]
    NotAHeader,
    /// There, and not readable.
    #[error("failed to read the token for reports: {0}")]
    Read(#[source] io::Error),
}

/// What is shown to the operator: the token as the kubelet has it now.
pub(super) fn authorization(token_file: &Path) -> Result<HeaderValue, NoToken> {
    let token = fs::read(token_file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NoToken::Missing,
        _ => NoToken::Read(error),
    })?;
    let token = token.trim_ascii();
    if token.is_empty() {
        return Err(NoToken::Empty);
    }
    let value = [b"Bearer ", token].concat();
    let mut value = HeaderValue::from_bytes(&value).map_err(|_| NoToken::NotAHeader)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_read_anew_and_never_printed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        assert!(matches!(authorization(&file), Err(NoToken::Missing)));
        fs::write(&file, " \n").unwrap();
        assert!(matches!(authorization(&file), Err(NoToken::Empty)));
        fs::write(&file, "a\0b").unwrap();
        assert!(matches!(authorization(&file), Err(NoToken::NotAHeader)));
        assert!(matches!(
            authorization(directory.path()),
            Err(NoToken::Read(_))
        ));
        for token in ["hunter2", "hunter3"] {
            fs::write(&file, format!("{token}\n")).unwrap();
            let value = authorization(&file).unwrap();
            assert_eq!(value.as_bytes(), format!("Bearer {token}").as_bytes());
            assert!(!format!("{value:?}").contains(token));
        }
    }
}

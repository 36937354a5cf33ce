//! The certificate that the webhook shows: read from files that change.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use katonic_logging_core::certificate::{self, CERTIFICATE, PRIVATE_KEY};
use tokio::task::spawn_blocking;

use super::Webhook;
use crate::{cache::chain, https::IdentityError, metrics::Outcome};

/// How often the files are looked at. They are small and in memory, and the kubelet itself is slower.
const LOOK: Duration = Duration::from_secs(1);

/// What the files hold.
#[derive(Eq, PartialEq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Why the files cannot be used. Repeats nothing of the key.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("failed to read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("failed to use {CERTIFICATE} and {PRIVATE_KEY}")]
    Use(#[source] IdentityError),
}

/// Follows the files in this folder for ever. What cannot be used leaves the last good certificate in use.
pub(super) async fn follow(webhook: Arc<Webhook>, folder: PathBuf) {
    let mut used = None;
    let mut complaint = None;
    loop {
        let folder = folder.clone();
        let read = spawn_blocking(move || Files::read(&folder)).await;
        let taken = match read {
            Ok(Ok(files)) if used.as_ref() == Some(&files) => None,
            Ok(Ok(files)) => {
                let shown = webhook.identity.show(&files.certificate, &files.key);
                Some(shown.map(|()| files).map_err(Error::Use))
            }
            Ok(Err(error)) => Some(Err(error)),
            // The runtime is going down.
            Err(_) => return,
        };
        match taken {
            None => complaint = None,
            Some(Ok(files)) => {
                webhook.metrics.certificate(Outcome::Success);
                if let Some(expiry) = certificate::not_after(&files.certificate) {
                    webhook.metrics.certificate_expires(expiry.as_second());
                    tracing::info!(%expiry, "a certificate was taken up");
                }
                used = Some(files);
                complaint = None;
            }
            Some(Err(error)) => {
                let words = chain(&error);
                // Said once, not every second.
                if complaint.as_ref() != Some(&words) {
                    webhook.metrics.certificate(Outcome::Failure);
                    tracing::warn!(error = %words, "the certificate cannot be used; the last good one stays in use");
                    complaint = Some(words);
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Files {
    fn read(folder: &Path) -> Result<Self, Error> {
        let read = |name: &str| {
            let path = folder.join(name);
            fs::read(&path).map_err(|source| Error::Read { path, source })
        };
        Ok(Self {
            certificate: read(CERTIFICATE)?,
            key: read(PRIVATE_KEY)?,
        })
    }
}

//! The identity that a pod has on Google Cloud: the metadata server of its node gives a token (Google: "Authenticate to Google Cloud
//! APIs from GKE workloads", "Access VM metadata").

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

use super::{Denied, Question};

/// Where it is, unless a variable says otherwise that Google's own clients know.
const HOST: &str = "metadata.google.internal";
const ENV_HOST: &str = "GCE_METADATA_HOST";

const PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// The metadata server of a node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MetadataServer {
    host: String,
}

impl MetadataServer {
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            host: variable(ENV_HOST).unwrap_or_else(|| HOST.to_owned()),
        }
    }

    /// How it is asked. It never leaves the node, so it has no TLS.
    pub(super) fn question(&self) -> Result<Question, Denied> {
        let uri = format!("http://{}{PATH}", self.host);
        let uri = uri
            .parse()
            .map_err(|_| Denied::hold(format!("{ENV_HOST} is not the name of a host")))?;
        let mut headers = HeaderMap::new();
        // Without it nothing is answered: nobody can be made to ask by accident.
        headers.insert("metadata-flavor", HeaderValue::from_static("Google"));
        Ok(Question {
            method: Method::GET,
            uri,
            headers,
            body: Bytes::new(),
            shown: Vec::new(),
            is_near: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_server_is_asked_as_google_documents_it() {
        let question = MetadataServer::of(|_| None).question().ok().unwrap();
        assert_eq!(
            question.uri,
            "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token"
        );
        assert_eq!(question.headers["metadata-flavor"], "Google");
        assert!(question.is_near);
        let elsewhere = MetadataServer::of(|_| Some("169.254.169.254:80".to_owned()));
        let question = elsewhere.question().ok().unwrap();
        assert_eq!(question.uri.host(), Some("169.254.169.254"));
        assert!(
            MetadataServer::of(|_| Some("a b".to_owned()))
                .question()
                .is_err()
        );
    }
}

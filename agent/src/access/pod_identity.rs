//! EKS Pod Identity: an agent of AWS on the node gives an access key for the token of the pod's service account (AWS: "Learn how EKS
//! Pod Identity grants pods access to AWS services", "Container credential provider").

use std::{
    net::IpAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use serde::Deserialize;

use super::{Denied, Given, Question, until, web_identity::read_token};
use crate::{dial, sink::s3::AccessKey};

/// What AWS's own webhook tells every container.
const ENV_ADDRESS: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const ENV_TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";

/// Where the agents of AWS are; elsewhere and on the own host nothing is asked without TLS.
const ON_NODES: [&str; 3] = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];

/// The agent of a node, and what is shown to it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PodIdentity {
    address: String,
    token_file: PathBuf,
}

impl PodIdentity {
    /// What the pod's service account is associated with, if it is.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        Some(Self {
            address: variable(ENV_ADDRESS)?,
            token_file: variable(ENV_TOKEN_FILE)?.into(),
        })
    }

    /// How a key is asked for.
    pub(super) fn question(&self) -> Result<Question, Denied> {
        let not_there = || {
            Denied::hold(format!(
                "{ENV_ADDRESS} is not the address of an agent on the node, nor one with https://"
            ))
        };
        let uri: Uri = self.address.parse().map_err(|_| not_there())?;
        if !is_safe(&uri) {
            return Err(not_there());
        }
        let token = read_token(&self.token_file, ENV_TOKEN_FILE)?;
        let mut authorization = HeaderValue::try_from(token)
            .map_err(|_| Denied::hold(format!("the file of {ENV_TOKEN_FILE} holds no token")))?;
        authorization.set_sensitive(true);
        Ok(Question {
            method: Method::GET,
            uri,
            headers: HeaderMap::from_iter([(header::AUTHORIZATION, authorization)]),
            body: Bytes::new(),
            shown: Vec::new(),
            is_near: true,
        })
    }
}

fn is_safe(uri: &Uri) -> bool {
    let is_known = |known: &str| known.parse() == dial::host(uri).parse::<IpAddr>();
    let is_own = dial::host(uri)
        .parse::<IpAddr>()
        .is_ok_and(|address| address.is_loopback());
    uri.scheme_str() == Some("https") || is_own || ON_NODES.into_iter().any(is_known)
}

/// The key in an answer.
pub(super) fn read(body: &[u8], now: SystemTime) -> Option<(Given, Duration)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Credentials {
        access_key_id: String,
        secret_access_key: String,
        token: String,
        expiration: String,
    }
    let credentials: Credentials = serde_json::from_slice(body).ok()?;
    let key = AccessKey {
        id: credentials.access_key_id.into_bytes().into(),
        secret: credentials.secret_access_key.into_bytes().into(),
        session: Some(credentials.token.into_bytes().into()),
    };
    Some((Given::AccessKey(key), until(&credentials.expiration, now)?))
}

#[cfg(test)]
mod tests {
    use std::{fs, time::UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_key_is_asked_for_on_the_node_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, "hunter2\n").unwrap();
        let question = |address: &str| {
            let variable = |name: &str| match name {
                ENV_ADDRESS => Some(address.to_owned()),
                _ => file.to_str().map(str::to_owned),
            };
            PodIdentity::of(variable).unwrap().question()
        };
        for address in [
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://127.0.0.1:80/",
            "https://credentials.example.com/",
        ] {
            let asked = question(address).ok().unwrap();
            assert_eq!(asked.headers["authorization"], "hunter2");
            assert!(!format!("{:?}", asked.headers).contains("hunter2"));
        }
        for address in ["http://credentials.example.com/", "http://10.0.0.1/", "a b"] {
            assert!(question(address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_key_is_read_with_its_end_and_not_shown() {
        let body = br#"{"AccessKeyId": "ASIA", "SecretAccessKey": "hunter2", "Token": "hunter3", "AccountId": "1", "Expiration": "1970-01-01T06:00:00Z"}"#;
        let (given, lifetime) = read(body, UNIX_EPOCH).unwrap();
        assert_eq!(lifetime, Duration::from_hours(6));
        assert!(!format!("{given:?}").contains("hunter"), "{given:?}");
        assert!(read(b"{}", UNIX_EPOCH).is_none());
    }
}

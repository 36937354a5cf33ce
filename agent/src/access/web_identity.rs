//! IAM roles for service accounts: AWS gives an access key for the token of the pod's service account (AWS: "IAM roles for service
//! accounts", `AssumeRoleWithWebIdentity`).

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, header};
use katonic_log_config::layout;

use super::{Denied, Given, Question, form, until};
use crate::sink::{s3::AccessKey, store::element};

/// What AWS's own webhook tells every container.
const ENV_ROLE: &str = "AWS_ROLE_ARN";
const ENV_TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ENV_REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// Another address of the service, which all clients of AWS know (AWS: "Service-specific endpoints").
const ENV_ENDPOINT: &str = "AWS_ENDPOINT_URL_STS";

/// Longest name of a session.
const LONGEST_NAME: usize = 64;

/// A role, and what is shown for it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WebIdentity {
    role: String,
    token_file: PathBuf,
    session: String,
    endpoint: String,
}

impl WebIdentity {
    /// The role of the pod's service account, if it has one; in the region of the variables, else in that of the bucket.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>, region: &str) -> Option<Self> {
        let (role, token_file) = (variable(ENV_ROLE)?, variable(ENV_TOKEN_FILE)?);
        let told = ENV_REGIONS.iter().find_map(|name| variable(name));
        let region = told.as_deref().unwrap_or(region);
        let domain = if region.starts_with("cn-") {
            "amazonaws.com.cn"
        } else {
            "amazonaws.com"
        };
        let pod = variable(layout::ENV_POD).unwrap_or_default();
        // By it AWS's own log tells the pods apart; names of pods have no other characters than it takes.
        let session: String = pod.chars().take(LONGEST_NAME).collect();
        Some(Self {
            role,
            token_file: token_file.into(),
            session: if session.len() < 2 {
                "katonic-log-agent".to_owned()
            } else {
                session
            },
            endpoint: variable(ENV_ENDPOINT)
                .unwrap_or_else(|| format!("https://sts.{region}.{domain}")),
        })
    }

    /// How a key is asked for.
    pub(super) fn question(&self) -> Result<Question, Denied> {
        let token = read_token(&self.token_file, ENV_TOKEN_FILE)?;
        let uri = self.endpoint.trim_end_matches('/');
        let uri = format!("{uri}/")
            .parse()
            .map_err(|_| Denied::hold(format!("{ENV_ENDPOINT} is not an address")))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(form::TYPE));
        let body = form::encode(&[
            ("Action", "AssumeRoleWithWebIdentity"),
            ("Version", "2011-06-15"),
            ("RoleArn", &self.role),
            ("RoleSessionName", &self.session),
            ("WebIdentityToken", &token),
        ]);
        Ok(Question {
            method: Method::POST,
            uri,
            headers,
            body: body.into(),
            shown: token.into_bytes(),
            is_near: false,
        })
    }
}

/// The token of a service account, which the kubelet renews.
pub(super) fn read_token(path: &Path, name: &str) -> Result<String, Denied> {
    match fs::read_to_string(path) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(error) => Err(Denied::hold(format!(
            "failed to read the token of the pod's service account, which {name} names: {error}"
        ))),
    }
}

/// The key in an answer.
pub(super) fn read(body: &[u8], now: SystemTime) -> Option<(Given, Duration)> {
    let xml = str::from_utf8(body).ok()?;
    let secret = |name| Some(element(xml, name)?.as_bytes().to_vec().into());
    let key = AccessKey {
        id: secret("AccessKeyId")?,
        secret: secret("SecretAccessKey")?,
        session: Some(secret("SessionToken")?),
    };
    let lifetime = until(element(xml, "Expiration")?, now)?;
    Some((Given::AccessKey(key), lifetime))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn identity(endpoint: Option<&str>, token_file: &str) -> WebIdentity {
        let variable = |name: &str| match name {
            ENV_ROLE => Some("arn:aws:iam::123456789012:role/logs".to_owned()),
            ENV_TOKEN_FILE => Some(token_file.to_owned()),
            ENV_ENDPOINT => endpoint.map(str::to_owned),
            layout::ENV_POD => Some("run-1".to_owned()),
            _ => None,
        };
        WebIdentity::of(variable, "eu-central-1").unwrap()
    }

    #[test]
    fn a_key_is_asked_for_as_aws_documents_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, "a.b_c-d\n").unwrap();
        let question = identity(None, file.to_str().unwrap())
            .question()
            .ok()
            .unwrap();
        assert_eq!(question.uri, "https://sts.eu-central-1.amazonaws.com/");
        assert_eq!(
            question.body,
            "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Flogs&RoleSessionName=run-1&WebIdentityToken=a.b_c-d"
        );
        assert_eq!(question.shown, b"a.b_c-d");
        let elsewhere = identity(Some("http://minio:9000/"), file.to_str().unwrap());
        assert_eq!(elsewhere.question().ok().unwrap().uri, "http://minio:9000/");
        let missing = identity(None, "/nowhere/token").question().err().unwrap();
        let told = format!("{:?}", missing.verdict);
        assert!(told.contains("AWS_WEB_IDENTITY_TOKEN_FILE"), "{told}");
        assert!(WebIdentity::of(|_| None, "r").is_none());
    }

    #[test]
    fn a_key_is_read_with_its_end_and_not_shown() {
        let body = b"<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><SessionToken>hunter3</SessionToken><SecretAccessKey>hunter2</SecretAccessKey><Expiration>1970-01-01T01:00:00Z</Expiration><AccessKeyId>ASIA</AccessKeyId></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>";
        let (given, lifetime) = read(body, UNIX_EPOCH).unwrap();
        assert_eq!(lifetime, Duration::from_hours(1));
        assert!(!format!("{given:?}").contains("hunter"), "{given:?}");
        assert!(read(b"<Error/>", UNIX_EPOCH).is_none());
    }
}

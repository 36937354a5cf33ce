//! What requests to a store are authorized by: read from the mounted Secret; or given for a while, for that or for the identity
//! that the pod has in its cloud, and kept as long.

mod federation;
mod form;
mod metadata_server;
mod pod_identity;
mod service_account;
mod web_identity;

use std::{
    env,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};
use katonic_log_config::{Gcs, S3, Store};
use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    client::{Client, Failure},
    credential::CredentialError,
    deliver::line::{of_proxy, verdict_of, verdict_of_setup},
    sink::{
        Answer, Cause, Destination, Verdict, azure,
        s3::AccessKey,
        store::{self, Authorized},
    },
    timestamp::TimeParser,
};
use federation::Federation;
use metadata_server::MetadataServer;
use pod_identity::PodIdentity;
use service_account::ServiceAccount;
use web_identity::WebIdentity;

/// What is given for a while is asked for anew so long before its end, or after half of its time if that is later.
const RENEW_BEFORE: Duration = Duration::from_mins(5);

/// No cloud gives anything for longer; whoever says so has made a mistake.
const LONGEST: Duration = Duration::from_hours(24);

/// What a store's requests are authorized by.
#[derive(Debug, Default)]
pub struct Access {
    kept: Option<Kept>,
}

/// What was given for a while.
#[derive(Debug)]
struct Kept {
    issuer: Issuer,
    given: Given,
    renew: Instant,
    end: Instant,
}

/// What is given for a while.
#[derive(Clone, Debug)]
enum Given {
    /// `Bearer` and a token, marked as sensitive.
    Token(HeaderValue),
    /// An access key of AWS.
    AccessKey(AccessKey),
}

/// Who gives it, and for what.
#[derive(Clone, Debug, PartialEq)]
enum Issuer {
    /// Google, for what is signed with the key of a service account.
    ServiceAccount(Box<ServiceAccount>),
    /// Google, on the node.
    MetadataServer(MetadataServer),
    /// AWS, for a token of the pod's service account.
    WebIdentity(WebIdentity),
    /// AWS, on the node.
    PodIdentity(PodIdentity),
    /// Microsoft Entra, for a token of the pod's service account.
    Federation(Federation),
}

/// Nothing was given.
#[derive(Debug)]
pub struct Denied {
    /// What that means for the object.
    pub verdict: Verdict,
    /// What time it is for who was asked.
    pub date: Option<SystemTime>,
}

impl Denied {
    /// Nobody could be asked.
    fn hold(reason: String) -> Self {
        Self::from(Verdict::Hold {
            cause: Cause::AuthenticationFailed,
            reason,
        })
    }
}

impl From<Verdict> for Denied {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            date: None,
        }
    }
}

impl From<CredentialError> for Denied {
    fn from(error: CredentialError) -> Self {
        Self::hold(error.to_string())
    }
}

/// What is asked of who gives.
struct Question {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
    /// A credential in the body.
    shown: Vec<u8>,
    /// It is asked on the node, where no proxy leads.
    is_near: bool,
}

impl Access {
    /// A store with what it wants to see at this time; who is asked for that is reached as the store is.
    ///
    /// # Errors
    /// When a credential is missing, or nothing is given for it.
    pub async fn authorize<'s>(
        &mut self,
        store: &'s Store,
        credentials: &Path,
        destination: &Destination,
        now: SystemTime,
    ) -> Result<Authorized<'s>, Denied> {
        let issuer = match store {
            Store::S3(s3) => match &s3.access_key {
                Some(key) => return Ok(Authorized::S3(s3, AccessKey::read(key, credentials)?)),
                None => of_amazon(s3, variable)?,
            },
            Store::Gcs(gcs) => of_google(gcs, credentials)?,
            Store::Azure(azure) => match &azure.credential {
                Some(named) => {
                    let credential = azure::Credential::read(named, credentials)?;
                    return Ok(Authorized::Azure(azure, credential));
                }
                None => of_microsoft(variable)?,
            },
        };
        match (store, self.given(issuer, destination, now).await?) {
            (Store::S3(s3), Given::AccessKey(key)) => Ok(Authorized::S3(s3, key)),
            (Store::Gcs(gcs), Given::Token(token)) => Ok(Authorized::Gcs(gcs, token)),
            (Store::Azure(azure), Given::Token(token)) => {
                Ok(Authorized::Azure(azure, azure::Credential::Bearer(token)))
            }
            // No issuer of one vendor gives what another one takes.
            _ => Err(CredentialError::NotGiven.into()),
        }
    }

    /// Gives up what was given for a while; says whether there was anything.
    pub fn forget(&mut self) -> bool {
        self.kept.take().is_some()
    }

    async fn given(
        &mut self,
        issuer: Issuer,
        destination: &Destination,
        now: SystemTime,
    ) -> Result<Given, Denied> {
        let asked = Instant::now();
        let kept = self.kept.take().filter(|kept| kept.issuer == issuer);
        let kept = match kept {
            Some(kept) if asked >= kept.renew => match ask(&issuer, destination, now).await {
                Ok(given) => Kept::new(issuer, given, asked),
                // It is good for some minutes more.
                Err(_) if asked < kept.end => kept,
                Err(denied) => return Err(denied),
            },
            Some(kept) => kept,
            None => {
                let given = ask(&issuer, destination, now).await?;
                Kept::new(issuer, given, asked)
            }
        };
        Ok(self.kept.insert(kept).given.clone())
    }
}

impl Kept {
    fn new(issuer: Issuer, (given, lifetime): (Given, Duration), asked: Instant) -> Self {
        let lifetime = lifetime.min(LONGEST);
        Self {
            issuer,
            given,
            renew: asked + lifetime - RENEW_BEFORE.min(lifetime / 2),
            end: asked + lifetime,
        }
    }
}

/// A variable of the agent's own environment: clouds add theirs to every container of a pod.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// In the order of AWS's own clients (AWS: "Standardized credential providers").
fn of_amazon(s3: &S3, variable: impl Fn(&str) -> Option<String>) -> Result<Issuer, Denied> {
    if let Some(identity) = WebIdentity::of(&variable, s3.region.as_str()) {
        return Ok(Issuer::WebIdentity(identity));
    }
    if let Some(identity) = PodIdentity::of(&variable) {
        return Ok(Issuer::PodIdentity(identity));
    }
    Err(Denied::hold("the pod has no identity for AWS: give its service account a role, by EKS Pod Identity or by the annotation eks.amazonaws.com/role-arn (IRSA), and create the pod anew; or name a Secret in credentialsSecretRef".to_owned()))
}

fn of_google(gcs: &Gcs, credentials: &Path) -> Result<Issuer, Denied> {
    match &gcs.service_account_key {
        Some(key) => {
            let account = ServiceAccount::read(key, credentials)?;
            Ok(Issuer::ServiceAccount(Box::new(account)))
        }
        None => Ok(Issuer::MetadataServer(MetadataServer::of(variable))),
    }
}

fn of_microsoft(variable: impl Fn(&str) -> Option<String>) -> Result<Issuer, Denied> {
    let identity = Federation::of(variable);
    identity.map(Issuer::Federation).ok_or_else(|| {
        Denied::hold("the pod has no identity for Azure: give its service account the annotation azure.workload.identity/client-id and the pod the label azure.workload.identity/use: \"true\", and create the pod anew; or name a Secret in credentialsSecretRef".to_owned())
    })
}

impl Issuer {
    fn question(&self, now: SystemTime) -> Result<Question, Denied> {
        match self {
            Self::ServiceAccount(account) => Ok(account.question(now)?),
            Self::MetadataServer(server) => server.question(),
            Self::WebIdentity(identity) => identity.question(),
            Self::PodIdentity(identity) => identity.question(),
            Self::Federation(identity) => identity.question(),
        }
    }

    /// What is given, and how long it is good from this time on.
    fn read(&self, body: &[u8], now: SystemTime) -> Option<(Given, Duration)> {
        match self {
            Self::ServiceAccount(_) | Self::MetadataServer(_) | Self::Federation(_) => token(body),
            Self::WebIdentity(_) => web_identity::read(body, now),
            Self::PodIdentity(_) => pod_identity::read(body, now),
        }
    }

    /// What to do where nothing is given.
    fn advice(&self) -> &'static str {
        match self {
            Self::ServiceAccount(_) => {
                "correct the Secret of credentialsSecretRef: the service account must exist, and the key be one of its keys"
            }
            Self::MetadataServer(_) => {
                "the pod has no identity for Google Cloud: let its service account have one (Workload Identity Federation for GKE), or name a Secret in credentialsSecretRef"
            }
            Self::WebIdentity(_) => {
                "let the role of AWS_ROLE_ARN trust the service account of the pod, or name a Secret in credentialsSecretRef"
            }
            Self::PodIdentity(_) => {
                "associate the service account of the pod with a role (EKS Pod Identity), or name a Secret in credentialsSecretRef"
            }
            Self::Federation(_) => {
                "let the managed identity have a federated credential for the service account of the pod, or name a Secret in credentialsSecretRef"
            }
        }
    }

    /// What it means that nobody answers.
    fn unanswered(&self, failure: &Failure, verdict: Verdict) -> Verdict {
        match (self, failure, verdict) {
            // Where there is none, there is no identity either.
            (Self::MetadataServer(_), Failure::Dial(_), Verdict::Retry { reason, .. }) => {
                Verdict::Hold {
                    cause: Cause::AuthenticationFailed,
                    reason: format!("{reason}: {}", self.advice()),
                }
            }
            (_, _, verdict) => verdict,
        }
    }
}

async fn ask(
    issuer: &Issuer,
    destination: &Destination,
    now: SystemTime,
) -> Result<(Given, Duration), Denied> {
    let question = issuer.question(now)?;
    let host = question.uri.host().unwrap_or_default().to_owned();
    let of_host = |verdict| match verdict {
        Verdict::Retry { reason, after } => Verdict::Retry {
            reason: format!("no credentials from {host}: {reason}"),
            after,
        },
        Verdict::Hold { cause, reason } => Verdict::Hold {
            cause,
            reason: format!("no credentials from {host}: {reason}"),
        },
        verdict => verdict,
    };
    let asked = destination.beside(
        question.method,
        question.uri,
        question.headers,
        &[&question.shown],
    );
    let asked = if question.is_near {
        asked.near()
    } else {
        asked
    };
    // Asked once an hour: not kept.
    let mut client = Client::new(&asked).map_err(|error| of_host(verdict_of_setup(error)))?;
    let response = client.send(question.body).await.map_err(|failure| {
        let verdict = verdict_of(&failure, client.quoter());
        of_host(issuer.unanswered(&failure, verdict))
    })?;
    let answer = response.answer(client.quoter());
    let denied = |verdict| Denied {
        verdict: of_host(verdict),
        date: response.date(),
    };
    if let Some(verdict) = of_proxy(&client, &answer) {
        return Err(denied(verdict));
    }
    let given = (200..300)
        .contains(&answer.status)
        .then(|| issuer.read(answer.body, now))
        .flatten();
    given.ok_or_else(|| denied(judge(&answer, issuer.advice())))
}

/// A token as OAuth gives it (RFC 6749 §5.1).
fn token(body: &[u8]) -> Option<(Given, Duration)> {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
        expires_in: u64,
    }
    let token: Token = serde_json::from_slice(body).ok()?;
    let mut header = HeaderValue::try_from(format!("Bearer {}", token.access_token)).ok()?;
    header.set_sensitive(true);
    Some((Given::Token(header), Duration::from_secs(token.expires_in)))
}

/// How long it is to this time, in RFC 3339.
fn until(end: &str, now: SystemTime) -> Option<Duration> {
    let end = TimeParser::default().parse(end.as_bytes())?;
    let end = Duration::from_secs(u64::try_from(end.seconds).ok()?);
    Some(end.saturating_sub(now.duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// What it means that nothing was given.
fn judge(answer: &Answer<'_>, advice: &str) -> Verdict {
    let said = answer.quoter.answer(&said(answer.body));
    let reason = if said.is_empty() {
        format!("HTTP {}", answer.status)
    } else {
        format!("HTTP {} {said}", answer.status)
    };
    match answer.status {
        408 | 425 | 429 | 500..=599 => Verdict::Retry {
            reason,
            after: answer.retry_after,
        },
        400..=499 => Verdict::Hold {
            cause: Cause::AuthenticationFailed,
            reason: format!("{reason}: {advice}"),
        },
        _ => Verdict::Hold {
            cause: Cause::Misconfigured,
            reason: format!("{reason}, and no credentials: {advice}"),
        },
    }
}

/// What a refusal says: by OAuth (RFC 6749 §5.2), in AWS's XML, or in plain text; nothing of a page for people.
fn said(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        #[serde(default)]
        error_description: String,
    }
    if let Ok(Refusal {
        error,
        error_description,
    }) = serde_json::from_slice(body)
    {
        return format!("{error}: {error_description}");
    }
    let text = str::from_utf8(body).unwrap_or_default().trim();
    let code = store::code(body);
    if !code.is_empty() {
        let message = store::element(text, "Message").unwrap_or_default();
        return format!("{code}: {message}");
    }
    if text.starts_with(['<', '{']) {
        return String::new();
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> Verdict {
        judge(&Answer::of(status, body.as_bytes()), "do something")
    }

    fn nothing(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_token_is_read_and_not_shown() {
        let body = br#"{"access_token": "hunter2", "expires_in": 3599, "token_type": "Bearer"}"#;
        let (given, lifetime) = token(body).unwrap();
        assert_eq!(lifetime.as_secs(), 3599);
        assert!(!format!("{given:?}").contains("hunter2"));
        let Given::Token(header) = given else {
            panic!("{given:?}");
        };
        assert_eq!(header, "Bearer hunter2");
        assert!(token(br#"{"access_token": "a\nb", "expires_in": 1}"#).is_none());
        assert!(token(b"<html>").is_none());
    }

    #[test]
    fn who_gives_nothing_is_quoted_and_believed() {
        for (status, body, expected) in [
            (
                400,
                r#"{"error": "invalid_grant", "error_description": "Invalid JWT Signature."}"#,
                "HTTP 400 invalid_grant: Invalid JWT Signature.: do something",
            ),
            (
                403,
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>Not authorized.</Message></Error></ErrorResponse>",
                "HTTP 403 AccessDenied: Not authorized.: do something",
            ),
            (
                404,
                "no such account\n",
                "HTTP 404 no such account: do something",
            ),
            (401, "<html>", "HTTP 401: do something"),
        ] {
            let verdict = judged(status, body);
            let hold = Verdict::Hold {
                cause: Cause::AuthenticationFailed,
                reason: expected.to_owned(),
            };
            assert_eq!(verdict, hold);
        }
        assert!(matches!(judged(503, ""), Verdict::Retry { .. }));
        let Verdict::Hold { cause, .. } = judged(200, "<html>") else {
            panic!("no hold");
        };
        assert_eq!(cause, Cause::Misconfigured);
    }

    #[test]
    fn a_pod_without_an_identity_is_told_what_to_do() {
        let s3 = S3 {
            endpoint: "https://s3.example.com".to_owned().try_into().unwrap(),
            region: "r".to_owned().try_into().unwrap(),
            bucket: "logs".to_owned().try_into().unwrap(),
            prefix: katonic_log_config::KeyPrefix::default(),
            access_key: None,
            object_lock: None,
        };
        let amazon = of_amazon(&s3, nothing).unwrap_err();
        let microsoft = of_microsoft(nothing).unwrap_err();
        for (denied, says) in [
            (amazon, "eks.amazonaws.com/role-arn"),
            (microsoft, "azure.workload.identity/use"),
        ] {
            let told = format!("{:?}", denied.verdict);
            assert!(
                told.contains(says) && told.contains("or name a Secret in credentialsSecretRef"),
                "{told}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_is_renewed_before_its_end() {
        let asked = Instant::now();
        for (lifetime, renew) in [(3600, 3300), (400, 200), (0, 0)] {
            let issuer = Issuer::MetadataServer(MetadataServer::of(nothing));
            let given = Given::Token(HeaderValue::from_static("Bearer a"));
            let kept = Kept::new(issuer, (given, Duration::from_secs(lifetime)), asked);
            assert_eq!(kept.renew - asked, Duration::from_secs(renew));
            assert_eq!(kept.end - asked, Duration::from_secs(lifetime));
        }
    }

    #[test]
    fn the_time_until_an_end_is_never_less_than_none() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let seconds = |text| until(text, now).map(|left| left.as_secs());
        assert_eq!(seconds("1970-01-01T01:00:00Z"), Some(2_600));
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds("soon"), None);
    }
}

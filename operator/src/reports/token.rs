//! What a token says of itself: enough to tell most that cannot be a pod's from those that the API server has to be asked about.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use katonic_log_config::report::AUDIENCE;
use serde::Deserialize;

/// The longest token that is looked at, in bytes; those of service accounts have some 1,200.
const LONGEST: usize = 8 << 10;

/// How long after its end a token is still left to the API server to refuse: its clock is the one that counts, and ours may be ahead.
const LEEWAY: SignedDuration = SignedDuration::from_mins(15);

/// Why a token is not that of a pod which may report.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Foreign {
    #[error(
        "no token: send `Authorization: Bearer` and the pod's token for the audience {AUDIENCE}"
    )]
    Absent,
    #[error("this is no token of a service account")]
    Malformed,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not for the audience {AUDIENCE}")]
    Audience,
    #[error("the token is not bound to a pod")]
    Unbound,
    #[error(
        "the API server does not know the token: it has expired, its pod is gone, or another cluster has issued it"
    )]
    Unknown,
}

#[derive(Deserialize)]
struct Claims {
    exp: i64,
    aud: Audiences,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    pod: Option<Bound>,
}

#[derive(Deserialize)]
struct Bound {
    uid: String,
}

impl Audiences {
    fn have_ours(&self) -> bool {
        match self {
            Self::One(one) => one == AUDIENCE,
            Self::Many(many) => many.iter().any(|one| one == AUDIENCE),
        }
    }
}

/// When a token ends, as far as it says so itself: anybody can write that.
///
/// # Errors
/// When it cannot be a pod's token for us (RFC 7519; Kubernetes: "Managing Service Accounts, Bound service account tokens").
pub(super) fn expiry(token: &str, now: Timestamp) -> Result<Timestamp, Foreign> {
    if token.len() > LONGEST {
        return Err(Foreign::Malformed);
    }
    let parts: Vec<Vec<u8>> = token
        .split('.')
        .map(|part| URL_SAFE_NO_PAD.decode(part))
        .collect::<Result<_, _>>()
        .map_err(|_| Foreign::Malformed)?;
    let [_, claims, _] = &parts[..] else {
        return Err(Foreign::Malformed);
    };
    let claims: Claims = serde_json::from_slice(claims).map_err(|_| Foreign::Malformed)?;
    let end = Timestamp::from_second(claims.exp).map_err(|_| Foreign::Malformed)?;
    if now.saturating_sub(LEEWAY).is_ok_and(|early| end <= early) {
        return Err(Foreign::Expired);
    }
    if !claims.aud.have_ours() {
        return Err(Foreign::Audience);
    }
    let bound = claims.kubernetes.and_then(|kubernetes| kubernetes.pod);
    if bound.is_none_or(|pod| pod.uid.is_empty()) {
        return Err(Foreign::Unbound);
    }
    Ok(end)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// With these claims, and a signature of nobody's.
    pub(in super::super) fn unsigned(claims: &Value) -> String {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!(
            "{}.{}.{}",
            part(r#"{"alg":"RS256"}"#),
            part(&claims.to_string()),
            part("signature")
        )
    }

    /// The claims of a token as an API server issues it.
    pub(in super::super) fn claims(exp: Timestamp) -> Value {
        json!({
            "aud": [AUDIENCE], "exp": exp.as_second(), "iat": exp.as_second() - 3600, "iss": "https://kubernetes.default.svc",
            "kubernetes.io": {
                "namespace": "katonic-compute",
                "pod": {"name": "web", "uid": "0b5c"},
                "serviceaccount": {"name": "default", "uid": "1c6d"},
            },
            "sub": "system:serviceaccount:katonic-compute:default",
        })
    }

    fn now() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn end() -> Timestamp {
        now() + SignedDuration::from_hours(1)
    }

    #[test]
    fn what_may_be_a_pods_token_is_left_to_the_api_server() {
        let token = unsigned(&claims(end()));
        assert_eq!(expiry(&token, now()), Ok(end()));
        let mut one = claims(end());
        one["aud"] = json!(AUDIENCE);
        assert_eq!(expiry(&unsigned(&one), now()), Ok(end()));
        // The API server's clock may be behind ours by some minutes.
        assert_eq!(
            expiry(&token, end() + SignedDuration::from_mins(10)),
            Ok(end())
        );
    }

    #[test]
    fn what_cannot_be_one_is_refused_here() {
        let without = |pointer: &str, value: Value| {
            let mut claims = claims(end());
            *claims.pointer_mut(pointer).unwrap() = value;
            unsigned(&claims)
        };
        let good = unsigned(&claims(end()));
        let header = good.split('.').next().unwrap();
        for (token, foreign) in [
            (String::new(), Foreign::Malformed),
            ("garbage".to_owned(), Foreign::Malformed),
            ("a.b.c".to_owned(), Foreign::Malformed),
            ("..".to_owned(), Foreign::Malformed),
            (format!("{good}.{header}"), Foreign::Malformed),
            (good.replace('.', "="), Foreign::Malformed),
            (format!("{good}ü"), Foreign::Malformed),
            (unsigned(&json!("claims")), Foreign::Malformed),
            (unsigned(&json!({"aud": AUDIENCE})), Foreign::Malformed),
            (without("/exp", json!(i64::MAX)), Foreign::Malformed),
            (without("/exp", json!("soon")), Foreign::Malformed),
            (without("/aud", json!(7)), Foreign::Malformed),
            (
                format!("{header}.{}.a", "a".repeat(LONGEST)),
                Foreign::Malformed,
            ),
            (without("/exp", json!(1_600_000_000)), Foreign::Expired),
            (
                without("/aud", json!(["https://kubernetes.default.svc"])),
                Foreign::Audience,
            ),
            (without("/aud", json!([])), Foreign::Audience),
            (without("/kubernetes.io", json!(null)), Foreign::Unbound),
            (without("/kubernetes.io/pod", json!(null)), Foreign::Unbound),
            (
                without("/kubernetes.io/pod/uid", json!("")),
                Foreign::Unbound,
            ),
        ] {
            assert_eq!(expiry(&token, now()), Err(foreign), "{token}");
        }
    }

    #[test]
    fn an_expired_token_is_refused_here_once_no_clock_can_be_the_reason() {
        let token = unsigned(&claims(end()));
        let later = |minutes| expiry(&token, end() + SignedDuration::from_mins(minutes));
        assert_eq!(later(14), Ok(end()));
        assert_eq!(later(15), Err(Foreign::Expired));
    }
}

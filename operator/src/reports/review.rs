//! Asks the API server whose a token is.

use http::{Request, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use katonic_log_config::report::AUDIENCE;
use katonic_logging_core::delivery::Pod;
use kube::Client;
use serde::Deserialize;

use super::token::Foreign;

/// Where (Kubernetes API: `TokenReview`).
const PATH: &str = "/apis/authentication.k8s.io/v1/tokenreviews";

/// What the API server says besides the user's name (Kubernetes: "Managing Service Accounts, Bound service account tokens").
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Why nothing is known of a token.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("failed to ask the API server for a token review")]
    Ask(#[source] kube::Error),
    #[error("failed to make the question of a token review")]
    Question(#[source] http::Error),
    // The words of a parser may repeat what it read: the answer has the token in it.
    #[error("the API server's answer is no token review")]
    Answer,
}

/// The answer; nothing else of it is kept.
#[derive(Deserialize)]
struct Answer {
    status: Option<TokenReviewStatus>,
}

/// Asks. The client is given text and gives text: it would log what it cannot read, and that has the token in it.
pub(super) async fn ask(client: &Client, token: String) -> Result<Result<Pod, Foreign>, Error> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            audiences: Some(vec![AUDIENCE.to_owned()]),
            token,
        },
        ..TokenReview::default()
    };
    let question = serde_json::to_vec(&review).map_err(|_| Error::Answer)?;
    let question = Request::post(PATH)
        .header(header::CONTENT_TYPE, "application/json")
        .body(question)
        .map_err(Error::Question)?;
    let answer = client.request_text(question).await.map_err(Error::Ask)?;
    let answer: Answer = serde_json::from_str(&answer).map_err(|_| Error::Answer)?;
    Ok(pod(answer.status.unwrap_or_default()))
}

/// The pod that a token was issued for.
fn pod(status: TokenReviewStatus) -> Result<Pod, Foreign> {
    if status.authenticated != Some(true) {
        return Err(Foreign::Unknown);
    }
    let audiences = status.audiences.unwrap_or_default();
    // An API server that knows nothing of audiences answers none (Kubernetes API: `TokenReviewStatus`).
    if !audiences.iter().any(|audience| audience == AUDIENCE) {
        return Err(Foreign::Audience);
    }
    let user = status.user.unwrap_or_default();
    let mut extra = user.extra.unwrap_or_default();
    let mut only = |key: &str| {
        let mut values = extra.remove(key)?;
        let value = values.pop().filter(|value| !value.is_empty())?;
        values.is_empty().then_some(value)
    };
    let (uid, name) = (only(POD_UID), only(POD_NAME));
    let account = user.username.as_deref().unwrap_or_default();
    let account = account.strip_prefix("system:serviceaccount:");
    let namespace = account.and_then(|account| account.split_once(':'));
    match (uid, name, namespace) {
        (Some(uid), Some(name), Some((namespace, _))) => Ok(Pod {
            uid,
            namespace: namespace.to_owned(),
            name,
        }),
        _ => Err(Foreign::Unbound),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn answer() -> Value {
        json!({
            "authenticated": true, "audiences": [AUDIENCE],
            "user": {
                "username": "system:serviceaccount:katonic-compute:default", "uid": "1c6d",
                "extra": {POD_NAME: ["web"], POD_UID: ["0b5c"]},
            },
        })
    }

    fn read(answer: Value) -> Result<Pod, Foreign> {
        pod(serde_json::from_value(answer).unwrap())
    }

    #[test]
    fn the_pod_is_what_the_api_server_says() {
        let expected = Pod {
            uid: "0b5c".to_owned(),
            namespace: "katonic-compute".to_owned(),
            name: "web".to_owned(),
        };
        assert_eq!(read(answer()), Ok(expected));
    }

    #[test]
    fn nothing_is_filled_in_that_it_does_not_say() {
        let with = |pointer: &str, value: Value| {
            let mut answer = answer();
            *answer.pointer_mut(pointer).unwrap() = value;
            read(answer)
        };
        assert_eq!(read(json!({})), Err(Foreign::Unknown));
        assert_eq!(with("/authenticated", json!(false)), Err(Foreign::Unknown));
        for audiences in [
            json!(null),
            json!([]),
            json!(["https://kubernetes.default.svc"]),
        ] {
            assert_eq!(with("/audiences", audiences), Err(Foreign::Audience));
        }
        for (pointer, value) in [
            ("/user", json!({})),
            ("/user/extra", json!({})),
            ("/user/extra", json!({POD_NAME: ["web"]})),
            ("/user/extra", json!({POD_UID: ["0b5c"]})),
            ("/user/extra", json!({POD_NAME: ["web"], POD_UID: []})),
            (
                "/user/extra",
                json!({POD_NAME: ["web"], POD_UID: ["0b5c", "0b5d"]}),
            ),
            ("/user/username", json!("system:node:one")),
            ("/user/username", json!("system:serviceaccount:web")),
        ] {
            assert_eq!(
                with(pointer, value.clone()),
                Err(Foreign::Unbound),
                "{value}"
            );
        }
    }
}

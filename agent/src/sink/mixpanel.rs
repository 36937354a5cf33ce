//! Mixpanel's import of events (Mixpanel: "Import Events").

use std::path::Path;

use http::Uri;
use katonic_log_config::{Compression, Mixpanel, MixpanelCredential, MixpanelRegion};
use serde::Deserialize;

use super::{Answer, Cause, Request, Verdict, header, judge_by_status};
use crate::credential::{self, CredentialError};

/// `strict`: what is wrong with an event is answered, and not swallowed.
const PATH: &str = "/import?strict=1";

/// What a request needs.
pub(super) fn request(
    sink: &Mixpanel,
    compression: Compression,
    credentials: &Path,
) -> Result<Request, CredentialError> {
    let mut headers = header::common("application/json", compression);
    let (authorization, project) = match &sink.credential {
        // The token is the name, and there is no password.
        MixpanelCredential::ProjectToken(token) => {
            (header::basic_of(token, None, credentials)?, None)
        }
        MixpanelCredential::ServiceAccount {
            username,
            secret,
            project_id,
        } => (
            header::basic_of(username, Some(secret), credentials)?,
            Some(project_id),
        ),
    };
    headers.insert(http::header::AUTHORIZATION, authorization);
    let path = project.map_or_else(
        || PATH.to_owned(),
        |project| format!("{PATH}&project_id={project}"),
    );
    let uri = match &sink.endpoint {
        Some(endpoint) => endpoint.join(&path).map_err(|_| CredentialError::Address)?,
        None => format!("{}{path}", region(sink.region))
            .parse::<Uri>()
            .map_err(|_| CredentialError::Address)?,
    };
    // The name of a service account comes from a Secret, too.
    let name = match &sink.credential {
        MixpanelCredential::ProjectToken(token) => token,
        MixpanelCredential::ServiceAccount { username, .. } => username,
    };
    Ok(Request {
        uri,
        address: None,
        headers,
        elsewhere: vec![credential::read(credentials, name)?],
    })
}

fn region(region: MixpanelRegion) -> &'static str {
    match region {
        MixpanelRegion::Us => "https://api.mixpanel.com",
        MixpanelRegion::Eu => "https://api-eu.mixpanel.com",
        MixpanelRegion::In => "https://api-in.mixpanel.com",
    }
}

/// What Mixpanel says besides the status.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Reply {
    error: String,
    failed_records: Option<Vec<Failed>>,
    num_records_imported: u64,
    status: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Failed {
    field: String,
    message: String,
}

/// What an answer means. 400 with a list of events: the others are imported, and nothing is to be sent again.
pub fn judge(answer: &Answer<'_>) -> Verdict {
    let reply: Option<Reply> = serde_json::from_slice(answer.body).ok();
    let status = answer.status;
    let said = reply.as_ref().map_or("", |reply| reply.error.as_str());
    let reason = if said.is_empty() {
        format!("HTTP {status}")
    } else {
        format!("HTTP {status}: {}", answer.quote(said))
    };
    match (status, reply) {
        (200, Some(reply)) if reply.status == "OK" => Verdict::Delivered,
        (200..=299, _) => Verdict::Hold {
            cause: Cause::Misconfigured,
            reason: format!("{reason}, which is not Mixpanel's answer"),
        },
        // Where none is imported, something is wrong with all of them, or with what is asked for.
        (400, Some(reply)) if reply.num_records_imported > 0 => {
            let failed = reply.failed_records.unwrap_or_default();
            Verdict::Partial {
                rejected: failed.len() as u64,
                reason: partly(answer, &failed),
            }
        }
        (400, Some(reply))
            if reply
                .failed_records
                .as_ref()
                .is_some_and(|all| !all.is_empty()) =>
        {
            let failed = reply.failed_records.unwrap_or_default();
            Verdict::Refused {
                record: None,
                reason: partly(answer, &failed),
            }
        }
        // Also a list that is too long to be read: in halves it becomes shorter, and what is imported twice is one event.
        (400, _) => Verdict::Refused {
            record: None,
            reason,
        },
        _ => judge_by_status(answer, reason),
    }
}

/// The first event that was refused stands for the others.
fn partly(answer: &Answer<'_>, failed: &[Failed]) -> String {
    let first = failed.first();
    let (field, message) = first.map_or(("", ""), |first| {
        (first.field.as_str(), first.message.as_str())
    });
    let count = failed.len();
    answer.quote(&format!(
        "HTTP 400: {count} refused, the first for {field}: {message}"
    ))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use katonic_log_config::{Connection, CredentialKey, Target};

    use super::*;
    use crate::sink::Destination;

    fn answer(status: u16, body: &str) -> Verdict {
        judge(&Answer::of(status, body.as_bytes()))
    }

    #[test]
    fn what_is_refused_in_part_is_counted_and_not_sent_again() {
        let body = r#"{"code":400,"error":"some data points in the request failed validation","failed_records":[
            {"index":0,"$insert_id":"a","field":"properties.time","message":"must be specified as seconds since epoch"},
            {"index":5,"$insert_id":"b","field":"properties.time","message":"must be specified as seconds since epoch"}],
            "num_records_imported":1998,"status":"Bad Request"}"#;
        assert_eq!(
            answer(400, body),
            Verdict::Partial {
                rejected: 2,
                reason: "HTTP 400: 2 refused, the first for properties.time: must be specified as seconds since epoch".into()
            }
        );
        let none = body.replace("1998", "0");
        assert_eq!(
            answer(400, &none),
            Verdict::Refused {
                record: None,
                reason: "HTTP 400: 2 refused, the first for properties.time: must be specified as seconds since epoch".into()
            }
        );
        let cut = &body[..body.len() / 2];
        for body in [
            cut,
            r#"{"code":400,"error":"invalid JSON","status":"Bad Request"}"#,
            "",
        ] {
            assert!(matches!(
                answer(400, body),
                Verdict::Refused { record: None, .. }
            ));
        }
    }

    #[test]
    fn a_server_that_repeats_a_credential_is_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        for (name, value) in [
            ("token", "0a1b2c3d4e5f60718293a4b5c6d7e8f9"),
            ("user", "robot.2f7c@example"),
            ("secret", "s3cr3t-of-robot"),
        ] {
            std::fs::write(folder.path().join(name), value).unwrap();
        }
        let key = |name: &str| CredentialKey::try_from(name.to_owned()).unwrap();
        let project = MixpanelCredential::ProjectToken(key("token"));
        let account = MixpanelCredential::ServiceAccount {
            username: key("user"),
            secret: key("secret"),
            project_id: "7".to_owned(),
        };
        for credential in [project, account] {
            let sink = Mixpanel {
                region: MixpanelRegion::Eu,
                endpoint: None,
                credential,
                connection: Connection::default(),
            };
            let channel = HeaderValue::from_static("channel");
            let target = Target::Mixpanel(sink);
            let destination = Destination::resolve(&target, folder.path(), &channel).unwrap();
            let body = r#"{"error":"no project 0a1b2c3d4e5f60718293a4b5c6d7e8f9 of robot.2f7c@example with s3cr3t-of-robot"}"#;
            let answer = Answer {
                quoter: &destination.quoter,
                ..Answer::of(401, body.as_bytes())
            };
            let Verdict::Hold { reason, .. } = judge(&answer) else {
                panic!("401 holds");
            };
            let own: &[&str] = match &target {
                Target::Mixpanel(Mixpanel {
                    credential: MixpanelCredential::ProjectToken(_),
                    ..
                }) => &["0a1b2c3d4e5f60718293a4b5c6d7e8f9"],
                _ => &["robot.2f7c@example", "s3cr3t-of-robot"],
            };
            assert!(own.iter().all(|value| !reason.contains(value)), "{reason}");
        }
    }

    #[test]
    fn every_documented_answer_has_its_class() {
        let good = r#"{"code":200,"num_records_imported":3,"status":"OK"}"#;
        assert_eq!(answer(200, good), Verdict::Delivered);
        for body in ["", "1", "<html>", r#"{"status":"maybe"}"#] {
            let verdict = answer(200, body);
            assert!(
                matches!(
                    verdict,
                    Verdict::Hold {
                        cause: Cause::Misconfigured,
                        ..
                    }
                ),
                "{body}"
            );
        }
        let refused = answer(
            401,
            r#"{"code":401,"error":"Invalid credentials","status":"Unauthorized"}"#,
        );
        assert_eq!(
            refused,
            Verdict::Hold {
                cause: Cause::AuthenticationFailed,
                reason: "HTTP 401: Invalid credentials".into()
            }
        );
        assert_eq!(answer(413, ""), Verdict::Split);
        for status in [429, 500, 502, 503, 504] {
            assert!(
                matches!(answer(status, ""), Verdict::Retry { .. }),
                "{status}"
            );
        }
    }
}

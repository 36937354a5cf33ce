//! An index of Splunk's: of Splunk Enterprise by its REST API (`data/indexes/{name}`), of Splunk Cloud by its Admin Config Service
//! (ACS, `indexes/{name}`).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, Method, header};
use katonic_logging_core::{
    credential::Credential,
    policy::ManagedSetting,
    retention::{Action, BucketId, Custody, Trouble, lifecycle::setting::Setting},
};

use super::{
    encode,
    https::{Answer, Body, Service, bearer},
};

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;

/// An index that can be asked.
pub struct Index {
    id: BucketId,
    service: Service,
    headers: HeaderMap,
    path: String,
    is_cloud: bool,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Index")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Index {
    pub fn new(
        custody: &Custody,
        setting: &ManagedSetting,
        secret: &Credential,
    ) -> Result<Self, Trouble> {
        let id = custody.id.clone();
        let (headers, path, is_cloud) = match setting {
            ManagedSetting::SplunkEnterprise {
                index, username, ..
            } => {
                let headers = match username {
                    Some(username) => basic(username, secret),
                    None => bearer(secret),
                };
                let path = format!("/services/data/indexes/{}?output_mode=json", encode(index));
                (headers, path, false)
            }
            ManagedSetting::SplunkCloud { index, stack, .. } => {
                let path = format!(
                    "/{}/adminconfig/v2/indexes/{}",
                    encode(stack),
                    encode(index)
                );
                (bearer(secret), path, true)
            }
            ManagedSetting::NewRelic { .. } => {
                return Err(Trouble::unusable(&id, "it is no index of Splunk's"));
            }
        };
        Ok(Self {
            service: Service::new(custody, setting.endpoint())?,
            id,
            headers,
            path,
            is_cloud,
        })
    }

    pub fn id(&self) -> &BucketId {
        &self.id
    }

    /// Reads how long it keeps events.
    pub async fn read(&self) -> Result<Setting, Trouble> {
        let answer = self
            .service
            .ask(Method::GET, &self.path, &self.headers, None)
            .await?;
        if !answer.status.is_success() {
            return Err(self.refused(Action::ReadRules, &answer));
        }
        let setting = if self.is_cloud {
            Setting::of_splunk_cloud(&answer.body)
        } else {
            Setting::of_splunk_enterprise(&answer.body)
        };
        setting.map_err(|error| Trouble::unreadable(&self.id, &error))
    }

    /// Sets it.
    pub async fn write(&self, setting: &Setting) -> Result<(), Trouble> {
        let Some(days) = setting.days() else {
            return Ok(());
        };
        let (method, body) = if self.is_cloud {
            let body = Body {
                content_type: "application/json",
                content: serde_json::json!({"searchableDays": days}).to_string(),
            };
            (Method::PATCH, body)
        } else {
            let body = Body {
                content_type: "application/x-www-form-urlencoded",
                content: format!("frozenTimePeriodInSecs={}", u64::from(days.get()) * DAY),
            };
            (Method::POST, body)
        };
        let answer = self
            .service
            .ask(method, &self.path, &self.headers, Some(body))
            .await?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(self.refused(Action::WriteRules, &answer))
        }
    }

    fn refused(&self, action: Action, answer: &Answer) -> Trouble {
        // ACS has a word for it, Splunk Enterprise only sentences.
        let code = answer.word("/code");
        Trouble::of(action, &self.id, answer.refusal(&code))
    }
}

/// RFC 7617 §2.
fn basic(username: &str, password: &Credential) -> HeaderMap {
    let both = [username.as_bytes(), b":", password.expose()].concat();
    let mut headers = HeaderMap::new();
    if let Ok(mut value) = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(both)))
    {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    headers
}

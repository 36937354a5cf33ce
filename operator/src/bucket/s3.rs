//! A bucket's settings, over the protocol of Amazon S3.

mod signature;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use katonic_log_config::S3;
use katonic_logging_core::{
    credential::Credential,
    retention::{
        Action, BucketId, BucketLock, Custody, Refusal, Trouble, Versioning,
        lifecycle::s3::Configuration,
        xml::{Element, Malformed},
    },
};
use md5::{Digest as _, Md5};

use super::{connection::Connector, date, is_earlier};
use signature::AccessKey;

/// Goes with the rules from one answer to the next request: without it Amazon falls back to its default (Amazon S3:
/// `PutBucketLifecycleConfiguration`, `TransitionDefaultMinimumObjectSize`).
const MINIMUM_SIZE: HeaderName =
    HeaderName::from_static("x-amz-transition-default-minimum-object-size");

/// A bucket that can be asked.
pub struct Bucket {
    id: BucketId,
    s3: S3,
    key: AccessKey,
    connector: Connector,
    /// How much the store's clock is before ours, and whether it is behind instead.
    skew: Option<(Duration, bool)>,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Bucket")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The lifecycle rules of a bucket, and what goes with them.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The rules.
    pub configuration: Configuration,
    minimum_size: Option<HeaderValue>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    /// The code of an error.
    fn code(&self) -> String {
        let error = Element::parse(&self.body).ok();
        let code = error.as_ref().and_then(|error| error.text_of("Code"));
        let is_word = |code: &&str| code.bytes().all(|byte| byte.is_ascii_alphanumeric());
        code.filter(is_word).unwrap_or_default().to_owned()
    }
}

impl Bucket {
    /// A bucket; nothing is asked yet.
    ///
    /// # Errors
    /// When it cannot be reached as it is written.
    pub fn new(
        custody: &Custody,
        s3: &S3,
        id: &Credential,
        secret: &Credential,
    ) -> Result<Self, Trouble> {
        let key = AccessKey {
            id: id.clone(),
            secret: secret.clone(),
        };
        let id = custody.id.clone();
        let connector = Connector::new(custody, &s3.endpoint)
            .map_err(|error| Trouble::unusable(&id, &error.to_string()))?;
        Ok(Self {
            id,
            s3: s3.clone(),
            key,
            connector,
            skew: None,
        })
    }

    pub fn id(&self) -> &BucketId {
        &self.id
    }

    /// Reads its lifecycle rules.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn rules(&mut self) -> Result<Rules, Trouble> {
        let answer = self.ask(Method::GET, "lifecycle=", None).await?;
        let configuration = match (answer.status, answer.code().as_str()) {
            (StatusCode::OK, _) => Configuration::parse(&answer.body)
                .map_err(|error| Trouble::unreadable(&self.id, &error))?,
            (_, "NoSuchLifecycleConfiguration") => Configuration::default(),
            _ => return Err(self.refused(Action::ReadRules, &answer)),
        };
        Ok(Rules {
            configuration,
            minimum_size: answer.headers.get(MINIMUM_SIZE).cloned(),
        })
    }

    /// Writes them all, in place of those that are there. `read` are those that they were made of.
    ///
    /// # Errors
    /// When the store does not take them.
    pub async fn write_rules(
        &mut self,
        configuration: &Configuration,
        read: &Rules,
    ) -> Result<(), Trouble> {
        let answer = if configuration.rules().next().is_none() {
            // A configuration has at least one rule.
            self.ask(Method::DELETE, "lifecycle=", None).await?
        } else {
            let body = Body {
                content: Bytes::from(configuration.as_str().to_owned()),
                minimum_size: read.minimum_size.clone(),
            };
            self.ask(Method::PUT, "lifecycle=", Some(body)).await?
        };
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(self.refused(Action::WriteRules, &answer))
        }
    }

    /// Reads whether it keeps versions.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn versioning(&mut self) -> Result<Versioning, Trouble> {
        let answer = self.ask(Method::GET, "versioning=", None).await?;
        if answer.status == StatusCode::NOT_IMPLEMENTED {
            return Ok(Versioning::Never);
        }
        if answer.status != StatusCode::OK {
            return Err(self.refused(Action::ReadVersioning, &answer));
        }
        let configuration = self.read(&answer)?;
        Ok(match configuration.text_of("Status") {
            Some("Enabled") => Versioning::Enabled,
            Some("Suspended") => Versioning::Suspended,
            _ => Versioning::Never,
        })
    }

    /// Reads whether it locks objects; none where it cannot.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn lock(&mut self) -> Result<Option<BucketLock>, Trouble> {
        let answer = self.ask(Method::GET, "object-lock=", None).await?;
        match (answer.status, answer.code().as_str()) {
            (StatusCode::OK, _) => {}
            (StatusCode::NOT_IMPLEMENTED, _) | (_, "ObjectLockConfigurationNotFoundError") => {
                return Ok(None);
            }
            _ => return Err(self.refused(Action::ReadLock, &answer)),
        }
        let configuration = self.read(&answer)?;
        if configuration.text_of("ObjectLockEnabled") != Some("Enabled") {
            return Ok(None);
        }
        let rule = configuration.child("Rule");
        let retention = rule.and_then(|rule| rule.child("DefaultRetention"));
        let number = |name: &str| retention?.text_of(name)?.parse::<u32>().ok();
        let years = number("Years").map(|years| years.saturating_mul(365));
        let mode = retention.and_then(|retention| retention.text_of("Mode"));
        Ok(Some(BucketLock {
            mode: mode.map(str::to_owned),
            days: number("Days").or(years),
        }))
    }

    /// Whether there are logs of an earlier day below a prefix. Where there are more than a listing has at once, there are.
    ///
    /// # Errors
    /// When the store does not say.
    pub async fn has_earlier_logs(&mut self, prefix: &str) -> Result<bool, Trouble> {
        let query = format!("list-type=2&prefix={}", super::encode(prefix));
        let answer = self.ask(Method::GET, &query, None).await?;
        if answer.status != StatusCode::OK {
            return Err(self.refused(Action::List, &answer));
        }
        let listing = self.read(&answer)?;
        if listing.text_of("IsTruncated") == Some("true") {
            return Ok(true);
        }
        let mut stored = listing.all("Contents").map(|object| {
            let text = object.text_of("LastModified").unwrap_or_default();
            let stored: Option<k8s_openapi::jiff::Timestamp> = text.parse().ok();
            stored.map(SystemTime::from)
        });
        Ok(stored.any(|stored| is_earlier(stored, &answer.headers)))
    }

    fn read(&self, answer: &Answer) -> Result<Element, Trouble> {
        Element::parse(&answer.body)
            .map_err(|error: Malformed| Trouble::unreadable(&self.id, &error))
    }

    fn refused(&self, action: Action, answer: &Answer) -> Trouble {
        let refusal = Refusal {
            status: answer.status.as_u16(),
            code: &answer.code(),
            region: self.s3.region.as_str(),
        };
        Trouble::of(action, &self.id, refusal)
    }

    /// Asks, once more with the store's own time where that is not ours.
    async fn ask(
        &mut self,
        method: Method,
        query: &str,
        body: Option<Body>,
    ) -> Result<Answer, Trouble> {
        let answer = self.ask_once(&method, query, body.as_ref()).await?;
        if answer.code() != "RequestTimeTooSkewed" {
            return Ok(answer);
        }
        let Some(theirs) = date(&answer.headers) else {
            return Ok(answer);
        };
        let skew = match theirs.duration_since(SystemTime::now()) {
            Ok(ahead) => (ahead, false),
            Err(behind) => (behind.duration(), true),
        };
        tracing::warn!(
            bucket = %self.id.name,
            seconds = skew.0.as_secs(),
            "the store's clock is another one than ours: set the node's clock"
        );
        self.skew = Some(skew);
        self.ask_once(&method, query, body.as_ref()).await
    }

    async fn ask_once(
        &self,
        method: &Method,
        query: &str,
        body: Option<&Body>,
    ) -> Result<Answer, Trouble> {
        let unusable = |reason: String| Trouble::unusable(&self.id, &reason);
        let address = self.s3.endpoint.join(&format!("/{}?{query}", self.id.name));
        let address = address.map_err(|error| unusable(error.to_string()))?;
        let content = body.map_or_else(Bytes::new, |body| body.content.clone());
        let mut request = http::Request::new(content);
        *request.method_mut() = method.clone();
        *request.uri_mut() = address;
        if let Some(body) = body {
            let digest = BASE64_STANDARD.encode(Md5::digest(&body.content));
            let digest =
                HeaderValue::try_from(digest).map_err(|error| unusable(error.to_string()))?;
            let headers = request.headers_mut();
            headers.insert(HeaderName::from_static("content-md5"), digest);
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/xml"),
            );
            if let Some(minimum) = &body.minimum_size {
                headers.insert(MINIMUM_SIZE, minimum.clone());
            }
        }
        signature::sign(&mut request, &self.key, self.s3.region.as_str(), self.now())
            .map_err(|error| unusable(error.to_string()))?;
        let response = self.connector.exchange(request).await;
        let response = response
            .map_err(|error| Trouble::unreachable(&self.id, &crate::cache::chain(&error)))?;
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    fn now(&self) -> SystemTime {
        let ours = SystemTime::now();
        let theirs = match self.skew {
            Some((ahead, false)) => ours.checked_add(ahead),
            Some((behind, true)) => ours.checked_sub(behind),
            None => None,
        };
        theirs.unwrap_or(ours)
    }
}

struct Body {
    content: Bytes,
    minimum_size: Option<HeaderValue>,
}

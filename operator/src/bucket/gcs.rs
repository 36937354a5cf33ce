//! A bucket of Google's, over the JSON API of Cloud Storage ("Buckets: get", "Buckets: patch", "Objects: list").

use std::time::SystemTime;

use http::{HeaderMap, Method, StatusCode};
use katonic_log_config::Gcs;
use katonic_logging_core::{
    credential::Credential,
    retention::{Action, BucketId, Custody, Trouble, lifecycle::gcs},
};
use serde::Deserialize;

use super::{
    Written, encode,
    https::{Answer, Body, Service, bearer},
    is_earlier,
    token::Google,
};

/// A bucket that can be asked.
pub struct Bucket {
    id: BucketId,
    path: String,
    service: Service,
    google: Google,
    token: Option<Credential>,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Bucket")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Bucket {
    pub fn new(custody: &Custody, gcs: &Gcs, key: &Credential) -> Result<Self, Trouble> {
        Ok(Self {
            id: custody.id.clone(),
            path: format!("/storage/v1/b/{}", encode(gcs.bucket.as_str())),
            service: Service::new(custody, &gcs.endpoint)?,
            google: Google::new(custody, key)?,
            token: None,
        })
    }

    pub fn id(&self) -> &BucketId {
        &self.id
    }

    /// Reads what of it matters for retention.
    pub async fn read(&mut self) -> Result<gcs::Bucket, Trouble> {
        let query = format!("?fields={}", encode(gcs::Bucket::FIELDS));
        let answer = self.ask(Method::GET, &query, None).await?;
        if answer.status != StatusCode::OK {
            return Err(self.refused(Action::ReadRules, &answer));
        }
        gcs::Bucket::parse(&answer.body).map_err(|error| Trouble::unreadable(&self.id, &error))
    }

    /// Writes its rules, if nobody has changed its settings since they had this version.
    pub async fn write(
        &mut self,
        rules: &gcs::Rules,
        metageneration: &str,
    ) -> Result<Written, Trouble> {
        let content = rules
            .patch()
            .map_err(|error| Trouble::unreadable(&self.id, &error))?;
        let query = format!(
            "?ifMetagenerationMatch={}&fields=metageneration",
            encode(metageneration)
        );
        let body = Body {
            content_type: "application/json",
            content,
        };
        let answer = self.ask(Method::PATCH, &query, Some(body)).await?;
        match answer.status {
            StatusCode::OK => Ok(Written::Done),
            StatusCode::PRECONDITION_FAILED => Ok(Written::Outrun),
            _ => Err(self.refused(Action::WriteRules, &answer)),
        }
    }

    /// See [`super::Bucket::has_earlier_logs`].
    pub async fn has_earlier_logs(&mut self, prefix: &str) -> Result<bool, Trouble> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Listing {
            #[serde(default)]
            items: Vec<Object>,
            next_page_token: Option<String>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Object {
            time_created: Option<String>,
        }
        let query = format!(
            "/o?prefix={}&fields={}",
            encode(prefix),
            encode("nextPageToken,items(timeCreated)")
        );
        let answer = self.ask(Method::GET, &query, None).await?;
        if answer.status != StatusCode::OK {
            return Err(self.refused(Action::List, &answer));
        }
        let Ok(listing) = serde_json::from_str::<Listing>(&answer.body) else {
            return Err(self.refused(Action::List, &answer));
        };
        let stored = |object: Object| {
            let time: k8s_openapi::jiff::Timestamp = object.time_created?.parse().ok()?;
            Some(SystemTime::from(time))
        };
        let mut stored = listing.items.into_iter().map(stored);
        Ok(listing.next_page_token.is_some()
            || stored.any(|stored| is_earlier(stored, &answer.headers)))
    }

    async fn ask(
        &mut self,
        method: Method,
        rest: &str,
        body: Option<Body>,
    ) -> Result<Answer, Trouble> {
        let headers = self.headers().await?;
        let path = format!("{}{rest}", self.path);
        self.service.ask(method, &path, &headers, body).await
    }

    async fn headers(&mut self) -> Result<HeaderMap, Trouble> {
        let token = match self.token.take() {
            Some(token) => token,
            None => self.google.ask(&self.id).await?,
        };
        let headers = bearer(&token);
        self.token = Some(token);
        Ok(headers)
    }

    fn refused(&self, action: Action, answer: &Answer) -> Trouble {
        let reason = answer.word("/error/errors/0/reason");
        Trouble::of(action, &self.id, answer.refusal(&reason))
    }
}

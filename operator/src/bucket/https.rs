//! One request at a time to services that speak JSON, each over its own connection.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use katonic_log_config::Endpoint;
use katonic_logging_core::{
    credential::Credential,
    retention::{BucketId, Custody, Refusal, Trouble},
};
use serde_json::Value;

use super::connection::Connector;

/// A service at one address.
pub struct Service {
    bucket: BucketId,
    endpoint: Endpoint,
    connector: Connector,
}

/// What it answers.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

/// What is sent with a request.
pub struct Body {
    pub content_type: &'static str,
    pub content: String,
}

impl Service {
    /// The service of a bucket that is at this address.
    pub fn new(custody: &Custody, endpoint: &Endpoint) -> Result<Self, Trouble> {
        let bucket = custody.id.clone();
        let connector = Connector::new(custody, endpoint)
            .map_err(|error| Trouble::unusable(&bucket, &error.to_string()))?;
        Ok(Self {
            bucket,
            endpoint: endpoint.clone(),
            connector,
        })
    }

    /// Asks it; `path` is behind its address, with a possible query.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &HeaderMap,
        body: Option<Body>,
    ) -> Result<Answer, Trouble> {
        let unusable = |why: String| Trouble::unusable(&self.bucket, &why);
        let uri = self.endpoint.join(path);
        let uri = uri.map_err(|error| unusable(error.to_string()))?;
        let host = uri.authority().map(ToString::to_string);
        let host = HeaderValue::try_from(host.unwrap_or_default())
            .map_err(|error| unusable(error.to_string()))?;
        let has_body = body.is_some() || method == Method::PUT || method == Method::POST;
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        request.headers_mut().clone_from(headers);
        request.headers_mut().insert(header::HOST, host);
        if let Some(Body {
            content_type,
            content,
        }) = body
        {
            let content_type = HeaderValue::from_static(content_type);
            request
                .headers_mut()
                .insert(header::CONTENT_TYPE, content_type);
            *request.body_mut() = content.into();
        }
        if has_body {
            let length = HeaderValue::from(request.body().len());
            request.headers_mut().insert(header::CONTENT_LENGTH, length);
        }
        let response = self.connector.exchange(request).await;
        let response = response
            .map_err(|error| Trouble::unreachable(&self.bucket, &crate::cache::chain(&error)))?;
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}

impl Answer {
    /// What it is, where it is no success; `code` is the vendor's word for it.
    pub fn refusal<'a>(&self, code: &'a str) -> Refusal<'a> {
        Refusal {
            status: self.status.as_u16(),
            code,
            region: "",
        }
    }

    /// What stands there in its JSON, if it is a word: nothing else is repeated.
    pub fn word(&self, pointer: &str) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        let word = body.pointer(pointer).and_then(Value::as_str);
        let is_word = |word: &&str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            word.len() <= 64 && word.bytes().all(is_part)
        };
        word.filter(is_word).unwrap_or_default().to_owned()
    }
}

/// Headers that show a token.
pub fn bearer(token: &Credential) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let value = [b"Bearer ", token.expose()].concat();
    if let Ok(mut value) = HeaderValue::try_from(value) {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    headers
}

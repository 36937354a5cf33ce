//! Lists versions of objects in S3: the client's library knows the newest ones alone. Writes nothing.

use std::{
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use futures::stream::{self, BoxStream, StreamExt as _};
use http::{Method, Request, StatusCode};
use katonic_logging_core::{
    execution::{Location, Page, location::Bucket},
    retention::xml::Element,
};
use object_store::{
    aws::{AmazonS3, AwsAuthorizer},
    client::{HttpClient, HttpRequestBody},
};
use tokio::time::sleep;

use super::Error;
use crate::{bucket::encode, cache::chain};

/// How often a request is repeated that fails in a way that may pass, and how long is waited first.
const RETRIES: (u32, Duration) = (4, Duration::from_millis(200));

/// What versions of objects are asked for with.
#[derive(Clone)]
pub struct Versioned {
    client: HttpClient,
    /// Knows who reads, and renews what they show.
    reader: Arc<AmazonS3>,
}

impl fmt::Debug for Versioned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Versioned(…)")
    }
}

/// Where the next part of a listing begins.
type Marker = Option<(String, String)>;

impl Versioned {
    /// Asks as this reader.
    pub fn new(client: HttpClient, reader: Arc<AmazonS3>) -> Self {
        Self { client, reader }
    }

    /// All versions of the objects whose keys begin with `prefix`, in parts.
    pub fn list(
        self,
        location: Location,
        prefix: String,
    ) -> BoxStream<'static, Result<Page, Error>> {
        let first: Option<Marker> = Some(None);
        stream::unfold(first, move |next| {
            let (asking, location, prefix) = (self.clone(), location.clone(), prefix.clone());
            async move {
                let marker = next?;
                match asking.page(&location, &prefix, marker.as_ref()).await {
                    // A store that stands still is not asked for ever, nor believed.
                    Ok(page) if page.next.is_some() && page.next == marker => {
                        let reason = "its listing of versions does not go on".to_owned();
                        Some((Err(unanswered(&location, reason)), None))
                    }
                    Ok(page) => {
                        let next = page.next.clone();
                        Some((Ok(page), next.map(Some)))
                    }
                    Err(error) => Some((Err(error), None)),
                }
            }
        })
        .boxed()
    }

    async fn page(
        &self,
        location: &Location,
        prefix: &str,
        marker: Option<&(String, String)>,
    ) -> Result<Page, Error> {
        let (mut left, mut wait) = RETRIES;
        loop {
            match self.ask(location, prefix, marker).await {
                Ok((StatusCode::OK, body)) => {
                    return Page::parse(&body).map_err(|error| {
                        let reason = format!("its listing of versions cannot be read: {error}");
                        unanswered(location, reason)
                    });
                }
                Ok((status, body)) if !is_passing(status) || left == 0 => {
                    return Err(refused(location, prefix, status, &body));
                }
                Err(error) if left == 0 => return Err(error),
                Ok(_) | Err(_) => {}
            }
            left -= 1;
            sleep(wait).await;
            wait *= 2;
        }
    }

    async fn ask(
        &self,
        location: &Location,
        prefix: &str,
        marker: Option<&(String, String)>,
    ) -> Result<(StatusCode, String), Error> {
        let Bucket::S3 { name, region } = &location.bucket else {
            return Err(Error::Unusable("it is no store of S3".to_owned()));
        };
        let mut query = "encoding-type=url".to_owned();
        if let Some((key, version)) = marker {
            // Writing to a String cannot fail.
            let _ = write!(query, "&key-marker={}", encode(key));
            if !version.is_empty() {
                let _ = write!(query, "&version-id-marker={}", encode(version));
            }
        }
        let path = format!(
            "/{}?{query}&prefix={}&versions=",
            name.as_str(),
            encode(prefix)
        );
        let unusable = |reason: String| Error::Unusable(reason);
        let address = location.endpoint.join(&path);
        let address = address.map_err(|error| unusable(error.to_string()))?;
        let request = Request::builder().method(Method::GET).uri(address);
        let request = request.body(HttpRequestBody::empty());
        let mut request = request.map_err(|error| unusable(error.to_string()))?;
        let credential = self.reader.credentials().get_credential().await;
        let judge = |error: &object_store::Error| super::judge(location, error, super::Asked::List);
        let credential = credential.map_err(|error| judge(&error))?;
        AwsAuthorizer::new(&credential, "s3", region.as_str())
            .try_authorize(&mut request, None)
            .map_err(|error| judge(&error))?;
        let failed = |error: &object_store::client::HttpError| unanswered(location, chain(error));
        let answer = self.client.execute(request).await;
        let answer = answer.map_err(|error| failed(&error))?;
        let status = answer.status();
        let body = answer.into_body().bytes().await;
        let body = body.map_err(|error| failed(&error))?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

fn is_passing(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED
        || status == StatusCode::TOO_MANY_REQUESTS
}

fn unanswered(location: &Location, reason: String) -> Error {
    Error::Unanswered {
        endpoint: location.endpoint.to_string(),
        reason,
    }
}

/// What an answer means. Of what the store says only its code is told.
fn refused(location: &Location, prefix: &str, status: StatusCode, body: &str) -> Error {
    let error = Element::parse(body).ok();
    let code = error.as_ref().and_then(|error| error.text_of("Code"));
    let is_word = |code: &&str| code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let code = code.filter(is_word).filter(|code| !code.is_empty());
    match (status, code) {
        (StatusCode::FORBIDDEN, Some("AccessDenied") | None) => Error::Denied {
            verb: "list the versions of objects",
            action: "s3:ListBucketVersions",
            resource: match &location.bucket {
                Bucket::S3 { name, .. } => {
                    format!("arn:aws:s3:::{} for the prefix {prefix}*", name.as_str())
                }
                other => other.to_string(),
            },
        },
        (StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED, _)
        | (_, Some("NotImplemented")) => {
            Error::Unusable("it does not list versions of objects".to_owned())
        }
        (_, Some(code)) => unanswered(location, code.to_owned()),
        (status, None) => unanswered(location, format!("HTTP {}", status.as_u16())),
    }
}

#[cfg(test)]
mod tests {
    use katonic_log_config::{BucketName, Endpoint};

    use super::*;

    #[test]
    fn a_right_that_is_missing_is_named_and_nothing_else_of_an_answer_is_repeated() {
        let location = Location::s3(
            BucketName::try_from("audit".to_owned()).unwrap(),
            None,
            Some(Endpoint::try_from("https://s3.example.com".to_owned()).unwrap()),
            None,
        );
        let location = location.unwrap();
        let told = |status: u16, code: &str| {
            let body = format!("<Error><Code>{code}</Code><Message>hunter2</Message></Error>");
            let status = StatusCode::from_u16(status).unwrap();
            refused(&location, "audit/", status, &body)
        };
        let denied = told(403, "AccessDenied");
        assert!(matches!(denied, Error::Denied { .. }));
        assert!(denied.to_string().starts_with(
            "the store refuses to list the versions of objects: allow these credentials s3:ListBucketVersions on arn:aws:s3:::audit for the prefix audit/* "
        ), "{denied}");
        assert!(matches!(told(501, "NotImplemented"), Error::Unusable(_)));
        for (status, code, words) in [
            (
                403,
                "SignatureDoesNotMatch",
                "gave no answer: SignatureDoesNotMatch",
            ),
            (500, "InternalError", "gave no answer: InternalError"),
            (500, "an error", "gave no answer: HTTP 500"),
        ] {
            let text = told(status, code).to_string();
            assert!(text.contains(words) && !text.contains("hunter2"), "{text}");
        }
    }
}

//! Answers of New Relic's ingest endpoints by their meaning. Decides nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::receiver::{Fault, RetryAfter};

/// An answer (New Relic: "Report metrics via the Metric API", status codes).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// Received; checked later.
    Accepted,
    /// Neither of the two forms of a body.
    InvalidStructure,
    /// No license key, or one that is unknown.
    Forbidden,
    /// A path that is none.
    NotFound,
    /// Another method than POST.
    MethodNotAllowed,
    /// The request took too long to arrive.
    Timeout,
    /// No `Content-Length`.
    LengthRequired,
    /// A body above 10^6 bytes.
    TooLarge,
    /// A content type or coding that is not taken.
    UnsupportedMediaType,
    /// More than the account's requests or bytes of a minute.
    TooManyRequests,
    /// New Relic failed.
    InternalError,
}

/// Requests of this process so far: what makes their ids unique.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

impl Reply {
    fn parts(self) -> (u16, &'static str) {
        match self {
            Self::Accepted => (202, "accepted"),
            Self::InvalidStructure => (400, "the structure of the request is invalid"),
            Self::Forbidden => (403, "authentication failure"),
            Self::NotFound => (404, "the request path is incorrect"),
            Self::MethodNotAllowed => (405, "another method than POST"),
            Self::Timeout => (408, "the request took too long to reach the endpoint"),
            Self::LengthRequired => (411, "no Content-Length"),
            Self::TooLarge => (413, "the payload is too big"),
            Self::UnsupportedMediaType => (415, "invalid Content-Type or Content-Encoding"),
            Self::TooManyRequests => (429, "the rate quota is exceeded"),
            Self::InternalError => (500, "server error"),
        }
    }

    /// HTTP status.
    pub fn status(self) -> u16 {
        self.parts().0
    }

    /// The answer's body: the request's id, and what is wrong in words of ours, because New Relic documents none.
    pub(super) fn body(self) -> String {
        let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let id = format!("00000000-0001-b000-0000-{number:012x}");
        match self {
            Self::Accepted => json!({"requestId": id}),
            _ => json!({"requestId": id, "error": self.parts().1}),
        }
        .to_string()
    }

    /// The answer as a fault: what an endpoint in trouble says to any request.
    pub fn fault(self, retry_after: Option<RetryAfter>) -> Fault {
        Fault::Answer {
            status: self.status(),
            retry_after,
            body: self.body(),
        }
    }
}

//! Answers of the HTTP Event Collector, word for word. Decides nothing.

use serde_json::json;

use crate::receiver::{Fault, Record, RetryAfter, Verdict};

/// An answer by its meaning (Splunk: "Troubleshoot HTTP Event Collector", table of error codes).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// All events were taken; not yet indexed.
    Success,
    /// The token is known and switched off.
    TokenDisabled,
    /// No `Authorization` header.
    TokenRequired,
    /// An `Authorization` header of another scheme.
    InvalidAuthorization,
    /// An unknown token.
    InvalidToken,
    /// A body without events.
    NoData,
    /// Not a sequence of JSON objects, or an event above the limit.
    InvalidDataFormat,
    /// An index that the token does not allow; the whole request is refused.
    IncorrectIndex,
    /// Splunk failed.
    InternalError,
    /// Splunk has no room.
    Busy,
    /// Acknowledgement is asked for without naming a channel.
    ChannelMissing,
    /// A channel that is no GUID.
    InvalidChannel,
    /// An object without `event`.
    EventRequired,
    /// An `event` that is empty.
    EventBlank,
    /// The token has no indexer acknowledgement.
    AckDisabled,
    /// `fields` that are not flat, or a time that is none.
    IndexedFields,
    /// The collector works.
    Healthy,
    /// The collector's queues are full.
    QueuesFull,
    /// A body above `max_content_length`.
    TooLarge,
    /// A path that is none.
    NotFound,
    /// A method that the path does not have.
    MethodNotAllowed,
}

impl Reply {
    fn parts(self) -> (u16, u16, &'static str) {
        match self {
            Self::Success => (200, 0, "Success"),
            Self::TokenDisabled => (403, 1, "Token disabled"),
            Self::TokenRequired => (401, 2, "Token is required"),
            Self::InvalidAuthorization => (401, 3, "Invalid authorization"),
            Self::InvalidToken => (403, 4, "Invalid token"),
            Self::NoData => (400, 5, "No data"),
            Self::InvalidDataFormat => (400, 6, "Invalid data format"),
            Self::IncorrectIndex => (400, 7, "Incorrect index"),
            Self::InternalError => (500, 8, "Internal server error"),
            Self::Busy => (503, 9, "Server is busy"),
            Self::ChannelMissing => (400, 10, "Data channel is missing"),
            Self::InvalidChannel => (400, 11, "Invalid data channel"),
            Self::EventRequired => (400, 12, "Event field is required"),
            Self::EventBlank => (400, 13, "Event field cannot be blank"),
            Self::AckDisabled => (400, 14, "ACK is disabled"),
            Self::IndexedFields => (400, 15, "Error in handling indexed fields"),
            Self::Healthy => (200, 17, "HEC is healthy"),
            Self::QueuesFull => (503, 18, "HEC is unhealthy, queues are full"),
            Self::TooLarge => (413, 27, "Request entity too large"),
            Self::NotFound => (404, 404, "The requested URL was not found on this server."),
            Self::MethodNotAllowed => (405, 405, "Method Not Allowed"),
        }
    }

    /// HTTP status.
    pub fn status(self) -> u16 {
        self.parts().0
    }

    /// Splunk's own code.
    pub fn code(self) -> u16 {
        self.parts().1
    }

    /// What Splunk calls it.
    pub fn text(self) -> &'static str {
        self.parts().2
    }

    /// The number by which the answer names an event, given its place in the body from 0.
    ///
    /// Splunk counts from 0, but from 1 with an incorrect index (seen in answers to requests with one event).
    pub(super) fn numbered(self, place: usize) -> usize {
        if self == Self::IncorrectIndex {
            place + 1
        } else {
            place
        }
    }

    /// The answer's body.
    pub fn body(self, event_number: Option<usize>) -> String {
        let mut body = json!({"text": self.text(), "code": self.code()});
        if let Some(number) = event_number {
            body["invalid-event-number"] = number.into();
        }
        body.to_string()
    }

    /// The answer as a fault: what a collector in trouble says to any request.
    pub fn fault(self, retry_after: Option<u64>) -> Fault {
        Fault::Answer {
            status: self.status(),
            retry_after: retry_after.map(RetryAfter::Seconds),
            body: self.body(None),
        }
    }

    /// The answer to a request whose events were taken; the id is that of their acknowledgement.
    pub(super) fn taken(self, ack_id: Option<u64>, records: Vec<Record>) -> Verdict {
        let mut body = json!({"text": self.text(), "code": self.code()});
        if let Some(id) = ack_id {
            body["ackId"] = id.into();
        }
        Verdict::taken(self.status(), body.to_string(), records)
    }

    pub(super) fn verdict(self, event_number: Option<usize>) -> Verdict {
        Verdict::refused(self.status(), self.body(event_number))
    }
}

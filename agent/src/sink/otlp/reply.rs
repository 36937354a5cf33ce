//! Answers of OTLP servers, in protobuf or JSON (`opentelemetry/proto/collector/logs/v1/logs_service.proto`,
//! `google/rpc/status.proto`). Judges nothing.

use serde_json::Value;

/// `ExportLogsServiceResponse.partial_success`.
const PARTIAL_SUCCESS: u64 = 1;
/// `ExportLogsPartialSuccess.rejected_log_records`.
const REJECTED: u64 = 1;
/// `ExportLogsPartialSuccess.error_message`, and `Status.message` too.
const MESSAGE: u64 = 2;

/// What a server says about records that it has taken, or not.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Partial {
    /// How many it has refused.
    pub(super) rejected: u64,
    /// Why, or a warning.
    pub(super) message: String,
}

/// The `partial_success` of a response; none when everything was taken without a word.
pub(super) fn partial_success(body: &[u8]) -> Option<Partial> {
    let partial = object(body).map_or_else(|| of_protobuf(body), |object| of_json(&object));
    (partial != Partial::default()).then_some(partial)
}

fn of_json(response: &Value) -> Partial {
    let partial = &response["partialSuccess"];
    let rejected = &partial["rejectedLogRecords"];
    // A 64-bit number is text in this encoding; some servers write a number all the same.
    let rejected = rejected
        .as_u64()
        .or_else(|| rejected.as_str()?.parse().ok());
    let message = partial["errorMessage"].as_str();
    Partial {
        rejected: rejected.unwrap_or_default(),
        message: message.unwrap_or_default().to_owned(),
    }
}

fn of_protobuf(response: &[u8]) -> Partial {
    let partial = bytes(response, PARTIAL_SUCCESS).unwrap_or_default();
    let rejected = Fields(partial).find_map(|field| match field {
        // It has a sign; fewer than none are none.
        (REJECTED, Content::Number(number)) => i64::try_from(number).ok(),
        _ => None,
    });
    Partial {
        rejected: rejected.unwrap_or_default().unsigned_abs(),
        message: text(partial, MESSAGE),
    }
}

/// The message of a `Status`, which is what a refusal has for a body.
pub(super) fn status_message(body: &[u8]) -> String {
    match object(body) {
        Some(object) => object["message"].as_str().unwrap_or_default().to_owned(),
        None => text(body, MESSAGE),
    }
}

/// A message that is JSON begins with what no protobuf message begins with.
fn object(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().filter(Value::is_object)
}

fn bytes(message: &[u8], number: u64) -> Option<&[u8]> {
    Fields(message).find_map(|field| match field {
        (found, Content::Bytes(bytes)) if found == number => Some(bytes),
        _ => None,
    })
}

fn text(message: &[u8], number: u64) -> String {
    let bytes = bytes(message, number).unwrap_or_default();
    str::from_utf8(bytes).unwrap_or_default().to_owned()
}

/// The fields of a protobuf message up to its end, or to where it is none.
struct Fields<'a>(&'a [u8]);

enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Content<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = self.varint()?;
        let content = match key & 7 {
            0 => Content::Number(self.varint()?),
            1 => Content::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Content::Bytes(self.take(usize::try_from(length).ok()?)?)
            }
            5 => Content::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((key >> 3, content))
    }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        // Ten bytes hold every 64-bit number.
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f)
                .checked_shl(shift)
                .unwrap_or_default();
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn partial(rejected: u64, message: &str) -> Partial {
        Partial {
            rejected,
            message: message.to_owned(),
        }
    }

    #[test]
    fn a_partial_success_is_read_in_both_encodings() {
        let binary = b"\x0a\x0e\x08\xac\x02\x12\x09too old\xc3\xa9";
        assert_eq!(partial_success(binary), Some(partial(300, "too oldé")));
        assert_eq!(
            partial_success(b"\x0a\x04\x12\x02hm"),
            Some(partial(0, "hm"))
        );
        for json in [
            r#"{"partialSuccess":{"rejectedLogRecords":"300","errorMessage":"too old"}}"#,
            r#"{"partialSuccess":{"rejectedLogRecords":300,"errorMessage":"too old"},"more":1}"#,
        ] {
            assert_eq!(
                partial_success(json.as_bytes()),
                Some(partial(300, "too old"))
            );
        }
    }

    #[test]
    fn a_whole_success_says_nothing() {
        for body in [
            &b""[..],
            b"{}",
            br#"{"partialSuccess":{}}"#,
            b"\x0a\x00",
            b"\x0a\x02\x08\x00",
            b"ok",
            // Fewer than none.
            b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(partial_success(body), None, "{body:?}");
        }
    }

    #[test]
    fn a_status_has_a_message() {
        assert_eq!(status_message(b"\x08\x03\x12\x03bad"), "bad");
        assert_eq!(status_message(br#"{"code":3,"message":"bad"}"#), "bad");
        assert_eq!(status_message(b"404 page not found"), "");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (partial_success(&body), status_message(&body));
        }
    }
}

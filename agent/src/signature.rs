//! Signatures of requests to AWS and what speaks its protocols (AWS: "Signature Version 4 for API requests"). Sends nothing.

use std::{collections::BTreeMap, fmt::Write as _, time::SystemTime};

use http::Method;
use katonic_log_config::bundle::hex;
use ring::hmac;
use sha2::{Digest, Sha256};

use crate::{credential::Secret, timestamp::Timestamp};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Who signs, and for what.
#[derive(Debug)]
pub struct Signer<'a> {
    /// Access key id.
    pub access_key_id: &'a str,
    /// Secret access key.
    pub secret_access_key: &'a Secret,
    /// Region, such as `us-east-1`.
    pub region: &'a str,
    /// Service, such as `s3`.
    pub service: &'a str,
}

/// What is signed of a request.
#[derive(Debug)]
pub struct Unsigned<'a> {
    /// Method.
    pub method: &'a Method,
    /// Path, encoded as by [`encode`].
    pub path: &'a str,
    /// Query, names and values encoded and sorted by name.
    pub query: &'a str,
    /// Headers that are signed, names in lower case: `host` and at least every `x-amz-…`.
    pub headers: &'a BTreeMap<&'a str, String>,
    /// SHA-256 of the body in hex.
    pub payload: &'a str,
}

impl Signer<'_> {
    /// The value of `Authorization` for a request that is sent at this time, as in its header `x-amz-date`.
    pub fn authorization(&self, request: &Unsigned<'_>, date: &Date) -> String {
        let names: Vec<&str> = request.headers.keys().copied().collect();
        let names = names.join(";");
        let mut headers = String::new();
        for (name, value) in request.headers {
            // Writing to a String cannot fail.
            let _ = writeln!(headers, "{name}:{}", value.trim());
        }
        let canonical = format!(
            "{}\n{}\n{}\n{headers}\n{names}\n{}",
            request.method, request.path, request.query, request.payload
        );
        let day = date.day();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!(
            "{ALGORITHM}\n{}\n{scope}\n{}",
            date.0,
            hex(&Sha256::digest(canonical))
        );
        let signature = hex(hmac(self.key(day), to_sign.as_bytes()).as_ref());
        format!(
            "{ALGORITHM} Credential={}/{scope},SignedHeaders={names},Signature={signature}",
            self.access_key_id
        )
    }

    /// The key of one day, region and service.
    fn key(&self, day: &str) -> hmac::Tag {
        let secret = [b"AWS4", self.secret_access_key.reveal()].concat();
        let steps = [self.region, self.service, "aws4_request"];
        steps
            .iter()
            .fold(hmac(&secret, day.as_bytes()), |key, step| {
                hmac(key.as_ref(), step.as_bytes())
            })
    }
}

fn hmac(key: impl AsRef<[u8]>, message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), message)
}

/// A time as AWS writes it: `20130524T000000Z`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Date(String);

impl Date {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn day(&self) -> &str {
        self.0.get(..8).unwrap_or_default()
    }
}

impl From<SystemTime> for Date {
    fn from(time: SystemTime) -> Self {
        let mut text = Vec::new();
        Timestamp::from(time).write_rfc3339(&mut text);
        // 2013-05-24T00:00:00, and what is smaller than a second.
        let seconds = text.iter().take(19).filter(|byte| !b"-:".contains(byte));
        let mut date: String = seconds.map(|byte| char::from(*byte)).collect();
        date.push('Z');
        Self(date)
    }
}

/// A path with everything encoded but `/` and what RFC 3986 leaves unreserved, as a signature has it.
pub fn encode(path: &str) -> String {
    path.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// 24 May 2013, the day of the examples in AWS's "Signature Calculations for the Authorization Header".
    fn date() -> Date {
        Date::from(UNIX_EPOCH + Duration::from_hours(24 * 15_849))
    }

    /// What the example with these headers is signed with.
    fn sign(
        method: &Method,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        payload: &str,
    ) -> String {
        let secret = Secret::from(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_vec());
        let signer = Signer {
            access_key_id: "AKIAIOSFODNN7EXAMPLE",
            secret_access_key: &secret,
            region: "us-east-1",
            service: "s3",
        };
        let mut covered = BTreeMap::from([
            ("host", "examplebucket.s3.amazonaws.com".to_owned()),
            ("x-amz-content-sha256", payload.to_owned()),
            ("x-amz-date", date().as_str().to_owned()),
        ]);
        covered.extend(
            headers
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned())),
        );
        signer.authorization(
            &Unsigned {
                method,
                path: &encode(path),
                query,
                headers: &covered,
                payload,
            },
            &date(),
        )
    }

    #[test]
    fn the_examples_of_aws_are_signed_as_aws_signs_them() {
        assert_eq!(date().as_str(), "20130524T000000Z");
        let get = sign(
            &Method::GET,
            "/test.txt",
            "",
            &[("range", "bytes=0-9")],
            NOTHING,
        );
        assert_eq!(
            get,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        let put = sign(
            &Method::PUT,
            "/test$file.text",
            "",
            &[
                ("date", "Fri, 24 May 2013 00:00:00 GMT"),
                ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ],
            "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        );
        assert!(
            put.ends_with(
                "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
            ),
            "{put}"
        );
        let lifecycle = sign(&Method::GET, "/", "lifecycle=", &[], NOTHING);
        assert!(
            lifecycle.ends_with(
                "Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"
            ),
            "{lifecycle}"
        );
        let list = sign(&Method::GET, "/", "max-keys=2&prefix=J", &[], NOTHING);
        assert!(
            list.ends_with(
                "Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"
            ),
            "{list}"
        );
    }

    #[test]
    fn everything_that_is_not_unreserved_is_encoded() {
        assert_eq!(encode("/a b/ü!~x"), "/a%20b/%C3%BC%21~x");
    }
}

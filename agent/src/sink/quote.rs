//! What of a server's or proxy's own words is told: little, and never a credential that it was shown and repeats.

use std::{fmt::Write, ops::Range};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use http::{HeaderMap, HeaderValue};
use memchr::memmem;

/// Characters of an answer that are told: enough for people; it could be of any length.
const ANSWER: usize = 120;

/// Characters of what a library says of a connection that are told: a certificate may have many names.
const FAILURE: usize = 400;

/// Stands for a credential, as everywhere.
const HIDDEN: &str = "…";

/// Everything that must not be repeated, in the forms in which it may come back: as it is, in Base64, percent-encoded and
/// as a JSON string. Without regard to case, for some servers write headers their own way.
#[derive(Clone, Default, PartialEq)]
pub struct Quoter(Vec<String>);

impl std::fmt::Debug for Quoter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(HIDDEN)
    }
}

impl Quoter {
    /// Hides what these headers have of credentials: the values that are marked as sensitive.
    pub fn of_headers(headers: &HeaderMap) -> Self {
        let mut quoter = Self::default();
        quoter.hide_headers(headers);
        quoter
    }

    /// Hides what these headers have of credentials.
    pub fn hide_headers(&mut self, headers: &HeaderMap) {
        for value in headers.values().filter(|value| value.is_sensitive()) {
            self.hide_header(value);
        }
    }

    /// Hides the value of a header, what stands in it behind the name of a scheme, and the password of a pair.
    pub fn hide_header(&mut self, value: &HeaderValue) {
        self.hide(value.as_bytes());
        let Ok(text) = str::from_utf8(value.as_bytes()) else {
            return;
        };
        let Some((scheme, credential)) = text.split_once(' ') else {
            return;
        };
        self.hide(credential.as_bytes());
        if scheme.eq_ignore_ascii_case("basic")
            && let Ok(pair) = BASE64_STANDARD.decode(credential)
        {
            self.hide(&pair);
            if let Some(colon) = pair.iter().position(|byte| *byte == b':') {
                let (name, password) = (&pair[..colon], &pair[colon + 1..]);
                // Without a password the name is the credential.
                self.hide(if password.is_empty() { name } else { password });
            }
        }
    }

    /// Hides a credential.
    pub fn hide(&mut self, credential: &[u8]) {
        if credential.is_empty() {
            return;
        }
        let address = percent(credential, |byte| {
            byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
        });
        let mut forms = vec![
            BASE64_STANDARD_NO_PAD.encode(credential),
            BASE64_URL_SAFE_NO_PAD.encode(credential),
            address.replace("%20", "+"),
            address,
            percent(credential, |_| false),
        ];
        if let Ok(text) = str::from_utf8(credential) {
            forms.push(text.to_owned());
            let json = serde_json::Value::from(text).to_string();
            forms.push(json[1..json.len() - 1].to_owned());
        }
        for form in &mut forms {
            form.make_ascii_lowercase();
        }
        self.0.extend(forms);
        self.0.sort_unstable();
        self.0.dedup();
    }

    /// What is told of an answer.
    pub fn answer(&self, text: &str) -> String {
        self.quote(text, ANSWER)
    }

    /// What is told of a connection that failed: some of its words may be the other side's.
    pub fn failure(&self, text: &str) -> String {
        self.quote(text, FAILURE)
    }

    /// First without what cannot be seen, then without what must not be, and only then cut: half a credential is one too.
    fn quote(&self, text: &str, longest: usize) -> String {
        let visible: String = text.chars().filter(|one| !one.is_control()).collect();
        let lower = visible.to_ascii_lowercase();
        let mut hidden: Vec<Range<usize>> = Vec::new();
        for form in &self.0 {
            let finder = memmem::find_iter(lower.as_bytes(), form.as_bytes());
            hidden.extend(finder.map(|at| at..at + form.len()));
        }
        hidden.sort_unstable_by_key(|range| range.start);
        let mut told = String::new();
        let mut end = 0;
        for Range { start, end: until } in hidden {
            if start >= end {
                told.push_str(&visible[end..start]);
                told.push_str(HIDDEN);
            }
            end = end.max(until);
        }
        told.push_str(&visible[end..]);
        if let Some((cut, _)) = told.char_indices().nth(longest) {
            told.truncate(cut);
        }
        told
    }
}

/// In percent-encoding, but for the bytes that may stand as they are (RFC 3986 §2.3).
fn percent(bytes: &[u8], is_unreserved: impl Fn(u8) -> bool) -> String {
    let mut text = String::new();
    for byte in bytes {
        if is_unreserved(*byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(text, "%{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(value: &str) -> HeaderValue {
        let mut value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        value.set_sensitive(true);
        value
    }

    fn basic(password: &str) -> Quoter {
        let pair = BASE64_STANDARD.encode(format!("logs:{password}"));
        let mut quoter = Quoter::default();
        quoter.hide_header(&header(&format!("Basic {pair}")));
        quoter
    }

    #[test]
    fn a_token_is_hidden_however_it_is_repeated() {
        let mut quoter = Quoter::default();
        quoter.hide_header(&header("Splunk hunter2+3/4"));
        for (said, told) in [
            ("Invalid token hunter2+3/4.", "Invalid token …."),
            ("Authorization: Splunk hunter2+3/4", "Authorization: …"),
            ("authorization: splunk HUNTER2+3/4", "authorization: …"),
            ("/bulk/hunter2%2B3%2F4/tag/a", "/bulk/…/tag/a"),
            ("/bulk/hunter2%2b3%2f4/tag/a", "/bulk/…/tag/a"),
            ("aHVudGVyMiszLzQ=", "…="),
            ("hun\u{0}ter2+3\n/4", "…"),
            ("hunter2+3/4hunter2+3/4", "……"),
            ("hunter2+3/", "hunter2+3/"),
            ("not known", "not known"),
        ] {
            assert_eq!(quoter.answer(said), told);
        }
    }

    #[test]
    fn of_a_pair_the_password_and_the_whole_are_hidden_and_the_name_is_not() {
        let quoter = basic("correct \"horse\"");
        for (said, told) in [
            ("who is logs?", "who is logs?"),
            ("logs:correct \"horse\"", "…"),
            (r#"{"password":"correct \"horse\""}"#, r#"{"password":"…"}"#),
            ("p=correct+%22horse%22&q", "p=…&q"),
            ("p=correct%20%22horse%22&q", "p=…&q"),
            (&BASE64_STANDARD.encode("logs:correct \"horse\""), "…"),
        ] {
            assert_eq!(quoter.answer(said), told);
        }
    }

    #[test]
    fn half_a_credential_at_the_end_of_what_is_told_is_none() {
        let mut quoter = Quoter::default();
        quoter.hide(b"hunter2hunter2");
        let said = format!("{}hunter2hunter2 and more", "x".repeat(ANSWER - 5));
        let told = quoter.answer(&said);
        assert_eq!(told.chars().count(), ANSWER);
        assert!(told.ends_with("x… and"), "{told}");
        let none = Quoter::default();
        assert_eq!(none.answer(&"é".repeat(500)).chars().count(), ANSWER);
    }

    #[test]
    fn nobody_sees_what_is_hidden() {
        assert_eq!(format!("{:?}", basic("hunter2")), HIDDEN);
    }

    proptest! {
        /// Whatever an answer says around a credential, and however often.
        #[test]
        fn no_answer_shows_a_credential(
            credential in "[ -~]{6,40}",
            pieces in proptest::collection::vec(("\\PC{0,20}", 0_usize..5), 0..6),
        ) {
            let credential = credential.trim();
            prop_assume!(credential.len() >= 6);
            let quoter = basic(credential);
            let form = |which| match which {
                0 => credential.to_owned(),
                1 => BASE64_STANDARD.encode(format!("logs:{credential}")),
                2 => BASE64_STANDARD.encode(credential),
                3 => credential.to_ascii_uppercase(),
                _ => percent(credential.as_bytes(), |_| false).to_ascii_uppercase(),
            };
            let said: String = pieces
                .iter()
                .flat_map(|(text, which)| [text.clone(), form(*which)])
                .collect();
            let told = quoter.answer(&said).to_ascii_lowercase();
            for which in 0..5 {
                let hidden = form(which).to_ascii_lowercase();
                prop_assert!(!told.contains(hidden.trim_end_matches('=')), "{told}");
            }
        }
    }
}

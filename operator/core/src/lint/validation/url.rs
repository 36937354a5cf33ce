//! `isURL(text)`, `url(text)` and what can be asked of one (Kubernetes: "Common Expression Language in Kubernetes", URL library).
//!
//! The API server reads addresses with Go's `net/url`, function `ParseRequestURI`, which takes other texts for addresses than browsers
//! do; this follows it.

use std::sync::Arc;

use kube_cel::cel::{Context, ExecutionError, Value, extractors::This, objects::Opaque};

/// An address.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Address {
    scheme: String,
    /// The host, with its port.
    host: String,
    path: String,
}

impl Opaque for Address {
    fn runtime_type_name(&self) -> &'static str {
        "kubernetes.URL"
    }
}

impl Address {
    /// Reads an address: one with a scheme, or a path from the root on.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
            return None;
        }
        let (scheme, rest) = scheme(text)?;
        let scheme = scheme.to_ascii_lowercase();
        let rest = rest.split('?').next().unwrap_or_default();
        if !rest.starts_with('/') {
            // `mailto:somebody` has no host; without a scheme it is no address at all.
            return (!scheme.is_empty()).then(|| Self {
                scheme,
                ..Self::default()
            });
        }
        let (host, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
            Some(rest) => {
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (host(authority)?, path)
            }
            None => (String::new(), rest),
        };
        are_escapes_good(path).then(|| Self {
            scheme,
            host,
            path: path.to_owned(),
        })
    }

    fn parts(&self) -> (&str, &str) {
        let colon = self.host.rfind(':').filter(|colon| {
            let port = &self.host[colon + 1..];
            port.bytes().all(|byte| byte.is_ascii_digit())
        });
        let (name, port) = match colon {
            Some(colon) => (&self.host[..colon], &self.host[colon + 1..]),
            None => (self.host.as_str(), ""),
        };
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        (bare.unwrap_or(name), port)
    }
}

/// The scheme and what is behind its colon; no scheme where none can be.
fn scheme(text: &str) -> Option<(&str, &str)> {
    for (index, character) in text.char_indices() {
        match character {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if index > 0 => {}
            ':' if index > 0 => return Some((&text[..index], &text[index + 1..])),
            ':' => return None,
            _ => break,
        }
    }
    Some(("", text))
}

/// The host of an authority, with its port and without who is to be there.
fn host(authority: &str) -> Option<String> {
    let host = match authority.rsplit_once('@') {
        Some((user, host)) => {
            let is_user = |character: char| {
                character.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(character)
            };
            if !user.chars().all(is_user) || !are_escapes_good(user) {
                return None;
            }
            host
        }
        None => authority,
    };
    let port = if host.starts_with('[') {
        &host[host.rfind(']')? + 1..]
    } else {
        &host[host.rfind(':').unwrap_or(host.len())..]
    };
    let is_port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    // Every character that the grammar of RFC 3986 has in a host, and those that Go lets pass besides.
    let is_host = |character: char| {
        !character.is_ascii()
            || character.is_ascii_alphanumeric()
            || "-_.~!$&'()*+,;=:[]<>\"%".contains(character)
    };
    (is_port && host.chars().all(is_host) && are_host_escapes_good(host)).then(|| host.to_owned())
}

/// Whether two digits stand behind each `%`.
fn are_escapes_good(text: &str) -> bool {
    escapes(text).all(|escape| escape.is_some())
}

/// In a host only what is not ASCII is escaped, and the `%` before a zone.
fn are_host_escapes_good(text: &str) -> bool {
    escapes(text).all(|escape| escape.is_some_and(|byte| byte >= 0x80 || byte == b'%'))
}

fn escapes(text: &str) -> impl Iterator<Item = Option<u8>> {
    text.match_indices('%').map(|(index, _)| {
        let digits = text.get(index + 1..index + 3)?;
        let are_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        are_digits
            .then(|| u8::from_str_radix(digits, 16).ok())
            .flatten()
    })
}

/// Makes the functions known.
pub fn register(context: &mut Context<'_>) {
    context.add_function("isURL", |text: Arc<String>| Address::parse(&text).is_some());
    context.add_function(
        "url",
        |text: Arc<String>| -> Result<Value, ExecutionError> {
            let address = Address::parse(&text)
                .ok_or_else(|| ExecutionError::function_error("url", "no address"))?;
            Ok(Value::Opaque(Arc::new(address)))
        },
    );
    context.add_function("getScheme", |This(this): This<Value>| {
        ask(&this, |address| address.scheme.clone())
    });
    context.add_function("getHost", |This(this): This<Value>| {
        ask(&this, |address| address.host.clone())
    });
    context.add_function("getHostname", |This(this): This<Value>| {
        ask(&this, |address| address.parts().0.to_owned())
    });
    context.add_function("getPort", |This(this): This<Value>| {
        ask(&this, |address| address.parts().1.to_owned())
    });
    context.add_function("getEscapedPath", |This(this): This<Value>| {
        ask(&this, |address| address.path.clone())
    });
}

fn ask(value: &Value, question: impl Fn(&Address) -> String) -> Result<Value, ExecutionError> {
    let address = match value {
        Value::Opaque(opaque) => opaque.downcast_ref::<Address>(),
        _ => None,
    };
    let address = address.ok_or_else(|| ExecutionError::function_error("url", "no address"))?;
    Ok(Value::from(question(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_the_parts_that_the_api_server_sees() {
        for (text, name, port) in [
            (
                "https://hec.example.com:8088/services",
                "hec.example.com",
                "8088",
            ),
            ("HTTPS://Example.com", "Example.com", ""),
            ("https://[fd00::1]:9000/x", "fd00::1", "9000"),
            ("https://user:secret@h:1", "h", "1"),
            ("https:opaque", "", ""),
            ("/a/path", "", ""),
            ("https://", "", ""),
            ("https://h:443?x=y", "h", "443"),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.parts(), (name, port), "{text}");
        }
    }

    #[test]
    fn what_the_api_server_takes_for_no_address_is_none() {
        for text in [
            "",
            "example.com",
            ":8080",
            "https://h:port",
            "https://a b/",
            "https://h/%zz",
            "https://[fd00::1",
            "https://h%20x/",
            "https://h\n",
            "1http://h",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}

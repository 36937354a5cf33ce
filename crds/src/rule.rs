//! CEL rules that several types share: addresses, durations, credentials.
//!
//! Rules about what may hold a credential stand on the object, never on the field: the API server's answer repeats the
//! value of a field.

use kube::core::{Message, Rule};

/// A field that holds the address of a server.
pub(crate) struct Address {
    /// The field's name.
    pub field: &'static str,
    /// Whether it may be missing.
    pub optional: bool,
    /// An address as it should look.
    pub example: &'static str,
    /// Where its credential belongs.
    pub credential: &'static str,
}

impl Address {
    fn rule(&self, expression: &str, message: String) -> Rule {
        let field = format!("self.{}", self.field);
        let expression = expression.replace("FIELD", &field);
        let rule = if self.optional {
            format!("!has({field}) || {expression}")
        } else {
            expression
        };
        Rule::new(rule).message(Message::Message(message))
    }

    /// It is a web address.
    pub fn has_scheme(&self) -> Rule {
        let Self { field, example, .. } = self;
        self.rule(
            "(FIELD.startsWith('https://') || FIELD.startsWith('http://'))",
            format!("{field} must begin with https:// or http://, for example {example}"),
        )
    }

    /// It is a proxy's address: without TLS of its own, and without a path.
    pub fn is_proxy(&self) -> Rule {
        let Self { field, example, .. } = self;
        self.rule(
            "FIELD.matches('^http://[^/?#]+/?$')",
            format!(
                "{field} is the scheme http://, the proxy's name and its port, and nothing more: write for example {example}"
            ),
        )
    }

    /// It parses, has a host and a possible port.
    pub fn is_url(&self) -> Rule {
        let Self { field, example, .. } = self;
        self.rule(
            "(isURL(FIELD) && url(FIELD).getHostname() != '' && (url(FIELD).getPort() == '' || (size(url(FIELD).getPort()) <= 5 && int(url(FIELD).getPort()) >= 1 && int(url(FIELD).getPort()) <= 65535)) && FIELD.matches('^[!-~]+$'))",
            format!("{field} is not a URL: write for example {example}"),
        )
    }

    /// Something can be appended to it.
    pub fn has_no_query(&self) -> Rule {
        let field = self.field;
        self.rule(
            "(!FIELD.contains('?') && !FIELD.contains('#'))",
            format!("{field} takes no query and no fragment: remove what stands behind ? or #"),
        )
    }

    /// A fragment is never sent.
    pub fn has_no_fragment(&self) -> Rule {
        let field = self.field;
        self.rule(
            "!FIELD.contains('#')",
            format!("{field} takes no fragment: remove what stands behind #"),
        )
    }

    /// No password stands in the policy.
    pub fn has_no_credentials(&self) -> Rule {
        let Self {
            field, credential, ..
        } = self;
        self.rule(
            r"!FIELD.matches('^[a-zA-Z]*:?//[^/?#]*@')",
            format!(
                "{field} must not hold credentials: remove what stands before @ and name a Secret in {credential}"
            ),
        )
    }

    /// Settings of TLS are for an address that has it.
    pub fn has_tls(&self) -> Rule {
        let field = self.field;
        let address = format!("self.{field}.startsWith('https://')");
        let rule = if self.optional {
            format!("!has(self.tls) || !has(self.{field}) || {address}")
        } else {
            format!("!has(self.tls) || {address}")
        };
        Rule::new(rule).message(Message::Message(format!(
            "tls is for addresses with TLS: let {field} begin with https://, or remove tls"
        )))
    }
}

/// A duration between two others, both included.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    /// The shortest.
    pub least: &'static str,
    /// The longest.
    pub most: &'static str,
}

impl Period {
    pub(crate) fn rule(self) -> Rule {
        let Self { least, most } = self;
        let rule = format!(
            "self.matches('^([0-9]{{1,5}}(h|m|s|ms)){{1,4}}$') && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
        );
        let message = format!(
            "is not a duration between {least} and {most}: write whole numbers with ms, s, m or h, for example 750ms, 1s or 1m30s"
        );
        Rule::new(rule).message(Message::Message(message))
    }
}

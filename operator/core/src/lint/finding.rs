//! What is found in files.

use std::fmt;

use super::tree::Spot;

/// How bad something is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// It is refused, or not done.
    Error,
    /// It is done, and perhaps not meant.
    Warning,
}

impl Severity {
    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// What is looked at. Its name is what pipelines know it by, and never changes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// The file is YAML.
    Yaml,
    /// A field stands once in an object.
    DuplicateField,
    /// The object is one of Kubernetes, of a kind and a version that are known.
    Kind,
    /// Its metadata is what the API server takes.
    Metadata,
    /// Each field is one that there is.
    UnknownField,
    /// What has to be there is there.
    RequiredField,
    /// Each value has the form that the definition says.
    Schema,
    /// No two items of a list are the same where they must not be.
    DuplicateItem,
    /// The rules of the definition that look at more than one field.
    Validation,
    /// What the operator checks before it uses a policy.
    Policy,
    /// What the operator takes and says is dangerous.
    Dangerous,
    /// An object stands once in the files.
    DuplicateObject,
    /// Policies agree about how long a place keeps what they share.
    Retention,
    /// Every Secret that is named is there, with its keys, each fit for its use.
    Secret,
    /// The installation can be used, and has what policies take from it.
    Installation,
    /// The definitions are those of this version.
    Definition,
    /// There is something to look at.
    Nothing,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Yaml,
        Self::DuplicateField,
        Self::Kind,
        Self::Metadata,
        Self::UnknownField,
        Self::RequiredField,
        Self::Schema,
        Self::DuplicateItem,
        Self::Validation,
        Self::Policy,
        Self::Dangerous,
        Self::DuplicateObject,
        Self::Retention,
        Self::Secret,
        Self::Installation,
        Self::Definition,
        Self::Nothing,
    ];

    /// Its name.
    pub fn id(self) -> &'static str {
        match self {
            Self::Yaml => "yaml",
            Self::DuplicateField => "duplicate-field",
            Self::Kind => "kind",
            Self::Metadata => "metadata",
            Self::UnknownField => "unknown-field",
            Self::RequiredField => "required-field",
            Self::Schema => "schema",
            Self::DuplicateItem => "duplicate-item",
            Self::Validation => "validation",
            Self::Policy => "policy",
            Self::Dangerous => "dangerous",
            Self::DuplicateObject => "duplicate-object",
            Self::Retention => "retention",
            Self::Secret => "secret",
            Self::Installation => "installation",
            Self::Definition => "definition",
            Self::Nothing => "nothing",
        }
    }

    /// What it asks for.
    pub fn asks(self) -> &'static str {
        match self {
            Self::Yaml => "A file is YAML or JSON.",
            Self::DuplicateField => "A field stands once in an object.",
            Self::Kind => "A policy has a kind and a version that this program knows.",
            Self::Metadata => "The metadata of a policy is what the API server takes.",
            Self::UnknownField => "Every field of a policy is one that there is.",
            Self::RequiredField => "What a policy has to have is there.",
            Self::Schema => "Every value of a policy has the form that the definition says.",
            Self::DuplicateItem => "No two items of a list are the same where they must not be.",
            Self::Validation => "The fields of a policy fit together.",
            Self::Policy => "The operator can use the policy.",
            Self::Dangerous => "A policy does nothing dangerous.",
            Self::DuplicateObject => "An object stands once in the files.",
            Self::Retention => "Policies agree about how long a place keeps what they share.",
            Self::Secret => "Every Secret that a policy names is there, with its keys.",
            Self::Installation => {
                "The installation can be used, and has what policies take from it."
            }
            Self::Definition => "The definitions of the policies are those of this version.",
            Self::Nothing => "There is a policy among the files.",
        }
    }
}

/// A text of somebody's file as it can be shown: on one line, and with nothing in it that a terminal or a runner of pipelines would
/// obey.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        // Letters that turn the direction of what follows (Unicode, "Bidirectional Algorithm").
        let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if letter.is_control() || turns || matches!(letter, '\u{2028}' | '\u{2029}') {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

/// Something that is wrong in a file.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Finding {
    /// The file, as it was named.
    pub file: String,
    /// Where in it.
    pub at: Spot,
    /// How bad it is.
    pub severity: Severity,
    /// What is broken.
    pub rule: Rule,
    /// Kind and name of the object, where it is about one.
    pub object: Option<String>,
    /// The field, where it is about one.
    pub path: Option<String>,
    /// What is wrong, and what to write.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            at: Spot { line, column },
            severity,
            rule,
            path,
            message,
            ..
        } = self;
        let file = shown(file);
        write!(formatter, "{file}:{line}:{column}: {}: ", severity.as_str())?;
        if let Some(path) = path {
            write!(formatter, "{}: ", shown(path))?;
        }
        // A finding is a line, whatever its message is.
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        write!(formatter, "{} [{}]", shown(&message), rule.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_file_begins_a_line_or_moves_a_cursor() {
        let finding = Finding {
            file: "x\n::error::y.yaml".to_owned(),
            at: Spot { line: 1, column: 2 },
            severity: Severity::Error,
            rule: Rule::UnknownField,
            object: None,
            path: Some("spec.a\n::stop-commands::b\u{1b}[31m".to_owned()),
            message: "no\nsuch \u{202e}field".to_owned(),
        };
        assert_eq!(
            finding.to_string(),
            "x\\n::error::y.yaml:1:2: error: spec.a\\n::stop-commands::b\\u{1b}[31m: no such \\u{202e}field [unknown-field]"
        );
    }
}

//! Kubernetes objects as CEL literals, for the expression of an admission policy.
//!
//! Text becomes an expression here and nowhere else, and only through these two functions: strings are quoted by the
//! JSON serialiser, whose escapes CEL shares, so no value can end its own literal.

use serde_json::Value;

/// Fields whose value is a map with free keys rather than an object with named fields.
const MAPS: [&str; 5] = ["annotations", "labels", "limits", "matchLabels", "requests"];

/// Words that CEL keeps for itself; as a field's name they are written `__word__` (Kubernetes: "CEL in Kubernetes, Escaping").
const RESERVED: [&str; 19] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "var",
    "void",
    "while",
];

/// A string.
pub fn string(text: &str) -> String {
    Value::from(text).to_string()
}

/// A value of the type that `path` names, for example `Object.spec.initContainers`.
///
/// The admission policy's type names follow the field's path (KEP-3962), lists being passed over.
pub fn literal(path: &str, value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| literal(path, item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let is_map = path
                .rsplit('.')
                .next()
                .is_some_and(|field| MAPS.contains(&field));
            let entry = |(name, value): (&String, &Value)| {
                if is_map {
                    format!("{}: {}", string(name), literal(path, value))
                } else {
                    let name = identifier(name);
                    format!("{name}: {}", literal(&format!("{path}.{name}"), value))
                }
            };
            let entries: Vec<String> = fields.iter().map(entry).collect();
            format!(
                "{}{{{}}}",
                if is_map { "" } else { path },
                entries.join(", ")
            )
        }
        scalar => scalar.to_string(),
    }
}

/// A field's name, as an expression has it.
pub(crate) fn identifier(name: &str) -> String {
    if RESERVED.contains(&name) {
        format!("__{name}__")
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_carry_their_type_and_maps_do_not() {
        let container = json!({"name": "a", "resources": {"limits": {"memory": "32Mi"}}, "env": [{"name": "X"}]});
        assert_eq!(
            literal("Object.spec.initContainers", &container),
            r#"Object.spec.initContainers{env: [Object.spec.initContainers.env{name: "X"}], name: "a", resources: Object.spec.initContainers.resources{limits: {"memory": "32Mi"}}}"#
        );
    }

    #[test]
    fn a_reserved_word_is_escaped_as_a_field() {
        assert_eq!(
            literal("Object.ref", &json!({"namespace": "a"})),
            r#"Object.ref{__namespace__: "a"}"#
        );
    }

    proptest! {
        #[test]
        fn no_text_can_end_its_own_literal(text in any::<String>()) {
            let quoted = string(&text);
            let inner = &quoted[1..quoted.len() - 1];
            let mut escaped = false;
            for character in inner.chars() {
                prop_assert!(escaped || character != '"');
                prop_assert!(character != '\n');
                escaped = !escaped && character == '\\';
            }
            prop_assert!(!escaped);
        }
    }
}

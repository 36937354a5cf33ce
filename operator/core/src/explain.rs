//! What a field of a policy means, from the definitions alone, in the form of `kubectl explain`.

use std::fmt::Write as _;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
};
use katonic_logging_crds::manifest;

use crate::lint::{
    nearest::nearest,
    schema::{items, properties, values},
};

/// Columns of a line.
const WIDTH: usize = 80;

/// What is asked for is not there.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unknown {
    /// No kind of that name.
    #[error("there is no kind `{name}`: {mend}")]
    Kind {
        /// As it was asked for.
        name: String,
        /// What to write.
        mend: String,
    },
    /// No such field.
    #[error("{parent} has no field `{name}`: {mend}")]
    Field {
        /// The object that it was looked for in.
        parent: String,
        /// As it was asked for.
        name: String,
        /// What to write.
        mend: String,
    },
}

/// Explains a kind, or a field of one: `lp`, `loggingpolicy.spec.sinks.splunk`. `recursive` lists everything below it.
///
/// # Errors
/// When there is no such kind or field, with what was probably meant.
pub fn explain(path: &str, recursive: bool) -> Result<String, Unknown> {
    let mut steps = path.split('.');
    let name = steps.next().unwrap_or_default();
    let definitions = manifest::all();
    let (definition, version) = find(&definitions, name)?;
    let kind = &definition.spec.names.kind;
    let mut schema = version
        .schema
        .as_ref()
        .and_then(|schema| schema.open_api_v3_schema.as_ref())
        .ok_or_else(|| no_kind(&definitions, name))?;
    let (mut parent, mut field, mut required) = (kind.clone(), None, false);
    for step in steps.filter(|step| !step.is_empty()) {
        // `sinks[].name`, as the reference of fields has it, and `sinks[0].name`, as lint has it, are `sinks.name` here.
        let step = step.split_once('[').map_or(step, |(step, _)| step);
        let inner = inside(schema);
        let next = properties(inner).get(step).ok_or_else(|| {
            let known = properties(inner).keys().map(String::as_str);
            let mend = match nearest(step, known.clone()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if properties(inner).is_empty() => "it has no fields".to_owned(),
                None => format!("write one of {}", known.collect::<Vec<_>>().join(", ")),
            };
            Unknown::Field {
                parent: parent.clone(),
                name: step.to_owned(),
                mend,
            }
        })?;
        required = is_required(inner, step);
        parent = format!("{parent}.{step}");
        field = Some(step);
        schema = next;
    }
    let mut text = format!(
        "GROUP:      {}\nKIND:       {kind}\nVERSION:    {}\n",
        definition.spec.group, version.name
    );
    if let Some(field) = field {
        let _ = writeln!(
            text,
            "\nFIELD: {field} <{}>{}",
            type_of(schema),
            mark(required)
        );
    }
    text.push_str("\nDESCRIPTION:\n");
    paragraphs(&mut text, schema, 4);
    let below = inside(schema);
    if field.is_none() || !properties(below).is_empty() {
        text.push_str("\nFIELDS:\n");
        if field.is_none() {
            text.push_str("  apiVersion\t<string>\n  kind\t<string>\n  metadata\t<ObjectMeta>\n");
        }
        fields(&mut text, below, 2, recursive);
    }
    Ok(text)
}

fn find<'a>(
    definitions: &'a [CustomResourceDefinition],
    name: &str,
) -> Result<
    (
        &'a CustomResourceDefinition,
        &'a CustomResourceDefinitionVersion,
    ),
    Unknown,
> {
    let wanted = name.to_lowercase();
    definitions
        .iter()
        .find(|definition| {
            names(definition)
                .iter()
                .any(|name| name.to_lowercase() == wanted)
        })
        .and_then(|definition| Some((definition, definition.spec.versions.first()?)))
        .ok_or_else(|| no_kind(definitions, name))
}

fn no_kind(definitions: &[CustomResourceDefinition], name: &str) -> Unknown {
    let all: Vec<Vec<&str>> = definitions.iter().map(names).collect();
    let kinds: Vec<&str> = definitions
        .iter()
        .map(|one| one.spec.names.kind.as_str())
        .collect();
    let mend = match nearest(name, all.iter().flatten().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!(
            "write {}, and behind it fields with dots between them",
            kinds.join(" or ")
        ),
    };
    Unknown::Kind {
        name: name.to_owned(),
        mend,
    }
}

/// Everything that a kind is called.
fn names(definition: &CustomResourceDefinition) -> Vec<&str> {
    let names = &definition.spec.names;
    let short = names.short_names.iter().flatten().map(String::as_str);
    [names.kind.as_str(), names.plural.as_str()]
        .into_iter()
        .chain(names.singular.as_deref())
        .chain(short)
        .collect()
}

/// What has the fields: the items of a list, the values of a map.
fn inside(schema: &JSONSchemaProps) -> &JSONSchemaProps {
    match items(schema).or_else(|| values(schema)) {
        Some(inner) => inside(inner),
        None => schema,
    }
}

fn is_required(schema: &JSONSchemaProps, field: &str) -> bool {
    schema.required.iter().flatten().any(|name| name == field)
}

fn mark(required: bool) -> &'static str {
    if required { " -required-" } else { "" }
}

fn type_of(schema: &JSONSchemaProps) -> String {
    match (items(schema), values(schema)) {
        (Some(items), _) => format!("[]{}", type_of(items)),
        (None, Some(values)) => format!("map[string]{}", type_of(values)),
        (None, None) => match schema.type_.as_deref() {
            Some("object") => "Object".to_owned(),
            Some(type_) => type_.to_owned(),
            None => "any".to_owned(),
        },
    }
}

fn fields(text: &mut String, schema: &JSONSchemaProps, indent: usize, recursive: bool) {
    for (name, field) in properties(schema) {
        let required = mark(is_required(schema, name));
        let _ = writeln!(text, "{:indent$}{name}\t<{}>{required}", "", type_of(field));
        if recursive {
            fields(text, inside(field), indent + 2, recursive);
        } else {
            paragraphs(text, field, indent + 2);
            text.push('\n');
        }
    }
}

/// The description, and the values that there are, in lines of 80 columns.
fn paragraphs(text: &mut String, schema: &JSONSchemaProps, indent: usize) {
    let description = schema.description.as_deref().unwrap_or("<no description>");
    for paragraph in description
        .split('\n')
        .filter(|paragraph| !paragraph.is_empty())
    {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            let width = indent + line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && width > WIDTH {
                let _ = writeln!(text, "{:indent$}{line}", "");
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
    let values: Vec<&str> = inside(schema)
        .enum_
        .iter()
        .flatten()
        .filter_map(|value| value.0.as_str())
        .collect();
    if !values.is_empty() {
        let _ = writeln!(text, "{:indent$}ENUM: {}", "", values.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_explained_by_every_name_of_its_kind() {
        let expected = explain("LoggingPolicy.spec.retention", false).unwrap();
        assert!(expected.starts_with("GROUP:      logging.katonic.ai\nKIND:       LoggingPolicy\nVERSION:    v1alpha1\n\nFIELD: retention <string>\n\nDESCRIPTION:\n    How long"), "{expected}");
        for name in ["lp", "loggingpolicy", "loggingpolicies", "LOGGINGPOLICY"] {
            assert_eq!(
                explain(&format!("{name}.spec.retention"), false).as_ref(),
                Ok(&expected)
            );
        }
        assert!(
            expected.lines().all(|line| line.chars().count() <= WIDTH),
            "{expected}"
        );
    }

    #[test]
    fn the_fields_of_objects_and_of_the_items_of_lists_are_listed() {
        let text = explain("lp.spec.sinks", false).unwrap();
        assert!(
            text.contains("FIELD: sinks <[]Object> -required-"),
            "{text}"
        );
        assert!(text.contains("\n  name\t<string> -required-\n"), "{text}");
        assert!(text.contains("\n  splunk\t<Object>\n"), "{text}");
        assert_eq!(
            explain("lp.spec.sinks[].name", false),
            explain("lp.spec.sinks.name", false)
        );
        let kind = explain("ap", false).unwrap();
        assert!(
            kind.contains(
                "FIELDS:\n  apiVersion\t<string>\n  kind\t<string>\n  metadata\t<ObjectMeta>\n"
            ),
            "{kind}"
        );
        let map = explain("lp.spec.selector", false).unwrap();
        assert!(map.contains("matchLabels\t<map[string]string>"), "{map}");
        let values = explain("lp.spec.planes", false).unwrap();
        assert!(values.contains("ENUM: Platform, Compute"), "{values}");
    }

    #[test]
    fn recursively_everything_below_is_listed_without_descriptions() {
        let text = explain("lp.spec", true).unwrap();
        assert!(text.contains("\n    splunk\t<Object>\n      acknowledgement\t<Object>\n        pollInterval\t<string>\n"), "{text}");
    }

    #[test]
    fn what_is_not_there_is_told_with_what_was_probably_meant() {
        let error = |path: &str| explain(path, false).unwrap_err().to_string();
        assert_eq!(
            error("lp.spec.retension"),
            "LoggingPolicy.spec has no field `retension`: did you mean `retention`?"
        );
        assert_eq!(
            error("logingpolicy"),
            "there is no kind `logingpolicy`: did you mean `LoggingPolicy`?"
        );
        assert_eq!(
            error("pods"),
            "there is no kind `pods`: write AuditPolicy or LoggingPolicy, and behind it fields with dots between them"
        );
        assert_eq!(
            error("lp.spec.retention.days"),
            "LoggingPolicy.spec.retention has no field `days`: it has no fields"
        );
        assert!(error("ap.spec.zzzzzz").contains("write one of acknowledgeShortRetention, events"));
    }
}

use serde_json::{Value, json};

use super::*;
use crate::lint::object::Definitions;

fn every<'a>(schema: &'a JSONSchemaProps, found: &mut Vec<&'a JSONSchemaProps>) {
    found.push(schema);
    let inner = properties(schema)
        .values()
        .chain(items(schema))
        .chain(values(schema));
    inner.for_each(|schema| every(schema, found));
}

#[test]
fn every_rule_of_the_definitions_can_be_read() {
    let definitions = Definitions::default();
    let rules = Rules::default();
    let mut seen = 0;
    for kind in definitions.kinds() {
        let mut schemas = Vec::new();
        every(definitions.schema(kind).unwrap(), &mut schemas);
        for rule in schemas
            .iter()
            .flat_map(|schema| schema.x_kubernetes_validations.iter().flatten())
        {
            seen += 1;
            let program = rules.program(&rule.rule);
            assert!(
                program.is_ok(),
                "{}: {:?}",
                rule.rule,
                program.as_ref().as_ref().err()
            );
            assert_eq!(
                rule.message_expression, None,
                "{}: is not evaluated here",
                rule.rule
            );
        }
    }
    assert!(seen > 100, "{seen}");
}

/// A keyword that is passed over here would be one that the API server looks at and this does not.
#[test]
fn every_keyword_of_the_schemas_is_looked_at() {
    let known = [
        "additionalProperties",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
    ];
    let formats = ["int32", "int64", "date-time"];
    let definitions = Definitions::default();
    for kind in definitions.kinds() {
        let mut schemas = Vec::new();
        every(definitions.schema(kind).unwrap(), &mut schemas);
        for schema in schemas {
            let Value::Object(keywords) = serde_json::to_value(schema).unwrap() else {
                panic!("{schema:?}")
            };
            for keyword in keywords.keys() {
                assert!(known.contains(&keyword.as_str()), "{keyword}");
            }
            if let Some(format) = &schema.format {
                assert!(formats.contains(&format.as_str()), "{format}");
            }
        }
    }
}

fn schema(value: Value) -> JSONSchemaProps {
    serde_json::from_value(value).unwrap()
}

fn broken(rule: &str, value: &Value) -> Vec<String> {
    let schema = schema(json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"}, "count": {"type": "integer"}, "in": {"type": "string"},
            "names": {"type": "array", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "x-kubernetes-validations": [{"rule": rule, "message": "is wrong"}],
    }));
    let complaints = Rules::default().check(&schema, value, &Path::parse("spec"));
    complaints
        .into_iter()
        .map(|one| format!("{}: {}", one.path, one.message))
        .collect()
}

#[test]
fn the_functions_of_kubernetes_are_there() {
    for rule in [
        "isURL('https://h:1/x') && url('https://h:1/x').getPort() == '1' && url('https://h').getHostname() == 'h'",
        "!isURL('h')",
        "'a1'.matches('^[a-z][0-9]$')",
        "duration('1m30s') > duration('750ms')",
        "!format.qualifiedName().validate('a/b').hasValue() && format.qualifiedName().validate('a b').hasValue()",
        "!format.labelValue().validate('a').hasValue()",
        "int('30d'.replace('d', '')) == 30",
        "'A'.lowerAscii() == 'a' && 'a/b'.split('/').size() == 2",
        "!has(self.name) && has(self.count) && self.count == 3",
        "self.names.all(n, n.size() == 1) && self.names.exists_one(n, n == 'b')",
        "self.labels.all(k, self.labels[k] == 'v')",
        "self.__in__ == 'x'",
        "[has(self.name), has(self.count)].filter(set, set).size() == 1",
    ] {
        let value = json!({"count": 3, "names": ["a", "b"], "labels": {"k-x": "v"}, "in": "x"});
        assert_eq!(broken(rule, &value), Vec::<String>::new(), "{rule}");
    }
}

#[test]
fn a_broken_rule_says_its_message_at_its_place() {
    assert_eq!(
        broken("has(self.name)", &json!({"count": 1})),
        ["spec: is wrong"]
    );
}

#[test]
fn a_rule_about_a_change_is_not_asked_when_an_object_is_created() {
    let none: [&str; 0] = [];
    assert_eq!(
        broken("self.name == oldSelf.name", &json!({"name": "a"})),
        none
    );
}

#[test]
fn a_rule_that_cannot_be_evaluated_is_broken_and_tells_no_value() {
    let broken = broken(
        "self.name.size() > 0 && int(self.name) > 0",
        &json!({"name": "hunter2"}),
    );
    assert_eq!(broken.len(), 1);
    assert!(
        broken[0].starts_with("spec: is wrong (its rule cannot be evaluated"),
        "{broken:?}"
    );
    assert!(!broken[0].contains("hunter2"), "{broken:?}");
}

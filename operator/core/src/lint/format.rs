//! Findings as people, programs and forges read them.

use serde_json::{Value, json};

use super::{
    Outcome,
    finding::{Finding, Rule, Severity},
};

/// A line for each finding: `file:line:column: error: what is wrong [rule]`.
pub fn text(outcome: &Outcome) -> String {
    let lines = outcome.findings.iter().map(ToString::to_string);
    lines.flat_map(|line| [line, "\n".to_owned()]).collect()
}

/// What was looked at and found, in a sentence.
pub fn summary(outcome: &Outcome) -> String {
    let counts = outcome.counts;
    let count = |number: usize, one: &str, many: &str| match number {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    };
    let others = count(
        counts.others,
        "object of another kind",
        "objects of other kinds",
    );
    let rest = count(
        counts.not_objects,
        "document that is no object",
        "documents that are no objects",
    );
    let passed_over = match (counts.others, counts.not_objects) {
        (0, 0) => String::new(),
        (_, 0) => format!("; passed over {others}"),
        (0, _) => format!("; passed over {rest}"),
        _ => format!("; passed over {others} and {rest}"),
    };
    format!(
        "{} in {}: {}, {}{passed_over}",
        count(counts.policies, "policy", "policies"),
        count(counts.files, "file", "files"),
        count(outcome.count(Severity::Error), "error", "errors"),
        count(outcome.count(Severity::Warning), "warning", "warnings"),
    )
}

/// For programs.
pub fn json(outcome: &Outcome) -> Value {
    let findings = outcome.findings.iter().map(|finding| {
        json!({
            "file": finding.file,
            "line": finding.at.line,
            "column": finding.at.column,
            "severity": finding.severity.as_str(),
            "rule": finding.rule.id(),
            "object": finding.object,
            "path": finding.path,
            "message": finding.message,
        })
    });
    json!({
        "findings": findings.collect::<Vec<Value>>(),
        "errors": outcome.count(Severity::Error),
        "warnings": outcome.count(Severity::Warning),
        "files": outcome.counts.files,
        "policies": outcome.counts.policies,
        "otherObjects": outcome.counts.others,
        "otherDocuments": outcome.counts.not_objects,
    })
}

/// SARIF 2.1.0 (OASIS), which forges show beside the lines.
pub fn sarif(outcome: &Outcome) -> Value {
    let rules = Rule::ALL
        .iter()
        .map(|rule| json!({"id": rule.id(), "shortDescription": {"text": rule.asks()}}));
    let results = outcome.findings.iter().map(|finding| {
        let mut location = json!({
            "physicalLocation": {
                "artifactLocation": {"uri": uri(&finding.file)},
                "region": {"startLine": finding.at.line, "startColumn": finding.at.column},
            },
        });
        if let Some(object) = &finding.object {
            let path = finding
                .path
                .as_ref()
                .map(|path| format!("/{path}"))
                .unwrap_or_default();
            location["logicalLocations"] =
                json!([{"fullyQualifiedName": format!("{object}{path}")}]);
        }
        json!({
            "ruleId": finding.rule.id(),
            "ruleIndex": Rule::ALL.iter().position(|rule| *rule == finding.rule),
            "level": finding.severity.as_str(),
            "message": {"text": message(finding)},
            "locations": [location],
        })
    });
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "katonic-logging",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.collect::<Vec<Value>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<Value>>(),
        }],
    })
}

/// Annotations of GitHub Actions ("Workflow commands for GitHub Actions").
pub fn github(outcome: &Outcome) -> String {
    let data = |text: &str| {
        let text = text.replace('%', "%25").replace('\r', "%0D");
        text.replace('\n', "%0A")
    };
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let line = |finding: &Finding| {
        format!(
            "::{} file={},line={},col={},title={}::{}\n",
            finding.severity.as_str(),
            property(&finding.file),
            finding.at.line,
            finding.at.column,
            property(finding.rule.id()),
            data(&message(finding)),
        )
    };
    let lines: Vec<String> = outcome.findings.iter().map(line).collect();
    lines.concat()
}

fn message(finding: &Finding) -> String {
    match &finding.path {
        Some(path) => format!("{path}: {}", finding.message),
        None => finding.message.clone(),
    }
}

/// The path of a file as a reference of RFC 3986.
fn uri(file: &str) -> String {
    let encoded: Vec<String> = file
        .bytes()
        .map(|byte| match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect();
    encoded.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lint::{Counts, tree::Spot};

    fn outcome() -> Outcome {
        let finding = |severity, path: Option<&str>, message: &str| Finding {
            file: "a b,c.yaml".to_owned(),
            at: Spot { line: 3, column: 7 },
            severity,
            rule: Rule::Schema,
            object: Some("LoggingPolicy a".to_owned()),
            path: path.map(str::to_owned),
            message: message.to_owned(),
        };
        Outcome {
            findings: vec![
                finding(Severity::Error, Some("spec.sinks"), "100% wrong\nand more"),
                finding(Severity::Warning, None, "perhaps"),
            ],
            counts: Counts {
                files: 1,
                policies: 2,
                others: 1,
                not_objects: 3,
            },
        }
    }

    #[test]
    fn text_is_a_line_for_each_finding() {
        let expected = "a b,c.yaml:3:7: error: spec.sinks: 100% wrong and more [schema]\na b,c.yaml:3:7: warning: perhaps [schema]\n";
        assert_eq!(text(&outcome()), expected);
        assert_eq!(
            summary(&outcome()),
            "2 policies in 1 file: 1 error, 1 warning; passed over 1 object of another kind and 3 documents that are no objects"
        );
        assert_eq!(
            summary(&Outcome::default()),
            "0 policies in 0 files: 0 errors, 0 warnings"
        );
    }

    #[test]
    fn nothing_of_a_message_ends_a_command_of_github() {
        let expected = "::error file=a b%2Cc.yaml,line=3,col=7,title=schema::spec.sinks: 100%25 wrong%0Aand more\n::warning file=a b%2Cc.yaml,line=3,col=7,title=schema::perhaps\n";
        assert_eq!(github(&outcome()), expected);
    }

    #[test]
    fn json_has_every_finding_and_what_was_looked_at() {
        let json = json(&outcome());
        assert_eq!(json["findings"][0]["path"], "spec.sinks");
        assert_eq!(json["findings"][1]["path"], Value::Null);
        assert_eq!(
            (&json["errors"], &json["warnings"], &json["policies"]),
            (&json!(1), &json!(1), &json!(2))
        );
    }

    /// What SARIF 2.1.0 asks of the parts that are written here (§3.13 to §3.30).
    #[test]
    fn sarif_has_what_its_specification_asks_for() {
        let schema = json!({
            "type": "object", "required": ["version", "runs"],
            "properties": {
                "version": {"const": "2.1.0"},
                "runs": {"type": "array", "minItems": 1, "items": {
                    "type": "object", "required": ["tool", "results"],
                    "properties": {
                        "tool": {"required": ["driver"], "properties": {"driver": {"required": ["name"]}}},
                        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                        "results": {"type": "array", "items": {
                            "type": "object", "required": ["message", "ruleId", "ruleIndex", "locations"], "additionalProperties": false,
                            "properties": {
                                "ruleId": {"type": "string"},
                                "ruleIndex": {"type": "integer", "minimum": 0},
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": {"required": ["text"]},
                                "locations": {"items": {"properties": {"physicalLocation": {
                                    "required": ["artifactLocation"],
                                    "properties": {"region": {"properties": {"startLine": {"minimum": 1}, "startColumn": {"minimum": 1}}}},
                                }}}},
                            },
                        }},
                    },
                }},
            },
        });
        let sarif = sarif(&outcome());
        jsonschema::validate(&schema, &sarif).unwrap();
        let run = &sarif["runs"][0];
        let result = &run["results"][0];
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(
            run["tool"]["driver"]["rules"][index]["id"],
            result["ruleId"]
        );
        let location = &result["locations"][0];
        assert_eq!(
            location["physicalLocation"]["artifactLocation"]["uri"],
            "a%20b%2Cc.yaml"
        );
        assert_eq!(
            location["logicalLocations"][0]["fullyQualifiedName"],
            "LoggingPolicy a/spec.sinks"
        );
    }
}

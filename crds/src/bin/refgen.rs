//! Writes the reference of all fields, from the custom resource definitions, into the file that is named: `refgen docs/reference.md`.

use std::{collections::HashMap, env, error::Error, fmt::Write as _, fs};

use katonic_logging_crds::manifest;
use serde_json::Value;

const ABOUT: &str = "\
# Reference

Every field of both kinds, from the custom resource definitions; `make docs` writes this page, and `kubectl explain` says the same in
the cluster. What belongs together is said in [A policy, field by field](policy.md) and [Audit events](audit-events.md).

A name in bold is required. What stands below a table is refused when it is applied, in these words.
";

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: refgen FILE")?;
    fs::write(path, page()?)?;
    Ok(())
}

fn page() -> Result<String, Box<dyn Error>> {
    let mut page = ABOUT.to_owned();
    // What has been said of an object of many fields is not said again of the same one elsewhere.
    let mut said = HashMap::new();
    // In this order: what most readers look for comes first.
    for definition in manifest::all().into_iter().rev() {
        let definition = serde_json::to_value(definition)?;
        let spec = &definition["spec"];
        let kind = text(&spec["names"]["kind"]);
        let version = &spec["versions"][0];
        let group = text(&spec["group"]);
        let shorts: Vec<String> = items(&spec["names"]["shortNames"])
            .map(|name| format!("`{}`", text(name)))
            .collect();
        let schema = &version["schema"]["openAPIV3Schema"];
        write!(
            page,
            "\n## {kind}\n\n`apiVersion: {group}/{}`, {} in scope; short {}. {}\n",
            text(&version["name"]),
            text(&spec["scope"]).to_lowercase(),
            shorts.join(", "),
            prose(&schema["description"]),
        )?;
        for part in ["spec", "status"] {
            object(
                &mut page,
                &format!("{kind}.{part}"),
                &schema["properties"][part],
                &mut said,
            )?;
        }
    }
    Ok(page)
}

/// A section for an object, and one for each object in it.
fn object(
    page: &mut String,
    path: &str,
    schema: &Value,
    said: &mut HashMap<String, String>,
) -> Result<(), Box<dyn Error>> {
    write!(page, "\n### {path}\n\n{}\n", prose(&schema["description"]))?;
    let required: Vec<&str> = items(&schema["required"]).map(text).collect();
    let mut inside = Vec::new();
    page.push_str("\n| field | type | |\n|---|---|---|\n");
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let mut shown = format!("`{name}`");
        if required.contains(&name.as_str()) {
            shown = format!("**{shown}**");
        }
        let (list, of) = match field.get("items") {
            Some(items) => ("[]", items),
            None => ("", field),
        };
        let is_list = field.get("items").is_some();
        let is_object = of.get("properties").is_some();
        let mut about = prose(&field["description"]);
        if is_object {
            let below = format!("{path}.{name}{list}");
            let properties = of["properties"].to_string();
            let same = said.get(&properties);
            write!(about, " [Its fields](#{})", anchor(same.unwrap_or(&below)))?;
            if same.is_none() {
                said.insert(properties, below.clone());
                inside.push((below, of));
            }
        }
        // Those of an object stand in its own section.
        let of_field = (is_list || !is_object).then(|| messages(field));
        let of_items = (is_list && !is_object).then(|| messages(of));
        for message in of_field.into_iter().chain(of_items).flatten() {
            write!(about, "<br>Refused otherwise: {message}")?;
        }
        writeln!(page, "| {shown} | {} | {about} |", type_of(field).trim())?;
    }
    let rules: Vec<String> = messages(schema)
        .iter()
        .map(|message| format!("- {message}\n"))
        .collect();
    if !rules.is_empty() {
        write!(page, "\n{}", rules.concat())?;
    }
    for (path, schema) in inside {
        object(page, &path, schema, said)?;
    }
    Ok(())
}

fn type_of(field: &Value) -> String {
    if let Some(items) = field.get("items") {
        return format!("list of {}", type_of(items));
    }
    if let Some(words) = field.get("enum") {
        let words: Vec<String> = items(words)
            .map(|word| format!("`{}`", text(word)))
            .collect();
        return words.join(", ");
    }
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".to_owned();
    }
    match text(&field["type"]) {
        "object" if field.get("additionalProperties").is_some() => "map of strings".to_owned(),
        other => {
            let bounds = [("minimum", "≥"), ("maximum", "≤")].map(|(key, sign)| {
                field.get(key).map_or_else(String::new, |bound| {
                    let bound = bound.to_string();
                    format!(" {sign} {}", bound.trim_end_matches(".0"))
                })
            });
            format!("{other}{}", bounds.concat())
        }
    }
}

/// The words in which rules refuse, each once.
fn messages(schema: &Value) -> Vec<String> {
    let mut seen = Vec::new();
    for rule in items(&schema["x-kubernetes-validations"]) {
        let message = prose(&rule["message"]);
        if !message.is_empty() && !seen.contains(&message) {
            seen.push(message);
        }
    }
    seen
}

/// A description on one line of a table.
fn prose(description: &Value) -> String {
    text(description)
        .replace("\n\n", "<br>")
        .replace('\n', " ")
        .replace('|', "\\|")
}

/// Of a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|one| one.is_alphanumeric());
    kept.flat_map(char::to_lowercase).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

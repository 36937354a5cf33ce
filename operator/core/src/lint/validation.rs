//! The rules of a definition (`x-kubernetes-validations`), evaluated as the API server does when an object is created.
//!
//! Rules that look at `oldSelf` are about a change and not asked. Each is compiled once, when the first object needs it.

mod url;

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, ValidationRule,
};
use kube_cel::{
    KubeCelExt as _,
    cel::{Context, ExecutionError, Program, Value as Cel, extractors::This, objects::Key},
};
use regex::Regex;
use serde_json::Value;

use super::{
    finding::Rule,
    schema::{Complaint, items, properties, values},
    tree::Path,
};
use crate::cel;

/// What the rules are evaluated with.
pub struct Rules {
    context: Context<'static>,
    programs: RefCell<HashMap<String, Arc<Result<Program, String>>>>,
}

impl Default for Rules {
    fn default() -> Self {
        let mut context = Context::default().with_all();
        context.add_function("matches", matches);
        url::register(&mut context);
        Self {
            context,
            programs: RefCell::default(),
        }
    }
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rules").finish_non_exhaustive()
    }
}

impl Rules {
    /// What of a value breaks the rules of its schema. The value has its defaults.
    pub fn check(&self, schema: &JSONSchemaProps, value: &Value, path: &Path) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        self.walk(schema, value, path, &mut complaints);
        complaints
    }

    fn walk(
        &self,
        schema: &JSONSchemaProps,
        value: &Value,
        path: &Path,
        complaints: &mut Vec<Complaint>,
    ) -> Cel {
        let converted = match value {
            Value::Object(fields) => {
                let mut map = HashMap::new();
                for (name, value) in fields {
                    let (known, unknown) = (properties(schema).get(name), values(schema));
                    let path = path.field(name);
                    let key = match known {
                        Some(_) => cel::identifier(name),
                        None => name.clone(),
                    };
                    if let Some(schema) = known.or(unknown) {
                        let value = self.walk(schema, value, &path, complaints);
                        map.insert(Key::from(key), value);
                    }
                }
                Cel::from(map)
            }
            Value::Array(list) => {
                let each = list.iter().enumerate();
                let each = each.filter_map(|(index, value)| {
                    let schema = items(schema)?;
                    Some(self.walk(schema, value, &path.item(index), complaints))
                });
                Cel::from(each.collect::<Vec<Cel>>())
            }
            Value::String(text) => Cel::from(text.as_str()),
            Value::Bool(value) => Cel::from(*value),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Cel::Int(whole),
                (None, Some(value)) => Cel::Float(value),
                (None, None) => Cel::Null,
            },
            Value::Null => Cel::Null,
        };
        for rule in schema.x_kubernetes_validations.iter().flatten() {
            if let Some(message) = self.broken(rule, &converted) {
                let path = match &rule.field_path {
                    Some(field) => Path::parse(&format!("{path}{field}")),
                    None => path.clone(),
                };
                complaints.push(Complaint {
                    rule: Rule::Validation,
                    path,
                    message,
                    blocks: false,
                });
            }
        }
        converted
    }

    /// Why a value breaks a rule; none if it does not.
    fn broken(&self, rule: &ValidationRule, value: &Cel) -> Option<String> {
        let program = self.program(&rule.rule);
        let program = match program.as_ref() {
            Ok(program) => program,
            Err(error) => {
                return Some(format!("the rule {} cannot be read: {error}", rule.rule));
            }
        };
        let about_change = program.references().has_variable("oldSelf");
        if about_change && rule.optional_old_self != Some(true) {
            return None;
        }
        let mut context = self.context.new_inner_scope();
        context.add_variable_from_value("self", value.clone());
        match program.execute(&context) {
            Ok(Cel::Bool(true)) => None,
            Ok(_) => Some(said(rule)),
            // What a rule cannot be evaluated for breaks it.
            Err(error) => Some(format!("{} ({})", said(rule), without_values(&error))),
        }
    }

    fn program(&self, rule: &str) -> Arc<Result<Program, String>> {
        if let Some(known) = self.programs.borrow().get(rule) {
            return known.clone();
        }
        let program = Program::compile(rule).map_err(|error| error.to_string());
        let program = Arc::new(program);
        self.programs
            .borrow_mut()
            .insert(rule.to_owned(), program.clone());
        program
    }
}

fn said(rule: &ValidationRule) -> String {
    let message = rule.message.as_deref().unwrap_or_default().trim();
    if message.is_empty() {
        format!("breaks the rule {}", rule.rule)
    } else {
        message.to_owned()
    }
}

/// That a rule could not be evaluated, without what it was evaluated for.
fn without_values(error: &ExecutionError) -> String {
    let why = match error {
        ExecutionError::NoSuchKey(key) => format!("there is no {key}"),
        ExecutionError::UndeclaredReference(name) => format!("{name} is not known"),
        ExecutionError::FunctionError { function, .. } => format!("{function} fails"),
        _ => "a value has the wrong type".to_owned(),
    };
    format!("its rule cannot be evaluated: {why}")
}

/// `text.matches(pattern)`, with each pattern compiled once.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a function of CEL gets its arguments so"
)]
fn matches(This(this): This<Arc<String>>, pattern: Arc<String>) -> Result<bool, ExecutionError> {
    static PATTERNS: LazyLock<Mutex<HashMap<Arc<String>, Regex>>> = LazyLock::new(Mutex::default);
    let mut patterns = PATTERNS.lock().unwrap_or_else(PoisonError::into_inner);
    if !patterns.contains_key(&pattern) {
        let compiled = Regex::new(&pattern);
        let compiled =
            compiled.map_err(|error| ExecutionError::function_error("matches", error))?;
        patterns.insert(pattern.clone(), compiled);
    }
    Ok(patterns
        .get(&pattern)
        .is_some_and(|pattern| pattern.is_match(&this)))
}

#[cfg(test)]
mod tests;

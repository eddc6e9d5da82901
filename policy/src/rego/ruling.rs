//! What a rule said, as the controller takes it.

use regorus::Value;

use crate::refusal::{bounded, told};

/// The answer of one evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ruling {
    /// Yes, or no and why.
    pub(crate) outcome: Compliance,
    /// The rule asked for the time: what it said may change as time passes.
    pub(crate) read_clock: bool,
}

/// Whether the rule is met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Compliance {
    /// The rule said true, or a list of results whose first true one has no warning.
    Compliant,
    /// All else, a yes with a warning too.
    NotCompliant {
        /// The rule's own words where it has any, escaped and bounded.
        why: String,
    },
}

impl Compliance {
    pub(super) fn of(answer: &Value) -> Self {
        match answer {
            Value::Bool(true) => Self::Compliant,
            Value::Array(results) => Self::of_results(results.iter()),
            // In Rego's order of terms.
            Value::Set(results) => Self::of_results(results.iter_sorted()),
            Value::Bool(false) => Self::no("isCompliant is false"),
            Value::Undefined => Self::no("isCompliant is undefined"),
            Value::Null => Self::no("isCompliant is null, neither a boolean nor a list of results"),
            Value::Number(_) => Self::no("isCompliant is a number, neither a boolean nor a list of results"),
            Value::String(_) => Self::no("isCompliant is a string, neither a boolean nor a list of results"),
            Value::Object(_) => Self::no("isCompliant is an object, neither a boolean nor a list of results"),
        }
    }

    /// The first true result decides; one that cannot be read decides too.
    fn of_results<'a>(results: impl Iterator<Item = &'a Value>) -> Self {
        let mut last = None;
        for entry in results {
            let entry = match RuleResult::of(entry) {
                Ok(entry) => entry,
                Err(why) => return Self::no(why),
            };
            match (entry.result, entry.warning) {
                (true, "") => return Self::Compliant,
                (true, warning) => {
                    return Self::no(format!("isCompliant is true with a warning: \"{}\"", told(warning)));
                }
                (false, _) => last = Some(entry.error),
            }
        }
        Self::no(match last {
            None => "isCompliant is an empty list of results".to_owned(),
            Some("") => "isCompliant has no result that is true".to_owned(),
            Some(error) => format!("isCompliant says \"{}\"", told(error)),
        })
    }

    fn no(why: impl Into<String>) -> Self {
        Self::NotCompliant { why: bounded(why.into()) }
    }
}

/// One element of a list of results. What it leaves out is false or empty.
struct RuleResult<'a> {
    result: bool,
    error: &'a str,
    warning: &'a str,
}

impl<'a> RuleResult<'a> {
    fn of(entry: &'a Value) -> Result<Self, String> {
        let Value::Object(_) = entry else {
            return Err("isCompliant has a result that is no object".to_owned());
        };
        let result = match &entry["result"] {
            Value::Bool(result) => *result,
            Value::Undefined | Value::Null => false,
            Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Set(_) | Value::Object(_) => {
                return Err("isCompliant has a result whose \"result\" is no boolean".to_owned());
            }
        };
        Ok(Self { result, error: words(entry, "error")?, warning: words(entry, "warning")? })
    }
}

fn words<'a>(entry: &'a Value, member: &str) -> Result<&'a str, String> {
    match &entry[member] {
        Value::String(words) => Ok(words),
        Value::Undefined | Value::Null => Ok(""),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Set(_) | Value::Object(_) => {
            Err(format!("isCompliant has a result whose \"{member}\" is no string"))
        }
    }
}

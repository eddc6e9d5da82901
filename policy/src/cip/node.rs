//! YAML with the line of every node, bounded, and nothing else read into it.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Spanned};

/// Deeper than any `ClusterImagePolicy`.
const DEPTH_MAX: usize = 24;
/// Documents of one file.
const DOCUMENTS_MAX: usize = 1000;
/// Nodes of one file, each alias counted as what it stands for.
const NODES_MAX: usize = 100_000;

/// A value and the line on which it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) value: Value,
}

/// What YAML can say, as its own core schema reads it.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Text(String),
    /// A number: no field takes one, so its text is kept for the message only.
    Number(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: u64,
    pub(super) node: Node,
}

/// What is no YAML, or too much of it.
#[derive(Debug)]
pub(super) struct Malformed {
    /// 0 where it is not known.
    pub(super) line: u64,
    pub(super) what: String,
    pub(super) hint: &'static str,
}

/// All documents of a file but the empty ones.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Malformed> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            // the scanner runs ahead: this leaves the limit of depth to be met first
            flow_nesting_limit: 2 * DEPTH_MAX,
            max_documents: DOCUMENTS_MAX,
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
            max_aliases: 1000,
            max_anchors: 1000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: NODES_MAX,
            max_replay_stack_depth: 8,
        },
        merge_keys: serde_saphyr::options::MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| malformed(&error))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the parser has dozens of errors; those without advice of their own are told in its words"
)]
fn malformed(error: &Error) -> Malformed {
    let line = error.location().map_or(0, |location| location.line());
    let (what, hint) = match innermost(error) {
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().map_or_else(String::new, |key| format!(" \"{key}\""));
            (format!("the key{key} is there twice"), "keep one of the two")
        }
        Error::MergeKeyNotAllowed { .. } => ("merge keys (<<) are not read".to_owned(), "write the fields out"),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. } => (
            format!("is larger or deeper than a policy file may be: {}", one_line(error)),
            "spread the policies over several files, and write aliases out",
        ),
        _ => (
            format!("is not YAML that can be read: {}", one_line(error)),
            "look at indentation, quotes and brackets there",
        ),
    };
    Malformed { line, what, hint }
}

/// The error itself, without what an alias or an excerpt adds around it.
fn innermost(error: &Error) -> &Error {
    let error = error.without_snippet();
    if let Error::AliasError { error, .. } = error { innermost(error) } else { error }
}

/// The parser's words, without the place: that stands before them.
fn one_line(error: &Error) -> String {
    let text = innermost(error).to_string();
    let words = text.split_once(" at line ").map_or(text.as_str(), |(words, _)| words);
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: spanned.referenced.line(), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = items.next_element()? {
            list.push(node);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map: Vec<Entry> = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            if map.iter().any(|entry| entry.key == key.value) {
                return Err(A::Error::custom(format!("the key \"{}\" is there twice", key.value)));
            }
            map.push(Entry { key: key.value, line: key.referenced.line(), node: entries.next_value()? });
        }
        Ok(Value::Map(map))
    }
}

//! Reading typed values out of nodes: each flaw is reported where it is, and reading goes on.

use super::{
    node::{Entry, Node, Value},
    report::{Report, shown},
};

/// Longest name of an authority or attestation: as long as Kubernetes lets a policy's be.
const LABEL_BYTES_MAX: usize = 253;

/// A value, the path that leads to it and the line where it is written.
#[derive(Debug, Clone)]
pub(super) struct Field<'n> {
    pub(super) path: String,
    pub(super) line: u64,
    node: &'n Node,
}

/// What a mapping may hold.
pub(super) struct Schema {
    pub(super) known: &'static [&'static str],
    pub(super) refused: &'static [Refused],
    /// Without meaning here, or read elsewhere.
    pub(super) ignored: &'static [&'static str],
}

/// A field of the language that is refused by name.
pub(super) struct Refused {
    pub(super) key: &'static str,
    pub(super) what: &'static str,
    pub(super) hint: &'static str,
}

impl<'n> Field<'n> {
    /// A whole document.
    pub(super) fn document(node: &'n Node) -> Self {
        Self { path: String::new(), line: node.line, node }
    }

    pub(super) fn error(&self, report: &mut Report, what: impl AsRef<str>, hint: Option<&str>) {
        report.error(self.line, &self.path, what, hint);
    }

    /// Reads a mapping. Its keys are checked here and now.
    pub(super) fn mapping(&self, report: &mut Report, schema: &Schema) -> Option<Mapping<'n>> {
        let (Value::Map(entries), false) = (&self.node.value, self.is_empty()) else {
            let expected = format!("expected a mapping with {}", listed(schema.known));
            let hint = "write its fields below it, or leave it out where it may be";
            self.unexpected(report, &expected, hint);
            return None;
        };
        let mapping = Mapping { path: self.path.clone(), line: self.line, entries };
        for entry in entries {
            mapping.check_key(entry, report, schema);
        }
        Some(mapping)
    }

    /// Keys and values of a mapping whose keys are checked elsewhere, if it is one.
    pub(super) fn entries(&self) -> Vec<(&'n str, Field<'n>)> {
        let Value::Map(entries) = &self.node.value else {
            return Vec::new();
        };
        let field =
            |entry: &'n Entry| Field { path: join(&self.path, &entry.key), line: entry.line, node: &entry.node };
        entries.iter().map(|entry| (entry.key.as_str(), field(entry))).collect()
    }

    /// Whether it is there without saying anything: `{}` or nothing behind the colon.
    pub(super) fn is_empty(&self) -> bool {
        match &self.node.value {
            Value::Null => true,
            Value::Map(entries) => entries.is_empty(),
            Value::Bool(_) | Value::Text(_) | Value::Number(_) | Value::List(_) => false,
        }
    }

    /// The items of a list; an empty list is a flaw. `item` names what is listed.
    pub(super) fn list(&self, report: &mut Report, item: &str) -> Vec<Field<'n>> {
        let items = self.items_if_any();
        if items.is_empty() {
            let expected = format!("expected a list of at least one {item}");
            let hint = "write its entries below it, each after a dash";
            self.unexpected(report, &expected, hint);
        }
        items
    }

    /// The items, if it is a list.
    pub(super) fn items_if_any(&self) -> Vec<Field<'n>> {
        let Value::List(items) = &self.node.value else {
            return Vec::new();
        };
        let field =
            |(index, node): (usize, &'n Node)| Field { path: format!("{}[{index}]", self.path), line: node.line, node };
        items.iter().enumerate().map(field).collect()
    }

    /// Text that is not empty.
    pub(super) fn text(&self, report: &mut Report) -> Option<&'n str> {
        let text = self.text_if_any().filter(|text| !text.trim().is_empty());
        if text.is_none() {
            let hint = "leave the field out, or give it a value in quotes";
            self.unexpected(report, "expected text", hint);
        }
        text
    }

    /// A name for people: one line, not too long.
    pub(super) fn label(&self, report: &mut Report) -> Option<String> {
        let name = self.text(report)?;
        if name.len() > LABEL_BYTES_MAX || name.chars().any(char::is_control) {
            let what = format!("is {}; expected one line of {LABEL_BYTES_MAX} bytes at most", shown(name));
            self.error(report, what, Some("choose a name as it shall appear in refusals"));
            return None;
        }
        Some(name.to_owned())
    }

    /// The text, if it is one.
    pub(super) fn text_if_any(&self) -> Option<&'n str> {
        let Value::Text(text) = &self.node.value else {
            return None;
        };
        Some(text)
    }

    pub(super) fn boolean(&self, report: &mut Report) -> Option<bool> {
        if let Value::Bool(value) = &self.node.value {
            return Some(*value);
        }
        self.unexpected(report, "expected true or false", "write true or false without quotes, or leave the field out");
        None
    }

    fn unexpected(&self, report: &mut Report, expected: &str, hint: &str) {
        let what = match &self.node.value {
            Value::Null => "is empty".to_owned(),
            Value::Bool(value) => format!("is {value}"),
            Value::Number(number) => format!("is the number {number}"),
            Value::Text(text) if text.trim().is_empty() => "is empty".to_owned(),
            Value::Text(text) => format!("is {}", shown(text)),
            Value::List(items) if items.is_empty() => "is an empty list".to_owned(),
            Value::List(_) => "is a list".to_owned(),
            Value::Map(entries) if entries.is_empty() => "is empty".to_owned(),
            Value::Map(_) => "is a mapping".to_owned(),
        };
        self.error(report, format!("{what}; {expected}"), Some(hint));
    }
}

/// A mapping with its path and line.
#[derive(Debug)]
pub(super) struct Mapping<'n> {
    pub(super) path: String,
    pub(super) line: u64,
    entries: &'n [Entry],
}

impl<'n> Mapping<'n> {
    pub(super) fn field(&self, key: &str) -> Option<Field<'n>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(Field { path: join(&self.path, key), line: entry.line, node: &entry.node })
    }

    /// A field that must be there.
    pub(super) fn required(&self, report: &mut Report, key: &str, hint: &str) -> Option<Field<'n>> {
        let field = self.field(key);
        if field.is_none() {
            report.error(self.line, &join(&self.path, key), "is missing", Some(hint));
        }
        field
    }

    /// The one field of several that is there; none or more is a flaw.
    pub(super) fn exactly_one(&self, report: &mut Report, keys: &[&'static str]) -> Option<(&'static str, Field<'n>)> {
        let written: Vec<_> = keys.iter().filter_map(|key| Some((*key, self.field(key)?))).collect();
        if let [(key, field)] = written.as_slice() {
            return Some((key, field.clone()));
        }
        let names: Vec<_> = written.iter().map(|(key, _)| *key).collect();
        let (what, hint) = if names.is_empty() {
            (format!("has none of {}; expected exactly one", listed(keys)), "write one of them")
        } else {
            let what = format!("has {}; expected exactly one of {}", names.join(" and "), listed(keys));
            (what, "several that shall each suffice are several entries of the list")
        };
        report.error(self.line, &self.path, what, Some(hint));
        None
    }

    fn check_key(&self, entry: &Entry, report: &mut Report, schema: &Schema) {
        let key = entry.key.as_str();
        let path = join(&self.path, key);
        if schema.known.contains(&key) || schema.ignored.contains(&key) {
            return;
        }
        if let Some(refused) = schema.refused.iter().find(|refused| refused.key == key) {
            report.error(entry.line, &path, refused.what, Some(refused.hint));
            return;
        }
        let plain = schema.known.iter().chain(schema.ignored).copied();
        let mut fields = plain.chain(schema.refused.iter().map(|refused| refused.key));
        let (what, hint) = match fields.find(|known| known.eq_ignore_ascii_case(key)) {
            Some(known) => (
                format!("is not spelled as the field is; expected \"{known}\""),
                "upper and lower case matter here, although the controller looks past them",
            ),
            None => (
                format!("is no known field; expected {}", listed(schema.known)),
                "correct its name, or take it out: nothing is ignored in silence",
            ),
        };
        report.error(entry.line, &path, what, Some(hint));
    }
}

/// `a, b or c`
pub(super) fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{}]", shown(key)),
    }
}

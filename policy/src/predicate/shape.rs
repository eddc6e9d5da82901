//! Fixed shapes for JSON, as Go's decoder and encoder put a document through a struct: what the struct does not know
//! vanishes, what the document leaves out appears as a zero value, what is of another type is an error.

use oci::json::fold_key;

use super::shapes::go_time;
use crate::rego::RegoInput;

/// One type of a struct's fields.
pub(super) enum Shape {
    /// Whatever is there.
    Any,
    Text,
    Bool,
    /// A time; without one, the first instant of year 1.
    Time,
    /// A list of these.
    List(&'static Shape),
    /// An object of these under any key.
    Map(&'static Shape),
    Object(&'static [Member<'static>]),
    /// What may be absent altogether.
    Maybe(&'static Shape),
}

/// One field of a struct.
pub(super) struct Member<'a> {
    name: &'static str,
    shape: &'a Shape,
    /// Left out when it is empty.
    omitted: bool,
}

impl<'a> Member<'a> {
    pub(super) const fn always(name: &'static str, shape: &'a Shape) -> Self {
        Self { name, shape, omitted: false }
    }

    pub(super) const fn unless_empty(name: &'static str, shape: &'a Shape) -> Self {
        Self { name, shape, omitted: true }
    }
}

/// Where a document is not of its shape.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    pub(super) path: String,
    pub(super) wanted: &'static str,
}

impl Mismatch {
    fn at(path: &[String], wanted: &'static str) -> Self {
        Self { path: if path.is_empty() { "all".to_owned() } else { path.join(".") }, wanted }
    }
}

/// A document put through a struct; `None` is a document that is not there.
pub(super) fn object(
    members: &[Member<'_>],
    document: Option<&RegoInput>,
    path: &mut Vec<String>,
) -> Result<RegoInput, Mismatch> {
    if document.is_some_and(|document| document.members().is_none()) {
        return Err(Mismatch::at(path, "an object"));
    }
    let mut shaped = Vec::with_capacity(members.len());
    for member in members {
        path.push(member.name.to_owned());
        let value = found(member.name, document, path)?;
        if let Some(value) = member.shape.shaped(value.as_ref(), path)?
            && !(member.omitted && member.shape.is_empty(&value))
        {
            shaped.push((member.name, value));
        }
        path.pop();
    }
    Ok(shaped.into_iter().collect())
}

/// The value of a field: Go takes keys for a field's name that differ in case. Null is as good as none.
fn found(name: &str, document: Option<&RegoInput>, path: &[String]) -> Result<Option<RegoInput>, Mismatch> {
    let members = document.and_then(RegoInput::members).into_iter().flatten();
    let folded = fold_key(name);
    let mut values = members.filter(|(key, _)| fold_key(key) == folded).map(|(_, value)| value);
    let value = values.next();
    if values.next().is_some() {
        return Err(Mismatch::at(path, "given once"));
    }
    Ok(value.filter(|value| !value.is_null()))
}

impl Shape {
    /// `None` is what is left out: a pointer to nothing.
    fn shaped(&self, value: Option<&RegoInput>, path: &mut Vec<String>) -> Result<Option<RegoInput>, Mismatch> {
        let value = match (self, value) {
            (Self::Object(members), value) => object(members, value, path)?,
            (Self::Maybe(_), None) => return Ok(None),
            (Self::Maybe(shape), value) => return shape.shaped(value, path),
            (Self::Text, None) => RegoInput::from(""),
            (Self::Bool, None) => RegoInput::from(false),
            (Self::Time, None) => RegoInput::from("0001-01-01T00:00:00Z"),
            (Self::Any | Self::List(_) | Self::Map(_), None) => RegoInput::null(),
            (Self::Any, Some(value)) => value.clone(),
            (Self::Text, Some(value)) if value.text().is_some() => value.clone(),
            (Self::Text, Some(_)) => return Err(Mismatch::at(path, "a string")),
            (Self::Bool, Some(value)) if value.is_bool() => value.clone(),
            (Self::Bool, Some(_)) => return Err(Mismatch::at(path, "a boolean")),
            (Self::Time, Some(value)) => {
                let time = value.text().and_then(go_time);
                RegoInput::from(time.ok_or_else(|| Mismatch::at(path, "a time of RFC 3339"))?.as_str())
            }
            (Self::List(shape), Some(value)) => list(shape, value, path)?,
            (Self::Map(shape), Some(value)) => map(shape, value, path)?,
        };
        Ok(Some(value))
    }

    /// As Go's `omitempty` has it: a struct never is, nor a time.
    fn is_empty(&self, value: &RegoInput) -> bool {
        match self {
            Self::Object(_) | Self::Time | Self::Maybe(_) => false,
            Self::Any => value.is_null(),
            Self::Text => value.text() == Some(""),
            Self::Bool => *value == RegoInput::from(false),
            Self::List(_) => value.items().is_none_or(|mut items| items.next().is_none()),
            Self::Map(_) => value.members().is_none_or(|mut members| members.next().is_none()),
        }
    }
}

fn list(shape: &Shape, value: &RegoInput, path: &mut Vec<String>) -> Result<RegoInput, Mismatch> {
    let items = value.items().ok_or_else(|| Mismatch::at(path, "a list"))?;
    let mut shaped = Vec::new();
    for (at, item) in items.enumerate() {
        path.push(at.to_string());
        shaped.extend(shape.shaped(Some(&item).filter(|item| !item.is_null()), path)?);
        path.pop();
    }
    Ok(shaped.into_iter().collect())
}

fn map(shape: &Shape, value: &RegoInput, path: &mut Vec<String>) -> Result<RegoInput, Mismatch> {
    let members = value.members().ok_or_else(|| Mismatch::at(path, "an object"))?;
    let mut shaped = Vec::new();
    for (key, item) in members {
        path.push(key.to_owned());
        let item = shape.shaped(Some(&item).filter(|item| !item.is_null()), path)?;
        shaped.extend(item.map(|item| (key, item)));
        path.pop();
    }
    Ok(shaped.into_iter().collect())
}

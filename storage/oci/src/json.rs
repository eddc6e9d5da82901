//! JSON that means one thing only.
//!
//! Parsers disagree on what a key given twice means, and Go's take `"Layers"` for `"layers"`. What a client could read otherwise
//! than we did must not be judged at all, so documents from outside pass [`check`] before anything is read from them.

use std::{collections::HashSet, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Why a document was not read.
#[derive(Debug, thiserror::Error)]
#[error("not unambiguous JSON")]
pub struct JsonError(#[source] JsonFault);

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self(JsonFault::of(&error))
    }
}

/// What is wrong with a document, and where. The parser's words repeat the document's, whose author may be anybody: they are kept
/// shortened and escaped.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonFault(String);

impl JsonFault {
    pub(crate) fn of(error: &serde_json::Error) -> Self {
        let said = error.to_string();
        let place = match error.line() {
            0 => String::new(),
            line => format!(" at line {line} column {}", error.column()),
        };
        // The place comes last, and must not be what is cut off.
        let words = said.strip_suffix(&place).unwrap_or(&said);
        let printable = |c: char| matches!(c, ' '..='~');
        let escaped = |c: char| if printable(c) { c.to_string() } else { c.escape_default().to_string() };
        Self(shortened(words, escaped) + &place)
    }
}

/// How much of a foreign text is repeated in an error, in characters.
const SHOWN_CHARS_MAX: usize = 200;

/// Foreign text as it may stand between quotes in an error: escaped, and cut where it grows long.
pub(crate) fn shown(text: &str) -> String {
    shortened(text, |c| c.escape_default().to_string())
}

fn shortened(text: &str, escaped: impl Fn(char) -> String) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS_MAX).map(escaped).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Checks that `bytes` are one JSON document in UTF-8 without a byte order mark, nothing after it, nested `depth_max` deep at most,
/// no key twice in one object.
///
/// # Errors
/// When they are not; the source names the place.
pub fn check(bytes: &[u8], depth_max: usize) -> Result<(), JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    Walk { depth: depth_max }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(())
}

/// [`check`], then parse an object into `T`. A list is none: serde takes one for a struct, its values for the fields in their order, and no
/// other reader does.
///
/// # Errors
/// When the document is ambiguous, is no object, or is not a `T`.
pub fn parse<T: de::DeserializeOwned>(bytes: &[u8], depth_max: usize) -> Result<T, JsonError> {
    check(bytes, depth_max)?;
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(JsonError(JsonFault("not an object".to_owned())));
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// Folds a key as Go's decoder does when it looks for a field: ASCII case, and the two letters outside ASCII that fold into it.
#[must_use]
pub fn fold_key(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            'ſ' => 's',
            '\u{212A}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

struct Walk {
    depth: usize,
}

impl Walk {
    fn deeper<E: de::Error>(&self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth }),
            None => Err(E::custom("nested too deeply")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(self.deeper()?)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if seen.contains(&key) {
                return Err(de::Error::custom(format_args!("key {key:?} given twice")));
            }
            seen.insert(key);
            map.next_value_seed(self.deeper()?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ambiguous_documents_are_refused() {
        assert!(check(br#"{"a":{"b":[1,2.5,null,true,"x"]},"c":{}}"#, 8).is_ok());
        for bad in [
            &br#"{"a":1,"a":1}"#[..],
            br#"{"a":{"b":1,"b":2}}"#,
            br#"[{"b":1,"\u0062":2}]"#,
            b"\xef\xbb\xbf{}",
            b"{} {}",
            b"{}x",
            b"",
            b"{\"a\":NaN}",
            b"{\"a\":\"\xff\"}",
            b"{'a':1}",
            b"\xff\xfe{\0}\0",
        ] {
            assert!(check(bad, 8).is_err(), "{:?} was taken", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(check(nested(8).as_bytes(), 8).is_ok());
        assert!(check(nested(10).as_bytes(), 8).is_err());
        assert!(check(nested(100_000).as_bytes(), 1_000_000).is_err());
    }

    /// What a person would be shown: the error and its cause.
    fn text(error: &JsonError) -> String {
        format!("{error}: {}", std::error::Error::source(error).unwrap())
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Document {
        #[serde(rename = "a")]
        _a: u32,
    }

    #[test]
    fn a_list_of_the_values_is_not_taken_for_the_object() {
        parse::<Document>(b" \n{\"a\":1}", 8).unwrap();
        for document in ["[1]", " [1]", "1", "null", "\"a\""] {
            let error = parse::<Document>(document.as_bytes(), 8).unwrap_err();
            assert_eq!(text(&error), "not unambiguous JSON: not an object", "{document}");
        }
    }

    #[test]
    fn an_error_repeats_little_of_the_document_and_says_where_it_is_wrong() {
        let long = "\u{1b}[31m\u{202e}é\n".repeat(100_000);
        let quoted = serde_json::to_string(&long).unwrap();
        for document in [
            format!("{{\"a\":{quoted}}}"),
            format!("{{{quoted}:1}}"),
            format!("{{\"a\":1,{quoted}:1,{quoted}:1}}"),
            format!("{{\"a\":[{quoted}]}}"),
        ] {
            let error = parse::<Document>(document.as_bytes(), 8).unwrap_err();
            let text = text(&error);
            assert!(text.len() < 4096 && format!("{error:?}").len() < 4096, "{} bytes", text.len());
            assert!(text.chars().all(|c| matches!(c, ' '..='~' | '…')), "{text}");
            assert!(text.contains(" at line 1 column "), "{text}");
        }
    }

    #[test]
    fn a_short_fault_is_told_in_full() {
        let error = parse::<Document>(b"{\"a\":\"2\"}", 8).unwrap_err();
        assert_eq!(text(&error), "not unambiguous JSON: invalid type: string \"2\", expected u32 at line 1 column 8");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = check(&bytes, 16);
        }
    }
}

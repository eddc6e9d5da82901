//! Defaults < file < environment < flags, and who wrote which key.

use std::path::{Path, PathBuf};

use figment::{
    Figment, Metadata, Profile, Provider,
    error::{Actual, Kind},
    providers::{Format as _, Toml},
    util::nest,
    value::{Dict, Map, Value},
};
use serde::de::DeserializeOwned;

use crate::{ConfigError, Origin, Overrides, Place, environment::Environment, text::read_text};

/// Largest configuration file: it is written by hand.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Everything that was written, merged, each value still knowing its origin.
pub(crate) struct Sources {
    merged: Figment,
}

impl Sources {
    /// Reads all sources. Each is checked alone against `T` first, so that an error names the one it stands in.
    pub(crate) fn gather<T: DeserializeOwned>(
        overrides: &Overrides,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let mut layers = Vec::new();
        if let Some(path) = &overrides.config {
            layers.push(Layer::of_file(path)?);
        }
        for (key, text) in &environment.settings {
            layers.push(Layer::of_variable(key, text)?);
        }
        layers.push(Layer::of_flags(overrides));

        let mut merged = Figment::new();
        for layer in &layers {
            Figment::from(layer).extract::<T>().map_err(|error| rejected(layer.origin.clone(), error))?;
            merged = merged.merge(layer);
        }
        Ok(Self { merged })
    }

    /// What was written, the later source winning key by key; lists are replaced whole.
    pub(crate) fn extract<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.merged.extract().map_err(|error| {
            let origin = error.metadata.as_ref().map_or(Origin::Default, origin_of);
            rejected(origin, error)
        })
    }

    /// Where `key` was written. A key inside a list is where the list is, an absent one where its section is.
    #[expect(clippy::unnecessary_box_returns, reason = "the error variants hold it boxed, to stay small")]
    pub(crate) fn place(&self, key: &str) -> Box<Place> {
        let mut searched = key.split('[').next().unwrap_or_default();
        let origin = loop {
            if let Some(metadata) = self.merged.find_metadata(searched) {
                break origin_of(metadata);
            }
            match searched.rsplit_once('.') {
                Some((section, _)) => searched = section,
                None => break Origin::Default,
            }
        };
        Box::new(Place { origin, key: key.into() })
    }

    /// `key` holds `written`, which is not `expected`.
    pub(crate) fn unexpected(&self, key: &str, expected: impl Into<String>, written: &str) -> ConfigError {
        ConfigError::Unexpected {
            place: self.place(key),
            expected: expected.into(),
            written: format!("{written:?}"),
            hint: None,
        }
    }

    /// `key` is absent.
    pub(crate) fn missing(&self, key: &str, expected: impl Into<String>) -> ConfigError {
        ConfigError::Missing { place: self.place(key), expected: expected.into(), hint: None }
    }

    /// `key` does not go together with another.
    pub(crate) fn conflict(&self, key: &str, problem: impl Into<String>, hint: impl Into<String>) -> ConfigError {
        ConfigError::Conflict { place: self.place(key), problem: problem.into(), hint: Some(hint.into()) }
    }
}

/// One source.
struct Layer {
    origin: Origin,
    keys: Dict,
}

impl Layer {
    fn of_file(path: &Path) -> Result<Self, ConfigError> {
        let text = read_text(path, FILE_BYTES_MAX)?;
        let keys = Toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            // Only the message: the parser's own rendering would quote the line, and with it what may be secret.
            let problem = error.message().replace('\n', ", ");
            ConfigError::Syntax { path: path.into(), line: before.matches('\n').count() + 1, problem }
        })?;
        Ok(Self { origin: Origin::File(path.into()), keys })
    }

    fn of_variable(key: &str, text: &str) -> Result<Self, ConfigError> {
        let place = || Box::new(Place { origin: Origin::Environment, key: key.into() });
        let unknown = || ConfigError::Unknown { place: place(), hint: None };
        if key.split('.').any(str::is_empty) {
            return Err(unknown());
        }
        // Numbers, booleans, lists and tables as in the file, text without quotes as itself.
        let value: Value = text.parse().unwrap_or_else(|never: std::convert::Infallible| match never {});
        let keys = nest(key, value).into_dict().ok_or_else(unknown)?;
        Ok(Self { origin: Origin::Environment, keys })
    }

    fn of_flags(overrides: &Overrides) -> Self {
        let mut keys = Dict::new();
        if let Some(listen) = &overrides.listen {
            keys.insert("listen".into(), listen.as_str().into());
        }
        if let Some(path) = &overrides.storage {
            keys.extend(nest("storage.path", text_of(path).into()).into_dict().unwrap_or_default());
        }
        if !overrides.policy.is_empty() {
            // The flag names files, the key holds patterns.
            let files: Vec<String> =
                overrides.policy.iter().map(|path| glob::Pattern::escape(&text_of(path))).collect();
            keys.extend(nest("policy.files", files.into()).into_dict().unwrap_or_default());
        }
        Self { origin: Origin::Flags, keys }
    }
}

/// A path as text. One that is not UTF-8 no longer names its file, and is then reported as missing.
fn text_of(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        match &self.origin {
            Origin::Default => Metadata::named("default"),
            Origin::File(path) => Metadata::from("file", path.as_path()),
            Origin::Environment => Metadata::named("environment"),
            Origin::Flags => Metadata::named("flags"),
        }
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.keys.clone()))
    }
}

fn origin_of(metadata: &Metadata) -> Origin {
    let path = metadata.source.as_ref().and_then(|source| source.file_path());
    match (path, metadata.name.as_ref()) {
        (Some(path), _) => Origin::File(PathBuf::from(path)),
        (None, "environment") => Origin::Environment,
        (None, "flags") => Origin::Flags,
        (None, _) => Origin::Default,
    }
}

/// The deserialiser's error in our words.
fn rejected(origin: Origin, error: figment::Error) -> ConfigError {
    let mut key = key_of(&error.path);
    if let Kind::UnknownField(field, _) = &error.kind
        && error.path.last() != Some(field)
    {
        key = key_of(&[error.path.clone(), vec![field.clone()]].concat());
    }
    let place = Box::new(Place { origin, key });
    let unexpected =
        |place, expected: String, written: String| ConfigError::Unexpected { place, expected, written, hint: None };
    match error.kind {
        Kind::UnknownField(field, known) => {
            let hint = closest_key(&field, known, &place.key);
            ConfigError::Unknown { place, hint }
        }
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            unexpected(place, plain_type(&expected), plain_value(&actual))
        }
        Kind::InvalidLength(length, expected) => unexpected(place, expected, length.to_string()),
        Kind::UnknownVariant(written, known) => {
            let known: Vec<String> = known.iter().map(|name| format!("{name:?}")).collect();
            unexpected(place, known.join(" or "), format!("{written:?}"))
        }
        Kind::MissingField(name) => ConfigError::Missing { place, expected: name.into_owned(), hint: None },
        Kind::DuplicateField(name) => {
            ConfigError::Conflict { place, problem: format!("{name} is written twice"), hint: None }
        }
        Kind::Message(problem) => ConfigError::Conflict { place, problem, hint: None },
        other @ (Kind::ISizeOutOfRange(_)
        | Kind::USizeOutOfRange(_)
        | Kind::Unsupported(_)
        | Kind::UnsupportedKey(..)) => ConfigError::Conflict { place, problem: other.to_string(), hint: None },
    }
}

/// `["upstreams", "1", "url"]` → `upstreams[1].url`.
fn key_of(path: &[String]) -> String {
    let mut key = String::new();
    // A path's own deserialiser wraps it in a structure that nobody wrote.
    for part in path.iter().filter(|part| !part.starts_with("___figment")) {
        if part.bytes().all(|b| b.is_ascii_digit()) {
            key.extend(["[", part, "]"]);
        } else {
            if !key.is_empty() {
                key.push('.');
            }
            key.push_str(part);
        }
    }
    key
}

/// The known key nearest to `field`, or all where there are few.
fn closest_key(field: &str, known: &[&str], key: &str) -> Option<String> {
    let section = key.strip_suffix(field).unwrap_or_default();
    let nearest = known
        .iter()
        .map(|name| (strsim::osa_distance(field, name), name))
        .map(|(distance, name)| if name.starts_with(field) { (0, name) } else { (distance, name) })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 2);
    match nearest {
        Some((_, name)) => Some(format!("did you mean {section}{name}?")),
        None if known.len() <= 16 => Some(format!("known here: {}", known.join(", "))),
        None => None,
    }
}

fn plain_type(expected: &str) -> String {
    match expected {
        "a sequence" => "a list such as [\"…\"]".into(),
        "a boolean" => "true or false".into(),
        "path string" => "a path".into(),
        _ if expected.starts_with("struct ") => "a table".into(),
        _ => expected.into(),
    }
}

fn plain_value(actual: &Actual) -> String {
    match actual {
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        Actual::Char(value) => format!("{value:?}"),
        Actual::Str(value) => format!("{value:?}"),
        Actual::Seq => "a list".into(),
        Actual::Map => "a table".into(),
        other @ (Actual::Bytes(_)
        | Actual::Unit
        | Actual::Option
        | Actual::NewtypeStruct
        | Actual::Enum
        | Actual::UnitVariant
        | Actual::NewtypeVariant
        | Actual::TupleVariant
        | Actual::StructVariant
        | Actual::Other(_)) => other.to_string(),
    }
}

//! What a rule is given: one JSON document, taken in once and shared by all rules that ask about it.

use std::collections::BTreeMap;

use bytes::Bytes;
use regorus::Value;
use serde::Serialize;

use super::{RegoBounds, RegoFault};
use crate::refusal::told;

/// Deepest nesting of a document that rules are given. The engine goes one call deeper with each level.
const DEPTH_MAX: usize = 64;

/// A JSON document, or a part of one. Copies share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegoInput(Value);

impl RegoInput {
    /// Reads JSON that means one thing only: no key twice, nothing after it, no deeper than is read.
    pub(crate) fn parse(json: &[u8], bounds: &RegoBounds) -> Result<Self, RegoFault> {
        within(json.len(), bounds)?;
        let unreadable = |why: &dyn std::error::Error| RegoFault::InputUnreadable {
            why: told(&why.source().map_or_else(|| why.to_string(), ToString::to_string)),
        };
        oci::json::check(json, DEPTH_MAX).map_err(|error| unreadable(&error))?;
        let text = std::str::from_utf8(json).map_err(|error| unreadable(&error))?;
        Value::from_json_str(text).map(Self).map_err(|error| unreadable(&*error))
    }

    /// Keys and values; `None` where this is no object.
    pub(crate) fn members(&self) -> Option<impl Iterator<Item = (&str, Self)>> {
        let Value::Object(members) = &self.0 else {
            return None;
        };
        // Those of JSON are strings.
        Some(members.iter_sorted().filter_map(|(key, value)| Some((&**key.as_string().ok()?, Self(value.clone())))))
    }

    /// `None` where this is no list.
    pub(crate) fn items(&self) -> Option<impl Iterator<Item = Self>> {
        let Value::Array(items) = &self.0 else {
            return None;
        };
        Some(items.iter().cloned().map(Self))
    }

    /// `None` where this is no string.
    pub(crate) fn text(&self) -> Option<&str> {
        self.0.as_string().ok().map(|text| &**text)
    }

    pub(crate) fn is_bool(&self) -> bool {
        matches!(self.0, Value::Bool(_))
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.0, Value::Null)
    }

    pub(crate) fn null() -> Self {
        Self(Value::Null)
    }

    /// As the engine takes it.
    pub(super) fn value(&self) -> Value {
        self.0.clone()
    }
}

impl From<bool> for RegoInput {
    fn from(value: bool) -> Self {
        Self(Value::Bool(value))
    }
}

impl From<&str> for RegoInput {
    fn from(text: &str) -> Self {
        Self(Value::from(text))
    }
}

/// A list.
impl FromIterator<Self> for RegoInput {
    fn from_iter<I: IntoIterator<Item = Self>>(items: I) -> Self {
        Self(Value::from(items.into_iter().map(|item| item.0).collect::<Vec<_>>()))
    }
}

/// An object.
impl<'a> FromIterator<(&'a str, Self)> for RegoInput {
    fn from_iter<I: IntoIterator<Item = (&'a str, Self)>>(members: I) -> Self {
        Self(Value::from(
            members.into_iter().map(|(key, value)| (Value::from(key), value.0)).collect::<BTreeMap<_, _>>(),
        ))
    }
}

fn within(bytes: usize, bounds: &RegoBounds) -> Result<(), RegoFault> {
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    if bytes > bounds.input_bytes_max {
        return Err(RegoFault::InputTooLarge { bytes, max: bounds.input_bytes_max });
    }
    Ok(())
}

/// What a policy's own rule is given: what its authorities found, in the controller's shape.
#[derive(Debug, Clone, Default)]
pub(crate) struct PolicyInput {
    /// The authorities that passed, by name.
    pub(crate) authority_matches: BTreeMap<String, AuthorityMatch>,
    /// Where `fetchConfigFile` asks for them: image configs as JSON, by `<os>/<arch>[/<variant>][:<osversion>]`.
    pub(crate) config: BTreeMap<String, Bytes>,
}

/// By what an authority passed.
#[derive(Debug, Clone)]
pub(crate) enum AuthorityMatch {
    /// By signatures.
    Signatures(Vec<SignatureMatch>),
    /// By attestations: all that passed, by the name the policy gives to what it asks for.
    Attestations(BTreeMap<String, Vec<AttestationMatch>>),
    /// Without looking.
    Static,
}

/// One signature that passed. What is empty is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SignatureMatch {
    /// SHA-256, in hex, of the signature and the PEM of the certificate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) id: String,
    /// Of the certificate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) subject: String,
    /// Of the certificate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) issuer: String,
    /// What made the workflow run.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) github_workflow_trigger: String,
    /// The commit it ran for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) github_workflow_sha: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) github_workflow_name: String,
    /// The repository it ran for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) github_workflow_repo: String,
    /// The branch or tag it ran for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) github_workflow_ref: String,
}

/// One attestation that passed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AttestationMatch {
    /// Who says so.
    #[serde(flatten)]
    pub(crate) signature: SignatureMatch,
    /// As the policy writes it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) predicate_type: String,
    /// Of the envelope.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) digest: String,
}

impl PolicyInput {
    /// As the rule is given it; members that would be empty are left out.
    pub(crate) fn input(&self, bounds: &RegoBounds) -> Result<RegoInput, RegoFault> {
        let config_bytes = self.config.values().fold(0_usize, |bytes, config| bytes.saturating_add(config.len()));
        within(config_bytes, bounds)?;
        let mut members = Vec::new();
        if !self.authority_matches.is_empty() {
            let matched = self.authority_matches.iter().map(|(name, matched)| (name, MatchDocument::of(matched)));
            let matched: BTreeMap<_, _> = matched.collect();
            let unwritable = |error: serde_json::Error| RegoFault::Failed { why: told(&error.to_string()) };
            let json = serde_json::to_vec(&matched).map_err(unwritable)?;
            members.push(("authorityMatches", RegoInput::parse(&json, bounds)?));
        }
        if !self.config.is_empty() {
            let configs = self.config.iter().map(|(platform, json)| Ok((&**platform, RegoInput::parse(json, bounds)?)));
            members.push(("config", configs.collect::<Result<RegoInput, RegoFault>>()?));
        }
        Ok(members.into_iter().collect())
    }
}

#[derive(Serialize)]
struct MatchDocument<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    signatures: &'a [SignatureMatch],
    #[serde(skip_serializing_if = "Option::is_none")]
    attestations: Option<&'a BTreeMap<String, Vec<AttestationMatch>>>,
    #[serde(rename = "static", skip_serializing_if = "std::ops::Not::not")]
    unasked: bool,
}

impl<'a> MatchDocument<'a> {
    fn of(matched: &'a AuthorityMatch) -> Self {
        let (signatures, attestations, unasked) = match matched {
            AuthorityMatch::Signatures(signatures) => (signatures.as_slice(), None, false),
            AuthorityMatch::Attestations(attestations) => (&[][..], Some(attestations), false),
            AuthorityMatch::Static => (&[][..], None, true),
        };
        Self { signatures, attestations: attestations.filter(|found| !found.is_empty()), unasked }
    }
}

//! What a policy asks, as bytes: equal where two policies ask the same, whatever comments and order of fields.
//!
//! Not in it, because nothing here acts on it: labels, `signatureFormat`, the values of `url`, and annotations, of which
//! none that would be acted on can load.

use serde::Serialize;

use crate::{
    authority::{Authority, AuthorityKind, StaticAction},
    glob::Glob,
    identity::Pattern,
    policy_set::Mode,
};

/// Changes when the same bytes would come to mean something else.
const VERSION: u32 = 1;

/// The order of fields is part of the form.
#[derive(Serialize)]
struct Form<'p> {
    version: u32,
    name: &'p str,
    mode: &'static str,
    globs: Vec<&'p str>,
    authorities: Vec<AuthorityForm<'p>>,
}

#[derive(Serialize)]
struct AuthorityForm<'p> {
    name: &'p str,
    #[serde(flatten)]
    kind: KindForm<'p>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum KindForm<'p> {
    Keyless { identities: Vec<[PatternForm<'p>; 2]>, ignore_sct: bool },
    Key { pem: &'p str, hash: &'static str, log: bool },
    Pass,
    Fail { message: Option<&'p str> },
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum PatternForm<'p> {
    Exact(&'p str),
    Regex(&'p str),
}

pub(super) fn form(name: &str, mode: Mode, globs: &[Glob], authorities: &[Authority]) -> Vec<u8> {
    let mut globs: Vec<_> = globs.iter().map(Glob::as_str).collect();
    globs.sort_unstable();
    globs.dedup();
    let authorities = authorities
        .iter()
        .map(|authority| AuthorityForm { name: &authority.name, kind: kind(&authority.kind) })
        .collect();
    let form = Form { version: VERSION, name, mode: mode.as_str(), globs, authorities };
    serde_json::to_vec(&form).expect("texts, booleans and lists of them are always JSON")
}

fn kind(kind: &AuthorityKind) -> KindForm<'_> {
    match kind {
        AuthorityKind::Keyless(keyless) => KindForm::Keyless {
            identities: keyless
                .identities
                .iter()
                .map(|identity| [pattern(&identity.issuer), pattern(&identity.subject)])
                .collect(),
            ignore_sct: keyless.ignore_sct,
        },
        AuthorityKind::Key(key) => KindForm::Key { pem: &key.pem, hash: key.hash.as_str(), log: key.log },
        AuthorityKind::Static(StaticAction::Pass) => KindForm::Pass,
        AuthorityKind::Static(StaticAction::Fail { message }) => KindForm::Fail { message: message.as_deref() },
    }
}

fn pattern(pattern: &Pattern) -> PatternForm<'_> {
    match pattern {
        Pattern::Exact(text) => PatternForm::Exact(text),
        Pattern::Regex(regex) => PatternForm::Regex(regex.as_str()),
    }
}

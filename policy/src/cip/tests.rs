use super::*;
use crate::{
    authority::{AuthorityKind, HashAlgorithm, StaticAction},
    policy_set::{Loaded, Mode, NoMatch, PolicySet},
};

mod documents;
mod envelope;
mod keys;
mod refused;
mod values;

/// A P-256 key that belongs to nobody any more.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE33EKhtvosstEH7xzWonFOB3eo1T8
Q0sDTx7uIxKALbQZX5o0rWrU77f5I8VQoAGZwZMx7wL15vV7xNllm1cJCA==
-----END PUBLIC KEY-----
";

fn sources(texts: &[&str]) -> Vec<SourceText> {
    let named = |(index, text): (usize, &&str)| SourceText {
        name: if index == 0 { "own.yaml".to_owned() } else { format!("own-{}.yaml", index + 1) },
        text: (*text).to_owned(),
    };
    texts.iter().enumerate().map(named).collect()
}

fn load_as(texts: &[&str], custom_trust_root: bool) -> Result<Loaded, LoadErrors> {
    let upstreams = ["cgr.dev".parse().unwrap(), "ghcr.io".parse().unwrap()];
    PolicySet::load(&sources(texts), &LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root })
}

fn load(text: &str) -> Result<Loaded, LoadErrors> {
    load_as(&[text], false)
}

/// What is said of a text that must not load.
fn flaws(text: &str) -> String {
    match load(text) {
        Err(errors) => errors.to_string(),
        Ok(loaded) => panic!("loaded as {:?}", loaded.set),
    }
}

/// What is said at start-up of a text that loads.
fn notes(text: &str) -> String {
    load(text).unwrap_or_else(|errors| panic!("{errors}")).notes.join("\n")
}

/// A policy whose only authority is `authority`, written as YAML without indentation; it begins on line 9.
fn with_authority(authority: &str) -> String {
    let authority = authority.trim_end().replace('\n', "\n      ");
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: own
spec:
  images:
    - glob: cgr.dev/chainguard/**
  authorities:
    - {authority}
"
    )
}

/// A policy whose only authority is keyless with this identity; it begins on line 11.
fn with_identity(identity: &str) -> String {
    with_authority(&format!("keyless:\n  identities:\n    - {}", identity.replace('\n', "\n      ")))
}

/// A sound policy but for the glob, on line 7.
fn with_glob(glob: &str) -> String {
    with_authority("static: {action: fail}").replace("cgr.dev/chainguard/**", glob)
}

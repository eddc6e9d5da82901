use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;
use crate::{
    authority::{AuthorityKind, HashAlgorithm, StaticAction},
    policy_set::{Loaded, Mode, NoMatch, PolicySet},
};

mod attestations;
mod conditions;
mod differences;
mod documents;
mod envelope;
mod examples;
mod form;
mod guards;
mod honoured;
mod invalid;
mod keys;
mod proof;
mod refused;
mod source;
mod trust_roots;
mod unhonoured;
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

const KEYLESS: &str = "keyless:\n  identities: [{issuer: i, subject: s}]";

/// An authority by key, followed by these lines.
fn by_key(more: &str) -> String {
    with_authority(&format!("key: {{data: {PUBLIC_KEY:?}}}\n{more}"))
}

/// `text` with these annotations, from line 5 on the first of them is on line 6.
fn annotated(text: &str, annotations: &[&str]) -> String {
    let lines: String = annotations.iter().map(|line| format!("\n    {line}")).collect::<Vec<_>>().concat();
    text.replace("  name: own", &format!("  name: own\n  annotations:{lines}"))
}

/// The lists of `sigstoreKeys` that the public-good Sigstore has, as a document of this name would have them.
fn trust_root(name: &str, lists: &[&str]) -> String {
    let root: serde_json::Value = serde_json::from_str(crate::sigstore::PUBLIC_GOOD).unwrap();
    let mut text = format!(
        "apiVersion: policy.sigstore.dev/v1alpha1\nkind: TrustRoot\nmetadata:\n  name: {name}\nspec:\n  sigstoreKeys:\n"
    );
    for list in lists {
        text.extend(["    ", list, ":\n"]);
        // the first of each list: an ECDSA key, or a chain that is whole
        for entry in root[list.replace("tLogs", "tlogs").replace("ctLogs", "ctlogs")].as_array().unwrap().iter().take(1)
        {
            text += &if list.ends_with("Logs") { log_entry(entry) } else { authority_entry(entry) };
        }
    }
    text
}

fn log_entry(entry: &serde_json::Value) -> String {
    let key = in_pem("PUBLIC KEY", &[&entry["publicKey"]]);
    format!(
        "      - baseURL: {}\n        hashAlgorithm: sha-256\n        publicKey: {key}\n",
        entry["baseUrl"].as_str().unwrap()
    )
}

fn authority_entry(entry: &serde_json::Value) -> String {
    let certificates: Vec<_> = entry["certChain"]["certificates"].as_array().unwrap().iter().collect();
    let chain = in_pem("CERTIFICATE", &certificates);
    format!(
        "      - subject: {{organization: o, commonName: c}}\n        uri: https://authority.example\n        certChain: {chain}\n"
    )
}

/// PEM blocks, in base64 as a whole.
fn in_pem(label: &str, entries: &[&serde_json::Value]) -> String {
    let block = |entry: &&serde_json::Value| key::encoded(label, entry["rawBytes"].as_str().unwrap());
    STANDARD.encode(entries.iter().map(block).collect::<String>())
}

const ALL_LISTS: [&str; 4] = ["certificateAuthorities", "tLogs", "ctLogs", "timestampAuthorities"];

/// Policies and trust roots, one after another in one file.
fn together(documents: &[&str]) -> String {
    documents.join("---\n")
}

/// What is said of each of a table's texts, under its title. Each names file, line and field, and the way out.
fn told(table: &[(&str, String)]) -> String {
    let mut told = String::new();
    for (title, text) in table {
        let errors = match load(text) {
            Err(errors) => errors,
            Ok(loaded) => panic!("{title}: loaded as {:?}", loaded.set),
        };
        for error in errors.iter() {
            assert!(error.hint.as_ref().is_some_and(|hint| !hint.is_empty()), "{title}: {error}");
            assert!(error.place.line > 0 && &*error.place.file == "own.yaml", "{title}: {error}");
        }
        told.extend(["# ", title, "\n", &errors.to_string(), "\n"]);
    }
    told
}

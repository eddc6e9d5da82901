//! Every text within valid evidence, changed at its first, its middle and its last character: what is still admitted then is explained
//! in `mutation/survivors.txt`, line by line, and nothing else is.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use support::{
    image, judging,
    sigstore::{CorpusEntry, Layout, VirtualSigstore, corpus},
};

const SURVIVORS: &str = include_str!("mutation/survivors.txt");

#[test]
fn what_survives_a_change_is_explained() {
    let image = image::single("linux/amd64", [image::filler(10, 1)]);
    let twins = corpus(&VirtualSigstore::new(), &image.digest).into_iter().filter(|entry| entry.flaw.is_none());
    let (mut survivors, mut refused) = (BTreeMap::new(), 0_usize);
    for twin in twins {
        let judge = judging::judge(&judging::policy(&twin), &twin.trusted_root);
        assert_eq!(judging::verdict(&judge, &image, &twin), None, "{} is valid", twin.name);
        for (path, mutant) in mutants(&twin) {
            if judging::verdict(&judge, &image, &mutant).is_none() {
                survivors.entry(told(&twin, &path)).or_insert_with(Vec::new).push(mutant.name.clone());
            } else {
                refused += 1;
            }
        }
    }
    assert!(refused > 500, "{refused} mutants were refused: too few were made");
    let lines = SURVIVORS.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let place = |line: &'static str| line.split_once(" : ").unwrap_or_else(|| panic!("no explanation: {line}")).0;
    let (sometimes, always): (BTreeSet<&str>, BTreeSet<&str>) =
        lines.map(place).partition(|place| place.starts_with("sometimes "));
    let explained = |path: &str| always.contains(path) || sometimes.contains(format!("sometimes {path}").as_str());
    let unexplained: Vec<_> = survivors.iter().filter(|(path, _)| !explained(path)).collect();
    let stale: Vec<_> = always.iter().filter(|place| !survivors.contains_key(**place)).collect();
    assert!(
        unexplained.is_empty() && stale.is_empty(),
        "survived, and not explained: {unexplained:#?}\nexplained, and survived nothing: {stale:#?}"
    );
}

/// `legacy annotation dev.sigstore.cosign/chain`, `bundle /dsseEnvelope/signatures/0/keyid`: the same for every shape of the layout.
fn told(twin: &CorpusEntry, path: &str) -> String {
    let layout = match twin.shape.layout {
        Layout::Legacy => "legacy",
        Layout::Bundle => "bundle",
    };
    let log = if twin.name.contains("rekor2") { " (Rekor v2)" } else { "" };
    format!("{layout}{log} {path}")
}

/// Each with where it was changed.
fn mutants(twin: &CorpusEntry) -> Vec<(String, CorpusEntry)> {
    let mut mutants = Vec::new();
    let document: Value = serde_json::from_slice(&twin.payload).unwrap();
    for (pointer, text) in texts(&document) {
        for (place, changed) in changes(&text) {
            let mut document = document.clone();
            *document.pointer_mut(&pointer).unwrap() = Value::from(changed);
            let payload = document.to_string().into_bytes();
            let name = format!("{}, its {place} character", twin.name);
            mutants.push((pointer.clone(), CorpusEntry { name, payload, ..twin.clone() }));
        }
    }
    for (name, value) in &twin.annotations {
        let mut with = |path: String, place: &str, value: String| {
            let mut annotations = twin.annotations.clone();
            annotations.insert(name.clone(), value);
            let name = format!("{}, its {place} character", twin.name);
            mutants.push((path, CorpusEntry { name, annotations, ..twin.clone() }));
        };
        for (place, changed) in changes(value) {
            with(format!("annotation {name}"), place, changed);
        }
        let Ok(document) = serde_json::from_str::<Value>(value) else { continue };
        for (pointer, text) in texts(&document) {
            for (place, changed) in changes(&text) {
                let mut document = document.clone();
                *document.pointer_mut(&pointer).unwrap() = Value::from(changed);
                with(format!("annotation {name} {pointer}"), place, document.to_string());
            }
        }
    }
    mutants
}

/// Every text of a document with its JSON pointer.
fn texts(document: &Value) -> Vec<(String, String)> {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match document {
        Value::String(text) => vec![(String::new(), text.clone())],
        Value::Array(items) => {
            let below = |(index, item): (usize, &Value)| {
                texts(item).into_iter().map(move |(path, text)| (format!("/{index}{path}"), text))
            };
            items.iter().enumerate().flat_map(below).collect()
        }
        Value::Object(members) => {
            let below = |(key, item): (&String, &Value)| {
                let key = escaped(key);
                texts(item).into_iter().map(move |(path, text)| (format!("/{key}{path}"), text))
            };
            members.iter().flat_map(below).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// The text with its first, its middle, and its last character another of the same kind; none of an empty text.
fn changes(text: &str) -> Vec<(&'static str, String)> {
    let characters: Vec<char> = text.chars().collect();
    if characters.is_empty() {
        return Vec::new();
    }
    let change = |(name, place): (&'static str, usize)| {
        let mut changed = characters.clone();
        changed[place] = other(changed[place]);
        (name, changed.into_iter().collect::<String>())
    };
    [("first", 0), ("middle", characters.len() / 2), ("last", characters.len() - 1)].into_iter().map(change).collect()
}

fn other(character: char) -> char {
    match character {
        '9' => '8',
        'z' => 'y',
        'Z' => 'Y',
        '0'..='8' | 'a'..='y' | 'A'..='Y' => char::from(character as u8 + 1),
        _ => 'x',
    }
}

//! Guards of tags: annotations under `pratique.dev/` that act where a tag is resolved.

use std::{collections::BTreeSet, time::Duration};

use super::{
    field::{Field, listed},
    report::{Report, shown},
};
use crate::{
    authority::{Authority, AuthorityKind},
    guard::{Guards, Level},
    policy_set::Mode,
};

pub(super) const KNOWN: [&str; 6] = [ROLLBACK, MAX_AGE, MIN_AGE, BIND_NAME, ALIASES, ON_REFUSAL];

const ROLLBACK: &str = "rollback";
const MAX_AGE: &str = "max-age";
const MIN_AGE: &str = "min-age";
const BIND_NAME: &str = "bind-name";
const ALIASES: &str = "bind-name-aliases";
const ON_REFUSAL: &str = "on-refusal";

const LEVELS: [&str; 3] = ["allow", "warn", "deny"];

/// Guards, and the annotations that ask for them.
#[derive(Default)]
pub(super) struct Written<'n> {
    pub(super) guards: Guards,
    fields: Vec<(&'static str, Field<'n>)>,
}

impl<'n> Written<'n> {
    /// Reads one of the guards. Whether it asks when the image was signed.
    pub(super) fn read(&mut self, name: &'static str, field: &Field<'n>, report: &mut Report) -> bool {
        self.fields.push((name, field.clone()));
        let guards = &mut self.guards;
        match name {
            ROLLBACK => set(&mut guards.rollback, word(field, &LEVELS, report).and_then(level)),
            MAX_AGE => set(&mut guards.max_age, age(field, report).map(Some)),
            MIN_AGE => set(&mut guards.min_age, age(field, report).map(Some)),
            BIND_NAME => set(&mut guards.bind_name, word(field, &["off", "warn", "deny"], report).and_then(level)),
            ALIASES => set(&mut guards.aliases, aliases(field, report)),
            _ => {
                set(&mut guards.last_good, word(field, &["deny", "last-good"], report).map(|word| word == "last-good"))
            }
        }
        match name {
            ROLLBACK => guards.rollback != Level::Pass,
            MAX_AGE | MIN_AGE => true,
            _ => false,
        }
    }

    /// Checks that the guards of one policy make sense together, and tells what they weaken.
    pub(super) fn check(&self, mode: Option<Mode>, report: &mut Report) {
        let Guards { max_age, min_age, bind_name, .. } = self.guards;
        if let (Some(field), Some(max), Some(min)) = (self.field(MAX_AGE), max_age, min_age)
            && max <= min
        {
            let what = "is not longer than min-age: no image would ever be of an age between them";
            field.error(report, what, Some("raise max-age, or lower min-age"));
        }
        if bind_name == Level::Pass {
            if let Some(field) = self.field(ALIASES) {
                let what = "stands beside bind-name: off, and names nothing that is compared";
                field.error(report, what, Some("take it out, or set bind-name to warn or deny"));
            }
            if let Some(field) = self.field(BIND_NAME) {
                let what = "off: a tag may lead to any image of the same signer, whatever its name";
                report.weakened(field.line, &field.path, what);
            }
        }
        if mode == Some(Mode::Warn)
            && let Some((_, field)) = self.fields.iter().find(|(name, _)| *name != ALIASES && *name != ON_REFUSAL)
        {
            report.note(field.line, &field.path, "guards of a policy with mode: warn only warn");
        }
    }

    /// Tells where a key's signatures are asked when they were made. A certificate is good for minutes; a key signature can be logged, or
    /// stamped, at any later time, and by anybody: that only says that it is no younger.
    pub(super) fn check_dates(&self, authorities: &[Authority], report: &mut Report) {
        if !authorities.iter().any(|authority| matches!(authority.kind, AuthorityKind::Key(_))) {
            return;
        }
        let rollback = self.field(ROLLBACK).filter(|_| self.guards.rollback != Level::Pass);
        for field in rollback.into_iter().chain(self.field(MAX_AGE)) {
            let what = "stands beside a key: whoever reaches the log or the timestamp authority can date its old signatures anew";
            report.weakened(field.line, &field.path, what);
        }
    }

    fn field(&self, name: &str) -> Option<&Field<'n>> {
        self.fields.iter().find(|(of, _)| *of == name).map(|(_, field)| field)
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn level(word: &str) -> Option<Level> {
    match word {
        "allow" | "off" => Some(Level::Pass),
        "warn" => Some(Level::Warn),
        "deny" => Some(Level::Deny),
        _ => None,
    }
}

/// One of these words, exactly.
fn word<'n>(field: &Field<'n>, words: &[&'static str], report: &mut Report) -> Option<&'n str> {
    let written = field.text_if_any();
    if let Some(word) = written.filter(|written| words.contains(written)) {
        return Some(word);
    }
    let seen = written.map_or_else(|| "no text".to_owned(), shown);
    let hint = match written {
        None => "write it in quotes: the values of annotations are texts",
        Some(_) => "write one of them, or leave the annotation out",
    };
    field.error(report, format!("is {seen}; expected {}", listed(words)), Some(hint));
    None
}

/// A duration as configuration files have it, above zero.
fn age(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    let written = field.text_if_any();
    let age = written.and_then(config::parse_duration).filter(|age| !age.is_zero());
    if age.is_none() {
        let seen = written.map_or_else(|| "no text".to_owned(), shown);
        let what = format!("is {seen}; expected a duration above zero such as \"24h\" or \"30d\"");
        field.error(report, what, Some("write a whole number and its unit: ms, s, m, h, d or w"));
    }
    age
}

/// `repository=signed` pairs with commas between them: last path segments both. A repository may have several, each once.
fn aliases(field: &Field<'_>, report: &mut Report) -> Option<BTreeSet<(String, String)>> {
    let hint = "write it as web=nginx,proxy=envoy: last path segments, no spaces, each pair once";
    let mut aliases = BTreeSet::new();
    let is_segment = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    for pair in field.text(report)?.split(',') {
        let pair_of = pair.split_once('=').filter(|(own, signed)| is_segment(own) && is_segment(signed));
        let Some((own, signed)) = pair_of else {
            let what = format!("holds {}; expected repository=signed, with commas between several", shown(pair));
            field.error(report, what, Some(hint));
            return None;
        };
        if own == signed {
            field.error(report, format!("holds {}, which is so without it", shown(pair)), Some("take that pair out"));
            return None;
        }
        if !aliases.insert((own.to_owned(), signed.to_owned())) {
            field.error(report, format!("holds {} twice", shown(pair)), Some(hint));
            return None;
        }
    }
    Some(aliases)
}

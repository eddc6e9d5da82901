//! `policy check`: everything that is wrong in policy files. Asks neither store nor upstream.

use config::{Settings, TrustRootSource};
use policy::{
    Judge, JudgeError, LoadContext, LoadErrors, PolicySet, RegoBounds, SourceText, TrustRoot, VerdictLifetimes,
};

use super::{
    answer::{Checked, Flaw},
    request::PolicyText,
};
use crate::error::chain;

/// Loads policies as they would be in force, keys included, beside flaws of files that could not be read.
#[must_use]
pub fn check(settings: &Settings, policies: &[PolicyText], unread: Vec<Flaw>) -> Checked {
    let files = policies.iter().map(|it| it.name.clone()).collect();
    let mut checked = Checked { files, policies: Vec::new(), notes: Vec::new(), errors: unread };
    if policies.is_empty() && !checked.errors.is_empty() {
        return checked;
    }
    let sources: Vec<_> =
        policies.iter().map(|it| SourceText { name: it.name.clone(), text: it.text.clone() }).collect();
    let upstreams: Vec<_> = settings.upstreams.iter().map(|upstream| upstream.name.clone()).collect();
    let context = LoadContext {
        upstreams: &upstreams,
        no_match: crate::app::no_match(settings.policy.no_match),
        custom_trust_root: matches!(settings.policy.trust_root, TrustRootSource::File(_)),
    };
    match PolicySet::load(&sources, &context) {
        Err(errors) => checked.errors.extend(flaws(&errors)),
        Ok(loaded) => {
            let names = loaded.set.policies().iter().map(|policy| policy.name().to_owned()).collect();
            match usable(settings, loaded.set) {
                Ok(()) => (checked.policies, checked.notes) = (names, loaded.notes),
                Err(error) => checked.errors.push(Flaw::whole(chain(&error))),
            }
        }
    }
    checked
}

/// Which root verifies makes no difference to which keys can be used.
fn usable(settings: &Settings, set: PolicySet) -> Result<(), JudgeError> {
    let lifetimes = VerdictLifetimes {
        absent_ttl: settings.verdicts.absent_ttl,
        refused_ttl: settings.verdicts.refused_ttl,
        clock_ttl: settings.verdicts.clock_ttl,
        trust_root_ends: None,
    };
    let bounds =
        RegoBounds { timeout: settings.limits.rego_timeout, input_bytes_max: settings.limits.rego_input_bytes_max };
    Judge::new(set, &TrustRoot::public_good(), lifetimes, bounds).map(drop)
}

fn flaws(errors: &LoadErrors) -> Vec<Flaw> {
    let flaw = |error: &policy::LoadError| Flaw {
        file: error.place.file.to_string(),
        line: error.place.line,
        field: error.field.clone(),
        what: error.what.clone(),
        hint: error.hint.clone(),
    };
    errors.iter().map(flaw).collect()
}

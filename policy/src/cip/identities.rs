//! Identities: issuer and subject of a certificate, each exact or by pattern.

use super::{
    field::{Field, Mapping, Schema},
    report::{Report, shown},
};
use crate::identity::{Identity, Pattern, PatternError, WholeMatch};

const IDENTITY: Schema =
    Schema { known: &["issuer", "issuerRegExp", "subject", "subjectRegExp"], refused: &[], ignored: &[] };

/// Reads the list; `None` where no identity is sound.
pub(super) fn read(list: &Field<'_>, report: &mut Report) -> Option<Vec<Identity>> {
    let items = list.list(report, "identity");
    let identities: Vec<_> = items.iter().filter_map(|item| identity(item, report)).collect();
    (!identities.is_empty()).then_some(identities)
}

fn identity(field: &Field<'_>, report: &mut Report) -> Option<Identity> {
    let mapping = field.mapping(report, &IDENTITY)?;
    let issuer = half(&mapping, &["issuer", "issuerRegExp"], report);
    let subject = half(&mapping, &["subject", "subjectRegExp"], report);
    Some(Identity { issuer: issuer?, subject: subject? })
}

fn half(identity: &Mapping<'_>, keys: &[&'static str; 2], report: &mut Report) -> Option<Pattern> {
    let (key, field) = identity.exactly_one(report, keys)?;
    let written = field.text(report)?;
    if !key.ends_with("RegExp") {
        return Some(Pattern::Exact(written.to_owned()));
    }
    match WholeMatch::parse(written) {
        Ok(regex) => {
            if regex.is_looser_in_cluster() {
                let what = format!(
                    "{} must match from first to last character here; the controller also accepts what holds it",
                    shown(written)
                );
                report.note(field.line, &field.path, &what);
            }
            Some(Pattern::Regex(regex))
        }
        Err(error) => {
            let hint = match &error {
                PatternError::DoesNotParse { .. } => "it is read as RE2, as the controller does".to_owned(),
                PatternError::Differs { instead, .. } => format!("write {instead}"),
                PatternError::TooLarge { .. } => "write a shorter one, or several identities".to_owned(),
            };
            field.error(report, format!("{error}, in {}", shown(written)), Some(&hint));
            None
        }
    }
}

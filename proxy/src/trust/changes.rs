//! How one trust root differs from another, in the authorities and logs that they name.

use std::fmt;

use oci::UnixTime;
use policy::{TrustAnchor, TrustRoot};

/// One authority or log that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the later one names it.
    Added(TrustAnchor),
    /// Only the earlier one names it.
    Removed(TrustAnchor),
    /// Both name it, for other times.
    Moved {
        /// In the earlier one.
        before: TrustAnchor,
        /// In the later one.
        after: TrustAnchor,
    },
}

impl Change {
    /// Whether the later trust root looks like the earlier of the two: published ones gain authorities and close their times, and
    /// neither lose nor reopen one, but where trust is withdrawn.
    pub(super) fn is_backwards(&self) -> bool {
        match self {
            Self::Added(_) => false,
            Self::Removed(_) => true,
            Self::Moved { before, after } => {
                before.until.is_some_and(|end| after.until.is_none_or(|later| later > end))
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(anchor) => write!(f, "+ {}", Told(anchor)),
            Self::Removed(anchor) => write!(f, "- {}", Told(anchor)),
            Self::Moved { before, after } => write!(f, "~ {}, was {}", Told(after), Window(before)),
        }
    }
}

struct Told<'a>(&'a TrustAnchor);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.id.get(..12).unwrap_or(&self.0.id);
        write!(f, "{} {} ({id}…), {}", self.0.kind.as_str(), self.0.name, Window(self.0))
    }
}

struct Window<'a>(&'a TrustAnchor);

impl fmt::Display for Window<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |time: Option<UnixTime>, open: &str| time.map_or_else(|| open.to_owned(), |time| time.to_string());
        write!(f, "{} to {}", told(self.0.from, "the beginning"), told(self.0.until, "further notice"))
    }
}

/// What `after` says otherwise than `before`, in the order of `after`, then what it does not name.
#[must_use]
pub fn changes(before: &TrustRoot, after: &TrustRoot) -> Vec<Change> {
    between(&before.describe(), &after.describe())
}

fn between(before: &[TrustAnchor], after: &[TrustAnchor]) -> Vec<Change> {
    let same = |a: &TrustAnchor, b: &TrustAnchor| (a.kind, &a.id) == (b.kind, &b.id);
    let mut changes = Vec::new();
    for anchor in after {
        match before.iter().find(|former| same(former, anchor)) {
            None => changes.push(Change::Added(anchor.clone())),
            Some(former) if (former.from, former.until) != (anchor.from, anchor.until) => {
                changes.push(Change::Moved { before: former.clone(), after: anchor.clone() });
            }
            Some(_) => {}
        }
    }
    let gone = before.iter().filter(|former| !after.iter().any(|anchor| same(former, anchor)));
    changes.extend(gone.cloned().map(Change::Removed));
    changes
}

#[cfg(test)]
mod tests {
    use policy::AnchorKind;

    use super::*;

    fn anchor(id: &str, until: Option<u64>) -> TrustAnchor {
        TrustAnchor {
            kind: AnchorKind::TransparencyLog,
            name: format!("https://{id}.example"),
            id: id.to_owned(),
            from: Some(UnixTime::from_millis(0)),
            until: until.map(|day| UnixTime::from_millis(day * 86_400_000)),
        }
    }

    #[test]
    fn additions_and_ends_lead_forwards_losses_and_reopenings_back() {
        let (early, late) = ([anchor("a", None)], [anchor("a", Some(1)), anchor("b", None)]);
        let forwards = between(&early, &late);
        assert_eq!(
            forwards.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "~ transparency log https://a.example (a…), 1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z, was 1970-01-01T00:00:00Z to further notice",
                "+ transparency log https://b.example (b…), 1970-01-01T00:00:00Z to further notice",
            ]
        );
        assert!(!forwards.iter().any(Change::is_backwards));
        let backwards = between(&late, &early);
        assert_eq!(backwards.len(), 2);
        assert!(backwards.iter().all(Change::is_backwards), "{backwards:?}");
        assert!(between(&[anchor("a", Some(1))], &[anchor("a", Some(2))]).iter().all(Change::is_backwards));
        assert_eq!(between(&late, &late), []);
    }
}

//! Guards: what a policy asks where a tag is resolved. They compare what the tag leads to with where it has led, and never enter a verdict:
//! by digest an image is judged by policy alone.

use std::{collections::BTreeSet, fmt, time::Duration};

use oci::{Digest, Repository, Tag, UnixTime};

use crate::{
    policy_set::{Mode, Policy},
    record::PolicyFinding,
    refusal::{bounded, told},
};

/// What a policy asks of tags: annotations `pratique.dev/rollback`, `max-age`, `min-age`, `bind-name`, `bind-name-aliases`, `on-refusal`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guards {
    /// The tag leads to an image that was signed before what it has led to.
    pub rollback: Level,
    /// Longest time since the image was signed.
    pub max_age: Option<Duration>,
    /// Shortest time since the image was signed.
    pub min_age: Option<Duration>,
    /// The image was signed under another name than its repository's.
    pub bind_name: Level,
    /// Repository's last segment, and as what else its images are signed.
    pub aliases: BTreeSet<(String, String)>,
    /// Where the image is refused, the last good one is served in its place.
    pub last_good: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            rollback: Level::Pass,
            max_age: None,
            min_age: None,
            bind_name: Level::Warn,
            aliases: BTreeSet::new(),
            last_good: false,
        }
    }
}

/// What a guard does with what it meets. The strictest is the last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    Pass,
    /// It is served, with a warning.
    Warn,
    /// It is not served.
    Deny,
}

/// Which guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// Against images that are older than what was served.
    Rollback,
    /// Against images that are too old.
    MaxAge,
    /// Against images that are too fresh.
    MinAge,
    /// Against images of another name.
    BindName,
}

impl Guard {
    /// As policies spell it, and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::MaxAge => "max-age",
            Self::MinAge => "min-age",
            Self::BindName => "bind-name",
        }
    }

    /// What it met, as responses tell it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Rollback => "rolled-back",
            Self::MaxAge => "frozen",
            Self::MinAge => "too-fresh",
            Self::BindName => "renamed",
        }
    }
}

/// The guards of all policies that govern one image, with what they compare that does not change: names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagGuards {
    /// Only those that could ever meet anything.
    guarding: Vec<Guarding>,
    last_good: bool,
}

/// The guards of one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Guarding {
    policy: String,
    mode: Mode,
    /// When the image was signed by the evidence that satisfied this policy. What satisfied another says nothing to it of how fresh an
    /// image is, and cannot stand in where this one knows no time.
    signed_at: Option<UnixTime>,
    rollback: Level,
    max_age: Option<Duration>,
    min_age: Option<Duration>,
    /// As what the image was signed, where that is not the repository's name.
    renamed: Option<(Level, String)>,
}

/// An image that a tag leads to, or led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dated<'a> {
    /// The image.
    pub digest: &'a Digest,
    /// When it was signed, on trusted word: the earliest time of all that let it in.
    pub signed_at: Option<UnixTime>,
}

/// A tag, and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Led<'a> {
    /// The tag's repository.
    pub repository: &'a Repository,
    /// The tag.
    pub tag: &'a Tag,
    /// Where it leads now.
    pub image: Dated<'a>,
    /// What was signed last of all that was ever served under it, and when that was.
    pub newest: Option<(&'a Digest, UnixTime)>,
}

/// What the guards have met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guarded {
    /// Why the tag is not followed.
    pub refusal: Option<TagRefusal>,
    /// What is to be told with the image, one line each.
    pub warnings: Vec<String>,
    /// Each guard that met something, once, by the strictest of all policies.
    pub met: Vec<(Guard, Level)>,
}

/// A decision not to follow a tag. The response, the log and `explain` tell it from this one record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TagRefusal {
    /// The tag's repository.
    pub repository: Repository,
    /// The tag.
    pub tag: Tag,
    /// Where it leads.
    pub digest: Digest,
    /// When that was signed, on trusted word.
    pub signed_at: Option<UnixTime>,
    /// What was signed last of all that was ever served under it, and when that was.
    pub newest: Option<(Digest, UnixTime)>,
    /// The policy whose guard it is.
    pub policy: String,
    /// The guard.
    pub guard: Guard,
    /// One complete line. Foreign text in it is escaped and bounded.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl TagGuards {
    /// The guards of `policies` over an image about which `findings` were made.
    pub(crate) fn of<'f>(
        policies: &[&Policy],
        repository: &Repository,
        findings: &(impl Iterator<Item = &'f PolicyFinding> + Clone),
    ) -> Self {
        let own = last_segment(repository.path().as_str());
        let guarding = policies.iter().filter_map(|policy| {
            let guards = policy.guards();
            let renamed = if guards.bind_name == Level::Pass {
                None
            } else {
                let names = found_by(policy.name(), findings.clone()).flat_map(PolicyFinding::pieces);
                other_name(own, &guards.aliases, names.flat_map(|piece| piece.names.iter().map(String::as_str)))
            };
            let renamed = renamed.map(|name| (guards.bind_name, name.to_owned()));
            let Guards { rollback, max_age, min_age, .. } = *guards;
            let acts = rollback != Level::Pass || max_age.is_some() || min_age.is_some() || renamed.is_some();
            let signed_at = found_by(policy.name(), findings.clone()).filter_map(PolicyFinding::signed_at).min();
            let (policy, mode) = (policy.name().to_owned(), policy.mode());
            acts.then_some(Guarding { policy, mode, signed_at, rollback, max_age, min_age, renamed })
        });
        let last_good = !policies.is_empty() && policies.iter().all(|policy| policy.guards().last_good);
        Self { guarding: guarding.collect(), last_good }
    }

    /// Whether the last good image is served in place of one that is refused. Every policy has to say so.
    #[must_use]
    pub fn keep_last_good(&self) -> bool {
        self.last_good
    }

    /// What is to be done with an image under a tag that cannot be remembered: an older one could come after it, and nobody would know; or
    /// nothing could stand in for it.
    #[must_use]
    pub fn unremembered(&self) -> Level {
        let level = |guarding: &Guarding| match guarding.mode {
            Mode::Warn => guarding.rollback.min(Level::Warn),
            Mode::Enforce => guarding.rollback,
        };
        let least = if self.last_good { Level::Warn } else { Level::Pass };
        self.guarding.iter().map(level).max().map_or(least, |level| level.max(least))
    }

    /// About how many bytes of memory they hold.
    pub(crate) fn held_bytes(&self) -> usize {
        self.guarding.len() * 512
    }

    /// Looks at where a tag leads. Each policy's guards look on their own, and the strictest outcome holds; those of a policy that only
    /// warns only warn. `exempt` is not asked: the last good image is older by nature.
    #[must_use]
    pub fn look(&self, led: &Led<'_>, now: UnixTime, exempt: Option<Guard>) -> Guarded {
        let mut guarded = Guarded::default();
        for guarding in &self.guarding {
            for (guard, level, clause) in guarding.meet(led, now) {
                if exempt == Some(guard) {
                    continue;
                }
                let level = if guarding.mode == Mode::Warn { level.min(Level::Warn) } else { level };
                guarded.note(guard, level);
                let tag = format!("tag {}:{}", led.repository, led.tag);
                let whose = format!("policy {}", told(&guarding.policy));
                match level {
                    Level::Pass => {}
                    Level::Warn => guarded.warnings.push(bounded(format!("{tag} {clause} ({whose})"))),
                    Level::Deny if guarded.refusal.is_some() => {}
                    Level::Deny => {
                        let message = bounded(format!("refused by {whose}: {tag} {clause}"));
                        guarded.refusal = Some(led.refusal(&guarding.policy, guard, message));
                    }
                }
            }
        }
        // Where no policy guards against it, it is told to metrics all the same.
        if exempt != Some(Guard::Rollback)
            && led.is_rollback()
            && !guarded.met.iter().any(|(it, _)| *it == Guard::Rollback)
        {
            guarded.note(Guard::Rollback, Level::Pass);
        }
        guarded
    }
}

impl Guarded {
    fn note(&mut self, guard: Guard, level: Level) {
        match self.met.iter_mut().find(|(met, _)| *met == guard) {
            Some((_, strictest)) => *strictest = level.max(*strictest),
            None => self.met.push((guard, level)),
        }
    }
}

impl Guarding {
    /// What these guards meet, each with one clause that follows the tag.
    fn meet(&self, led: &Led<'_>, now: UnixTime) -> impl Iterator<Item = (Guard, Level, String)> {
        let digest = led.image.digest;
        // The earliest of all, where this policy knows one itself.
        let signed_at = self.signed_at.map(|own| led.image.signed_at.map_or(own, |all| all.min(own)));
        let undated = |guard: Guard| {
            format!("leads to {digest}, of which no signed time is known (pratique.dev/{})", guard.as_str())
        };
        let newest = || match led.newest {
            Some((digest, at)) => format!("; the newest it has led to is {digest}, signed {at}"),
            None => String::new(),
        };
        let rollback = (self.rollback != Level::Pass && led.newest.is_none_or(|(newest, _)| newest != digest))
            .then(|| match (signed_at, led.newest) {
                (None, _) => Some(format!("{}{}", undated(Guard::Rollback), newest())),
                (Some(at), Some((newest, then))) if at < then => Some(format!(
                    "leads back to {digest}, signed {at}; it has led to {newest}, signed {then} (pratique.dev/rollback)"
                )),
                (Some(_), _) => None,
            })
            .flatten()
            .map(|clause| (Guard::Rollback, self.rollback, clause));
        let max_age = self.max_age.and_then(|max| match signed_at {
            None => Some(undated(Guard::MaxAge)),
            Some(at) => now.since(at).is_some_and(|age| age > max).then(|| {
                let max = duration(max);
                format!("leads to {digest}, signed {at}, more than {max} ago (pratique.dev/max-age){}", newest())
            }),
        });
        let min_age = self.min_age.and_then(|min| match self.signed_at {
            None => Some(undated(Guard::MinAge)),
            // One that is signed later than now has no age.
            Some(at) => now.since(at).is_none_or(|age| age < min).then(|| {
                let min = duration(min);
                format!("leads to {digest}, signed {at}, less than {min} ago (pratique.dev/min-age){}", newest())
            }),
        });
        let bind_name = self.renamed.as_ref().map(|(level, name)| {
            let clause = format!("leads to {digest}, which was signed as \"{}\" (pratique.dev/bind-name)", told(name));
            (Guard::BindName, *level, clause)
        });
        let aged = |guard| move |clause| (guard, Level::Deny, clause);
        rollback
            .into_iter()
            .chain(max_age.map(aged(Guard::MaxAge)))
            .chain(min_age.map(aged(Guard::MinAge)))
            .chain(bind_name)
    }
}

impl Led<'_> {
    /// Whether it is known to lead to something older than it has.
    fn is_rollback(&self) -> bool {
        match (self.image.signed_at, self.newest) {
            (Some(at), Some((newest, then))) => at < then && newest != self.image.digest,
            (None, _) | (_, None) => false,
        }
    }

    fn refusal(&self, policy: &str, guard: Guard, message: String) -> TagRefusal {
        let hint = match guard {
            Guard::Rollback => format!(
                "pull by digest to take it anyway; if it is meant, pratique cache forget-newest {}:{}",
                self.repository, self.tag
            ),
            Guard::MaxAge | Guard::MinAge | Guard::BindName => "pull by digest to take it anyway".to_owned(),
        };
        TagRefusal {
            repository: self.repository.clone(),
            tag: self.tag.clone(),
            digest: self.image.digest.clone(),
            signed_at: self.image.signed_at,
            newest: self.newest.map(|(digest, at)| (digest.clone(), at)),
            policy: policy.to_owned(),
            guard,
            message,
            hint,
        }
    }
}

/// What this policy found.
fn found_by<'f>(
    policy: &str,
    findings: impl Iterator<Item = &'f PolicyFinding>,
) -> impl Iterator<Item = &'f PolicyFinding> {
    findings.filter(move |finding| finding.policy.as_deref() == Some(policy))
}

/// The first name, where there are some and none is the repository's.
fn other_name<'n>(
    own: &str,
    aliases: &BTreeSet<(String, String)>,
    names: impl Iterator<Item = &'n str>,
) -> Option<&'n str> {
    let mut first = None;
    for name in names {
        // What is named by a digest, its own or that of an index above it, has no name.
        if name.parse::<Digest>().is_ok() || format!("sha256:{name}").parse::<Digest>().is_ok() {
            continue;
        }
        let signed = last_segment(name);
        if signed == own || aliases.contains(&(own.to_owned(), signed.to_owned())) {
            return None;
        }
        first.get_or_insert(name);
    }
    first
}

/// `nginx` of `cgr.dev/chainguard/nginx:latest@sha256:…` and of `pkg:oci/nginx?repository_url=…`.
fn last_segment(name: &str) -> &str {
    let name = name.split(['?', '#', '@']).next().unwrap_or_default();
    let segment = name.rsplit('/').next().unwrap_or_default();
    segment.split(':').next().unwrap_or_default()
}

/// A duration as an operator writes it, in its largest whole unit.
fn duration(duration: Duration) -> impl fmt::Display {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let (unit, name) = units.into_iter().find(|(unit, _)| millis.is_multiple_of(*unit)).unwrap_or((1, "ms"));
    format!("{}{name}", millis / unit)
}

#[cfg(test)]
mod tests;

//! What a tag is answered with: the image it leads to, where policy and the guards of tags let it, else the last good one.
//!
//! ```text
//! tag ── resolve ──> digest ── entry ──> Image ── guards, floor ──> served, written down
//!                                 │                    │ denied
//!                                 │ refused            ▼
//!                                 └────────────> last good, where every policy says so ──> 403 where none
//! ```

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use metrics::{counter, histogram};
use oci::{Digest, Repository, Tag, UnixTime};
use policy::{Admitted, Dated, EvidenceLink, Guard, Guarded, Led, Level, Manifest};
use storage::{Change, Snapshot, StoreError, TagEvent, TagLook, TagServed, TagTarget};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::sleep,
};

use super::{Admission, Effort, Entry};
use crate::{
    app::InForce,
    error::ApiError,
    evidence_tag::subject_of,
    memory::Memory,
    patience::{AFTER_THE_GATE, Patience},
};

/// What is served under a tag, and what is to be told with it.
pub struct Tagged {
    /// The image, or evidence.
    pub entry: Entry,
    /// In plain text.
    pub warnings: Vec<String>,
}

/// What is known of where tags have led.
pub(super) struct TagsLed {
    /// As it was when each tag was last answered from the store.
    known: Memory<Tag, Known>,
    /// One look at a time at each tag that writes down what it found: between reading how new a tag was and writing it nobody else does.
    turns: [Mutex<()>; TURNS],
    /// The same in every process, so that a simulation takes the same course again: who shares one of a few turns only waits for it.
    hasher: BuildHasherDefault<DefaultHasher>,
}

/// How new a tag was when it was answered with this image.
struct Known {
    digest: Digest,
    newest: Option<(Digest, UnixTime)>,
}

/// A power of two.
const TURNS: usize = 64;
/// The part of the memory for answers that is for this: a sixteenth.
const KNOWN_SHARE: u64 = 16;
/// Of one tag, in bytes.
const KNOWN_BYTES: usize = 256;

impl TagsLed {
    /// With its part of `bytes_max` bytes of memory.
    pub(super) fn new(bytes_max: u64) -> Self {
        let turns = std::array::from_fn(|_| Mutex::new(()));
        Self { known: Memory::new(bytes_max / KNOWN_SHARE), turns, hasher: BuildHasherDefault::new() }
    }

    async fn turn(&self, tag: &Place<'_>) -> Option<MutexGuard<'_, ()>> {
        let place = self.hasher.hash_one((tag.repository, tag.tag)) % TURNS as u64;
        match usize::try_from(place).ok().and_then(|place| self.turns.get(place)) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        }
    }
}

/// A tag in its repository.
#[derive(Clone, Copy)]
struct Place<'a> {
    repository: &'a Repository,
    tag: &'a Tag,
}

impl Admission {
    /// What a client finds under a tag, now that it has been resolved to `digest`.
    ///
    /// 1. A tag such as `sha256-<hex>.sig` leads to evidence of the subject that it names, unguarded, or to an image like any other.
    /// 2. The image is judged as by digest.
    /// 3. The guards of the policies that govern it look at where the tag has led before.
    /// 4. What is served is written down before it is answered, and so is what is not, once.
    /// 5. In place of what is refused, by policy or guard, the last good image is served where every policy says so. In place of what could
    ///    not be decided within `tags.wait`, the one that was served last, for as long as `tags.max_stale` lasts.
    ///
    /// # Errors
    /// As [`Admission::manifest`]; 403 where a guard denies; a subject that is refused refuses its evidence.
    pub async fn tagged(
        self: &Arc<Self>,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
        patience: Patience,
    ) -> Result<Tagged, ApiError> {
        let place = Place { repository, tag };
        let is_evidence = subject_of(tag).is_some();
        let wait = self.in_force.with(|now| now.settings.tags.wait).min(patience.rest() / 2);
        let look = self.settled(patience, |in_force| async move { self.tagged_under(&in_force, place, digest).await });
        let late = patience.and(AFTER_THE_GATE);
        let outcome = tokio::select! {
            biased;
            outcome = look => outcome,
            // Who can be given the one that was served last waits no longer than where upstream does not say what the tag means.
            Some(kept) = self.served_last(place, wait, late), if !is_evidence => return Ok(kept),
        };
        match outcome {
            Err(error @ (ApiError::Undecided { .. } | ApiError::RateLimited { .. })) if !is_evidence => {
                self.served_last(place, Duration::ZERO, late).await.ok_or(error)
            }
            outcome => outcome,
        }
    }

    /// What is served after so long in place of what could not be decided until then. Whatever comes in the way of it says less than what
    /// came before.
    async fn served_last(self: &Arc<Self>, place: Place<'_>, after: Duration, patience: Patience) -> Option<Tagged> {
        sleep(after).await;
        let look = |in_force| async move { self.while_undecided(&in_force, place).await };
        self.settled(patience, look).await.ok().flatten()
    }

    /// The numbers are those of [`Admission::tagged`].
    async fn tagged_under(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        place: Place<'_>,
        digest: &Digest,
    ) -> Result<Tagged, ApiError> {
        let Place { repository, tag } = place;
        // 1.
        if let Some(subject) = subject_of(tag) {
            let admitted = self.admitted(in_force, repository, &subject, 0, Effort::Upstream).await?;
            let manifest = self.fetch(in_force, repository, digest).await?;
            let links = [EvidenceLink::Tag(tag.clone())];
            let entry = match self.evidence_of(in_force, &admitted, &manifest, &links).await? {
                Some(evidence) => Entry::Evidence(evidence),
                None => self.entry(in_force, repository, digest).await?,
            };
            return Ok(Tagged { entry, warnings: Vec::new() });
        }
        // 2. While it was judged another may have been told that the tag has moved on: who asked is not led back.
        let mut entry = self.entry(in_force, repository, digest).await;
        let moved = self.meant(place)?.filter(|now| now != digest);
        if let Some(now) = &moved {
            entry = self.entry(in_force, repository, now).await;
        }
        let digest = moved.as_ref().unwrap_or(digest);
        let admitted = match entry {
            Ok(Entry::Image(admitted)) => admitted,
            // Nothing that could run.
            Ok(evidence @ Entry::Evidence(_)) => return Ok(Tagged { entry: evidence, warnings: Vec::new() }),
            Err(error @ ApiError::Refused(_)) => {
                let look = TagLook {
                    at: self.clock.now(),
                    served: false,
                    signed_at: None,
                    evidence: Vec::new(),
                    told: error.to_string(),
                };
                let turn = self.tags.turn(&place).await;
                let is_news = self.note(in_force, place, digest, look).await?;
                drop(turn);
                return self.in_place_of(in_force, place, digest, (error, is_news)).await;
            }
            Err(error) => return Err(error),
        };
        // 3. and 4.
        let (guarded, is_news) = self.led_to(in_force, place, &admitted).await?;
        match guarded.refusal {
            None => Ok(Tagged { entry: Entry::Image(admitted), warnings: guarded.warnings }),
            // 5.
            Some(refusal) => {
                self.in_place_of(in_force, place, digest, (ApiError::Led(Arc::new(refusal)), is_news)).await
            }
        }
    }

    /// What a tag is answered with, where all that it takes is in memory: the image, and guards that let it pass. `None` says nothing:
    /// [`Admission::tagged`] does.
    #[must_use]
    pub fn recalled_tag(
        &self,
        in_force: &InForce,
        repository: &Repository,
        tag: &Tag,
        digest: &Digest,
    ) -> Option<(Arc<Admitted<Manifest>>, Vec<String>)> {
        let known = self.tags.known.recall(repository, tag).filter(|known| known.value.digest == *digest)?;
        let admitted = self.recalled(in_force, repository, digest)?;
        let guarded = self.guarded(Place { repository, tag }, &admitted, known.value.newest.as_ref(), None);
        if guarded.refusal.is_some() {
            return None;
        }
        count(&guarded);
        Some((admitted, guarded.warnings))
    }

    /// How new a tag ever was does not count any more: where it leads next sets that anew. What it was until now, where it can be read.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_newest(&self, repository: &Repository, tag: &Tag) -> Result<Option<Digest>, ApiError> {
        let place = Place { repository, tag };
        let turn = self.tags.turn(&place).await;
        let newest = match self.store.facts().read()?.tag_served(repository, tag) {
            Ok(served) => served.and_then(|served| served.newest),
            // What nobody can read keeps the tag from being answered: this is the way out.
            Err(StoreError::FactUnreadable { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let change = Change::TagNewestGone { repository: repository.clone(), tag: tag.clone() };
        self.store.facts().apply(vec![change]).await?;
        self.tags.known.forget(&(repository, tag));
        drop(turn);
        Ok(newest.map(|(digest, _)| digest))
    }

    /// Asks the guards, and writes down what came of it. Whether that is news.
    async fn led_to(
        &self,
        in_force: &InForce,
        place: Place<'_>,
        admitted: &Arc<Admitted<Manifest>>,
    ) -> Result<(Guarded, bool), ApiError> {
        let Place { repository, tag } = place;
        let digest = admitted.digest();
        let turn = self.tags.turn(&place).await;
        let newest = self.served(place)?.newest;
        let mut guarded = self.guarded(place, admitted, newest.as_ref(), None);
        let told = match &guarded.refusal {
            Some(refusal) => refusal.message.clone(),
            None => guarded.warnings.join("; "),
        };
        let look = TagLook {
            at: self.clock.now(),
            served: guarded.refusal.is_none(),
            signed_at: admitted.signed_at(),
            evidence: admitted.evidence().into_iter().cloned().collect(),
            told,
        };
        let is_news = self.note(in_force, place, digest, look).await?;
        let since = self.tags.known.moment();
        if guarded.refusal.is_none() {
            let TagServed { newest, targets } = self.served(place)?;
            if targets.first().is_some_and(|target| target.digest == *digest) {
                let known = Known { digest: digest.clone(), newest };
                let rests_on = std::iter::once((repository, tag));
                self.tags.known.keep((repository, tag), known, (since, rests_on), KNOWN_BYTES);
            } else {
                guarded.warnings.extend(unremembered(place, admitted)?);
            }
        }
        drop(turn);
        count(&guarded);
        if guarded.refusal.is_none()
            && let Some(age) = admitted.signed_at().and_then(|at| self.clock.now().since(at))
        {
            histogram!("pratique_evidence_age_seconds").record(age.as_secs_f64());
        }
        if is_news {
            for warning in &guarded.warnings {
                tracing::warn!(%repository, %tag, %digest, "{warning}");
            }
        }
        Ok((guarded, is_news))
    }

    /// What the guards of the policies that govern an image meet where a tag leads to it.
    fn guarded(
        &self,
        Place { repository, tag }: Place<'_>,
        admitted: &Admitted<Manifest>,
        newest: Option<&(Digest, UnixTime)>,
        exempt: Option<Guard>,
    ) -> Guarded {
        let image = Dated { digest: admitted.digest(), signed_at: admitted.signed_at() };
        let newest = newest.map(|(digest, at)| (digest, *at));
        admitted.guards().look(&Led { repository, tag, image, newest }, self.clock.now(), exempt)
    }

    /// Whether a tag that was resolved to `digest` is known to mean another one now. A store that cannot be read has said so before.
    #[must_use]
    pub fn has_moved_on(&self, repository: &Repository, tag: &Tag, digest: &Digest) -> bool {
        self.meant(Place { repository, tag }).is_ok_and(|now| now.is_some_and(|now| now != *digest))
    }

    /// What a tag is known to mean.
    fn meant(&self, Place { repository, tag }: Place<'_>) -> Result<Option<Digest>, ApiError> {
        let fact = self.store.facts().read()?.tag(repository, tag)?;
        Ok(fact.filter(|fact| fact.gone_at.is_none()).map(|fact| fact.digest))
    }

    /// What was served under a tag. What cannot be read is an error, never nothing.
    fn served(&self, Place { repository, tag }: Place<'_>) -> Result<TagServed, ApiError> {
        Ok(self.store.facts().read()?.tag_served(repository, tag)?.unwrap_or_default())
    }

    /// Writes down how a tag is answered, where that is news. To be called in the tag's turn.
    async fn note(
        &self,
        in_force: &InForce,
        place: Place<'_>,
        digest: &Digest,
        look: TagLook,
    ) -> Result<bool, ApiError> {
        let (Place { repository, tag }, look) = (place, look.bounded());
        let facts = self.store.facts().read()?;
        // Of a tag beyond limits.tags_max nothing is known, and nothing is written down.
        let is_beyond = facts.tag(repository, tag)?.is_none() && facts.tag_served(repository, tag)?.is_none();
        if is_beyond || !is_news(&facts, place, digest, &look)? {
            return Ok(false);
        }
        drop(facts);
        let change =
            Change::TagLooked { repository: repository.clone(), tag: tag.clone(), digest: digest.clone(), look };
        // Before, too: who asked may leave while it is written.
        self.tags.known.forget(&(repository, tag));
        // What nobody is given any more sets no floor. Who asked looks again, under what is in force now.
        if self.in_force.with(|now| now.generation) != in_force.generation {
            return Err(ApiError::undecided("cannot decide: the policy was reloaded meanwhile"));
        }
        self.store.facts().apply(vec![change]).await?;
        self.tags.known.forget(&(repository, tag));
        Ok(true)
    }

    /// The last good image in place of one that is refused, where every policy that governs the refused one says so: of those that were
    /// served before, the last that is admitted now and passes every guard but the one against older ones; that one too, where one before
    /// it was passed over for what upstream may bring about. What cannot be decided is not passed over: not knowing is not no.
    async fn in_place_of(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        place: Place<'_>,
        refused: &Digest,
        (why, is_news): (ApiError, bool),
    ) -> Result<Tagged, ApiError> {
        let Place { repository, tag } = place;
        if !in_force.judge.tag_guards(repository, refused, &[]).keep_last_good() {
            return Err(why);
        }
        let TagServed { newest, targets } = self.served(place)?;
        let mut exempt = Some(Guard::Rollback);
        // The refused image itself may be the newest that was served.
        let itself = targets.iter().find(|target| target.digest == *refused);
        if matches!(why, ApiError::Refused(_))
            && let Some(itself) = itself
            && !self.is_refused_for_good(repository, itself)?
        {
            exempt = None;
        }
        for target in targets.iter().filter(|target| target.digest != *refused) {
            let admitted = match self.admitted(in_force, repository, &target.digest, 0, Effort::Upstream).await {
                Ok(admitted) => admitted,
                Err(ApiError::Refused(_)) => {
                    if !self.is_refused_for_good(repository, target)? {
                        exempt = None;
                    }
                    continue;
                }
                Err(ApiError::Unknown { .. } | ApiError::Wrong { .. }) => {
                    exempt = None;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let guarded = self.guarded(place, &admitted, newest.as_ref(), exempt);
            if guarded.refusal.is_some() {
                continue;
            }
            let digest = admitted.digest();
            let signed = admitted.signed_at().map_or_else(String::new, |at| format!(", signed {at}"));
            let warning = format!("tag kept at {digest}{signed}: {why}");
            counter!("pratique_tag_last_good_total", "outcome" => "served").increment(1);
            if is_news {
                tracing::warn!(%repository, %tag, %digest, %refused, "{warning}");
            }
            let warnings = std::iter::once(warning).chain(guarded.warnings).collect();
            return Ok(Tagged { entry: Entry::Image(admitted), warnings });
        }
        counter!("pratique_tag_last_good_total", "outcome" => "none").increment(1);
        Err(why)
    }

    /// Whether an image that was served under a tag is refused although all evidence is looked at by which it was let in. Any other refusal
    /// an upstream can bring about, that hides evidence or shows other in its place: who makes an older image the last good one by that
    /// would replay it.
    pub(crate) fn is_refused_for_good(&self, repository: &Repository, target: &TagTarget) -> Result<bool, ApiError> {
        self.evidence.is_whole_since(repository, &target.digest, target.served_at)
    }

    /// The image that was served last in place of one that could not be decided, and was never served: as where upstream does not say what
    /// the tag means, for as long as `tags.max_stale` after the tag was first seen to mean another than that: one undecidable image after
    /// another prolongs nothing.
    async fn while_undecided(
        self: &Arc<Self>,
        in_force: &Arc<InForce>,
        place: Place<'_>,
    ) -> Result<Option<Tagged>, ApiError> {
        let Place { repository, tag } = place;
        let TagServed { newest, targets } = self.served(place)?;
        let Some(target) = targets.first() else { return Ok(None) };
        let Some(undecided) = self.meant(place)?.filter(|meant| targets.iter().all(|target| target.digest != *meant))
        else {
            return Ok(None);
        };
        let facts = self.store.facts().read()?;
        let is_young =
            |at: &UnixTime| self.clock.now().since(*at).is_some_and(|age| age < in_force.settings.tags.max_stale);
        let left_at = left_at(&facts.tag_history(repository, tag)?, &target.digest).filter(is_young);
        drop(facts);
        let Some(left_at) = left_at else { return Ok(None) };
        let admitted = self.admitted(in_force, repository, &target.digest, 0, Effort::Settled).await?;
        let guarded = self.guarded(place, &admitted, newest.as_ref(), None);
        if guarded.refusal.is_some() {
            return Ok(None);
        }
        let digest = admitted.digest();
        let warning = format!("tag as of before {left_at}: cannot decide on {undecided}");
        counter!("pratique_tag_lookups_total", "outcome" => "undecided-stale").increment(1);
        tracing::warn!(%repository, %tag, %digest, %undecided, "{warning}");
        let warnings = std::iter::once(warning).chain(guarded.warnings).collect();
        Ok(Some(Tagged { entry: Entry::Image(admitted), warnings }))
    }
}

/// When a tag that means something else now was first seen not to mean this any more; none where its history, the newest first, does not
/// reach back so far.
fn left_at(history: &[TagEvent], digest: &Digest) -> Option<UnixTime> {
    let last = history.iter().position(|event| event.digest == *digest)?;
    history.get(last.checked_sub(1)?).map(|event| event.at)
}

/// What is told with an image under a tag that was not written down, as too many are known.
fn unremembered(
    Place { repository, tag }: Place<'_>,
    admitted: &Admitted<Manifest>,
) -> Result<Option<String>, ApiError> {
    let line = || format!("tag {repository}:{tag} is not remembered: as many are known as may be (limits.tags_max)");
    match admitted.guards().unremembered() {
        Level::Pass => Ok(None),
        Level::Warn => Ok(Some(line())),
        // Where it has led before is what its guard looks at.
        Level::Deny => Err(ApiError::undecided(format!("cannot decide: {}; pull by digest", line()))),
    }
}

/// Whether a look says what the last one with that meaning did not: another outcome, or other evidence; or another image was served since.
fn is_news(
    facts: &Snapshot,
    Place { repository, tag }: Place<'_>,
    digest: &Digest,
    look: &TagLook,
) -> Result<bool, ApiError> {
    let history = match facts.tag_history(repository, tag) {
        // It only tells.
        Err(StoreError::FactUnreadable { .. }) => Vec::new(),
        history => history?,
    };
    let event = history.iter().find(|event| event.digest == *digest);
    let noted = event.and_then(|event| event.look.as_ref());
    let is_noted = noted.is_some_and(|noted| TagLook { at: noted.at, ..look.clone() } == *noted);
    if !look.served {
        return Ok(event.is_some() && !is_noted);
    }
    let served = facts.tag_served(repository, tag)?.unwrap_or_default();
    let is_last =
        served.targets.first().is_some_and(|target| target.digest == *digest && target.signed_at == look.signed_at);
    let rises = look.signed_at.is_some_and(|at| served.newest.is_none_or(|(_, newest)| at > newest));
    Ok((event.is_some() && !is_noted) || !is_last || rises)
}

/// One answer each.
fn count(guarded: &Guarded) {
    for (guard, level) in &guarded.met {
        let outcome = match level {
            Level::Pass => "allowed",
            Level::Warn => "warned",
            Level::Deny => "denied",
        };
        counter!("pratique_tag_guards_total", "guard" => guard.as_str(), "outcome" => outcome).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_left_an_image_when_it_was_first_seen_to_mean_another() {
        let digest = |name: &str| Digest::sha256(name.as_bytes());
        let event =
            |(name, at): &(&str, u64)| TagEvent { digest: digest(name), at: UnixTime::from_millis(*at), look: None };
        let left = |history: &[(&str, u64)]| {
            let history: Vec<_> = history.iter().map(event).collect();
            left_at(&history, &digest("served")).map(UnixTime::as_millis)
        };
        assert_eq!(left(&[("x", 5), ("served", 1)]), Some(5));
        assert_eq!(left(&[("z", 9), ("y", 7), ("x", 5), ("served", 1)]), Some(5), "one after another prolongs nothing");
        assert_eq!(left(&[("y", 9), ("served", 7), ("x", 5), ("served", 1)]), Some(9), "upstream led back to it");
        assert_eq!(left(&[("y", 9), ("x", 5)]), None, "it is not known any more");
        assert_eq!(left(&[("served", 1)]), None);
    }
}

//! What happened in a simulation: the trace, what was wrong, and which policy was in force when.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use oci::Digest;
use tokio::time::Instant;

use super::world::World;

/// Written by everybody in a simulation.
pub struct Record {
    world: Arc<World>,
    began: Instant,
    trace: Mutex<Vec<String>>,
    violations: Mutex<Vec<String>>,
    /// Which policies were in force, or were being taken into force, and until when; the last one is the latest.
    policies: Mutex<Vec<(usize, Option<Instant>)>>,
    /// Where tags have led, and what a lie showed under them.
    led: Mutex<Vec<Led>>,
    /// In which answers a bit was flipped, by upstream and path, and when.
    spoiled: Mutex<Vec<(usize, String, Instant)>>,
    /// No connection comes about.
    out: AtomicBool,
}

/// That a tag has led to a digest.
struct Led {
    tag: Place,
    digest: Digest,
    /// Until when; the truth of now has no end.
    until: Option<Instant>,
}

/// A tag in a repository of an upstream.
type Place = (usize, String, String);

impl Record {
    /// Nothing has happened yet, and the first policy is in force.
    pub fn new(world: Arc<World>) -> Self {
        let began = Instant::now();
        let led = world.manifests.iter().filter_map(|held| {
            let tag = (held.upstream, held.repository.to_owned(), held.tag.clone()?);
            Some(Led { tag, digest: held.image.digest.clone(), until: None })
        });
        let led = Mutex::new(led.collect());
        Self {
            world,
            began,
            trace: Mutex::default(),
            violations: Mutex::default(),
            policies: Mutex::new(vec![(0, None)]),
            led,
            spoiled: Mutex::default(),
            out: AtomicBool::new(false),
        }
    }

    /// One more line, with the time and with names for digests.
    pub fn tell(&self, line: &str) {
        let at = self.began.elapsed().as_secs_f64();
        lock(&self.trace).push(format!("{at:>10.3}  {}", self.world.named(line)));
    }

    /// What must never be.
    pub fn violation(&self, what: &str) {
        let what = self.world.named(what);
        self.tell(&format!("VIOLATION {what}"));
        lock(&self.violations).push(format!("after {:.3} s: {what}", self.began.elapsed().as_secs_f64()));
    }

    /// Another policy is being taken into force: from now on answers may be given under it too.
    pub fn reloading(&self, policy: usize) {
        lock(&self.policies).push((policy, None));
    }

    /// It is in force, and no other one is.
    pub fn reloaded(&self) {
        self.tell(&format!("policy {} is in force", self.policy()));
        for (_, until) in lock(&self.policies).iter_mut().rev().skip(1) {
            until.get_or_insert_with(Instant::now);
        }
    }

    /// The policy in force.
    pub fn policy(&self) -> usize {
        lock(&self.policies).last().map_or(0, |(policy, _)| *policy)
    }

    /// All policies that were in force at some instant from `since` on.
    pub fn policies_since(&self, since: Instant) -> BTreeSet<usize> {
        let policies = lock(&self.policies);
        let counts = |(_, until): &&(usize, Option<Instant>)| until.is_none_or(|until| until >= since);
        policies.iter().filter(counts).map(|(policy, _)| *policy).collect()
    }

    /// That a tag leads to `digest` from now on.
    pub fn moved(&self, upstream: usize, repository: &str, tag: &str, digest: &Digest) {
        let (tag, mut led) = ((upstream, repository.to_owned(), tag.to_owned()), lock(&self.led));
        for former in led.iter_mut().filter(|led| led.tag == tag) {
            former.until.get_or_insert_with(Instant::now);
        }
        led.push(Led { tag, digest: digest.clone(), until: None });
    }

    /// That upstream shows `digest` under a tag, this once.
    pub fn claimed(&self, upstream: usize, repository: &str, tag: &str, digest: &Digest) {
        let tag = (upstream, repository.to_owned(), tag.to_owned());
        lock(&self.led).push(Led { tag, digest: digest.clone(), until: Some(Instant::now()) });
    }

    /// All tags of a repository, in their order.
    pub fn tags(&self, upstream: usize, repository: &str) -> Vec<String> {
        let led = lock(&self.led);
        let there = led.iter().filter(|led| led.until.is_none() && led.tag.0 == upstream && led.tag.1 == repository);
        there.map(|led| led.tag.2.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// That a bit of an answer is flipped.
    pub fn spoils(&self, upstream: usize, path: &str) {
        lock(&self.spoiled).push((upstream, path.to_owned(), Instant::now()));
    }

    /// Whether one was, from `since` on, or ever.
    pub fn is_spoiled(&self, upstream: usize, path: &str, since: Option<Instant>) -> bool {
        lock(&self.spoiled)
            .iter()
            .any(|(of, at, when)| (*of, at.as_str()) == (upstream, path) && since.is_none_or(|since| *when >= since))
    }

    /// Where a tag leads now.
    pub fn target(&self, upstream: usize, repository: &str, tag: &str) -> Option<Digest> {
        let (tag, led) = ((upstream, repository.to_owned(), tag.to_owned()), lock(&self.led));
        led.iter().find(|led| led.tag == tag && led.until.is_none()).map(|led| led.digest.clone())
    }

    /// Whether a tag has led to `digest`, in truth or by a lie, at some instant from `since` on, or ever.
    pub fn has_led(&self, place: (usize, &str, &str), digest: &Digest, since: Option<Instant>) -> bool {
        let is_since = |led: &Led| led.until.is_none_or(|until| since.is_none_or(|since| until >= since));
        lock(&self.led).iter().any(|led| is_of(led, place) && led.digest == *digest && is_since(led))
    }

    /// The images as whose evidence upstream has ever shown `digest` in that repository: by the tags under which it did.
    pub fn claimed_subjects(&self, upstream: usize, repository: &str, digest: &Digest) -> Vec<Digest> {
        let led = lock(&self.led);
        let there = led.iter().filter(|led| led.tag.0 == upstream && led.tag.1 == repository && led.digest == *digest);
        there.filter_map(|led| subject_of(&led.tag.2)).collect()
    }

    /// Whether no connection comes about.
    pub fn is_out(&self) -> bool {
        self.out.load(Ordering::Relaxed)
    }

    /// From now on connections come about, or none does.
    pub fn set_out(&self, out: bool) {
        self.tell(if out { "the network is gone" } else { "the network is there" });
        self.out.store(out, Ordering::Relaxed);
    }

    /// Everything that was written.
    pub fn take(&self) -> (Vec<String>, Vec<String>) {
        (std::mem::take(&mut *lock(&self.trace)), std::mem::take(&mut *lock(&self.violations)))
    }
}

/// Whose evidence is under a tag of evidence: `sha256-<hex>.sig`.
pub fn subject_of(tag: &str) -> Option<Digest> {
    let (algorithm, hex) = tag.rsplit_once('.')?.0.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

fn is_of(led: &Led, place: (usize, &str, &str)) -> bool {
    (led.tag.0, led.tag.1.as_str(), led.tag.2.as_str()) == place
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn while_a_policy_is_taken_into_force_both_count_and_afterwards_the_new_one() {
        let record = Record::new(Arc::new(World::mint(1)));
        let since_now = async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            record.policies_since(Instant::now())
        };
        let before = Instant::now();
        assert_eq!(since_now().await, BTreeSet::from([0]));
        record.reloading(1);
        assert_eq!(since_now().await, BTreeSet::from([0, 1]));
        record.reloaded();
        assert_eq!(since_now().await, BTreeSet::from([1]));
        assert_eq!(record.policies_since(before), BTreeSet::from([0, 1]));
        assert_eq!(record.policy(), 1);
    }
}

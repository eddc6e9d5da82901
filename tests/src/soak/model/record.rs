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
    /// Since when which policy is in force.
    policies: Mutex<Vec<(Instant, usize)>>,
    /// What upstream has shown under a tag of evidence, and in which repository.
    claims: Mutex<BTreeSet<(usize, String, String)>>,
    /// No connection comes about.
    out: AtomicBool,
}

impl Record {
    /// Nothing has happened yet, and the first policy is in force.
    pub fn new(world: Arc<World>) -> Self {
        let began = Instant::now();
        Self {
            world,
            began,
            trace: Mutex::default(),
            violations: Mutex::default(),
            policies: Mutex::new(vec![(began, 0)]),
            claims: Mutex::default(),
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

    /// Another policy is about to be in force: from now on answers may be given under it.
    pub fn reloaded(&self, policy: usize) {
        self.tell(&format!("policy {policy} is in force"));
        lock(&self.policies).push((Instant::now(), policy));
    }

    /// The policy in force.
    pub fn policy(&self) -> usize {
        lock(&self.policies).last().map_or(0, |(_, policy)| *policy)
    }

    /// All policies that were in force at some instant from `since` on.
    pub fn policies_since(&self, since: Instant) -> BTreeSet<usize> {
        let policies = lock(&self.policies);
        let former = policies.iter().rev().find(|(began, _)| *began < since).map(|(_, policy)| *policy);
        policies.iter().filter(|(began, _)| *began >= since).map(|(_, policy)| *policy).chain(former).collect()
    }

    /// That upstream shows `digest` under a tag of evidence of that repository.
    pub fn claimed(&self, upstream: usize, repository: &str, digest: &Digest) {
        lock(&self.claims).insert((upstream, repository.to_owned(), digest.to_string()));
    }

    /// Whether it ever has.
    pub fn is_claimed(&self, upstream: usize, repository: &str, digest: &Digest) -> bool {
        lock(&self.claims).contains(&(upstream, repository.to_owned(), digest.to_string()))
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

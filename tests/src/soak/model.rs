//! The model check: pratique and its upstreams in one process, on one thread, over connections in memory, and time that stands still
//! unless everybody waits. The same seed makes the same schedule and the same verdict.
//!
//! ```text
//!   world     what there is, and under which policy each of it may be served     by the seed
//!   chaos     what goes wrong upstream, call by call                             by the seed
//!   operation what clients ask for, and how they read it                         by the seed
//!   client    their connections, served by the product's own stack
//!   network   the product's connections to the upstreams, to one of them over TLS, and whom it must never connect to
//!   law       what must hold of each answer; parts: of ranges; calls: of each call to an upstream;
//!             lists: of tags and referrers
//!   recovery  upstreams that behave again, and what is due then
//!   outage    hours without upstreams, instead of chaos
//!   sockets   the same on loopback, in real time that is short
//!   record    the trace, the violations, and which policy was in force when
//! ```
//!
//! The heart of it: an answer with bytes of a blob comes to its end only where the whole blob was known to be right before, whatever part of
//! it was asked for; what it serves is admitted, or reached from what is admitted, in that repository, under a policy that was in force
//! while it was given. And once upstream behaves again, all that passes is served.

mod calls;
mod chaos;
mod client;
mod law;
mod lists;
mod network;
mod operation;
mod outage;
mod parts;
mod record;
mod recovery;
mod sockets;
#[cfg(test)]
mod tests;
mod world;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use config::Settings;
use oci::{Digest, UnixTime};
use proxy::{app::App, clock::Clock};
use storage::Store;
use tokio::time::{Instant, sleep};

use super::{Bounds, Random, Say, Tally};
use crate::{sigstore, upstream::Registry};
use chaos::Chaos;
use client::{Client, Door, Outcome};
use law::{Law, Seen};
use network::Wires;
use operation::Operation;
use record::Record;
pub use sockets::run as run_over_sockets;
use world::{Held, POLICIES, UPSTREAMS, World};

/// How many clients there are.
const CLIENTS: usize = 5;
/// After so many seeds that failed, further ones say nothing new.
const FAILURES_MAX: usize = 3;
/// A blob of more bytes is a layer.
const LAYER_BYTES: usize = 30_000;
/// Events of a tag's history.
const HISTORY_MAX: usize = 50;

/// What came of one seed.
#[derive(Debug, PartialEq, Eq)]
pub struct Course {
    /// How many requests clients have made.
    pub operations: u64,
    /// Everything that happened, a line each.
    pub trace: Vec<String>,
    /// What must never have been.
    pub violations: Vec<String>,
}

/// Runs one seed after the other, on as many threads as there are cores, with so many operations each.
#[must_use]
pub fn run(bounds: Bounds, operations: u64, say: Say) -> Tally {
    let (tally, made, seeds) = (Mutex::new(Tally::default()), AtomicU64::new(0), Mutex::new(bounds.each()));
    let next = || {
        let failed = tally.lock().unwrap_or_else(PoisonError::into_inner).failures().len();
        if failed < FAILURES_MAX { seeds.lock().unwrap_or_else(PoisonError::into_inner).next() } else { None }
    };
    let work = || {
        while let Some(round) = next() {
            let seed = bounds.seed.wrapping_add(round);
            let course = simulate(seed, operations);
            made.fetch_add(course.operations, Ordering::Relaxed);
            let verdict = match course.violations.first() {
                None => Ok(()),
                Some(first) => Err(format!(
                    "seed {seed}: {first}{}; again with: soak model --seeds 1 --first {seed} --operations {operations} --trace",
                    if course.violations.len() > 1 {
                        format!(" (and {} more)", course.violations.len() - 1)
                    } else {
                        String::new()
                    },
                )),
            };
            if let Err(why) = &verdict {
                say(why);
            }
            tally.lock().unwrap_or_else(PoisonError::into_inner).count(verdict);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    say(&format!("{} operations", made.load(Ordering::Relaxed)));
    tally.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one seed and tells all of it.
#[must_use]
pub fn show(seed: u64, operations: u64, say: Say) -> Tally {
    let course = simulate(seed, operations);
    course.trace.iter().for_each(|line| say(line));
    let mut tally = Tally::default();
    tally.check(course.violations.is_empty(), || course.violations.join("\n"));
    tally
}

/// Runs one seed.
///
/// # Panics
/// When there is no runtime to be had.
#[must_use]
pub fn simulate(seed: u64, operations: u64) -> Course {
    within(async { Simulation::begin(seed).live(operations).await })
}

/// Hours without upstreams, in simulated time: what is warm goes on, what is not is told to come again, and then all is as before.
///
/// # Panics
/// When there is no runtime to be had.
#[must_use]
pub fn outage(seed: u64) -> Course {
    within(async { Simulation::begin(seed).outage().await })
}

/// On this thread alone, with a clock that stands still while anybody works.
fn within<T>(work: impl Future<Output = T>) -> T {
    let _in_place = storage::work::in_place();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime without threads");
    runtime.block_on(work)
}

/// Pratique between its upstreams and its clients.
struct Simulation {
    world: Arc<World>,
    registries: Arc<[Registry; UPSTREAMS]>,
    record: Arc<Record>,
    chaos: Arc<Chaos>,
    law: Arc<Law>,
    app: Arc<App>,
    door: Door,
    chance: Random,
    operations: u64,
}

impl Simulation {
    fn begin(seed: u64) -> Self {
        let (world, mut chance) = (Arc::new(World::mint(seed)), Random::new(seed));
        let registries = Arc::new(world.registries());
        let record = Arc::new(Record::new(Arc::clone(&world)));
        let chaos = Chaos::new(Arc::clone(&world), Arc::clone(&record), chance.any());
        chaos.reign(&registries);
        let wires = Wires::new(
            Arc::clone(&world),
            Arc::clone(&registries),
            Arc::clone(&chaos),
            Arc::clone(&record),
            chance.any(),
        );
        let began = Instant::now();
        let day_after = UnixTime::from_millis((sigstore::Options::SIGNED_AT + 86_400) * 1000);
        let clock = Clock::reading(move || day_after.plus(began.elapsed()));
        let store = Store::in_memory(HISTORY_MAX).expect("a store in memory");
        let app = App::within(world.settings[0].clone(), store.clone(), clock, Arc::new(wires));
        let app = app.unwrap_or_else(|error| panic!("pratique does not start: {error}")).value;
        let law = Arc::new(Law::new(Arc::clone(&world), Arc::clone(&record), store));
        let door = Door::Memory(Arc::clone(&app));
        Self { world, registries, record, chaos, law, app, door, chance, operations: 0 }
    }

    /// Rounds of clients, each in a mood of its own; then upstream behaves, and all that passes is served.
    async fn live(mut self, operations: u64) -> Course {
        if !self.chance.once_in(3) {
            self.admit().await;
        }
        while self.operations < operations {
            self.chaos.turn(&self.registries);
            self.round().await;
            self.law.calls(&self.registries);
            if !self.chance.once_in(4) {
                self.evict().await;
            }
            sleep(self.world.paced(Duration::from_millis(self.chance.below(20_000)))).await;
        }
        self.recover().await;
        self.law.calls(&self.registries);
        let (trace, violations) = self.record.take();
        Course { operations: self.operations, trace, violations }
    }

    /// All clients at once, and what the operator and upstream do meanwhile.
    async fn round(&mut self) {
        let theme = (!self.chance.once_in(4)).then(|| self.theme());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (world, law, record) = (Arc::clone(&self.world), Arc::clone(&self.law), Arc::clone(&self.record));
                let mut chance = Random::new(self.chance.any());
                let mut client = Client::new(&self.door, chance.once_in(4));
                let theme = theme.clone();
                let many = 1 + chance.below(4);
                self.operations += many;
                tokio::spawn(async move {
                    for _ in 0..many {
                        sleep(world.paced(Duration::from_millis(chance.below(60)))).await;
                        let operation = Operation::any(&world, &mut chance, theme.as_ref());
                        operate(&mut client, &operation, &law, &record, number).await;
                    }
                })
            })
            .collect();
        for _ in 0..self.chance.below(3) {
            sleep(self.world.paced(Duration::from_millis(self.chance.below(2500)))).await;
            self.deed();
        }
        for client in clients {
            if client.await.is_err() {
                self.record.violation("a client panicked");
            }
        }
    }

    /// Layers leave the store, as for a budget, so that they come again: between rounds, while nobody has an answer with them under way.
    async fn evict(&self) {
        self.record.tell("layers are evicted");
        for (digest, _) in self.world.blobs.iter().filter(|blob| is_layer(blob)) {
            if let Err(error) = self.app.store.blobs().remove(digest).await {
                self.record.violation(&format!("{digest} cannot be removed: {error}"));
            }
        }
    }

    /// Something that all clients are after.
    fn theme(&mut self) -> Digest {
        let all = &self.world.manifests;
        match self.chance.below(6) {
            // A layer of what passes: whoever comes late follows its download.
            0..=2 => {
                let passing = passing(&self.world, self.record.policy());
                // Mostly of what a reload may end, while it is under way.
                let mut layers = layers_of(&passing, |held| held.admitted.contains(&false));
                if layers.is_empty() || self.chance.once_in(3) {
                    layers = layers_of(&passing, |_| true);
                }
                layers[self.chance.index(layers.len())].clone()
            }
            // What is in more than one place, and need not pass in all.
            3 | 4 => {
                let is_twice = |held: &&Held| all.iter().filter(|it| it.image.digest == held.image.digest).count() > 1;
                let twice: Vec<_> = all.iter().filter(is_twice).collect();
                twice[self.chance.index(twice.len())].image.digest.clone()
            }
            _ => {
                let held = &all[self.chance.index(all.len())].image;
                let blob = held.blobs.get(self.chance.index(held.blobs.len().max(1)));
                match blob {
                    Some((digest, _)) if !self.chance.once_in(2) => digest.clone(),
                    Some(_) | None => held.digest.clone(),
                }
            }
        }
    }

    /// What the operator does, or upstream.
    fn deed(&mut self) {
        match self.chance.below(8) {
            0..=3 => self.reload(),
            4 => {
                self.record.tell("tokens are revoked");
                self.registries.iter().for_each(Registry::revoke_tokens);
            }
            5 => {
                self.record.tell("connections are cut");
                self.registries.iter().for_each(Registry::drop_connections);
            }
            6 => self.move_tag(),
            _ => self.chaos.turn(&self.registries),
        }
    }

    fn reload(&self) {
        let policy = (self.record.policy() + 1) % POLICIES;
        let settings = self.app.in_force().settings.storage.clone();
        let settings = Settings { storage: settings, ..self.world.settings[policy].clone() };
        // Over sockets there are answers meanwhile, under the one and under the other.
        self.record.reloading(policy);
        match self.app.reload(settings) {
            Ok(_) => self.record.reloaded(),
            Err(error) => self.record.violation(&format!("the reload failed: {error}")),
        }
    }

    /// A tag points at another manifest of its repository, whether anybody signed that or not.
    fn move_tag(&mut self) {
        let held = &self.world.manifests[self.chance.index(self.world.manifests.len())];
        let others: Vec<_> = self.world.in_it(held.upstream, held.repository).collect();
        let to = &others[self.chance.index(others.len())].image;
        if let Some(tag) = held.tag.as_deref().filter(|tag| !tag.contains('.')) {
            self.record.tell(&format!("U{} {}:{tag} moves to {}", held.upstream, held.repository, to.digest));
            self.record.moved(held.upstream, held.repository, tag, &to.digest);
            self.registries[held.upstream].put_tag(held.repository, tag, &to.digest);
        }
    }
}

/// What passes; a child is known by its index, which comes first.
fn passing(world: &World, policy: usize) -> Vec<&Held> {
    let mut passing: Vec<_> = world.manifests.iter().filter(|held| held.admitted[policy]).collect();
    passing.sort_by_key(|held| held.image.children.is_empty());
    passing
}

fn layers_of(manifests: &[&Held], such: impl Fn(&Held) -> bool) -> Vec<Digest> {
    let blobs = manifests.iter().filter(|held| such(held)).flat_map(|held| &held.image.blobs);
    blobs.filter(|blob| is_layer(blob)).map(|(digest, _)| digest.clone()).collect()
}

fn is_layer((_, bytes): &(Digest, Bytes)) -> bool {
    bytes.len() > LAYER_BYTES
}

/// One request of a client, and what the law says to it.
async fn operate(client: &mut Client, operation: &Operation, law: &Law, record: &Record, number: usize) -> Outcome {
    let (asked, began) = (operation.asked(), Instant::now());
    let (head_at, outcome) = client.ask(&asked).await;
    let told = law.judge(&Seen { operation, began, head_at }, &outcome).await;
    let (method, path, took) = (&asked.method, &asked.path, began.elapsed());
    record.tell(&format!("c{number} {method} {path} {:?} {:?} -> {told} in {took:?}", asked.headers, asked.reading));
    outcome
}

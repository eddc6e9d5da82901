//! The same course over loopback, with a real server and a store on disk, in real time with short durations: here blobs leave by sendfile.
//! The schedule of the operating system is part of it, so that a seed says what is asked and what goes wrong, and not how it ends.

use std::sync::Arc;

use config::Loaded;
use proxy::{clock::Clock, server::Server};

use super::{Course, Simulation, World, chaos::Chaos, client::Door, law::Law, record::Record};
use crate::soak::{Bounds, Random, Say, Tally, failed};

/// One seed after the other, with so many operations each.
///
/// # Panics
/// When there is no runtime to be had.
#[must_use]
pub fn run(bounds: Bounds, operations: u64, say: Say) -> Tally {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime with threads");
    let world = Arc::new(World::mint_for_sockets(bounds.seed));
    let (mut tally, mut made) = (Tally::default(), 0);
    for round in bounds.each() {
        let seed = bounds.seed.wrapping_add(round);
        let course = runtime.block_on(live(&world, seed, operations));
        let verdict = course.and_then(|course| {
            made += course.operations;
            if course.violations.is_empty() { Ok(()) } else { Err(course.violations.join("; ")) }
        });
        let verdict = verdict.map_err(|why| failed(&format!("seed {seed} over sockets"), why));
        if let Err(why) = &verdict {
            say(why);
        }
        tally.count(verdict);
    }
    say(&format!("{made} operations over sockets"));
    tally
}

async fn live(world: &Arc<World>, seed: u64, operations: u64) -> Result<Course, String> {
    let mut chance = Random::new(seed);
    let registries = Arc::new(world.listening().await.map_err(|error| failed("upstreams", error))?);
    let record = Arc::new(Record::new(Arc::clone(world)));
    let chaos = Chaos::new(Arc::clone(world), Arc::clone(&record), chance.any());
    chaos.reign(&registries);
    let directory = tempfile::tempdir().map_err(|error| failed("a directory", error))?;
    let mut settings = world.settings[0].clone();
    settings.storage.path = directory.path().join("store");
    let loaded = Loaded { settings, notes: Vec::new(), file: None };
    let server = Server::start(loaded, Clock::system()).await.map_err(|error| failed("pratique", error))?;
    let (app, door) = (Arc::clone(&server.app), Door::Socket(server.address));
    let law = Arc::new(Law::new(Arc::clone(world), Arc::clone(&record), app.store.clone()));
    let world = Arc::clone(world);
    let simulation = Simulation { world, registries, record, chaos, law, app, door, chance, operations: 0 };
    let course = simulation.live(operations).await;
    server.shutdown().await;
    Ok(course)
}

//! One measurement of one peer.

pub mod cold;
pub mod fault;
pub mod warm;

use std::{sync::Barrier, thread};

use super::{
    Failure,
    client::{Connection, Door},
    peer::Peer,
    statistics::Sample,
    tree::Blob,
    world::World,
};

/// Puts everything that is measured warm into a peer's cache. Twice: distribution keeps a blob beside the answer that it sends.
///
/// # Errors
/// When the peer does not serve it.
pub fn pull_everything(world: &World, peer: &Peer) -> Result<(), Failure> {
    let (door, tree) = (Door::of(peer, &world.tls), &world.tree);
    for _ in 0..2 {
        ask_once(&door, &tree.tag)?;
        ask_once(&door, &tree.by_digest)?;
        [&tree.large, &tree.small].into_iter().try_for_each(|blob| door.drain(&blob.path, blob.length, 1))?;
    }
    Ok(())
}

/// A manifest, as the first step of a pull.
fn ask_once(door: &Door, path: &str) -> Result<(), Failure> {
    // At least one answer comes within no time: a connection waits for its first however long that takes.
    super::client::ask_for(door, path, 1, std::time::Duration::from_millis(1)).map(|_| ())
}

/// So many streams at once, each fetching `blob` so many times.
fn streams(door: &Door, blob: &Blob, count: usize, times: usize) -> Result<(), Failure> {
    on_threads(count, |_| door.drain(&blob.path, blob.length, times)).map(|_| ())
}

/// Does `work` on so many threads that begin together.
fn on_threads<T: Send>(count: usize, work: impl Fn(usize) -> Result<T, Failure> + Sync) -> Result<Vec<T>, Failure> {
    let (together, work) = (Barrier::new(count), &work);
    let begin = |number: usize| {
        together.wait();
        work(number)
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..count).map(|number| scope.spawn(move || begin(number))).collect();
        all.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a client panicked".into()))).collect()
    })
}

fn sample(what: &'static str, value: f64) -> Sample {
    Sample { what, value }
}

#[expect(clippy::cast_precision_loss, reason = "sizes and counts here fit into a float's 53 bits")]
fn float(count: u64) -> f64 {
    count as f64
}

fn mib(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

/// A client of a peer without TLS.
fn connect(peer: &Peer) -> Result<Connection, Failure> {
    Ok(Connection::open(peer.address)?)
}

//! What no cache has yet. Each peer starts with an empty one, and is asked for the manifest first, as every client does.

use std::time::Instant;

use super::{
    super::{
        client::Door,
        peer::{Kind, Peer},
        scenario::Samples,
        tree::Blob,
        world::World,
    },
    ask_once, connect, float, on_threads, sample,
};

/// One client.
pub fn one(world: &World, kind: Kind) -> Samples {
    herd(world, kind, &world.tree.large, 1)
}

/// 32 clients.
pub fn herd_of_32(world: &World, kind: Kind) -> Samples {
    herd(world, kind, &world.tree.medium, 32)
}

/// 200 clients.
pub fn herd_of_200(world: &World, kind: Kind) -> Samples {
    herd(world, kind, &world.tree.small, 200)
}

fn herd(world: &World, kind: Kind, blob: &Blob, count: usize) -> Samples {
    let peer = Peer::start(kind, world, world.upstream.address, false)?;
    ask_once(&Door::of(&peer, &world.tls), &world.tree.tag)?;
    let asked = world.upstream.gets(&blob.path)?;
    peer.running.forget_peak()?;
    let (cpu, begun) = (peer.running.cpu()?, Instant::now());
    let mut first = on_threads(count, |_| connect(&peer)?.drain(&blob.path, blob.length))?;
    let total = begun.elapsed().as_secs_f64();
    // distribution fetches once more, and hashes, behind its clients' backs.
    peer.running.settle()?;
    let cpu = peer.running.cpu()?.saturating_sub(cpu).as_secs_f64();
    let peak = peer.running.peak_memory()?;
    let gets = world.upstream.gets(&blob.path)? - asked;
    first.sort_unstable();
    let first_byte = |at: usize| first.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    Ok(vec![
        sample("upstream GETs", float(gets as u64)),
        sample("total s", total),
        sample("first byte ms (median client)", first_byte(count / 2)),
        sample("first byte ms (last client)", first_byte(count - 1)),
        sample("CPU s", cpu),
        sample("peak MiB", super::mib(peak)),
    ])
}

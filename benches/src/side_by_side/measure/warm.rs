//! What is in the cache already.

use std::{
    sync::atomic::AtomicBool,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    super::{
        Failure,
        client::{Door, Latencies, ask_for},
        peer::Peer,
        scenario::Samples,
        tree::Blob,
        world::World,
    },
    float, mib, sample, streams,
};

/// Throughput of one stream.
pub fn one_stream(world: &World, peer: &Peer) -> Samples {
    throughput(world, peer, &world.tree.large, 1, world.effort.requests)
}

/// Throughput of 64 streams.
pub fn many_streams(world: &World, peer: &Peer) -> Samples {
    throughput(world, peer, &world.tree.small, 64, world.effort.requests)
}

/// The same, each stream fetching once.
pub fn many_streams_once(world: &World, peer: &Peer) -> Samples {
    throughput(world, peer, &world.tree.small, 64, 1)
}

/// Small answers by digest.
pub fn by_digest(world: &World, peer: &Peer) -> Samples {
    small_answers(world, peer, &world.tree.by_digest)
}

/// Small answers by tag.
pub fn by_tag(world: &World, peer: &Peer) -> Samples {
    small_answers(world, peer, &world.tree.tag)
}

/// How long a small answer takes beside two streams that never end.
pub fn beside_streams(world: &World, peer: &Peer) -> Samples {
    let (door, blob) = (Door::of(peer, &world.tls), &world.tree.large);
    let (enough, fetched) = (AtomicBool::new(false), AtomicU64::new(0));
    let stream = || -> Result<(), Failure> {
        while !enough.load(Ordering::Relaxed) {
            door.drain(&blob.path, blob.length, 1)?;
            fetched.fetch_add(blob.length, Ordering::Relaxed);
        }
        Ok(())
    };
    let begun = Instant::now();
    let latencies = thread::scope(|scope| {
        let both = [scope.spawn(stream), scope.spawn(stream)];
        let latencies = ask_for(&door, &world.tree.by_digest, 1, Duration::from_secs(world.effort.seconds));
        enough.store(true, Ordering::Relaxed);
        both.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a client panicked".into())))?;
        latencies
    })?;
    let rate = mib(fetched.load(Ordering::Relaxed)) / begun.elapsed().as_secs_f64();
    let percentile = |per_cent| latencies.percentile(per_cent);
    Ok(vec![
        sample("p50 ms", percentile(50)),
        sample("p99 ms", percentile(99)),
        sample("longest ms", percentile(100)),
        sample("MiB/s of the streams", rate),
    ])
}

fn throughput(world: &World, peer: &Peer, blob: &Blob, count: usize, times: usize) -> Samples {
    let door = Door::of(peer, &world.tls);
    peer.running.forget_peak()?;
    let (cpu, begun) = (peer.running.cpu()?, Instant::now());
    streams(&door, blob, count, times)?;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = peer.running.cpu()?.saturating_sub(cpu).as_secs_f64();
    let fetched = mib(blob.length) * float((count * times) as u64);
    Ok(vec![
        sample("MiB/s", fetched / seconds),
        sample("CPU s/GiB", cpu * 1024.0 / fetched),
        sample("peak MiB", mib(peer.running.peak_memory()?)),
    ])
}

fn small_answers(world: &World, peer: &Peer, path: &str) -> Samples {
    let door = Door::of(peer, &world.tls);
    let cpu = peer.running.cpu()?;
    let latencies: Latencies = ask_for(&door, path, 64, Duration::from_secs(world.effort.seconds))?;
    let cpu = peer.running.cpu()?.saturating_sub(cpu).as_secs_f64();
    let count = float(latencies.count() as u64);
    Ok(vec![
        sample("requests/s", count / latencies.lasted.as_secs_f64()),
        sample("p50 ms", latencies.percentile(50)),
        sample("p99 ms", latencies.percentile(99)),
        sample("CPU µs/request", cpu * 1e6 / count),
    ])
}

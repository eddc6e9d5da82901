//! Upstreams that go wrong: who ends with the right bytes.

use oci::{Algorithm, Hasher};

use super::{
    super::{
        Failure,
        client::Door,
        cutter::Cutter,
        peer::{Kind, Peer},
        scenario::Samples,
        tree::Blob,
        world::World,
    },
    ask_once, connect, float, on_threads, sample,
};

/// Clients at once.
const CLIENTS: usize = 8;

/// How a pull ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Complete, and the digest agrees.
    Right,
    /// Complete as far as HTTP can tell, and the digest does not agree.
    Wrong,
    /// An error, or less than was promised.
    Broken,
}

/// The upstream's connections are cut. Each client asks once: what a client would make up for by asking again is not counted.
pub fn cut(world: &World, kind: Kind) -> Samples {
    let blob = &world.tree.small;
    // Small enough that each download is cut several times, also where blobs are small.
    let cutter = Cutter::start(world.upstream.address, blob.length / 16, blob.length / 2, 0x5EED)?;
    let peer = Peer::start(kind, world, cutter.address, false)?;
    ask_once(&Door::of(&peer, &world.tls), &world.tree.tag)?;
    let before = cutter.carried();
    let ends = ends(&peer, blob)?;
    let carried = cutter.carried() - before;
    Ok(vec![
        sample("right of 8", count(&ends, End::Right)),
        sample("broken of 8", count(&ends, End::Broken)),
        sample("complete and wrong of 8", count(&ends, End::Wrong)),
        sample("upstream bytes / content", float(carried) / float(blob.length)),
    ])
}

/// One bit is wrong; those who come later ask the cache again.
pub fn rotten(world: &World, kind: Kind) -> Samples {
    let peer = Peer::start(kind, world, world.upstream.address, false)?;
    ask_once(&Door::of(&peer, &world.tls), &world.tree.rotten_tag)?;
    let mut all = ends(&peer, &world.tree.rotten)?;
    all.extend(ends(&peer, &world.tree.rotten)?);
    Ok(vec![
        sample("complete and wrong of 16", count(&all, End::Wrong)),
        sample("broken of 16", count(&all, End::Broken)),
    ])
}

fn ends(peer: &Peer, blob: &Blob) -> Result<Vec<End>, Failure> {
    on_threads(CLIENTS, |_| {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let answer = connect(peer)?.read(&blob.path, |piece| hasher.update(piece));
        let is_right = hasher.finish() == blob.digest;
        Ok(match answer {
            Ok((200, true)) if is_right => End::Right,
            Ok((200, true)) => End::Wrong,
            Ok(_) | Err(_) => End::Broken,
        })
    })
}

fn count(ends: &[End], end: End) -> f64 {
    float(ends.iter().filter(|one| **one == end).count() as u64)
}

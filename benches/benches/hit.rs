//! What a hit costs from a client's request to its last byte, in one process, over loopback.
//!
//! Input: one signed image, admitted before the clock runs. The server runs on a runtime of its own, the client on the thread that
//! is measured: one request at a time, on one connection. Without the log, whose price `side-by-side` shows.

#![allow(missing_docs, reason = "criterion's macros make items without documentation")]

use benches::side_by_side::Connection;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::{
    image,
    upstream::noise,
    world::{Setup, World},
};
use tokio::runtime::Runtime;

const REPOSITORY: &str = "chainguard/bench";
const LAYER: usize = 8 << 20;

fn hits(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let image = image::single("linux/amd64", [noise(LAYER, 1)]);
    let (world, pratique) = runtime.block_on(async {
        let world = World::new().await;
        world.push_signed(REPOSITORY, "latest", &image);
        let pratique = world.pratique(&Setup::default()).await;
        (world, pratique)
    });
    let (config, layer) = (image.config().expect("an image has one"), image.layers().first().expect("it has one"));
    let mut connection = Connection::open(pratique.server.address).expect("it listens");
    let mut group = criterion.benchmark_group("hit");
    let manifest = image.manifest.len();
    let asked = [
        ("manifest by digest", format!("manifests/{}", image.digest), manifest),
        ("manifest by tag", "manifests/latest".to_owned(), manifest),
        ("config", format!("blobs/{}", config.0), config.1.len()),
        ("layer of 8 MiB", format!("blobs/{}", layer.0), LAYER),
    ];
    for (name, path, length) in asked {
        let path = format!("/v2/{REPOSITORY}/{path}");
        let mut fetch = || connection.drain(&path, length as u64).expect("it is served");
        fetch();
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(name, |bencher| bencher.iter(&mut fetch));
    }
    group.finish();
    runtime.block_on(pratique.stop());
    drop(world);
}

criterion_group!(hit, hits);
criterion_main!(hit);

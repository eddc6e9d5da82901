//! Followers and slow readers: over TLS and HTTP/2 in several parts while the blob is still on its way, and at a walking pace through a
//! large one, which costs no memory and is not given up.

use std::{fs, os::unix::fs::OpenOptionsExt as _, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Version};
use oci::Digest;
use support::{
    client::{BrokenBody, Client, Open},
    image::{self, Image},
    process::Process,
    upstream::{Certificate, Fault, TestCa, ends_with},
    world::World,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{REPOSITORY, administered, framing::are_parts, signed};

/// How much of a large blob there is: none of it takes room on disk.
const LARGE: usize = 1 << 30;
/// Given up who takes nothing for so long.
const PATIENCE: Duration = Duration::from_secs(4);
/// What a reader at a walking pace may cost, bytes: nothing that depends on the blob.
const COST_MAX: u64 = 8 << 20;

/// A pratique that speaks TLS where `tls` is set, and a client of it.
pub async fn serve(world: &World, tls: bool, sections: &str) -> (Process, Client, String) {
    let ca = TestCa::new().unwrap();
    let (certificate, key) = ca.server_pem(Certificate::Good).unwrap();
    fs::write(world.directory.path().join("tls.crt"), certificate).unwrap();
    fs::write(world.directory.path().join("tls.key"), key).unwrap();
    fs::write(world.directory.path().join("tls-ca.crt"), ca.pem()).unwrap();
    let (scheme, speaks) =
        if tls { ("https", "[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n") } else { ("http", "") };
    let config = world.write(&administered().sections(&format!("{speaks}{sections}")));
    let process = Process::serve(&config).await.unwrap();
    let base = format!("{scheme}://{}/v2/{REPOSITORY}", process.address);
    (process, client(world), base)
}

/// One more client of what [`serve`] has started, with connections of its own.
pub fn client(world: &World) -> Client {
    let ca = fs::read_to_string(world.directory.path().join("tls-ca.crt")).unwrap();
    Client::trusting(&ca).unwrap()
}

/// Has the image judged.
pub async fn judged(client: &Client, base: &str, index: &Image) {
    for digest in [&index.digest, &index.children[0].digest] {
        assert_eq!(client.get(&format!("{base}/manifests/{digest}"), &[]).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn followers_over_http2_get_several_ranges_as_they_come_and_none_where_the_blob_is_wrong() {
    const SIZE: usize = 8_000_000;
    const COME: u64 = 5_000_000;
    for wrong in [false, true] {
        let (world, index) = signed(SIZE).await;
        let (process, client, base) = serve(&world, true, "").await;
        judged(&client, &base, &index).await;
        let (layer, bytes) = index.children[0].layers()[0].clone();
        let stalled = world.registry.fault(ends_with(&layer), Fault::Stall(COME));
        if wrong {
            world.registry.fault(ends_with(&layer), Fault::Corrupt(6_000_000));
        }
        let address = format!("{base}/blobs/{layer}");
        let ask = async |range: &str| client.open(Method::GET, &address, &[("range", range)]).await.unwrap();
        let mut several = ask("bytes=1000000-2999999,3500000-3500009,7000000-7999999").await;
        let (whole, last) = (ask("bytes=0-").await, ask("bytes=-10").await);
        assert_eq!((several.status.as_u16(), several.version), (206, Version::HTTP_2));
        // All but the end of the first part is sent while upstream still has to send a third of the blob.
        let begun = several.at_least(1_900_000).await.unwrap();
        assert_eq!(stalled.hits(), 1);
        stalled.release();
        let (rest, whole, last) = tokio::join!(several.at_least(usize::MAX), whole.whole(), last.whole());
        if wrong {
            // The streams are reset one by one: their connection goes on.
            let is_stream_error = |broken: &BrokenBody| broken.why.contains("stream error");
            assert!(rest.is_err_and(|broken| is_stream_error(&broken)));
            for answer in [whole, last] {
                assert!(answer.body.as_ref().is_err_and(is_stream_error), "{:?}", answer.status);
            }
            judged(&client, &base, &index).await;
        } else {
            assert!(whole.received() == &bytes && !whole.is_broken());
            assert!(last.received() == &bytes.slice(SIZE - 10..) && !last.is_broken());
            let content = [begun, rest.unwrap()].concat();
            let kind = several.header("content-type").unwrap().to_owned();
            are_parts(&kind, &content, &[1_000_000..3_000_000, 3_500_000..3_500_010, 7_000_000..8_000_000], &bytes);
        }
        assert_eq!(world.registry.count(ends_with(&layer)), 1, "one download for all of them");
        process.terminate().await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_reader_of_a_large_blob_costs_no_memory_and_is_not_given_up() {
    for tls in [false, true] {
        let world = World::new().await;
        let index = image::index([image::single("linux/amd64", [Bytes::from(vec![0; LARGE])])]);
        world.push_signed(REPOSITORY, "latest", &index);
        let patience = format!("[limits]\nclient_write_timeout = \"{}ms\"\n", PATIENCE.as_millis());
        let (process, client, base) = serve(&world, tls, &patience).await;
        judged(&client, &base, &index).await;
        let (layer, _) = &index.children[0].layers()[0];
        let stored = world.directory.path().join("store/blobs/sha256").join(layer.hex());
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&stored).unwrap();
        file.set_len(LARGE as u64).unwrap();
        let before = process.resident_peak().unwrap();
        let mut open = client.open(Method::GET, &format!("{base}/blobs/{layer}"), &[]).await.unwrap();
        let taken = walk(&mut open, 2 * PATIENCE).await;
        assert!(taken > 0 && taken < LARGE as u64 / 4, "{taken} bytes");
        let cost = process.resident_peak().unwrap().saturating_sub(before);
        assert!(cost <= COST_MAX, "{cost} bytes");
        // Nothing but the pace was wrong with it. TLS would take an unoptimised build too long.
        if !tls {
            let rest = open.drain().await;
            assert_eq!((rest.complete, rest.length), (true, LARGE as u64 - taken));
        }
        process.terminate().await.unwrap();
        assert_eq!(world.registry.count(ends_with(layer)), 0, "a hit");
    }
}

/// Takes a piece now and then, for so long; how many bytes in all.
async fn walk(open: &mut Open, how_long: Duration) -> u64 {
    let (until, mut taken) = (Instant::now() + how_long, 0);
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < until {
        ticks.tick().await;
        let piece = open.chunk().await.unwrap().expect("more of it");
        taken += piece.len() as u64;
    }
    taken
}

#[tokio::test]
async fn who_reads_nothing_of_a_large_blob_on_disk_is_closed_and_its_file_with_it() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const SIZE: usize = 64 << 20;
    let (world, index) = signed(SIZE).await;
    let (process, client, base) = serve(&world, false, "[limits]\nclient_write_timeout = \"4s\"\n").await;
    judged(&client, &base, &index).await;
    let layer = index.children[0].layers()[0].0.clone();
    let stored = client.open(Method::GET, &format!("{base}/blobs/{layer}"), &[]).await.unwrap().drain().await;
    assert!(stored.complete && stored.digest == layer);
    let mut stalled = tokio::net::TcpStream::connect(process.address).await.unwrap();
    let request = support::raw::request("GET", &format!("/v2/{REPOSITORY}/blobs/{layer}"), &[]);
    stalled.write_all(request.as_bytes()).await.unwrap();
    let is_open = || {
        let files = fs::read_dir(format!("/proc/{}/fd", process.id().unwrap())).unwrap();
        let names = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        names.into_iter().any(|name| name.display().to_string().contains(layer.hex()))
    };
    let wait = async |open: bool| {
        while is_open() != open {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait(true)).await.expect("it is being sent");
    tokio::time::timeout(Duration::from_secs(20), wait(false)).await.expect("it is given up");
    let mut received = Vec::new();
    let _ = stalled.read_to_end(&mut received).await;
    assert!(received.len() < SIZE, "{} bytes, which is all", received.len());
    process.terminate().await.unwrap();
}

#[tokio::test]
async fn many_large_manifests_at_one_time_share_their_room_and_each_is_served_in_the_end() {
    let (cost, told) = cost_of_large_manifests("12MiB").await;
    let (unbounded, none_told) = cost_of_large_manifests("1GiB").await;
    assert!(cost < unbounded / 2, "{cost} bytes with little room, {unbounded} with much");
    assert!(told > 0 && none_told == 0, "{told} told to come again with little room, {none_told} with much");
}

/// What ten clients of as many manifests, all at once, add to the most memory, bytes, and how many of them were told to come again.
async fn cost_of_large_manifests(room: &str) -> (u64, usize) {
    let padding = "x".repeat(3_900_000);
    let world = World::new().await;
    let images: Vec<_> = (0..10)
        .map(|number| {
            let large = image::Builder::new("linux/amd64").layer(vec![number]).annotation("padding", &padding).build();
            world.push_signed(REPOSITORY, &format!("v{number}"), &large);
            large.digest
        })
        .collect();
    let limits = format!(
        "[limits]\nmanifest_memory_bytes_max = \"{room}\"\nmanifest_cache_bytes_max = \"1MiB\"\nqueue_timeout = \"200ms\"\n"
    );
    let (process, _, base) = serve(&world, false, &limits).await;
    let before = process.resident_peak().unwrap();
    let ask = async |digest: &Digest| Client::plain().get(&format!("{base}/manifests/{digest}"), &[]).await.unwrap();
    let (mut waiting, mut told) = (images, 0);
    for _ in 0..100 {
        let answers = join_all(waiting.iter().map(ask)).await;
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(answer.status, 503);
            assert!(answer.text().contains("limits.manifest_memory_bytes_max"), "{}", answer.text());
            told += 1;
        }
        let mut statuses = answers.iter().map(|answer| answer.status);
        waiting.retain(|_| statuses.next().is_some_and(|status| status != 200));
    }
    assert!(waiting.is_empty(), "never served: {waiting:?}");
    let cost = process.resident_peak().unwrap().saturating_sub(before);
    process.terminate().await.unwrap();
    (cost, told)
}

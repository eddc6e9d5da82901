//! A layer by many ranges at a time, each left in the middle.
//!
//! What is done here is what containerd does from version 2.1 on where `concurrent_layer_fetch_buffer` is set (`open` in its
//! core/remotes/docker/fetcher.go); Debian's 1.6 cannot, and tests/tests/clients/cuts.rs has the real one where a later one is installed.
//! - It asks for `bytes=0-` and takes from the answer how much there is.
//! - That answer is the first chunk. Lanes fetch the others in their order, each by an open range, `bytes=<number × chunk>-`.
//! - Each answer is left after one chunk, though all to the end of the layer is promised: over HTTP/1.1 the connection is closed, over
//!   HTTP/2 the stream is reset. Only the last is read to its end.
//! - When a chunk breaks off, or the pull is cancelled, all lanes are left where they are. It goes on likewise from where the bytes before
//!   the gap end, chunks being counted from there.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, future::join_all, stream};
use http::Method;
use support::{
    client::{Client, Open},
    process::Process,
    upstream::{Call, Fault, ends_with},
};
use tokio::time::{Duration, sleep, timeout};

use crate::{admin::Metrics, signed, slow};

const CHUNK: usize = 1 << 20;
const LANES: usize = 4;
/// The last chunk is shorter.
const SIZE: usize = 16 * CHUNK - 1000;
/// Where upstream stops for a while: in the middle of a chunk.
const STALL: usize = 5 * CHUNK + CHUNK / 2;
const LONG: Duration = Duration::from_secs(60);
/// No timeout of pratique's ends a connection that it should have let go of.
const PATIENT: &str = "[limits]\nclient_idle_timeout = \"1h\"\nclient_write_timeout = \"1h\"\n";

#[tokio::test]
async fn parallel_ranges_of_a_cold_layer_left_in_the_middle_get_the_right_bytes_by_one_download_and_hold_no_connection()
{
    for tls in [false, true] {
        let (world, index) = signed(SIZE).await;
        let (layer, bytes) = index.children[0].layers()[0].clone();
        let stalled = world.registry.fault(ends_with(&layer), Fault::Stall(STALL as u64));
        let (process, client, base) = slow::serve(&world, tls, PATIENT).await;
        slow::judged(&client, &base, &index).await;
        let address = format!("{base}/blobs/{layer}");

        let fetch = Fetch { client, address: &address, offset: 0 };
        let first = fetch.open(0).await;
        let before = fetch.chunks(first, 0..STALL / CHUNK).await;
        assert!(before == bytes[..STALL / CHUNK * CHUNK], "chunks before the stall");
        // Of the next chunk upstream sends a half, of those after it nothing; then all lanes are left.
        let mut lanes = join_all((STALL / CHUNK..).take(LANES).map(|number| fetch.open(number))).await;
        let half = lanes[0].at_least(CHUNK / 4).await.unwrap();
        assert_eq!(stalled.hits(), 1);
        drop(lanes);
        drop(fetch);
        // Also those to whom there was nothing to send.
        nobody_is_connected(&process).await;

        let offset = before.len() + half.len();
        let fetch = Fetch { client: slow::client(&world), address: &address, offset };
        let first = fetch.open(0).await;
        stalled.release();
        let rest = fetch.chunks(first, 0..(SIZE - offset).div_ceil(CHUNK)).await;
        assert!([before, half, rest].concat() == bytes, "all the right bytes");
        drop(fetch);
        nobody_is_connected(&process).await;

        let asked: Vec<_> = world.registry.calls().into_iter().filter(ends_with(&layer)).collect();
        assert_eq!(asked.iter().map(Call::range).collect::<Vec<_>>(), [None], "one download");
        let metrics = Metrics::of(&process).await;
        assert_eq!(metrics.sum("pratique_fills_total", &["outcome=\"committed\""]), 1.0);
        for none in
            ["pratique_fills", "pratique_requests_waiting", "pratique_bodies_broken_total", "pratique_panics_total"]
        {
            assert_eq!(metrics.sum(none, &[]), 0.0, "{none}");
        }
        let whole = slow::client(&world).get(&address, &[]).await.unwrap();
        assert!(whole.status == 200 && whole.received() == &bytes, "it goes on serving");
        process.terminate().await.unwrap();
    }
}

/// One course of a fetch.
struct Fetch<'a> {
    client: Client,
    address: &'a str,
    /// Where it begins.
    offset: usize,
}

impl Fetch<'_> {
    /// The open range that begins with a chunk.
    async fn open(&self, number: usize) -> Open {
        let start = self.offset + number * CHUNK;
        let range = format!("bytes={start}-");
        let open = self.client.open(Method::GET, self.address, &[("range", &range)]).await.unwrap();
        assert_eq!(open.status, 206, "{range}");
        assert_eq!(open.header("content-range"), Some(format!("bytes {start}-{}/{SIZE}", SIZE - 1).as_str()));
        assert_eq!(open.header("content-length"), Some((SIZE - start).to_string().as_str()), "{range}");
        open
    }

    /// These chunks by some lanes, `first` being the answer for the first of them; put together in their order.
    async fn chunks(&self, first: Open, numbers: std::ops::Range<usize>) -> Bytes {
        let mut first = Some(first);
        let lanes = numbers.map(|number| {
            let begun = first.take();
            async move {
                let open = match begun {
                    Some(open) => open,
                    None => self.open(number).await,
                };
                (number, chunk(open).await)
            }
        });
        let mut chunks: Vec<_> = stream::iter(lanes).buffer_unordered(LANES).collect().await;
        chunks.sort_by_key(|(number, _)| *number);
        chunks
            .into_iter()
            .map(|(_, bytes)| bytes)
            .fold(BytesMut::new(), |mut all, bytes| {
                all.extend_from_slice(&bytes);
                all
            })
            .freeze()
    }
}

/// One chunk, or what there is before the end; the rest of the answer is left.
async fn chunk(mut open: Open) -> Bytes {
    let mut bytes = timeout(LONG, open.at_least(CHUNK)).await.expect("it does not stall").unwrap();
    if bytes.len() < CHUNK {
        return bytes;
    }
    bytes.split_to(CHUNK)
}

/// Waits until pratique has let go of every connection but the one that this is asked by.
async fn nobody_is_connected(process: &Process) {
    let gone = async {
        while Metrics::of(process).await.sum("pratique_connections", &[]) > 1.0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, gone).await.expect("connections end when their clients have left");
}

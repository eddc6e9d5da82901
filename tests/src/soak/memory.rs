//! How much memory the followers of one download cost.

use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use oci::Digest;
use tokio::time::timeout;

use super::{
    Bounds, Got, Page, Say, Stage, Tally, Truth, ask,
    audit::ingested,
    failed,
    stage::{clients_view, ended_well, until},
};
use crate::{
    client::{Client, Open},
    image,
    upstream::{Fault, noise},
    world::Setup,
};

const REPOSITORY: &str = "chainguard/large";
/// I9: what 31 further followers may cost together, and what each of more than these may besides.
const ABOVE_BYTES_MAX: u64 = 16 << 20;
const FURTHER_BYTES_MAX: u64 = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(600);

/// What is asked for, and by how many.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Of the blob.
    pub blob_bytes: usize,
    /// At one time.
    pub clients: usize,
}

impl Size {
    /// 32 clients of one blob of 256 MiB.
    pub const FULL: Self = Self { blob_bytes: 256 << 20, clients: 32 };
}

/// Peak resident memory of one pratique, bytes.
#[derive(Debug, Clone, Copy)]
struct Peak {
    /// When it had judged the image, before the blob was asked for.
    before: u64,
    /// In the end.
    after: u64,
}

/// One client of a cold blob on a fresh pratique, then many clients on another; each round both.
pub async fn run(bounds: Bounds, size: Size, say: Say) -> Tally {
    let mut tally = Tally::default();
    let stage = Stage::new(&Setup::default()).await;
    let image = image::single("linux/amd64", [noise(size.blob_bytes, bounds.seed)]);
    stage.world.push_signed(REPOSITORY, "latest", &image);
    let truth = Truth::of(REPOSITORY, "latest", &image);
    for round in bounds.each() {
        tally.count(compare(&stage, &truth, size, round, say).await);
    }
    tally
}

async fn compare(stage: &Stage, truth: &Truth, size: Size, round: u64, say: Say) -> Result<(), String> {
    let one = peak(stage, truth, 1, &format!("one-{round}")).await.map_err(|why| failed("1 client", why))?;
    let many = peak(stage, truth, size.clients, &format!("many-{round}")).await;
    let many = many.map_err(|why| failed(&format!("{} clients", size.clients), why))?;
    let (mib, clients) = (size.blob_bytes >> 20, size.clients);
    say(&format!(
        "blob of {mib} MiB, cold: peak RSS {} with 1 client, {} with {clients} clients (before the blob {} and {}); {} above, ratio {:.2}",
        in_mib(one.after),
        in_mib(many.after),
        in_mib(one.before),
        in_mib(many.before),
        in_mib(many.after.saturating_sub(one.after)),
        ratio(many.after, one.after),
    ));
    let above = many.after.saturating_sub(one.after);
    let above_max = ABOVE_BYTES_MAX + FURTHER_BYTES_MAX * (clients as u64).saturating_sub(Size::FULL.clients as u64);
    if above <= above_max {
        return Ok(());
    }
    Err(format!("{clients} clients cost {} more than one; at most {} are allowed", in_mib(above), in_mib(above_max)))
}

/// Peak memory of a fresh pratique after `clients` clients got the blob, all at once and all of it right, by one upstream GET.
async fn peak(stage: &Stage, truth: &Truth, clients: usize, store: &str) -> Result<Peak, String> {
    let (registry, store) = (&stage.world.registry, stage.store(store));
    let process = stage.serve(&store).await?;
    let (client, base) = clients_view(&process);
    for page in truth.pages.iter().filter(|page| !page.is_blob) {
        let got = ask(&client, &base, page, None).await?;
        if got != Got::Whole {
            return Err(format!("{got:?} for {}", page.path));
        }
    }
    let before = process.resident_peak()?;
    registry.clear_calls();
    let layer = truth.largest().clone();
    let (path, size) = (layer.path.clone(), layer.bytes.len() as u64);
    // The last byte waits until everybody is there: all of them follow one download, none finds it stored.
    let last = registry.fault(move |call| call.path == path, Fault::Stall(size - 1));
    let begun = join_all((0..clients).map(|_| begin(&base, &layer))).await;
    let begun = begun.into_iter().collect::<Result<Vec<_>, _>>()?;
    // Every other client dawdles: what it does not take must not pile up for it.
    let (quick, slow): (Vec<_>, Vec<_>) = begun.into_iter().enumerate().partition(|(number, _)| number % 2 == 0);
    let read = |opens: Vec<(usize, Open)>| {
        let layer = layer.clone();
        opens.into_iter().map(move |(_, open)| tokio::spawn(finish(open, layer.clone()))).collect::<Vec<_>>()
    };
    let quick = read(quick);
    until("all bytes but one", || ingested(&store, &layer.digest).is_some_and(|written| written >= size - 1)).await?;
    last.release();
    let reading = join_all(quick.into_iter().chain(read(slow)));
    let ended = timeout(PATIENCE, reading).await.map_err(|_| "clients still wait".to_owned())?;
    for outcome in ended {
        outcome.map_err(|error| error.to_string())??;
    }
    last.clear();
    let asked = registry.count(|call| call.is_get() && call.path == layer.path);
    if asked != 1 {
        return Err(format!("{asked} upstream GETs for one blob"));
    }
    let after = process.resident_peak()?;
    ended_well(&process.terminate().await.map_err(|silent| silent.to_string())?)?;
    stage.discard(&store)?;
    Ok(Peak { before, after })
}

/// A client that has the head of its answer.
async fn begin(base: &str, layer: &Page) -> Result<Open, String> {
    let open = Client::plain().open(Method::GET, &format!("{base}{}", layer.path), &[]).await;
    open.map_err(|error| error.to_string())
}

async fn finish(open: Open, layer: Page) -> Result<(), String> {
    let (status, length) = (open.status, layer.bytes.len() as u64);
    let drained = open.drain().await;
    let right = status == 200 && drained.complete && drained.length == length && drained.digest == layer.digest;
    if right { Ok(()) } else { Err(told(status.as_u16(), drained.complete, drained.length, &drained.digest)) }
}

fn told(status: u16, complete: bool, length: u64, digest: &Digest) -> String {
    format!("a client got {status}, complete: {complete}, {length} bytes of {digest}")
}

pub(super) fn in_mib(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, ((bytes & 0xF_FFFF) * 10) >> 20)
}

/// Of two amounts of memory: both are exact as floating point numbers.
#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
fn ratio(of: u64, to: u64) -> f64 {
    of as f64 / to.max(1) as f64
}

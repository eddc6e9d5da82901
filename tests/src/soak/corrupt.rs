//! A blob with one bit flipped on its way: it completes at no client, whole or in part, and is not stored.

use std::ops::Range;

use futures_util::future::join_all;
use serde_json::Value;

use super::{
    Bounds, Got, Page, Random, Say, Stage, Tally, Truth, ask,
    audit::{Leftovers, audit, ingested, is_stored},
    failed,
    stage::{clients_view, ended_well, until},
};
use crate::{
    client::Client,
    image,
    process::Process,
    upstream::{Fault, noise},
    world::Setup,
};

const REPOSITORY: &str = "chainguard/corrupt";

/// Corrupts a blob of `blob_bytes` at one place each round: its first byte, its last, its middle, then anywhere.
pub async fn run(bounds: Bounds, blob_bytes: usize, say: Say) -> Tally {
    let mut tally = Tally::default();
    let stage = Stage::new(&Setup::default()).await;
    let image = image::single("linux/amd64", [noise(blob_bytes, bounds.seed)]);
    stage.world.push_signed(REPOSITORY, "latest", &image);
    let truth = Truth::of(REPOSITORY, "latest", &image);
    let (mut random, size) = (Random::new(bounds.seed), blob_bytes as u64);
    for round in bounds.each() {
        let at = match round {
            0 => 0,
            1 => size.saturating_sub(1),
            2 => size / 2,
            _ => random.below(size),
        };
        let outcome = corrupted_at(&stage, &truth, at, round).await;
        say(&format!(
            "{round:>5}  byte {at} of {size}  {}",
            outcome.as_ref().map_or_else(Clone::clone, |()| {
                "no answer was complete, nothing was stored, and it was fetched again".to_owned()
            })
        ));
        tally.count(outcome.map_err(|why| failed(&format!("corrupted at {at}"), why)));
    }
    tally
}

async fn corrupted_at(stage: &Stage, truth: &Truth, at: u64, round: u64) -> Result<(), String> {
    let registry = &stage.world.registry;
    let store = stage.store(&format!("corrupt-{round}"));
    let process = stage.serve(&store).await?;
    let (client, base) = clients_view(&process);
    for page in truth.pages.iter().filter(|page| !page.is_blob) {
        ask(&client, &base, page, None).await?;
    }
    let layer = truth.largest();
    let path = layer.path.clone();
    let fault = registry.fault(move |call| call.path == path, Fault::Corrupt(at));
    nobody_completes(&client, &base, layer).await?;
    fault.hit(1).await.map_err(|never| never.to_string())?;
    given_up(&process).await?;
    until("an empty ingest/", || ingested(&store, &layer.digest).is_none()).await?;
    if is_stored(&store, &layer.digest) {
        return Err("it was stored".to_owned());
    }
    audit(&store, Leftovers::Refused)?;
    fault.clear();
    let mended = ask(&client, &base, layer, None).await?;
    if mended != Got::Whole {
        return Err(format!("{mended:?} when upstream was right again"));
    }
    ended_well(&process.terminate().await.map_err(|silent| silent.to_string())?)?;
    audit(&store, Leftovers::Refused)?;
    stage.discard(&store)
}

/// Several clients at once: the whole, parts with and without the flipped byte, the very first and the very last byte.
async fn nobody_completes(client: &Client, base: &str, layer: &Page) -> Result<(), String> {
    let size = layer.bytes.len() as u64;
    let parts = [0..1000, 0..1, size - 1..size, size / 2..size / 2 + 1000, 0..size];
    let ranges: Vec<Option<Range<u64>>> = [None, None].into_iter().chain(parts.map(Some)).collect();
    let asked = ranges.iter().map(|range| ask(client, base, layer, range.clone()));
    for (got, range) in join_all(asked).await.into_iter().zip(&ranges) {
        let got = got?;
        if got.is_complete() {
            // Right bytes, and yet too early: nobody could know that the blob is right, and it is not.
            return Err(format!("{range:?} was answered completely: {got:?}"));
        }
    }
    Ok(())
}

/// The download has ended, and said why.
async fn given_up(process: &Process) -> Result<(), String> {
    let told = |entry: &Value| entry["message"].as_str().is_some_and(|text| text.starts_with("fill failed"));
    process.logged("that the download failed", told).await.map(drop).map_err(|silent| silent.to_string())
}

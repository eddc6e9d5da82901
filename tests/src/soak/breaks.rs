//! An upstream that breaks every connection after a random number of bytes: every pull ends with the right bytes, and nothing to speak
//! of is fetched twice.

use super::{
    Bounds, Got, Say, Stage, Tally, Truth, ask,
    audit::{Leftovers, audit},
    failed,
    stage::{clients_view, ended_well},
};
use crate::{
    image,
    upstream::{Fault, noise},
    world::Setup,
};

const REPOSITORY: &str = "chainguard/breaks";
/// How much may be sent for one byte of content, in tenths.
const TENTHS_MAX: u64 = 12;

/// What is pulled.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The layer's bytes.
    pub blob_bytes: usize,
    /// The most that one answer brings.
    pub most: u64,
}

/// Pulls a layer of its own each round.
pub async fn run(bounds: Bounds, size: Size, say: Say) -> Tally {
    let mut tally = Tally::default();
    for round in bounds.each() {
        let outcome = broken_often(size, bounds.seed.wrapping_add(round)).await;
        say(&match &outcome {
            Ok(told) => format!("{round:>5}  {told}"),
            Err(why) => format!("{round:>5}  {why}"),
        });
        tally.count(outcome.map(drop).map_err(|why| failed(&format!("round {round}, seed {}", bounds.seed), why)));
    }
    tally
}

async fn broken_often(size: Size, seed: u64) -> Result<String, String> {
    let stage = Stage::new(&Setup::default()).await;
    let image = image::single("linux/amd64", [noise(size.blob_bytes, seed)]);
    stage.world.push_signed(REPOSITORY, "latest", &image);
    let truth = Truth::of(REPOSITORY, "latest", &image);
    let registry = &stage.world.registry;
    let store = stage.store("broken");
    let process = stage.serve(&store).await?;
    let (client, base) = clients_view(&process);
    for page in truth.pages.iter().filter(|page| !page.is_blob) {
        ask(&client, &base, page, None).await?;
    }
    let layer = truth.largest();
    let path = layer.path.clone();
    let fault = registry.fault(move |call| call.path == path, Fault::Breaks { seed, most: size.most });
    let before = registry.bytes_sent();
    let got = ask(&client, &base, layer, None).await?;
    let (sent, content) = (registry.bytes_sent() - before, size.blob_bytes as u64);
    if got != Got::Whole {
        return Err(format!("{got:?} after {} answers", fault.hits()));
    }
    if sent > content * TENTHS_MAX / 10 {
        return Err(format!("upstream sent {sent} bytes for {content}"));
    }
    ended_well(&process.terminate().await.map_err(|silent| silent.to_string())?)?;
    audit(&store, Leftovers::Refused)?;
    Ok(format!("{content} bytes in {} answers, {sent} sent", fault.hits()))
}

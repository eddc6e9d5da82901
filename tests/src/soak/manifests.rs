//! How much memory large manifests cost that many clients pull at one time.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use oci::Digest;
use tokio::time::{sleep, timeout};

use super::{
    Bounds, Say, Stage, Tally, failed,
    memory::in_mib,
    stage::{clients_view, ended_well},
};
use crate::{
    client::Client,
    image::{Builder, Image},
    upstream::noise,
    world::Setup,
};

const REPOSITORY: &str = "chainguard/large";
/// Below `limits.manifest_bytes_max`, which is 4 MiB.
const MANIFEST_BYTES: usize = 4_100_000;
/// `limits.manifest_memory_bytes_max`, MiB: without a cache of manifests, so that what it holds is of those under way.
const ROOM_MIB: u64 = 64;
/// What may be in memory besides for each MiB of that: what is read of the documents, and what their connections have of them.
const BESIDES: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(900);
/// Before a client that was told to come again does.
const PAUSE: Duration = Duration::from_millis(500);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How many manifests there are.
    pub manifests: usize,
    /// How many clients ask for one of them, all at one time.
    pub pulls: usize,
}

impl Size {
    /// A thousand pulls of 250 manifests.
    pub const FULL: Self = Self { manifests: 250, pulls: 1000 };
}

/// Each round on a fresh pratique.
pub async fn run(bounds: Bounds, size: Size, say: Say) -> Tally {
    let room = format!(
        "[limits]\nmanifest_memory_bytes_max = \"{ROOM_MIB}MiB\"\nmanifest_cache_bytes_max = \"1MiB\"\nqueue_timeout = \"5s\"\n"
    );
    let stage = Stage::new(&Setup::default().sections(&room)).await;
    let padding = "x".repeat(MANIFEST_BYTES);
    let images: Vec<_> = (0..size.manifests as u64)
        .map(|number| {
            let image = Builder::new("linux/amd64").layer(noise(100, number)).annotation("padding", &padding).build();
            stage.world.push_signed(REPOSITORY, &format!("v{number}"), &image);
            image
        })
        .collect();
    let mut tally = Tally::default();
    for round in bounds.each() {
        tally.count(pulled(&stage, &images, size, round, say).await);
    }
    tally
}

async fn pulled(stage: &Stage, images: &[Image], size: Size, round: u64, say: Say) -> Result<(), String> {
    let store = stage.store(&format!("manifests-{round}"));
    let process = stage.serve(&store).await?;
    let before = process.resident_peak()?;
    let (_, base) = clients_view(&process);
    let base = Arc::new(format!("{base}/v2/{REPOSITORY}/manifests"));
    let pulls = images.iter().cycle().take(size.pulls).map(|image| {
        let (base, digest) = (Arc::clone(&base), image.digest.clone());
        tokio::spawn(async move { pull(&base, &digest).await })
    });
    let ended = timeout(PATIENCE, join_all(pulls)).await.map_err(|_| "clients still wait".to_owned())?;
    let mut again = 0;
    for outcome in ended {
        again += outcome.map_err(|error| error.to_string())??;
    }
    let above = process.resident_peak()?.saturating_sub(before);
    say(&format!(
        "{} pulls of {} manifests of {} at one time: {} above idle with room for {ROOM_MIB} MiB; clients were told {again} times to come again",
        size.pulls,
        size.manifests,
        in_mib(MANIFEST_BYTES as u64),
        in_mib(above),
    ));
    ended_well(&process.terminate().await.map_err(|silent| silent.to_string())?)?;
    stage.discard(&store)?;
    let above_max = (ROOM_MIB * (1 + BESIDES)) << 20;
    if above <= above_max { Ok(()) } else { Err(format!("at most {} are allowed", in_mib(above_max))) }
}

/// Asks until the manifest is there, all of it; how often it was told to come again.
async fn pull(base: &str, digest: &Digest) -> Result<usize, String> {
    let (client, url) = (Client::plain(), format!("{base}/{digest}"));
    let mut again = 0;
    loop {
        let answer = client.get(&url, &[]).await.map_err(|error| failed("a pull", error))?;
        match answer.status.as_u16() {
            200 if !answer.is_broken() && Digest::sha256(answer.received()) == *digest => return Ok(again),
            429 | 503 => again += 1,
            status => return Err(format!("{status}: {}", answer.text())),
        }
        sleep(PAUSE).await;
    }
}

//! A working set twice the byte budget, pulled in random order.
//!
//! After each pull: every byte of it was right, whatever had left the store. All the while: the layers in the store are never more than
//! the budget and what is on its way in, and what is on its way in is never more than the clients ask for.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::future::join_all;
use oci::Digest;

use super::{
    Bounds, Got, Random, Say, Stage, Tally, Truth, ask, failed,
    stage::{clients_view, ended_well},
};
use crate::{client::Client, image, process::Process, upstream::noise, world::Setup};

const IMAGES: u64 = 100;
/// Layers that several images share.
const BASES: u64 = 10;
/// Pulls at the same time.
const CLIENTS: u64 = 8;
const LAYER_BYTES_MIN: u64 = 32 << 10;
const LAYER_BYTES_MAX: u64 = 128 << 10;

/// Pulls as often as `bounds` say.
pub async fn run(bounds: Bounds, say: Say) -> Tally {
    let mut tally = Tally::default();
    let mut random = Random::new(bounds.seed);
    let (sizes, layers) = layers(&mut random);
    let working_set: u64 = sizes.iter().sum();
    let budget = working_set / 2;
    let setup = Setup { storage: format!("max_bytes = {budget}"), ..Setup::default() };
    let stage = Stage::new(&setup).await;
    let truths = push(&stage, &layers);
    let store = stage.store("quota");
    let process = match stage.serve(&store).await {
        Ok(process) => process,
        Err(why) => {
            tally.count(Err(why));
            return tally;
        }
    };
    say(&format!("{IMAGES} images, {working_set} bytes of layers, a budget of {budget}"));
    let known = layers.iter().map(|layer| Digest::sha256(layer).hex().to_owned()).collect();
    let watch = Watch {
        store: store.clone(),
        known,
        peak: AtomicU64::new(0),
        arriving: AtomicU64::new(0),
        ended: AtomicBool::new(false),
    };
    let watch = Arc::new(watch);
    let watching = tokio::task::spawn_blocking({
        let watch = Arc::clone(&watch);
        move || watch.run()
    });
    tally.add(pulls(bounds, &process, &truths, random, say).await);
    watch.ended.store(true, Ordering::Relaxed);
    let looks = watching.await.unwrap_or_default();
    let (peak, in_flight) = (watch.peak.load(Ordering::Relaxed), CLIENTS * LAYER_BYTES_MAX);
    let arriving = watch.arriving.load(Ordering::Relaxed);
    say(&format!("at most {peak} bytes of layers in {looks} looks; budget {budget}, and {in_flight} on their way in"));
    tally.check(looks > 0 && peak > budget / 2 && peak <= budget + in_flight, || {
        format!("{peak} bytes of layers were in the store, budget {budget}, at most {in_flight} on their way in ({looks} looks)")
    });
    say(&format!("at most {arriving} bytes of them on their way in"));
    tally.check(arriving > 0 && arriving <= in_flight, || {
        format!("{arriving} bytes of layers were on their way in, {CLIENTS} clients ask for at most {in_flight}")
    });
    let refetched = stage.world.registry.calls().len();
    say(&format!("{refetched} calls to upstream"));
    tally.count(match process.terminate().await {
        Ok(ended) => ended_well(&ended),
        Err(silent) => Err(silent.to_string()),
    });
    tally
}

/// The bases first, then one for each image.
fn layers(random: &mut Random) -> (Vec<u64>, Vec<bytes::Bytes>) {
    let sizes: Vec<u64> =
        (0..BASES + IMAGES).map(|_| LAYER_BYTES_MIN + random.below(LAYER_BYTES_MAX - LAYER_BYTES_MIN)).collect();
    let layers = sizes.iter().zip(1..).map(|(size, seed)| noise(usize::try_from(*size).unwrap_or_default(), seed));
    let layers = layers.collect();
    (sizes, layers)
}

fn push(stage: &Stage, layers: &[bytes::Bytes]) -> Vec<Truth> {
    let (bases, own) = layers.split_at(usize::try_from(BASES).unwrap_or_default());
    own.iter()
        .zip(bases.iter().cycle())
        .enumerate()
        .map(|(number, (own, base))| {
            // Some share a repository: what leaves for one is needed by the other.
            let repository = format!("chainguard/quota-{}", number % 7);
            let tag = format!("v{number}");
            let image = image::single("linux/amd64", [base.clone(), own.clone()]);
            stage.world.push_signed(&repository, &tag, &image);
            Truth::of(&repository, &tag, &image)
        })
        .collect()
}

async fn pulls(bounds: Bounds, process: &Process, truths: &[Truth], mut random: Random, say: Say) -> Tally {
    let order: std::sync::Mutex<Box<dyn Iterator<Item = (u64, usize)> + Send>> =
        std::sync::Mutex::new(Box::new(bounds.each().map(move |number| (number, random.index(truths.len())))));
    let (client, base) = clients_view(process);
    let next = || order.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
    let worker = || async {
        let mut tally = Tally::default();
        while let Some((number, chosen)) = next() {
            let Some(truth) = truths.get(chosen) else { break };
            tally.count(pull(&client, &base, truth).await.map_err(|why| failed(&format!("pull {number}"), why)));
            if number % 1000 == 999 {
                say(&format!("{:>6} pulls", number + 1));
            }
        }
        tally
    };
    let mut tally = Tally::default();
    for one in join_all((0..CLIENTS).map(|_| worker())).await {
        tally.add(one);
    }
    tally
}

async fn pull(client: &Client, base: &str, truth: &Truth) -> Result<(), String> {
    for page in &truth.pages {
        match ask(client, base, page, None).await? {
            Got::Whole => {}
            other => return Err(format!("{}: {other:?}", page.path)),
        }
    }
    Ok(())
}

/// Looks into the store from outside, again and again.
struct Watch {
    store: PathBuf,
    /// Names of layers.
    known: HashSet<String>,
    peak: AtomicU64,
    /// The same of those on their way in, interrupted ones among them.
    arriving: AtomicU64,
    ended: AtomicBool,
}

impl Watch {
    /// How often it has looked.
    fn run(&self) -> u64 {
        let mut looks = 0;
        while !self.ended.load(Ordering::Relaxed) {
            self.peak.fetch_max(self.bytes(&self.store.join("blobs/sha256")), Ordering::Relaxed);
            self.arriving.fetch_max(self.bytes(&self.store.join("ingest")), Ordering::Relaxed);
            looks += 1;
            std::thread::yield_now();
        }
        looks
    }

    fn bytes(&self, directory: &Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
        let layers = entries.filter_map(Result::ok).filter(|entry| self.is_layer(&entry.file_name().to_string_lossy()));
        // What has left since its name was read has no size.
        layers.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
    }
    /// By its name in the store, or that of its beginning: `sha256-<hex>.<size>.part`.
    fn is_layer(&self, name: &str) -> bool {
        let name = name.strip_prefix("sha256-").unwrap_or(name);
        self.known.contains(name.split('.').next().unwrap_or(name))
    }
}

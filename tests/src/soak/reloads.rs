//! Many clients that pull many images without pause while policy and trust root change under them.
//!
//! ```text
//!   regime 0 ── SIGHUP ──> regime 1 ── SIGHUP ──> …          an image of each kind: which regimes let it in
//!      │                      │
//!   pulls of all images    pulls of all images               an answer is right if a regime says so that was in force, or was
//!                                                            being taken into force, between its beginning and its end
//! ```
//!
//! From the line in the log on that tells the reload no answer begins that the new regime does not give, bodies under way that it does not
//! let in break within a second, and upstream is asked for no manifest, signature or tag: all is judged from what is stored.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use http::Method;
use oci::Digest;
use serde_json::Value;
use tokio::{
    runtime::{self, Runtime},
    sync::watch,
    time::timeout,
};

use super::{Page, Random, Say, Stage, Tally, Truth, failed, stage::ended_well};
use crate::{
    client::{Client, Open},
    image::{self, Image},
    policies,
    process::Process,
    sigstore::{Options, Signer, VirtualSigstore},
    upstream::noise,
    world::Setup,
};

/// More than sockets hold: a body of this many bytes is under way until somebody reads it.
const LARGE_BYTES: usize = 24 << 20;
/// The first images, at least one of each kind, are large, and nobody pulls them but whoever looks at bodies.
const LARGE: usize = 4;
/// Bodies of each kind that are under way while the regime changes.
const BODIES: usize = 2;
/// After the line that tells the reload. Each change tells how long it took beside what is wanted.
const BREAKS_WITHIN: Duration = Duration::from_secs(1);
/// What chance may add to that: the clients are on the same machine, and it is busy.
const SLACK: Duration = Duration::from_secs(4);
/// For so many pulls; only what hangs takes so long.
const PATIENCE: Duration = Duration::from_secs(300);

/// How much is asked for at one time.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Each pulls image after image.
    pub clients: usize,
    /// In all, at least [`IMAGES_MIN`](Self::IMAGES_MIN).
    pub images: usize,
}

impl Size {
    /// With fewer there are none for clients to pull, and nothing to wait for.
    pub const IMAGES_MIN: usize = LARGE + 1;
}

/// What is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Regime {
    /// Whether the fork's identity is accepted besides Chainguard's.
    wide: bool,
    /// Whether another Sigstore is trusted besides the usual one.
    both_roots: bool,
    /// `pratique.dev/on-refusal: last-good`.
    last_good: bool,
}

const ALL: Regime = Regime { wide: true, both_roots: true, last_good: false };
/// Each with what is told of it; every second one is the way back.
const REGIMES: [(&str, Regime); 7] = [
    ("all is let in", ALL),
    ("an identity is removed from the policy", Regime { wide: false, ..ALL }),
    ("all is let in", ALL),
    ("the trust root loses a Sigstore", Regime { both_roots: false, ..ALL }),
    ("all is let in, the last good image is kept", Regime { last_good: true, ..ALL }),
    ("an identity is removed, the last good image is kept", Regime { wide: false, last_good: true, ..ALL }),
    ("all is let in", ALL),
];

/// Who signed an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Chainguard: passes always.
    Ours,
    /// The fork. Its tag has led to one of ours before.
    Fork,
    /// Chainguard, by the other Sigstore.
    Elsewhere,
}

/// What a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    This,
    /// What the tag led to before.
    Kept,
    Refused,
    Broken,
    Other(String),
}

/// What is in force, by its place among [`REGIMES`]: while it changes, two of them.
#[derive(Debug, Clone, Copy)]
struct Now {
    from: usize,
    to: usize,
}

struct Part {
    kind: Kind,
    truth: Truth,
    /// What its tag led to before.
    before: Option<Digest>,
}

/// All regimes, one after the other.
pub async fn run(size: Size, seed: u64, say: Say) -> Tally {
    let mut tally = Tally::default();
    let outcome = match Box::pin(Campaign::start(size, seed)).await {
        Ok(campaign) => Box::pin(campaign.run(&mut tally, say)).await,
        Err(why) => Err(why),
    };
    if let Err(why) = outcome {
        tally.count(Err(why));
    }
    tally
}

/// Threads for bodies under way: what the clients do beside them is not to delay what is measured.
struct Aside(Option<Runtime>);

impl Aside {
    fn start() -> Result<Self, String> {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(|error| failed("a thread", error))
    }

    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, String> {
        let runtime = self.0.as_ref().ok_or("no thread for it")?;
        runtime.spawn(work).await.map_err(|error| failed("a body", error))
    }
}

impl Drop for Aside {
    /// Without waiting: that is forbidden to whoever serves others.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

struct Campaign {
    stage: Stage,
    process: Process,
    /// Trusted by some regimes.
    other: VirtualSigstore,
    parts: Arc<Vec<Part>>,
    aside: Aside,
    size: Size,
    seed: u64,
}

impl Campaign {
    /// Everything is pulled once, so that all is stored that anybody will ask for.
    async fn start(size: Size, seed: u64) -> Result<Self, String> {
        let stage = Stage::new(&setup(ALL, "1ms")).await;
        let other = VirtualSigstore::new();
        let store = stage.store("reloads");
        write(&stage, &other, ALL, "1ms");
        let process = stage.serve(&store).await?;
        let mut campaign = Self { stage, process, other, parts: Arc::default(), aside: Aside::start()?, size, seed };
        let parts = campaign.push().await?;
        let (client, base) = (Client::plain(), campaign.base());
        for part in &parts {
            for page in &part.truth.pages {
                let told = told(&client, &base, page, None).await;
                if told != Told::This {
                    return Err(format!("before any reload: {told:?} for {}", page.path));
                }
            }
        }
        campaign.parts = Arc::new(parts);
        write(&campaign.stage, &campaign.other, ALL, "1h");
        campaign.process.reload().await.map_err(|why| failed("reload", why))?;
        campaign.stage.world.registry.clear_calls();
        Ok(campaign)
    }

    fn base(&self) -> String {
        format!("http://{}", self.process.address)
    }

    /// Half of them ours, a quarter from elsewhere, and a quarter under tags that led to ours and lead to the fork's; one of each is large.
    async fn push(&self) -> Result<Vec<Part>, String> {
        let (mut random, mut parts) = (Random::new(self.seed), Vec::new());
        let kinds = [Kind::Ours, Kind::Elsewhere, Kind::Fork, Kind::Ours];
        let (client, base) = (Client::plain(), self.base());
        for number in 0..self.size.images.max(kinds.len()) {
            let kind = kinds.get(number % kinds.len()).copied().unwrap_or(Kind::Ours);
            let (repository, tag) = (format!("chainguard/app-{}", number % 10), format!("v{number}"));
            let mut before = None;
            if kind == Kind::Fork {
                let ours = self.push_one(Kind::Ours, (&repository, &tag), noise(1000, random.any()));
                let truth = Truth::of(&repository, &tag, &ours);
                for page in truth.pages.iter().take(1) {
                    let told = told(&client, &base, page, None).await;
                    if told != Told::This {
                        return Err(format!("first under its tag: {told:?} for {}", page.path));
                    }
                }
                before = Some(ours.digest);
            }
            let bytes = if number < LARGE { LARGE_BYTES } else { 1 + random.index(50_000) };
            let image = self.push_one(kind, (&repository, &tag), noise(bytes, random.any()));
            parts.push(Part { kind, truth: Truth::of(&repository, &tag, &image), before });
        }
        Ok(parts)
    }

    fn push_one(&self, kind: Kind, (repository, tag): (&str, &str), layer: bytes::Bytes) -> Image {
        let world = &self.stage.world;
        let image = image::single("linux/amd64", [layer]);
        image.push(&world.registry, repository, Some(tag));
        let (sigstore, signer) = match kind {
            Kind::Ours => (&world.sigstore, Signer::chainguard()),
            Kind::Fork => (&world.sigstore, Signer::fork()),
            Kind::Elsewhere => (&self.other, Signer::chainguard()),
        };
        let name = format!("cgr.dev/{repository}");
        let signature = sigstore.sign_legacy(&signer, &name, &image.digest, &Options::default());
        let tag = image::cosign_tag(&image.digest, "sig");
        image::signature_manifest(&[signature]).push(&world.registry, repository, Some(&tag));
        image
    }

    async fn run(self, tally: &mut Tally, say: Say) -> Result<(), String> {
        let now = watch::Sender::new(Now { from: 0, to: 0 });
        let (pulled, over) = (watch::Sender::new(0_usize), Arc::new(AtomicBool::new(false)));
        let mut random = Random::new(self.seed);
        let clients: Vec<_> = (0..self.size.clients)
            .map(|_| {
                let (parts, over, random) = (Arc::clone(&self.parts), Arc::clone(&over), Random::new(random.any()));
                tokio::spawn(pull(self.base(), parts, now.subscribe(), pulled.clone(), over, random))
            })
            .collect();
        // In all as many pulls as there are clients and images.
        let share = (self.size.clients * self.size.images).div_ceil(REGIMES.len());
        let outcome = async {
            self.pulls(&pulled, share).await?;
            for to in 1..REGIMES.len() {
                self.change(&now, to, tally, say).await?;
                self.pulls(&pulled, share).await?;
            }
            Ok(())
        };
        let outcome: Result<(), String> = outcome.await;
        over.store(true, Ordering::SeqCst);
        for client in join_all(clients).await {
            tally.add(client.map_err(|error| failed("a client", error))?);
        }
        outcome?;
        let calls = self.stage.world.registry.count(|call| !call.is_blob() && !call.is_storage());
        let pulls = *pulled.borrow();
        say(&format!(
            "{pulls} pulls of {} images by {} clients; upstream was asked {calls} times",
            self.size.images, self.size.clients
        ));
        tally.check(calls == 0, || format!("{calls} requests to upstream, although all was stored"));
        ended_well(&self.process.terminate().await.map_err(|silent| silent.to_string())?)
    }

    /// Waits until clients have pulled so many more images.
    async fn pulls(&self, pulled: &watch::Sender<usize>, more: usize) -> Result<(), String> {
        let mut seen = pulled.subscribe();
        let target = *seen.borrow() + more;
        let enough = timeout(PATIENCE, seen.wait_for(|pulls| *pulls >= target)).await;
        enough.map_err(|_| "clients do not get on".to_owned())?.map_err(|error| failed("pulls", error)).map(|_| ())
    }

    /// SIGHUP, with bodies under way.
    async fn change(&self, now: &watch::Sender<Now>, to: usize, tally: &mut Tally, say: Say) -> Result<(), String> {
        let from = to.saturating_sub(1);
        let (Some((_, old)), Some((what, new))) = (REGIMES.get(from), REGIMES.get(to)) else { return Ok(()) };
        let mut bodies = Vec::new();
        for part in self.parts.iter().take(LARGE).filter(|part| part.expected(*old, false) == Told::This) {
            for _ in 0..BODIES {
                let (base, page) = (self.base(), part.truth.largest().clone());
                bodies.push((part, self.aside.run(async move { open(&base, &page).await }).await??));
            }
        }
        write(&self.stage, &self.other, *new, "1h");
        now.send_replace(Now { from, to });
        let asked = Instant::now();
        self.process.reload().await.map_err(|why| failed("reload", why))?;
        let told = Instant::now();
        now.send_replace(Now { from: to, to });
        // Those that are to break first: what sockets hold has to be read until that shows, and nothing else is to delay it.
        let (pass, break_off): (Vec<_>, Vec<_>) =
            bodies.into_iter().partition(|(part, _)| part.expected(*new, false) == Told::This);
        let mut last = Duration::ZERO;
        for (bodies, passes) in [(break_off, false), (pass, true)] {
            let ends = bodies.into_iter().map(|(part, body)| async move {
                let end = self.aside.run(async move { (is_whole(body).await, told.elapsed()) }).await;
                end.map(|(complete, after)| (part.kind, complete, after))
            });
            let ends = timeout(PATIENCE, join_all(ends)).await.map_err(|_| "bodies under way do not end".to_owned())?;
            for end in ends {
                let (kind, complete, after) = end?;
                tally.check(passes == complete, || {
                    format!("{what}: of a body of {kind:?} under way, complete is {complete}")
                });
                if !passes {
                    last = last.max(after);
                    tally.check(after < BREAKS_WITHIN + SLACK, || {
                        format!("{what}: a body of {kind:?} broke only after {after:?}")
                    });
                }
            }
        }
        let took = told.duration_since(asked).as_millis();
        say(&format!(
            "{to:>3}  {what}: told after {took} ms, bodies broke within {} ms of that, wanted within {} ms",
            last.as_millis(),
            BREAKS_WITHIN.as_millis()
        ));
        Ok(())
    }
}

impl Part {
    /// What a regime answers, under its tag or by digest.
    fn expected(&self, regime: Regime, by_tag: bool) -> Told {
        let passes = match self.kind {
            Kind::Ours => true,
            Kind::Fork => regime.wide,
            Kind::Elsewhere => regime.both_roots,
        };
        if passes {
            Told::This
        } else if by_tag && regime.last_good && self.before.is_some() {
            Told::Kept
        } else {
            Told::Refused
        }
    }

    /// Whether an answer may be given that began at one moment and ended at another.
    fn may_be(&self, page: &Page, by_tag: bool, (before, after): (Now, Now), told: &Told) -> bool {
        let between = REGIMES.iter().take(after.to + 1).skip(before.from);
        let mut expected = between.map(|(_, regime)| self.expected(*regime, by_tag));
        if *told == Told::Broken {
            return page.is_blob && expected.any(|it| it == Told::Refused);
        }
        expected.any(|it| it == *told)
    }
}

/// One client: image after image, each as a pull asks for it, in an order of its own.
async fn pull(
    base: String,
    parts: Arc<Vec<Part>>,
    now: watch::Receiver<Now>,
    pulled: watch::Sender<usize>,
    over: Arc<AtomicBool>,
    mut random: Random,
) -> Tally {
    let (client, mut tally) = (Client::plain(), Tally::default());
    let small: Vec<_> = parts.iter().skip(LARGE).collect();
    while !over.load(Ordering::SeqCst) {
        let Some(part) = random.pick(&small) else { break };
        for (place, page) in part.truth.pages.iter().enumerate() {
            let before = *now.borrow();
            let told = told(&client, &base, page, part.before.as_ref()).await;
            let moments = (before, *now.borrow());
            tally.check(part.may_be(page, place == 0, moments, &told), || {
                format!("{:?}, {moments:?}: {told:?} for {}", part.kind, page.path)
            });
        }
        pulled.send_modify(|pulls| *pulls += 1);
    }
    tally
}

async fn told(client: &Client, base: &str, page: &Page, before: Option<&Digest>) -> Told {
    let open = match client.open(Method::GET, &format!("{base}{}", page.path), &[]).await {
        Ok(open) => open,
        Err(error) => return Told::Other(error.to_string()),
    };
    let (status, drained) = (open.status.as_u16(), open.drain().await);
    match status {
        200 if !drained.complete => Told::Broken,
        200 if drained.digest == page.digest => Told::This,
        200 if Some(&drained.digest) == before => Told::Kept,
        200 => Told::Other(format!("complete with {}", drained.digest)),
        403 => Told::Refused,
        status => Told::Other(format!("status {status}")),
    }
}

/// A body that has begun, over a connection of its own.
async fn open(base: &str, page: &Page) -> Result<Open, String> {
    let url = format!("{base}{}", page.path);
    let mut open = Client::plain().open(Method::GET, &url, &[]).await.map_err(|error| failed(&url, error))?;
    if open.status != http::StatusCode::OK {
        return Err(format!("{} for {url}", open.status));
    }
    open.chunk().await.map_err(|error| failed(&url, error))?;
    Ok(open)
}

/// Reads to the end, and whether that was the proper one.
async fn is_whole(mut body: Open) -> bool {
    loop {
        match body.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fn setup(regime: Regime, tags_ttl: &str) -> Setup {
    let (ours, fork) = (Signer::chainguard(), Signer::fork());
    let narrow = policies::keyless("release", "cgr.dev/chainguard/**", &ours.issuer, &ours.subject);
    let policy = if regime.wide { policies::or_by(&narrow, &fork) } else { narrow };
    let kept = if regime.last_good { "last-good" } else { "deny" };
    Setup::with_policy(&policies::annotated(&policy, [format!("pratique.dev/on-refusal: {kept}")]))
        .sections(&format!("[tags]\nttl = \"{tags_ttl}\"\n[verdicts]\nabsent_ttl = \"1h\"\nrefused_ttl = \"1h\"\n"))
}

/// Configuration, policy and trust root of a regime.
fn write(stage: &Stage, other: &VirtualSigstore, regime: Regime, tags_ttl: &str) {
    stage.world.write(&setup(regime, tags_ttl));
    if regime.both_roots {
        let both = both(&stage.world.sigstore.trusted_root_json(), &other.trusted_root_json());
        std::fs::write(stage.world.directory.path().join("trusted_root.json"), both)
            .expect("a file in a temporary directory");
    }
}

/// One trust root that trusts what each of two does.
fn both(one: &str, other: &str) -> String {
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("a trust root is JSON");
    let (mut all, other) = (parse(one), parse(other));
    for name in ["tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities"] {
        let more = other.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(list) = all.get_mut(name).and_then(Value::as_array_mut) {
            list.extend(more);
        }
    }
    all.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_may_not_be_given_are_told() {
        let image = image::single("linux/amd64", [noise(9, 1)]);
        let part = |kind| {
            let before = (kind == Kind::Fork).then(|| Digest::sha256(b"before"));
            Part { kind, truth: Truth::of("a/b", "t", &image), before }
        };
        let still = |at| (Now { from: at, to: at }, Now { from: at, to: at });
        let across = |from, to| (Now { from, to: from }, Now { from: to, to });
        // 1: the fork's are refused; 3: those from elsewhere; 5: the fork's, and their tags are kept.
        for (kind, moments, told, blob, by_tag, may) in [
            (Kind::Ours, still(0), Told::This, false, true, true),
            (Kind::Ours, across(0, 1), Told::Refused, false, true, false),
            (Kind::Ours, across(0, 1), Told::Broken, true, false, false),
            (Kind::Fork, still(0), Told::This, true, false, true),
            (Kind::Fork, still(1), Told::This, false, true, false),
            (Kind::Fork, still(1), Told::Kept, false, true, false),
            (Kind::Fork, across(0, 1), Told::Broken, true, false, true),
            (Kind::Fork, across(0, 1), Told::Broken, false, false, false),
            (Kind::Fork, still(5), Told::Kept, false, true, true),
            (Kind::Fork, still(5), Told::Refused, false, true, false),
            (Kind::Fork, still(5), Told::This, true, false, false),
            (Kind::Elsewhere, still(3), Told::This, true, false, false),
            (Kind::Elsewhere, still(5), Told::Refused, false, true, false),
            (Kind::Elsewhere, still(0), Told::Other("status 503".to_owned()), false, true, false),
        ] {
            let part = part(kind);
            let page = part.truth.pages.iter().find(|page| page.is_blob == blob).unwrap();
            assert_eq!(part.may_be(page, by_tag, moments, &told), may, "{kind:?} {moments:?} {told:?}");
        }
    }
}

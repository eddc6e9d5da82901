//! Many clients, many images, policies that come and go, an upstream of whose answers some are flawed; one process all the time.
//!
//! ```text
//!  round:  push fresh images ─ clients pull them, all at once ─ prune ─ look at the process
//!              signed by Chainguard    passes under both policies          memory does not grow
//!              signed by a fork        passes under the wide policy only   no connection is left
//!              not signed              never passes
//!          beside them, SIGHUP goes back and forth between the policies
//! ```
//!
//! Whatever happens, no wrong byte completes and nothing unsigned is served. In rounds without faults, what passes is served at the
//! first try; where no reload came between, the answer is the one that the policy in force gives. After the others it is served at last.

mod course;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use course::Course;

use super::{
    Bounds, Got, Page, Random, Say, Stage, Tally, Truth, ask,
    audit::{Leftovers, audit},
    failed,
    stage::ended_well,
};
use crate::{
    client::Client,
    image::{self, Image, bundle_referrer},
    policies,
    process::Process,
    sigstore::{Options, Signer},
    upstream::{Fault, noise},
    world::Setup,
};

const RELOADS: usize = 3;
/// Of a hundred answers of upstream in a round in which it misbehaves, so many are flawed.
const FLAWED_PERCENT: u64 = 10;
const STORE: &str = "load";
/// A round takes seconds; one that takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(180);

/// How much is asked for at one time, and of what upstream.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Each pulls every image of a round.
    pub clients: usize,
    /// Of each of three kinds, in each round.
    pub images: usize,
    /// One round of so many is one in which upstream is well; none where it is 0.
    pub well_every: u64,
}

impl Size {
    /// 16 clients, 12 images, upstream well in every other round.
    pub const USUAL: Self = Self { clients: 16, images: 4, well_every: 2 };

    fn is_faulty(self, round: u64) -> bool {
        round.checked_rem(self.well_every) != Some(0)
    }
}

/// What upstream has answered in rounds in which it misbehaves, and how much of it was flawed.
#[derive(Debug, Default)]
struct Answers {
    all: AtomicU64,
    flawed: AtomicU64,
}

/// Who signed an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Chainguard,
    Fork,
    Nobody,
}

/// Which policy is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Regime {
    /// Chainguard's identity.
    Narrow,
    /// Chainguard's and the fork's.
    Wide,
}

/// What a client may know about the policy: the regime, and how often it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InForce {
    changes: u64,
    /// None while a reload is under way.
    regime: Option<Regime>,
}

#[derive(Clone)]
struct Part {
    kind: Kind,
    truth: Truth,
    image: Image,
}

/// Rounds of pulls until a bound is reached.
pub async fn run(bounds: Bounds, size: Size, say: Say) -> Tally {
    let mut tally = Tally::default();
    let mut campaign = match Campaign::start(bounds.seed, size).await {
        Ok(campaign) => campaign,
        Err(why) => {
            tally.count(Err(why));
            return tally;
        }
    };
    for round in bounds.each() {
        let found = timeout(PATIENCE, campaign.round(round)).await;
        let found = found.unwrap_or_else(|_| Err("the round did not end".to_owned()));
        match found {
            Ok(found) => {
                let shape = if size.is_faulty(round) { "upstream misbehaves" } else { "upstream is well" };
                say(&format!("{round:>5}  {shape}: {found}"));
                // The others are told in the end.
                found.failures().iter().take(3).for_each(|failure| say(&format!("       {failure}")));
                tally.add(found);
                tally.count(campaign.looked(say).await);
            }
            Err(why) => {
                // Without a process or a store there is nothing to go on with.
                tally.count(Err(failed(&format!("round {round}"), why)));
                return tally;
            }
        }
    }
    let Answers { all, flawed } = campaign.answers.as_ref();
    let (all, flawed) = (all.load(Ordering::Relaxed), flawed.load(Ordering::Relaxed));
    say(&format!("of {all} answers of an upstream that misbehaves {flawed} were flawed"));
    say(&campaign.course.to_string());
    tally.count(campaign.course.judge());
    tally.count(campaign.end().await);
    tally
}

struct Campaign {
    stage: Stage,
    process: Option<Process>,
    regime: Regime,
    random: Random,
    size: Size,
    answers: Arc<Answers>,
    course: Course,
    in_force: watch::Sender<InForce>,
}

impl Campaign {
    async fn start(seed: u64, size: Size) -> Result<Self, String> {
        let stage = Stage::new(&setup(Regime::Narrow)).await;
        let process = stage.serve(&stage.store(STORE)).await?;
        let now = InForce { changes: 0, regime: Some(Regime::Narrow) };
        Ok(Self {
            stage,
            process: Some(process),
            regime: Regime::Narrow,
            random: Random::new(seed),
            size,
            answers: Arc::default(),
            course: Course::default(),
            in_force: watch::Sender::new(now),
        })
    }

    async fn round(&mut self, round: u64) -> Result<Tally, String> {
        let is_faulty = self.size.is_faulty(round);
        let parts = self.push(round);
        let process = self.process.as_ref().ok_or("no process")?;
        let base = format!("http://{}", process.address);
        let done = Arc::new(AtomicBool::new(false));
        let seeds: Vec<_> = (0..self.size.clients).map(|_| self.random.any()).collect();
        let pulls = seeds.into_iter().map(|seed| {
            let (base, parts, seen) = (base.clone(), parts.clone(), self.in_force.subscribe());
            tokio::spawn(pull_all(base, parts, seen, Random::new(seed), is_faulty))
        });
        let pulls: Vec<_> = pulls.collect();
        let clients = async {
            let outcomes = join_all(pulls).await;
            done.store(true, Ordering::SeqCst);
            self.stage.world.registry.clear_faults();
            outcomes
        };
        let reloads = reload_back_and_forth(&self.stage, process, &self.in_force, self.regime);
        if is_faulty {
            mishaps(&self.stage, &self.answers, Random::new(round));
        }
        let (outcomes, reloaded) = tokio::join!(clients, reloads);
        self.regime = reloaded?;
        let mut tally = Tally::default();
        for outcome in outcomes {
            tally.add(outcome.map_err(|error| failed("a client", error))?);
        }
        if is_faulty {
            // What only upstream has comes when the last pause that it asked for is over.
            let fresh = self.push_one(Kind::Chainguard, self.size.images, round);
            recovered(&base, parts.iter().chain([&fresh]), &mut tally).await;
            self.prune(&[fresh]);
        }
        self.prune(&parts);
        Ok(tally)
    }

    /// Images that nobody has pulled before.
    fn push(&mut self, round: u64) -> Vec<Part> {
        let mut parts = Vec::new();
        for number in 0..self.size.images {
            for kind in [Kind::Chainguard, Kind::Fork, Kind::Nobody] {
                parts.push(self.push_one(kind, number, round));
            }
        }
        parts
    }

    fn push_one(&mut self, kind: Kind, number: usize, round: u64) -> Part {
        let world = &self.stage.world;
        let random = &mut self.random;
        // Mostly small, sometimes one that takes several turns.
        let most = if random.once_in(8) { 3_000_000 } else { 200_000 };
        let mut layers =
            |count: usize| (0..count).map(|_| noise(1 + random.index(most), random.any())).collect::<Vec<_>>();
        let image = if number == 0 {
            image::index([image::single("linux/amd64", layers(2)), image::single("linux/arm64", layers(1))])
        } else {
            image::single("linux/amd64", layers(2))
        };
        let repository = format!("chainguard/{kind:?}-{number}").to_lowercase();
        let tag = format!("r{round}");
        image.push(&world.registry, &repository, Some(&tag));
        let signer = match kind {
            Kind::Chainguard => Some(Signer::chainguard()),
            Kind::Fork => Some(Signer::fork()),
            Kind::Nobody => None,
        };
        match signer {
            // Both layouts, in turn.
            Some(signer) if number.is_multiple_of(2) => world.sign(&repository, &image, &signer, &Options::default()),
            Some(signer) => {
                let bundle = world.sigstore.sign_bundle(&signer, &image.digest, &Options::default());
                bundle_referrer(&image.descriptor(), &bundle).push(&world.registry, &repository, None);
            }
            None => {}
        }
        Part { kind, truth: Truth::of(&repository, &tag, &image), image }
    }

    /// Upstream forgets the images of a round; pratique still has them.
    fn prune(&self, parts: &[Part]) {
        let registry = &self.stage.world.registry;
        for part in parts {
            let repository = &part.truth.repository;
            for page in part.truth.blobs() {
                registry.delete_blob(repository, &page.digest);
            }
            for digest in part.image.digests() {
                registry.delete_manifest(repository, &digest);
            }
        }
        registry.clear_calls();
    }

    /// When all clients of a round are gone.
    async fn looked(&mut self, say: Say) -> Result<(), String> {
        let process = self.process.as_ref().ok_or("no process")?;
        self.course.look(process, say).await
    }

    /// Stops in order, and looks through the store.
    async fn end(&mut self) -> Result<(), String> {
        let Some(process) = self.process.take() else { return Ok(()) };
        ended_well(&process.terminate().await.map_err(|silent| silent.to_string())?)?;
        let store = self.stage.store(STORE);
        audit(&store, Leftovers::Interrupted)?;
        self.stage.discard(&store)
    }
}

fn setup(regime: Regime) -> Setup {
    let signer = Signer::chainguard();
    let by = |name: &str| policies::keyless(name, "cgr.dev/chainguard/**", &signer.issuer, &signer.subject);
    let policy = match regime {
        Regime::Narrow => by("narrow"),
        Regime::Wide => policies::or_by(&by("wide"), &Signer::fork()),
    };
    // A stall is noticed before the round's patience ends. What upstream denied or made up for once, a signature or where a tag
    // points, is asked for again.
    // The budgets are those of some hundred rounds: an hour must not fill the disk.
    let setup = Setup::with_policy(&policy).sections(
        "[limits]\nupstream_stall_timeout = \"2s\"\nupstream_response_timeout = \"2s\"\n\
         [tags]\nttl = \"2s\"\n[verdicts]\nabsent_ttl = \"1ms\"\nrefused_ttl = \"1ms\"\n",
    );
    Setup {
        top: format!("{}\nadmin_listen = \"127.0.0.1:0\"", setup.top),
        storage: "max_bytes = \"512MiB\"\nmetadata_max_bytes = \"64MiB\"".to_owned(),
        ..setup
    }
}

/// SIGHUP, and SIGHUP again, while the clients pull. Returns what is in force in the end.
async fn reload_back_and_forth(
    stage: &Stage,
    process: &Process,
    in_force: &watch::Sender<InForce>,
    mut regime: Regime,
) -> Result<Regime, String> {
    for _ in 0..RELOADS {
        let next = if regime == Regime::Narrow { Regime::Wide } else { Regime::Narrow };
        stage.world.write(&setup(next));
        in_force.send_modify(|now| *now = InForce { changes: now.changes + 1, regime: None });
        process.reload().await.map_err(|why| failed("reload", why))?;
        in_force.send_modify(|now| *now = InForce { changes: now.changes + 1, regime: Some(next) });
        regime = next;
        // So that some answers begin and end under it.
        let calls = stage.world.registry.calls().len();
        let more = stage.world.registry.called(calls + 10, |_| true);
        let _ = timeout(Duration::from_millis(300), more).await;
    }
    Ok(regime)
}

/// What goes wrong upstream in a round, call by call.
fn mishaps(stage: &Stage, answers: &Arc<Answers>, mut random: Random) {
    let registry = &stage.world.registry;
    if random.once_in(2) {
        registry.drop_connections();
    }
    let (answers, elsewhere) = (Arc::clone(answers), registry.url());
    registry.misbehave(move |call| {
        if call.path.ends_with("/v2/") {
            return Vec::new();
        }
        answers.all.fetch_add(1, Ordering::Relaxed);
        if random.below(100) >= FLAWED_PERCENT {
            return Vec::new();
        }
        answers.flawed.fetch_add(1, Ordering::Relaxed);
        vec![flaw(&mut random, &elsewhere)]
    });
}

fn flaw(random: &mut Random, elsewhere: &str) -> Fault {
    let possible = [
        Fault::status(503),
        Fault::status(500),
        Fault::status(404),
        Fault::status(401),
        Fault::too_many_requests(1),
        Fault::Disconnect,
        Fault::Corrupt(random.below(200_000)),
        Fault::Truncate(random.below(200_000)),
        Fault::Stall(random.below(200_000)),
        Fault::Trickle { bytes: 20_000 + random.below(50_000), pause: Duration::from_millis(20) },
        Fault::Hang,
        Fault::Endless,
        Fault::IgnoreRange,
        Fault::Length(random.below(1000)),
        Fault::digest_header("sha256:0000000000000000000000000000000000000000000000000000000000000000"),
        Fault::content_type("text/plain"),
        Fault::without_header("content-length"),
        Fault::Gzip,
        Fault::Redirect(elsewhere.to_owned()),
    ];
    random.pick(&possible).cloned().unwrap_or(Fault::Disconnect)
}

/// One client: every image of the round, in an order of its own.
async fn pull_all(
    base: String,
    mut parts: Vec<Part>,
    seen: watch::Receiver<InForce>,
    mut random: Random,
    faulty: bool,
) -> Tally {
    let (client, mut tally) = (Client::plain(), Tally::default());
    random.shuffle(&mut parts);
    for part in &parts {
        let mut known = true;
        for page in &part.truth.pages {
            let before = *seen.borrow();
            let length = page.bytes.len() as u64;
            let range = (page.is_blob && random.once_in(4)).then(|| 0..1 + random.below(length));
            let got = ask(&client, &base, page, range).await;
            let after = *seen.borrow();
            known = known && (page.is_blob || got == Ok(Got::Whole));
            let moment = Moment { regime: before.regime.filter(|_| before == after), faulty, known };
            tally.count(got.and_then(|got| judge(part.kind, moment, got, page)));
        }
    }
    tally
}

/// What held from the request to the end of its answer.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// None where a reload came between.
    regime: Option<Regime>,
    /// Whether upstream misbehaves in this round.
    faulty: bool,
    /// Whether this client has got the manifests that lead here: without them nobody asks for a blob.
    known: bool,
}

/// Whether an answer is one that may be given.
fn judge(kind: Kind, moment: Moment, got: Got, page: &Page) -> Result<(), String> {
    let passes = match (kind, moment.regime) {
        (Kind::Chainguard, _) => Some(true),
        (Kind::Nobody, _) => Some(false),
        (Kind::Fork, Some(regime)) => Some(regime == Regime::Wide),
        // A reload came between: either.
        (Kind::Fork, None) => None,
    };
    let told = || format!("{kind:?}, {moment:?}: {got:?} for {}", page.path);
    match (passes, got) {
        (Some(false), got) if got.is_complete() => Err(format!("served what the policy refuses: {}", told())),
        (Some(false), Got::Status(status)) if !moment.faulty && status != 403 && !(page.is_blob && status == 404) => {
            Err(format!("not served, and yet not refused: {}", told()))
        }
        (Some(true), got) if !moment.faulty && (moment.known || !page.is_blob) && !got.is_complete() => {
            Err(format!("did not serve what passes: {}", told()))
        }
        _ => Ok(()),
    }
}

/// After the faults: what passes is there at last, everything else is still refused.
async fn recovered<'p>(base: &str, parts: impl Iterator<Item = &'p Part>, tally: &mut Tally) {
    let client = Client::plain();
    for part in parts.filter(|part| part.kind == Kind::Chainguard) {
        for page in &part.truth.pages {
            tally.count(at_last(&client, base, page).await);
        }
    }
}

/// Upstream's faults are remembered for a moment: by downloads that were under way and asked again with pauses, and for the second in which
/// it wanted to be left alone.
async fn at_last(client: &Client, base: &str, page: &Page) -> Result<(), String> {
    let mut last = Got::Nothing;
    for _ in 0..50 {
        last = ask(client, base, page, None).await?;
        if last == Got::Whole {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
    Err(format!("upstream is well again, and still {last:?} for {}", page.path))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn answers_that_may_not_be_given_are_told() {
        let image = image::single("linux/amd64", [noise(9, 1)]);
        let pages = Truth::of("a/b", "t", &image).pages;
        let (manifest, blob) = (&pages[0], &pages[2]);
        let moment = |regime, faulty| Moment { regime, faulty, known: true };
        let (narrow, wide) = (moment(Some(Regime::Narrow), false), moment(Some(Regime::Wide), false));
        let (reloading, ill) = (moment(None, false), moment(Some(Regime::Narrow), true));
        let (denied, absent) = (Got::Status(StatusCode::FORBIDDEN), Got::Status(StatusCode::NOT_FOUND));
        for (kind, moment, got, page, may) in [
            (Kind::Chainguard, narrow, Got::Whole, manifest, true),
            (Kind::Chainguard, reloading, denied, manifest, false),
            (Kind::Chainguard, narrow, Got::Broken, blob, false),
            (Kind::Chainguard, ill, Got::Broken, blob, true),
            (Kind::Fork, wide, Got::Whole, manifest, true),
            (Kind::Fork, wide, denied, manifest, false),
            (Kind::Fork, narrow, Got::Whole, manifest, false),
            (Kind::Fork, narrow, Got::Part, blob, false),
            (Kind::Fork, narrow, absent, manifest, false),
            (Kind::Fork, reloading, Got::Whole, manifest, true),
            (Kind::Nobody, wide, denied, manifest, true),
            (Kind::Nobody, wide, absent, blob, true),
            (Kind::Nobody, reloading, Got::Whole, manifest, false),
            (Kind::Nobody, ill, Got::Part, blob, false),
        ] {
            assert_eq!(judge(kind, moment, got, page).is_ok(), may, "{kind:?} {moment:?} {got:?} {}", page.path);
        }
    }
}

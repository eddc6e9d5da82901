//! What goes wrong upstream: moods that last for a while, and in them a fault for this call and none for that.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;

use super::{
    network::{HOSTILE, METADATA, STRANGER},
    record::Record,
    world::{UPSTREAMS, World, is_tls},
};
use crate::{
    soak::Random,
    upstream::{Call, Certificate, Fault, Place, Registry},
};

/// What kind of faults there are at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// None.
    Calm,
    /// Statuses that are no answers.
    Storm,
    /// Bits that are flipped, and lies in headers.
    Lies,
    /// Answers that break off, go on as if nothing had been, and go on with other content.
    Breaks,
    /// Late, slow, stalled, endless.
    Slow,
    /// Redirects and challenges that lead elsewhere.
    Elsewhere,
    /// Of everything a little.
    Mixed,
    /// Connections over TLS that do not come about.
    Handshakes,
}

/// How a connection over TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// With this certificate.
    Shows(Certificate),
    /// The other side is gone at once.
    Ends,
    /// The other side never says anything.
    Hangs,
}

impl Mood {
    const ALL: [Self; 8] =
        [Self::Calm, Self::Storm, Self::Lies, Self::Breaks, Self::Slow, Self::Elsewhere, Self::Mixed, Self::Handshakes];
}

/// The schedule of faults of all upstreams.
pub struct Chaos {
    world: Arc<World>,
    record: Arc<Record>,
    state: Mutex<State>,
}

struct State {
    chance: Random,
    mood: Mood,
    /// Of a hundred calls, so many meet a fault.
    percent: u64,
}

impl Chaos {
    /// Calm.
    pub fn new(world: Arc<World>, record: Arc<Record>, seed: u64) -> Arc<Self> {
        let state = State { chance: Random::new(seed), mood: Mood::Calm, percent: 0 };
        Arc::new(Self { world, record, state: Mutex::new(state) })
    }

    /// Rules over what these registries answer.
    pub fn reign(self: &Arc<Self>, registries: &[Registry; UPSTREAMS]) {
        for (upstream, registry) in registries.iter().enumerate() {
            let this = Arc::clone(self);
            registry.misbehave(move |call| this.decide(upstream, call));
        }
    }

    /// Another mood.
    pub fn turn(&self, registries: &[Registry; UPSTREAMS]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // More often than others what needs several answers in a row to do harm.
        let moods = [&Mood::ALL[..], &[Mood::Breaks; 2], &[Mood::Slow; 2], &[Mood::Handshakes; 1]].concat();
        state.mood = *state.chance.pick(&moods).unwrap_or(&Mood::Calm);
        state.percent = [10, 30, 60, 90][state.chance.index(4)];
        self.record.tell(&format!("mood: {:?} {} %", state.mood, state.percent));
        if state.mood == Mood::Handshakes {
            // Whoever is connected would not see it.
            registries.iter().for_each(Registry::drop_connections);
        }
    }

    /// No more faults.
    pub fn calm(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.mood, state.percent) = (Mood::Calm, 0);
        self.record.tell("mood: Calm for good");
    }

    /// How the next connection over TLS begins.
    pub fn handshake(&self, upstream: usize) -> Handshake {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { chance, mood, percent } = &mut *state;
        let met = match *mood {
            Mood::Handshakes if chance.below(100) < *percent => match chance.below(5) {
                0 => Handshake::Shows(Certificate::WrongHost),
                1 => Handshake::Shows(Certificate::Expired),
                2 => Handshake::Shows(Certificate::UnknownCa),
                3 => Handshake::Ends,
                _ => Handshake::Hangs,
            },
            _ => Handshake::Shows(Certificate::Good),
        };
        drop(state);
        self.record.tell(&format!("U{upstream} is connected to: {met:?}"));
        met
    }

    fn decide(&self, upstream: usize, call: &Call) -> Vec<Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut faults = vec![Fault::Late(self.world.paced(Duration::from_millis(1 + state.chance.below(8))))];
        // Whoever broke off does not answer the rest as if nothing had been.
        let goes_on = state.mood == Mood::Breaks && call.range().is_some();
        if goes_on || (state.mood != Mood::Calm && state.chance.below(100) < state.percent) {
            let mood = match state.mood {
                Mood::Mixed => Mood::ALL[1 + state.chance.index(5)],
                mood => mood,
            };
            faults.extend(self.faults(&mut state.chance, mood, upstream, call));
        }
        drop(state);
        self.note(upstream, call, &faults);
        let range = call.range().unwrap_or_default();
        let line = format!("U{upstream} {} {:?} {} {range} {:?}", call.method, call.place, call.path, short(&faults));
        self.record.tell(&line);
        faults
    }

    /// What of a lie clients may come to see: a bit that is flipped, and where a tag is shown to lead.
    fn note(&self, upstream: usize, call: &Call, faults: &[Fault]) {
        if faults.iter().any(|fault| matches!(fault, Fault::Corrupt(_))) {
            self.record.spoils(upstream, &call.path);
        }
        let Some((repository, tag)) = call.path.strip_prefix("/v2/").and_then(|path| path.split_once("/manifests/"))
        else {
            return;
        };
        for fault in faults {
            let shown = match fault {
                Fault::Instead { bytes, .. } => Some(oci::Digest::sha256(bytes)),
                Fault::Header { name, value: Some(value) } if name == "docker-content-digest" => value.parse().ok(),
                _ => None,
            };
            if let Some(digest) = shown {
                self.record.claimed(upstream, repository, tag, &digest);
            }
        }
    }

    fn faults(&self, chance: &mut Random, mood: Mood, upstream: usize, call: &Call) -> Vec<Fault> {
        match mood {
            // Some of the connections that there are end, so that others must begin.
            Mood::Handshakes if is_tls(upstream, call.place) => vec![Fault::Disconnect],
            Mood::Calm | Mood::Mixed | Mood::Handshakes => Vec::new(),
            Mood::Storm => vec![storm(chance)],
            Mood::Lies => vec![self.lie(chance, call)],
            // Where the storage has the bytes, a redirect that breaks would keep all from it.
            Mood::Breaks if upstream == 0 && call.is_blob() => Vec::new(),
            Mood::Breaks => breaks(&self.world, chance, call, self.length(call)),
            Mood::Slow => vec![slow(&self.world, chance)],
            Mood::Elsewhere => vec![elsewhere(&self.world, chance, upstream)],
        }
    }

    /// About how long the answer is, so that most offsets fall into it.
    fn length(&self, call: &Call) -> u64 {
        let digest = call.path.rsplit_once('/').and_then(|(_, digest)| digest.parse().ok());
        digest.and_then(|digest| self.world.blob(&digest)).map_or(600, |bytes| bytes.len() as u64)
    }

    fn lie(&self, chance: &mut Random, call: &Call) -> Fault {
        let length = self.length(call);
        let other = chance.index(self.world.manifests.len());
        let other = &self.world.manifests[other].image;
        match chance.below(11) {
            0..=3 => Fault::Corrupt(within(chance, length)),
            4 => Fault::digest_header(&other.digest.to_string()),
            5 => Fault::instead(other.media_type.as_str(), other.manifest.clone()),
            6 => Fault::content_type(["text/html", "application/vnd.oci.image.index.v1+json", ""][chance.index(3)]),
            7 => Fault::Length(within(chance, 2 * length)),
            8 => Fault::header("content-range", &format!("bytes 0-{}/{length}", within(chance, length))),
            9 => Fault::Gzip,
            _ => {
                let name = ["docker-content-digest", "content-type", "content-length", "content-range"];
                Fault::without_header(name[chance.index(4)])
            }
        }
    }
}

/// A place in something of that length, by thousandths: as many numbers are drawn for each length.
fn within(chance: &mut Random, length: u64) -> u64 {
    chance.below(1000) * length / 1000
}

fn storm(chance: &mut Random) -> Fault {
    match chance.below(10) {
        0 | 1 => Fault::too_many_requests(chance.below(4)),
        2 => Fault::Status { code: 503, headers: vec![("retry-after".to_owned(), "1".to_owned())] },
        3 => Fault::status(404),
        4 => Fault::status(401),
        5 => Fault::status(403),
        6 => Fault::Disconnect,
        _ => Fault::status([500, 502, 503, 504, 204, 418][chance.index(6)]),
    }
}

/// Breaks off, and is wrong before it does; asked to go on, begins again, with what is right now, or wrong elsewhere.
fn breaks(world: &World, chance: &mut Random, call: &Call, length: u64) -> Vec<Fault> {
    let mut faults = Vec::new();
    if call.range().is_some() {
        if chance.below(10) < 8 {
            faults.push(Fault::IgnoreRange);
        }
        if chance.once_in(4) {
            faults.push(Fault::Corrupt(within(chance, length)));
        }
        if chance.once_in(6) {
            faults.push(Fault::Truncate(within(chance, length)));
        }
    } else {
        let end = within(chance, length);
        if chance.once_in(2) {
            // Early enough to be sent on before the end.
            faults.push(Fault::Corrupt(within(chance, end / 2)));
        }
        faults.push(Fault::Truncate(end));
    }
    if chance.once_in(2) {
        faults
            .push(Fault::Trickle { bytes: 20_000, pause: world.paced(Duration::from_millis(100 + chance.below(900))) });
    }
    faults
}

fn slow(world: &World, chance: &mut Random) -> Fault {
    match chance.below(8) {
        0 => Fault::Late(world.paced(Duration::from_millis(500 + chance.below(6000)))),
        1 => Fault::Hang,
        2 | 3 => Fault::Stall(chance.below(100_000)),
        4 => Fault::Endless,
        _ => Fault::Trickle {
            bytes: 2_000 + chance.below(30_000),
            pause: world.paced(Duration::from_millis(50 + chance.below(1500))),
        },
    }
}

fn elsewhere(world: &World, chance: &mut Random, upstream: usize) -> Fault {
    let (other, mark) = ((upstream + 1) % UPSTREAMS, format!("smuggled-{upstream}"));
    let at = |upstream, place| world.url(upstream, place);
    let targets = [
        format!("{}/{mark}", at(upstream, Place::Storage)),
        format!("{}/v2/chainguard/app/blobs/{mark}", at(upstream, Place::Registry)),
        format!("{}/token?service=s&{mark}", at(upstream, Place::Auth)),
        format!("{}/{mark}", at(upstream, Place::Foreign)),
        format!("{}/{mark}", at(other, Place::Registry)),
        format!("{}/{mark}", at(other, Place::Storage)),
        format!("https://{METADATA}/latest/meta-data"),
        format!("https://{HOSTILE}/{mark}"),
        format!("https://{STRANGER}/{mark}"),
        format!("http://{STRANGER}/{mark}"),
        format!("https://[::1]:5004/{mark}"),
        format!("/v2/../../{mark}"),
    ];
    // Where time is real, no resolver is to be asked about names that nobody has.
    let such = |target: &&String| !(world.is_real() && target.contains(".example"));
    let targets: Vec<_> = targets.iter().filter(such).collect();
    let target = targets[chance.index(targets.len())];
    match chance.below(5) {
        0 | 1 => Fault::Redirect(target.clone()),
        2 | 3 => Fault::realm(target, "s", "repository:chainguard/app:pull"),
        _ => Fault::Challenge("Basic realm=\"x\"".to_owned()),
    }
}

/// For the trace: without content.
fn short(faults: &[Fault]) -> Vec<String> {
    let one = |fault: &Fault| match fault {
        Fault::Instead { media_type, bytes } => {
            format!("Instead({media_type}, {})", oci::Digest::sha256(&Bytes::clone(bytes)))
        }
        fault => format!("{fault:?}"),
    };
    faults.iter().map(one).collect()
}

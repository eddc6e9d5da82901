//! What is measured, and what is asked of it.

use super::{
    Failure, measure,
    peer::{Kind, Peer},
    statistics::Sample,
    world::World,
};

/// Figures of one peer in one round.
pub type Samples = Result<Vec<Sample>, Failure>;

/// One thing to compare.
pub struct Scenario {
    /// What `--only` calls it.
    pub name: &'static str,
    /// What is done, in one line.
    pub about: &'static str,
    /// How.
    pub measure: Measure,
    /// What pratique is to reach.
    pub targets: &'static [Target],
}

/// How a peer is measured once.
#[derive(Clone, Copy)]
pub enum Measure {
    /// A peer that has everything in its cache.
    Warm(fn(&World, &Peer) -> Samples),
    /// The same over TLS.
    WarmTls(fn(&World, &Peer) -> Samples),
    /// A peer that is started for it, with an empty cache.
    Cold(fn(&World, Kind) -> Samples),
}

/// Which peers a measurement needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Standing ones.
    Plain,
    /// Standing ones with TLS. Distribution is left out: what is asked for is a comparison with nginx.
    Tls,
    /// New ones each time.
    Fresh,
}

impl Setting {
    /// All, in the order in which they are measured.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Tls, Self::Fresh];

    /// Whether a peer takes part.
    pub fn has(self, kind: Kind) -> bool {
        self != Self::Tls || kind != Kind::Distribution
    }
}

impl Measure {
    /// What it needs.
    pub fn setting(self) -> Setting {
        match self {
            Self::Warm(_) => Setting::Plain,
            Self::WarmTls(_) => Setting::Tls,
            Self::Cold(_) => Setting::Fresh,
        }
    }

    /// Measures one peer once; `standing` is the one that stands ready, in a setting where some do.
    ///
    /// # Errors
    /// When the peer does not do what was asked.
    pub fn once(self, world: &World, kind: Kind, standing: Option<&Peer>) -> Samples {
        match self {
            Self::Warm(measure) | Self::WarmTls(measure) => measure(world, standing.ok_or("it does not run")?),
            Self::Cold(measure) => measure(world, kind),
        }
    }
}

/// What pratique is to reach.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The figure's name.
    pub what: &'static str,
    /// Against whom; none: the figure itself.
    pub of: Option<Kind>,
    /// How much.
    pub bound: Bound,
}

/// From where on it is reached.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// So much or more.
    AtLeast(f64),
    /// So much or less.
    AtMost(f64),
}

impl Bound {
    /// Whether `value` is within.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

const fn at_least(what: &'static str, bound: f64, of: Option<Kind>) -> Target {
    Target { what, of, bound: Bound::AtLeast(bound) }
}

const fn at_most(what: &'static str, bound: f64, of: Option<Kind>) -> Target {
    Target { what, of, bound: Bound::AtMost(bound) }
}

const NGINX: Option<Kind> = Some(Kind::Nginx);
const DISTRIBUTION: Option<Kind> = Some(Kind::Distribution);

/// Everything.
pub const SCENARIOS: [Scenario; 14] = [
    Scenario {
        name: "blob-1",
        about: "warm blob of 1 GiB, 1 stream, 4 times on one connection",
        measure: Measure::Warm(measure::warm::one_stream),
        targets: &[
            at_least("MiB/s", 0.75, NGINX),
            at_least("MiB/s", 2.5, DISTRIBUTION),
            at_most("CPU s/GiB", 1.3, NGINX),
        ],
    },
    Scenario {
        name: "blob-64",
        about: "warm blob of 64 MiB, 64 streams, 4 times on each connection",
        measure: Measure::Warm(measure::warm::many_streams),
        targets: &[at_least("MiB/s", 0.9, NGINX), at_most("CPU s/GiB", 1.3, NGINX), at_most("peak MiB", 40.0, None)],
    },
    Scenario {
        name: "manifest-digest",
        about: "warm manifest by digest, 64 connections",
        measure: Measure::Warm(measure::warm::by_digest),
        targets: &[at_least("requests/s", 0.9, NGINX)],
    },
    Scenario {
        name: "manifest-tag",
        about: "warm manifest by tag, 64 connections",
        measure: Measure::Warm(measure::warm::by_tag),
        targets: &[at_least("requests/s", 0.9, NGINX)],
    },
    Scenario {
        name: "beside",
        about: "manifest by digest, 1 connection, while 2 streams fetch the blob of 1 GiB",
        measure: Measure::Warm(measure::warm::beside_streams),
        targets: &[at_most("p99 ms", 4.0, NGINX)],
    },
    Scenario {
        name: "tls-blob-1",
        about: "warm blob of 1 GiB over TLS, 1 stream, 4 times, a connection each",
        measure: Measure::WarmTls(measure::warm::one_stream),
        targets: &[at_least("MiB/s", 1.2, NGINX)],
    },
    Scenario {
        name: "tls-blob-64",
        about: "warm blob of 64 MiB over TLS, 64 streams, a connection each",
        measure: Measure::WarmTls(measure::warm::many_streams_once),
        targets: &[at_least("MiB/s", 1.2, NGINX)],
    },
    Scenario {
        name: "tls-manifest",
        about: "warm manifest by digest over TLS, 64 connections, decrypted",
        measure: Measure::WarmTls(measure::warm::by_digest),
        targets: &[],
    },
    Scenario {
        name: "tls-beside",
        about: "manifest by digest over TLS, 1 connection, while 2 streams fetch the blob of 1 GiB",
        measure: Measure::WarmTls(measure::warm::beside_streams),
        targets: &[],
    },
    Scenario {
        name: "cold",
        about: "cold blob of 1 GiB, 1 client",
        measure: Measure::Cold(measure::cold::one),
        targets: &[at_most("total s", 1.3, DISTRIBUTION), at_most("CPU s", 0.4, DISTRIBUTION)],
    },
    Scenario {
        name: "herd-32",
        about: "cold blob of 256 MiB, 32 clients at once",
        measure: Measure::Cold(measure::cold::herd_of_32),
        targets: &[
            at_most("upstream GETs", 1.0, None),
            at_most("total s", 0.25, DISTRIBUTION),
            at_most("total s", 0.9, NGINX),
            at_most("first byte ms (median client)", 0.25, NGINX),
        ],
    },
    Scenario {
        name: "herd-200",
        about: "cold blob of 64 MiB, 200 clients at once",
        measure: Measure::Cold(measure::cold::herd_of_200),
        targets: &[at_most("upstream GETs", 1.0, None)],
    },
    Scenario {
        name: "fault-cut",
        about: "cold blob of 64 MiB, 8 clients, upstream cuts each connection after 4 to 32 MiB",
        measure: Measure::Cold(measure::fault::cut),
        targets: &[at_least("right of 8", 8.0, None), at_most("upstream bytes / content", 1.2, None)],
    },
    Scenario {
        name: "fault-rotten",
        about: "cold blob of 64 MiB with one wrong bit, 8 clients, and 8 once more",
        measure: Measure::Cold(measure::fault::rotten),
        targets: &[at_most("complete and wrong of 16", 0.0, None)],
    },
];

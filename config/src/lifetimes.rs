//! How long what was learned is believed.

use std::time::Duration;

use serde::Deserialize;

use crate::units;

/// `[tags]`: how long a tag points where it was seen to point.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tags {
    /// Within this time upstream is not asked again; zero asks at every pull. Default 60s.
    #[serde(deserialize_with = "units::duration")]
    pub ttl: Duration,
    /// Within this time the last known digest is served, with a warning, while upstream does not answer. Default 7d.
    #[serde(deserialize_with = "units::duration")]
    pub max_stale: Duration,
    /// So long a client waits for upstream where there is a last known digest to serve; zero serves that at once. Default 5s.
    #[serde(deserialize_with = "units::duration")]
    pub wait: Duration,
    /// Whether tags that clients ask for are looked up again before `ttl` is over. Default `in_use`.
    pub refresh: TagRefresh,
}

/// Which tags upstream is asked about although nobody waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagRefresh {
    /// Those that were asked for within ten times `tags.ttl`, an hour at most.
    InUse,
    /// None.
    Never,
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            max_stale: Duration::from_secs(7 * 86_400),
            wait: Duration::from_secs(5),
            refresh: TagRefresh::InUse,
        }
    }
}

/// `[verdicts]`: how long a decision that may change by itself is believed. Zero decides anew for every request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Verdicts {
    /// No evidence was found; it may be about to be pushed. Default 30s.
    #[serde(deserialize_with = "units::duration")]
    pub absent_ttl: Duration,
    /// Evidence was found and was not good enough. Default 5m.
    #[serde(deserialize_with = "units::duration")]
    pub refused_ttl: Duration,
    /// The policy's own Rego read the time. Default 5m.
    #[serde(deserialize_with = "units::duration")]
    pub clock_ttl: Duration,
    /// Images judged again in the background in one second, after a reload and before verdicts end; a tenth of it where upstream is asked.
    /// Default 50.
    #[serde(deserialize_with = "units::count")]
    pub background_per_second: u32,
}

impl Default for Verdicts {
    fn default() -> Self {
        Self {
            absent_ttl: Duration::from_secs(30),
            refused_ttl: Duration::from_secs(300),
            clock_ttl: Duration::from_secs(300),
            background_per_second: 50,
        }
    }
}

//! What an upstream tells of the rate it grants: Docker Hub's headers, and the forms that the `RateLimit` draft has had.
//!
//! ```text
//! RateLimit-Remaining: 76;w=21600            RateLimit-Limit: 100;w=21600             Docker Hub; the first drafts, with RateLimit-Reset: 30
//! RateLimit: limit=100, remaining=50, reset=30                                        later ones
//! RateLimit: "hour";r=50;t=30, "day";r=7;t=3600                                       the last ones
//! RateLimit-Policy: "hour";q=100;w=3600, "day";q=1000;w=86400
//! ```

use std::{cmp::Reverse, iter, time::Duration};

use http::HeaderMap;

use super::links::split_unquoted;

/// Of one header, in all its lines. More of them are not looked at.
const ITEMS_MAX: usize = 16;

/// Where upstream does not say how long a rate lasts, and where it says longer.
const LASTS_MAX: Duration = Duration::from_secs(86_400);

/// What is left of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// Requests that may still be made in this window.
    pub(super) remaining: u64,
    /// Those of a whole window, where it is told.
    pub(super) limit: Option<u64>,
    /// How long that holds, at most.
    pub(super) lasts: Duration,
}

impl Rate {
    /// Of several the one of which least is left. None where upstream says nothing of it, or nothing that can be read.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let by_name = items(headers, "ratelimit").filter_map(|item| {
            let policy = items(headers, "ratelimit-policy").find(|policy| name(policy) == name(item));
            let limit = policy.and_then(|policy| parameter(policy, "q"));
            Some(Self { remaining: parameter(item, "r")?, limit, lasts: lasts(parameter(item, "t")) })
        });
        let by_window = items(headers, "ratelimit-remaining").filter_map(|item| {
            let window = parameter(item, "w");
            let limits = || items(headers, "ratelimit-limit");
            let limit = limits().find(|limit| parameter(limit, "w") == window).or_else(|| limits().next());
            let reset = items(headers, "ratelimit-reset").find_map(leading_number);
            Some(Self {
                remaining: leading_number(item)?,
                limit: limit.and_then(leading_number),
                lasts: lasts(reset.or(window)),
            })
        });
        let member = |key| items(headers, "ratelimit").find_map(|item| parameter(item, key));
        let alone = member("remaining").map(|remaining| Self {
            remaining,
            limit: member("limit"),
            lasts: lasts(member("reset")),
        });
        by_name.chain(by_window).chain(alone).min_by_key(|rate| (rate.remaining, Reverse(rate.lasts)))
    }

    /// Whether less than a tenth is left.
    pub(super) fn is_low(self) -> bool {
        self.limit.map_or(self.remaining == 0, |limit| self.remaining < limit.div_ceil(10))
    }
}

/// The items of a header, whichever of its lines they are in.
fn items<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| split(line, ',')).take(ITEMS_MAX)
}

fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = text;
    iter::from_fn(move || {
        let is_end = rest.is_empty();
        let (part, others) = split_unquoted(rest, separator);
        rest = others;
        (!is_end).then_some(part)
    })
}

fn name(item: &str) -> Option<&str> {
    split(item, ';').next().map(str::trim)
}

fn parameter(item: &str, wanted: &str) -> Option<u64> {
    let mut parameters = split(item, ';').filter_map(|part| part.split_once('='));
    parameters.find(|(key, _)| key.trim() == wanted).and_then(|(_, value)| leading_number(value))
}

/// A window that is longer, or the date that some write instead of seconds, is not waited for.
fn lasts(seconds: Option<u64>) -> Duration {
    seconds.map_or(LASTS_MAX, |seconds| Duration::from_secs(seconds).min(LASTS_MAX))
}

/// The number at the beginning, as in `76;w=21600`.
fn leading_number(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(headers: &[(&'static str, &'static str)]) -> Option<(u64, Option<u64>)> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Rate::of(&headers).map(|rate| (rate.remaining, rate.limit))
    }

    #[test]
    fn what_is_left_is_read_in_every_form() {
        let docker = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "76;w=21600")];
        assert_eq!(rate(&docker), Some((76, Some(100))));
        assert_eq!(rate(&[("ratelimit", "limit=100, remaining=50, reset=30")]), Some((50, Some(100))));
        assert_eq!(rate(&[("ratelimit", "\"default\";r=0;t=30")]), Some((0, None)));
        for nonsense in ["", "soon", "-1", "99999999999999999999999", "r", "r=;t=1"] {
            assert_eq!(rate(&[("ratelimit", nonsense), ("ratelimit-remaining", nonsense)]), None, "{nonsense}");
        }
        assert_eq!(rate(&[]), None);
    }

    #[test]
    fn the_smallest_of_several_counts_with_its_own_limit() {
        let policies = ("ratelimit-policy", "\"burst\";q=100;w=60, \"day, all\";q=1000;w=86400");
        for limits in [
            vec![policies, ("ratelimit", "\"burst\";r=50;t=30, \"day, all\";r=7;t=3600")],
            vec![policies, ("ratelimit", "\"burst\";r=50;t=30"), ("ratelimit", "\"day, all\";r=7;t=3600")],
            vec![policies, ("ratelimit", "\"day, all\";t=3600;r=7"), ("ratelimit", "\"burst\";t=30;r=50")],
            vec![("ratelimit-limit", "100, 100;w=60, 1000;w=86400"), ("ratelimit-remaining", "50;w=60, 7;w=86400")],
            vec![
                ("ratelimit-limit", "100;w=60"),
                ("ratelimit-limit", "1000;w=86400"),
                ("ratelimit-remaining", "50;w=60"),
                ("ratelimit-remaining", "7;w=86400"),
            ],
        ] {
            assert_eq!(rate(&limits), Some((7, Some(1000))), "{limits:?}");
        }
        assert_eq!(rate(&[("ratelimit-limit", "100;w=60"), ("ratelimit-remaining", "7")]), Some((7, Some(100))));
        // Whichever form says less.
        let both = [("ratelimit-remaining", "76;w=21600"), ("ratelimit", "\"a\";r=3;t=1")];
        assert_eq!(rate(&both), Some((3, None)));
        for (nonsense, want) in [
            ("\"a\";r=5, \"b\"", Some((5, None))),
            ("\"a;r=0\";r=5", Some((5, None))),
            ("\"a, b;r=0\";r=5", Some((5, None))),
            ("\"a\";q=0;w=0;t=0", None),
            ("\"a", None),
            (";;,,;r=,", None),
        ] {
            assert_eq!(rate(&[("ratelimit", nonsense)]), want, "{nonsense}");
        }
    }

    #[test]
    fn a_tenth_is_low() {
        let low = |remaining, limit| Rate { remaining, limit, lasts: LASTS_MAX }.is_low();
        assert!(low(9, Some(100)) && !low(10, Some(100)) && low(0, None) && !low(1, None) && low(0, Some(5)));
    }
}

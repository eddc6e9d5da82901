//! What an upstream tells of the rate it grants: Docker Hub's headers, and the two forms of the `RateLimit` draft.

use http::HeaderMap;

use super::client::single;

/// What is left of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// Requests that may still be made in this window.
    pub(super) remaining: u64,
    /// Those of a whole window, where it is told.
    pub(super) limit: Option<u64>,
}

impl Rate {
    /// None where upstream says nothing of it, or nothing that can be read.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let text = |name| single(headers, name).ok().flatten();
        let limit = || text("ratelimit-limit").and_then(leading_number);
        if let Some(remaining) = text("ratelimit-remaining").and_then(leading_number) {
            return Some(Self { remaining, limit: limit() });
        }
        let written = text("ratelimit")?;
        let parameter = |wanted: &str| {
            let mut parameters = written.split([',', ';']).filter_map(|part| part.split_once('='));
            parameters.find(|(key, _)| key.trim() == wanted).and_then(|(_, value)| leading_number(value))
        };
        let remaining = parameter("remaining").or_else(|| parameter("r"))?;
        Some(Self { remaining, limit: parameter("limit").or_else(limit) })
    }

    /// Whether less than a tenth is left.
    pub(super) fn is_low(self) -> bool {
        self.limit.map_or(self.remaining == 0, |limit| self.remaining < limit.div_ceil(10))
    }
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
    fn a_tenth_is_low() {
        let low = |remaining, limit| Rate { remaining, limit }.is_low();
        assert!(low(9, Some(100)) && !low(10, Some(100)) && low(0, None) && !low(1, None) && low(0, Some(5)));
    }
}

//! Durations, sizes and counts as an operator writes them.

use std::{fmt, time::Duration};

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// Longest duration that can be written: beyond it sums with a clock's reading could overflow.
const DURATION_MAX: Duration = Duration::from_secs(36_500 * 86_400);

/// `"60s"`, `"1h30m"`; zero is allowed.
pub(crate) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    from.deserialize_any(DurationVisitor { zero: true })
}

/// Like [`duration`], but not zero.
pub(crate) fn positive_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    from.deserialize_any(DurationVisitor { zero: false })
}

/// Like [`positive_duration`], for a key whose absence has a meaning.
pub(crate) fn optional_duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    positive_duration(from).map(Some)
}

/// A number of bytes, `4194304` or `"4MiB"`; not zero.
pub(crate) fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    from.deserialize_any(NumberVisitor { expected: "a size above zero such as \"4MiB\"", parse: parse_bytes })
}

/// Like [`bytes`], for a key whose absence has a meaning.
pub(crate) fn optional_bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    bytes(from).map(Some)
}

/// A number of things; not zero.
pub(crate) fn count<'de, D: Deserializer<'de>, N: TryFrom<u32>>(from: D) -> Result<N, D::Error> {
    let visitor = NumberVisitor { expected: "a whole number from 1 to 4294967295", parse: |_| None };
    let number = from.deserialize_any(visitor)?;
    u32::try_from(number)
        .ok()
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| D::Error::invalid_value(Unexpected::Unsigned(number), &visitor))
}

struct DurationVisitor {
    zero: bool,
}

impl Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zero = if self.zero { "" } else { " above zero" };
        write!(f, "a duration{zero} such as \"60s\", \"5m\", \"1h30m\" or \"7d\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse_duration(text)
            .filter(|duration| self.zero || !duration.is_zero())
            .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

#[derive(Clone, Copy)]
struct NumberVisitor {
    expected: &'static str,
    parse: fn(&str) -> Option<u64>,
}

impl Visitor<'_> for NumberVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
        if number == 0 {
            return Err(E::invalid_value(Unexpected::Unsigned(0), &self));
        }
        Ok(number)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<u64, E> {
        let positive = u64::try_from(number).map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))?;
        self.visit_u64(positive)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        (self.parse)(text).filter(|number| *number != 0).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// A duration as it is typed: one or more numbers with units, largest unit first and each once, as `7d`, `1h30m`, `500ms`; `None` where it
/// is none, or longer than a hundred years.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS_MS: [(&str, u64); 6] =
        [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let mut rest = text;
    let mut units = UNITS_MS.iter();
    let mut total = 0_u64;
    while !rest.is_empty() {
        let (number, unit, after) = split_number(rest)?;
        let (_, milliseconds) = units.find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.checked_mul(*milliseconds)?)?;
        rest = after;
    }
    let duration = Duration::from_millis(total);
    (!text.is_empty() && duration <= DURATION_MAX).then_some(duration)
}

/// A number of bytes as it is typed, `4194304` or `4MiB`; `None` where it is neither.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    text.parse().ok().or_else(|| parse_bytes(text))
}

/// A whole number and a unit of bytes, binary (`KiB`) or decimal (`kB`).
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit, after) = split_number(text)?;
    let bytes: u64 = match unit {
        "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    if !after.is_empty() {
        return None;
    }
    number.checked_mul(bytes)
}

/// `"90m5s"` → `(90, "m", "5s")`.
fn split_number(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, rest) = text.split_at(digits);
    let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(letters);
    Some((number.parse().ok()?, unit, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        for (text, seconds) in
            [("60s", 60), ("5m", 300), ("6h", 21_600), ("7d", 604_800), ("2w", 1_209_600), ("1h30m", 5_400), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse_duration("1s500ms"), Some(Duration::from_millis(1_500)));
    }

    #[test]
    fn what_is_not_clearly_a_duration_is_none() {
        let huge = "9999999999999999999s";
        let beyond_a_century = "36501d";
        for text in [
            "",
            "60",
            "s",
            "60 s",
            " 60s",
            "-1s",
            "+1s",
            "1.5h",
            "60S",
            "1y",
            "5m1h",
            "1s1s",
            "60sec",
            "١s",
            huge,
            beyond_a_century,
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [("1B", 1), ("4KiB", 4096), ("4kB", 4000), ("64GiB", 1 << 36), ("2TiB", 1 << 41)] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_clearly_a_size_is_none() {
        for text in ["", "4", "4M", "4mib", "4 MiB", "MiB", "-4MiB", "1.5GiB", "4MiB4", "99999999TiB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }
}

//! Wall time as a value. Nobody here reads a clock; whoever decides is told the time.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The instant `millis` milliseconds after 1970 began.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since 1970 began.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970 began.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// This instant moved on by `duration`; the end of time where it would pass it.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// How long after `earlier` this is; `None` where it lies before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<Duration> {
        self.0.checked_sub(earlier.0).map(Duration::from_millis)
    }
}

/// RFC 3339 in UTC, whole seconds.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.as_secs();
        let (days, day_secs) = (secs / 86_400, secs % 86_400);
        // Days to a civil date in the proleptic Gregorian calendar, counting years from March so that the leap day comes last.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (day_secs / 3600, day_secs / 60 % 60, day_secs % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// A text that is not a time as [`UnixTime`] prints it, nor a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotATime;

/// As printed, or the date alone, which is its first instant.
impl FromStr for UnixTime {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let whole = if text.len() == "1970-01-01".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
        let number = |from: usize, to: usize| -> Result<u64, NotATime> {
            let digits = whole.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok()).ok_or(NotATime)
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        // Years from March, as the other way round.
        let shifted = if month <= 2 { year.checked_sub(1).ok_or(NotATime)? } else { year };
        let month_from_march = (month + 9) % 12;
        let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * month_from_march + 2) / 5 + day;
        let days = days.checked_sub(719_469).ok_or(NotATime)?;
        let time = Self::from_millis((days * 86_400 + hour * 3600 + minute * 60 + second) * 1000);
        // Whatever is no date, or is written otherwise, does not come out as it went in.
        if time.to_string() == whole { Ok(time) } else { Err(NotATime) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_668_646_873, "2022-11-17T01:01:13Z"),
            (4_102_444_799, "2099-12-31T23:59:59Z"),
        ] {
            assert_eq!(UnixTime::from_millis(secs * 1000).to_string(), text);
            assert_eq!(text.parse(), Ok(UnixTime::from_millis(secs * 1000)));
        }
        assert_eq!("2026-12-31".parse::<UnixTime>().unwrap().to_string(), "2026-12-31T00:00:00Z");
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-00-01",
            "2026-02-29",
            "2026-12-00",
            "1969-12-31",
            "0000-01-01",
            "2026-12-31T24:00:00Z",
            "2026-12-31T00:00:00",
            "2026-12-31T00:00:00+01:00",
            "2026/12/31",
            "+026-12-31",
            "31.12.2026",
            "2026-12-3\u{e9}",
        ] {
            assert_eq!(text.parse::<UnixTime>(), Err(NotATime), "{text}");
        }
    }

    #[test]
    fn an_earlier_instant_is_not_since_a_later_one() {
        let (early, late) = (UnixTime::from_millis(1), UnixTime::from_millis(5));
        assert_eq!(late.since(early), Some(Duration::from_millis(4)));
        assert_eq!(early.since(late), None);
    }
}

//! Rounds, medians and ratios.

use std::collections::BTreeMap;

use super::peer::Kind;

/// One figure of one measurement.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// What, with its unit: `"MiB/s"`.
    pub what: &'static str,
    /// How much.
    pub value: f64,
}

/// Median, least and most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half are below it.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

/// All figures of one scenario.
#[derive(Debug, Default)]
pub struct Rounds {
    /// In the order in which they were first seen.
    names: Vec<&'static str>,
    values: BTreeMap<(&'static str, Kind, u32), f64>,
    failures: BTreeMap<Kind, String>,
}

impl Rounds {
    /// Takes in what one peer did in one round.
    pub fn add(&mut self, round: u32, kind: Kind, samples: Vec<Sample>) {
        for Sample { what, value } in samples {
            if !self.names.contains(&what) {
                self.names.push(what);
            }
            self.values.insert((what, kind, round), value);
        }
    }

    /// A peer did not get through a round; the last reason is kept.
    pub fn failed(&mut self, kind: Kind, reason: &str) {
        self.failures.insert(kind, reason.to_owned());
    }

    /// Everything that was measured, in order.
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Who did not get through a round, and why.
    pub fn failures(&self) -> impl Iterator<Item = (Kind, &str)> {
        self.failures.iter().map(|(kind, reason)| (*kind, reason.as_str()))
    }

    /// Of one peer.
    pub fn of(&self, what: &'static str, kind: Kind) -> Option<Spread> {
        spread(self.rounds(what, kind).map(|(_, value)| value))
    }

    /// Of one peer against another, each round for itself: what disturbs a round disturbs both.
    pub fn ratio(&self, what: &'static str, kind: Kind, to: Kind) -> Option<Spread> {
        spread(self.rounds(what, kind).filter_map(|(round, value)| {
            let other = self.values.get(&(what, to, round)).copied()?;
            (other > 0.0).then_some(value / other)
        }))
    }

    fn rounds(&self, what: &'static str, kind: Kind) -> impl Iterator<Item = (u32, f64)> {
        self.values.range((what, kind, 0)..=(what, kind, u32::MAX)).map(|((_, _, round), value)| (*round, *value))
    }
}

/// None: of nothing.
fn spread(values: impl Iterator<Item = f64>) -> Option<Spread> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let (lower, upper) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
    Some(Spread { median: f64::midpoint(*lower, *upper), least: *values.first()?, most: *values.last()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(of: &[(Kind, &[f64])]) -> Rounds {
        let mut rounds = Rounds::default();
        for (kind, values) in of {
            for (value, round) in values.iter().zip(0..) {
                rounds.add(round, *kind, vec![Sample { what: "s", value: *value }]);
            }
        }
        rounds
    }

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_of_each_round() {
        let rounds = rounds(&[(Kind::Pratique, &[1.0, 10.0, 3.0]), (Kind::Nginx, &[2.0, 10.0, 1.0])]);
        let ratio = rounds.ratio("s", Kind::Pratique, Kind::Nginx).unwrap();
        assert_eq!(ratio, Spread { median: 1.0, least: 0.5, most: 3.0 });
    }

    #[test]
    fn a_round_that_one_of_them_missed_has_no_ratio() {
        let rounds = rounds(&[(Kind::Pratique, &[1.0, 8.0]), (Kind::Nginx, &[2.0])]);
        let half = Spread { median: 0.5, least: 0.5, most: 0.5 };
        assert_eq!(rounds.ratio("s", Kind::Pratique, Kind::Nginx), Some(half));
        assert_eq!(rounds.ratio("s", Kind::Pratique, Kind::Distribution), None);
        let own = Spread { median: 4.5, least: 1.0, most: 8.0 };
        assert_eq!(rounds.of("s", Kind::Pratique), Some(own));
    }
}

//! What becomes of a process under load: memory that must not grow, connections and descriptors that must not stay.

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    client::Client,
    process::Process,
    soak::{Say, failed, memory::in_mib},
};

/// Caches fill, and the allocator finds its size: memory may grow for so long.
const WARM_UP: Duration = Duration::from_secs(300);
/// In shorter courses there is nothing to compare.
const LEAST: Duration = Duration::from_secs(3 * 300);
/// What the last third may have above the first one after the warm-up: an allocator is not exact.
const ABOVE_BYTES_MAX: u64 = 16 << 20;
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// When all clients are gone their connections end, and what upstream left half done is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// One process from its start on, looked at whenever nobody asks it for anything.
#[derive(Debug, Default)]
pub(super) struct Course {
    started: Option<Instant>,
    told: Option<Instant>,
    /// Of the admin listener: the log that it is told in is long.
    metrics: Option<String>,
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    /// Bytes.
    resident: u64,
    descriptors: usize,
}

impl Course {
    /// Waits until all connections of clients have ended, and notes what the process holds.
    pub(super) async fn look(&mut self, process: &Process, say: Say) -> Result<(), String> {
        let started = *self.started.get_or_insert_with(Instant::now);
        if self.metrics.is_none() {
            self.metrics = process.admin_url().map(|url| format!("{url}/metrics"));
        }
        let metrics = self.metrics.as_deref().ok_or("no admin listener")?;
        // The one over which it is asked is open.
        none_stays(metrics, "pratique_connections", 1.0).await?;
        none_stays(metrics, "pratique_fills", 0.0).await?;
        let id = process.id().ok_or("the process has ended")?;
        let descriptors = fs::read_dir(format!("/proc/{id}/fd")).map_err(|error| failed("its descriptors", error))?;
        let sample = Sample { at: started.elapsed(), resident: process.resident()?, descriptors: descriptors.count() };
        self.samples.push(sample);
        if self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            self.told = Some(Instant::now());
            say(&format!("       {sample}"));
        }
        Ok(())
    }

    /// Whether memory or descriptors grew after the warm-up.
    pub(super) fn judge(&self) -> Result<(), String> {
        let Some([first, .., last]) = self.thirds() else { return Ok(()) };
        if last.resident > first.resident + ABOVE_BYTES_MAX {
            return Err(format!("memory grew: {self}"));
        }
        // As many again: connections to upstream come and go.
        if last.descriptors > 2 * first.descriptors {
            return Err(format!("descriptors grew: {self}"));
        }
        Ok(())
    }

    /// The most in each third of what came after the warm-up; none in a short course.
    fn thirds(&self) -> Option<[Sample; 3]> {
        let end = self.samples.last()?.at;
        if end < LEAST {
            return None;
        }
        let third = end.saturating_sub(WARM_UP) / 3;
        let mut most: [Option<Sample>; 3] = [None; 3];
        for sample in self.samples.iter().filter(|sample| sample.at >= WARM_UP) {
            let of = most.iter_mut().zip(1..).find(|(_, number)| sample.at <= WARM_UP + third * *number);
            let Some((most, _)) = of else { continue };
            let before = most.unwrap_or(*sample);
            *most = Some(Sample {
                at: sample.at,
                resident: before.resident.max(sample.resident),
                descriptors: before.descriptors.max(sample.descriptors),
            });
        }
        let [first, second, last] = most;
        Some([first?, second?, last?])
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.thirds() {
            Some(thirds) => {
                write!(f, "the most in each third after the first {} s: ", WARM_UP.as_secs())?;
                thirds.iter().try_for_each(|third| write!(f, "{third}; "))
            }
            None => write!(f, "too short to compare memory ({} s)", LEAST.as_secs()),
        }
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, resident, descriptors } = self;
        write!(f, "{} s: resident {}, {descriptors} descriptors", at.as_secs(), in_mib(*resident))
    }
}

/// A gauge comes down to what may stay.
async fn none_stays(metrics: &str, gauge: &str, least: f64) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let now = value(metrics, gauge).await?;
        if now <= least {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err(format!("nobody asks for anything, and {gauge} is {now} after {} s", PATIENCE.as_secs()));
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn value(metrics: &str, gauge: &str) -> Result<f64, String> {
    let answer = Client::plain().get(metrics, &[]).await.map_err(|error| failed("metrics", error))?;
    let text = answer.text();
    let line = text.lines().find_map(|line| line.strip_prefix(gauge)?.strip_prefix(' '));
    // One that never was set is not told.
    line.map_or(Ok(0.0), |value| value.parse().map_err(|_| format!("{gauge} is {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(resident: impl Fn(u64) -> u64, descriptors: impl Fn(u64) -> usize) -> Course {
        let sample = |second: u64| Sample {
            at: Duration::from_secs(second),
            resident: resident(second) << 20,
            descriptors: descriptors(second),
        };
        Course { samples: (0..3600).map(sample).collect(), ..Course::default() }
    }

    #[test]
    fn what_grows_after_the_warm_up_is_told_and_what_only_moves_is_not() {
        assert_eq!(course(|second| 40 + second % 7, |_| 30).judge(), Ok(()));
        assert_eq!(course(|second| 40 + second.min(250), |_| 30).judge(), Ok(()), "in the warm-up");
        assert!(course(|second| 40 + second / 60, |_| 30).judge().unwrap_err().starts_with("memory grew"));
        let leaks = course(|_| 40, |second| usize::try_from(30 + second / 10).unwrap());
        assert!(leaks.judge().unwrap_err().starts_with("descriptors grew"));
        let short = Course { samples: course(|second| second, |_| 1).samples[..800].to_vec(), ..Course::default() };
        assert_eq!(short.judge(), Ok(()));
    }
}

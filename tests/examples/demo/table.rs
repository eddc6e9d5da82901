//! The table that a newcomer reads.

use support::pull::{PullFailure, Pulled};

use crate::cast::{Expected, Part};

/// What became of one image.
pub struct Row {
    image: String,
    shows: &'static str,
    expected: &'static str,
    happened: String,
    reason: String,
    pub as_expected: bool,
}

impl Row {
    pub fn new(part: &Part, outcome: Result<Pulled, PullFailure>) -> Self {
        let (seen, happened, reason) = match outcome {
            Ok(pulled) => {
                let happened = format!("served ({} manifests, {} blobs)", pulled.manifests.len(), pulled.blobs.len());
                (Some(Expected::Served), happened, "its signatures satisfy the policy".to_owned())
            }
            Err(PullFailure::Answered { status: 403, message }) => {
                (Some(Expected::Refused), "refused (403)".to_owned(), message)
            }
            // What is shorter than what is held back is found out before its first byte.
            Err(PullFailure::Answered { status: 502, message }) => {
                (Some(Expected::BrokenOff), "failed (502)".to_owned(), message)
            }
            Err(PullFailure::Answered { status, message }) => (None, format!("failed ({status})"), message),
            Err(PullFailure::Broken(why)) => (Some(Expected::BrokenOff), "broken off".to_owned(), why),
        };
        Self {
            image: part.repository.clone(),
            shows: part.shows,
            expected: match part.expected {
                Expected::Served => "served",
                Expected::Refused => "refused",
                Expected::BrokenOff => "broken off",
            },
            happened,
            reason,
            as_expected: seen == Some(part.expected),
        }
    }
}

/// How wide the reason may be, in characters.
const WIDTH: usize = 96;

pub fn print(rows: &[Row]) {
    println!("{:<4}{:<30}{:<12}{:<34}", "", "image", "expected", "what happened");
    for row in rows {
        let mark = if row.as_expected { "ok" } else { "NO" };
        println!("{mark:<4}{:<30}{:<12}{:<34}", row.image, row.expected, row.happened);
        println!("{:<6}{}", "", row.shows);
        for line in wrapped(&row.reason) {
            println!("{:<6}{line}", "");
        }
    }
}

/// The reason in pratique's own words, broken between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec!["> ".to_owned()];
    for word in text.split_whitespace() {
        let full = lines.last().is_some_and(|line| line.len() > 2 && line.len() + word.len() >= WIDTH);
        if full {
            lines.push("  ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
            line.push(' ');
        }
    }
    lines
}

//! One event, one line: whatever text of others is in it.
//!
//! Foreign text is escaped where it comes in. This is the last door, so that a place where that was forgotten forges no line, moves no
//! cursor and turns no text around.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

/// Writes each event whole, its control characters spelled out but for the line feed that ends it.
pub(super) struct OneLine<W> {
    to: W,
    form: Form,
}

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For people.
    Plain,
    /// For people, in colours, which are ours: the subscriber itself spells out escape characters in what it is told.
    Coloured,
    /// In JSON, where nothing of this occurs but within strings.
    Json,
}

impl<W> OneLine<W> {
    pub(super) fn new(to: W, form: Form) -> Self {
        Self { to, form }
    }

    fn spelled(&self, event: &str) -> String {
        let (line, end) = event.strip_suffix('\n').map_or((event, ""), |line| (line, "\n"));
        let mut spelled = String::with_capacity(event.len());
        for c in line.chars() {
            let code = u32::from(c);
            if is_plain(c) || (self.form == Form::Coloured && c == '\x1b') {
                spelled.push(c);
            } else if self.form == Form::Json {
                let _ = write!(spelled, "\\u{code:04x}");
            } else {
                let _ = write!(spelled, "\\u{{{code:x}}}");
            }
        }
        spelled + end
    }
}

/// Whether a terminal, a pager or an editor shows it as one character of its line, in its place.
fn is_plain(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = matches!(c, '\u{2028}' | '\u{2029}');
    !c.is_control() && !turns && !breaks
}

impl<W: Write> Write for OneLine<W> {
    /// Takes `event` whole; the subscriber hands over one at a time.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.to.write_all(self.spelled(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::{fmt, layer::SubscriberExt as _};

    use super::*;

    /// Everything that could end a line, begin another, or hide one.
    const FORGED: &str =
        "a\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[2K\u{85}b\u{2028}c\u{2029}d\u{202e}e\u{7}\u{0}\u{8}\u{9b}31m";

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            assert!(text.ends_with('\n'));
            text.trim_end_matches('\n').split('\n').map(str::to_owned).collect()
        }
    }

    /// In a message, a field, a field of a span and an error: each way that text gets into an event.
    fn tell() {
        let span = tracing::info_span!("request", repository = FORGED, digest = %FORGED);
        span.in_scope(|| {
            tracing::warn!("{FORGED}");
            tracing::warn!(field = FORGED, shown = %FORGED, debugged = ?FORGED, "message");
            let error: &(dyn std::error::Error + 'static) = &io::Error::other(FORGED);
            tracing::warn!(error, "message");
            super::super::panicked(Some(FORGED), Some(std::panic::Location::caller()));
        });
    }

    fn are_whole(lines: &[String]) {
        assert_eq!(lines.len(), 4, "{lines:#?}");
        for line in lines {
            assert!(line.contains("ERROR forged"), "told, within its line: {line}");
            assert!(line.chars().all(is_plain), "{line:?}");
        }
    }

    #[test]
    fn no_text_forges_a_line_for_people() {
        let kept = Kept::default();
        let to = kept.clone();
        let layer = fmt::layer().with_ansi(false).with_writer(move || OneLine::new(to.clone(), Form::Plain));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), tell);
        let lines = kept.lines();
        are_whole(&lines);
        assert!(lines.iter().all(|line| !line.starts_with("2026-01-01")), "{lines:#?}");
    }

    #[test]
    fn no_text_forges_a_line_of_json() {
        let kept = Kept::default();
        let to = kept.clone();
        let layer = fmt::layer().json().flatten_event(true).with_writer(move || OneLine::new(to.clone(), Form::Json));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), tell);
        let lines = kept.lines();
        are_whole(&lines);
        for line in &lines {
            let entry: serde_json::Value = serde_json::from_str(line).expect("JSON");
            assert!(entry["level"] == "WARN" || entry["at"].is_string(), "{line}");
        }
    }

    #[test]
    fn colours_stay_where_there_are_any() {
        let mut kept = Kept::default();
        OneLine::new(&mut kept, Form::Coloured).write_all(b"\x1b[31mred\x1b[0m\r\n").unwrap();
        assert_eq!(kept.lines(), ["\x1b[31mred\x1b[0m\\u{d}"]);
    }
}

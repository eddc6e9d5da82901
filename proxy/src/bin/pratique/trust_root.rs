//! `trust-root show | update | import`.

use std::{fmt::Write as _, io::Write as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use config::Settings;
use oci::UnixTime;
use policy::{AnchorKind, TrustAnchor};
use proxy::{
    clock::Clock,
    command::Exit,
    error::chain,
    trust::{self, Current, Outcome, TrustError},
};
use serde_json::{Value, json};

use crate::serve::{failed, load, say};

#[derive(Subcommand)]
pub(crate) enum TrustRoot {
    /// Say which trust root is in force, since when it is known to be current, and whom it names for which times.
    Show(Common),
    /// Ask the TUF repository now, and keep what it vouches for. A running server takes it up within a minute, or at once on SIGHUP.
    Update(Common),
    /// Keep a trust root that was carried here: a `trusted_root.json`, or a copy of a TUF repository's directory, which is verified.
    Import {
        /// The file or directory.
        #[arg(value_name = "FILE")]
        path: PathBuf,
        /// Take a bare file also where it is older than what is in force, or does not name what is trusted now.
        #[arg(long)]
        danger_allow_older: bool,
        #[command(flatten)]
        common: Common,
    },
}

/// What all three take.
#[derive(Args)]
pub(crate) struct Common {
    /// The configuration file, TOML.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory of the store.
    #[arg(long, value_name = "DIR")]
    storage: Option<PathBuf>,
    /// For people, or for programs.
    #[arg(short, long, value_enum, value_name = "FORM", default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub(crate) fn run(command: TrustRoot) -> ExitCode {
    let clock = Clock::system();
    let common = match &command {
        TrustRoot::Show(common) | TrustRoot::Update(common) | TrustRoot::Import { common, .. } => common,
    };
    let output = common.output;
    let (config, storage) = (common.config.clone(), common.storage.clone());
    let settings = match load(&config::Overrides { config, storage, ..config::Overrides::default() }) {
        Ok(loaded) => Arc::new(loaded.settings),
        Err(code) => return code,
    };
    match command {
        TrustRoot::Show(_) => show(&settings, clock.now(), output),
        TrustRoot::Update(_) => changed(trust::update(&settings, &clock), output),
        TrustRoot::Import { path, danger_allow_older, .. } => {
            changed(trust::import(&settings, &path, danger_allow_older, &clock), output)
        }
    }
}

fn show(settings: &Settings, now: UnixTime, output: Output) -> ExitCode {
    let loaded = match trust::load(settings, now) {
        Ok(loaded) => loaded,
        Err(error) => return failed(&error),
    };
    let Current { root, origin, as_of } = &loaded.value;
    let anchors = root.describe();
    match output {
        Output::Json => {
            let refresh = settings.policy.trust_root_refresh.as_ref();
            tell(&format!(
                "{:#}",
                json!({
                    "origin": origin.to_string(),
                    "as_of": as_of.to_string(),
                    "age_seconds": loaded.value.age(now).as_secs(),
                    "ends": loaded.value.ends(settings).map(|ends| ends.to_string()),
                    "sha256": digest(root),
                    "mirror": refresh.map(|refresh| refresh.mirror.to_string()),
                    "refresh_seconds": refresh.and_then(|refresh| refresh.every).map(|every| every.as_secs()),
                    "anchors": anchors.iter().map(|anchor| told(anchor, now)).collect::<Vec<_>>(),
                })
            ));
        }
        Output::Text => tell(human(&loaded.value, &anchors, settings, now).trim_end()),
    }
    if let Some(warning) = loaded.value.warning(settings, now) {
        say(&warning);
    }
    ExitCode::SUCCESS
}

fn human(current: &Current, anchors: &[TrustAnchor], settings: &Settings, now: UnixTime) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12}{value}");
    };
    line("in force", &current.origin.to_string());
    line("as of", &format!("{} ({})", current.as_of, ago(current.age(now))));
    if let Some(ends) = current.ends(settings) {
        line("ends", &format!("{ends}, by policy.trust_root_max_age"));
    }
    line("refreshed", &refreshed(settings));
    line("content", &format!("sha256:{}", digest(&current.root)));
    let width = anchors.iter().map(|anchor| anchor.name.len()).max().unwrap_or(0);
    for kind in AnchorKind::ALL {
        let mut of_kind = anchors.iter().filter(|anchor| anchor.kind == kind).peekable();
        if of_kind.peek().is_some() {
            let _ = writeln!(text, "\n{}", plural(kind));
        }
        for anchor in of_kind {
            let time = |time: Option<UnixTime>| time.map_or_else(|| "open".to_owned(), |time| time.to_string());
            let (from, until) = (time(anchor.from), time(anchor.until));
            let _ = writeln!(
                text,
                "  {:<width$} {from:<20} to {until:<20} {:<9} {}",
                anchor.name,
                state(anchor, now),
                anchor.id.get(..16).unwrap_or(&anchor.id)
            );
        }
    }
    text
}

fn refreshed(settings: &Settings) -> String {
    match &settings.policy.trust_root_refresh {
        None => "never: policy.trust_root_mirror is not set".to_owned(),
        Some(refresh) => match refresh.every {
            Some(every) => format!("every {} from {}", span(every), refresh.mirror),
            None => format!("only by `pratique trust-root update`, from {}", refresh.mirror),
        },
    }
}

/// Runs a refresh or an import to its end, and tells what came of it.
fn changed(work: impl Future<Output = Result<Outcome, TrustError>>, output: Output) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(work) {
        Ok(outcome) => {
            tell_outcome(&outcome, output);
            ExitCode::SUCCESS
        }
        Err(error) => {
            let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
            say(&format!("{}{hint}", chain(&error)));
            let is_unanswered = matches!(error, TrustError::Fetch { .. } | TrustError::Slow { .. });
            if is_unanswered { Exit::Unanswered.code().into() } else { ExitCode::FAILURE }
        }
    }
}

fn tell_outcome(outcome: &Outcome, output: Output) {
    let changes = trust::changes(&outcome.before, &outcome.after);
    let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
    match output {
        Output::Json => tell(&format!(
            "{:#}",
            json!({
                "from": outcome.from,
                "as_of": outcome.as_of.to_string(),
                "changed": outcome.is_changed(),
                "sha256": digest(&outcome.after),
                "sha256_before": digest(&outcome.before),
                "changes": changes,
                "tuf": outcome.versions.map(|versions| json!({
                    "root": versions.root,
                    "timestamp": versions.timestamp,
                    "snapshot": versions.snapshot,
                    "targets": versions.targets,
                })),
            })
        )),
        Output::Text => {
            let verified = outcome.versions.map(|versions| format!(" (TUF {versions})")).unwrap_or_default();
            tell(&format!("from        {}{verified}", outcome.from));
            tell(&format!("as of       {}", outcome.as_of));
            tell(&format!("content     sha256:{}", digest(&outcome.after)));
            if !outcome.is_changed() {
                return tell("unchanged: nothing is judged again");
            }
            tell(&format!("changed     it was sha256:{}", digest(&outcome.before)));
            for change in &changes {
                tell(&format!("  {change}"));
            }
            tell("a running server takes it up within a minute, or at once on SIGHUP");
        }
    }
}

fn told(anchor: &TrustAnchor, now: UnixTime) -> Value {
    json!({
        "kind": anchor.kind.as_str(),
        "name": anchor.name,
        "id": anchor.id,
        "from": anchor.from.map(|from| from.to_string()),
        "until": anchor.until.map(|until| until.to_string()),
        "state": state(anchor, now),
    })
}

/// What was signed while it was trusted stays believed after its end.
fn state(anchor: &TrustAnchor, now: UnixTime) -> &'static str {
    if anchor.from.is_some_and(|from| now < from) {
        "to come"
    } else if anchor.until.is_some_and(|until| until < now) {
        "ended"
    } else {
        "in use"
    }
}

fn plural(kind: AnchorKind) -> &'static str {
    match kind {
        AnchorKind::CertificateAuthority => "certificate authorities",
        AnchorKind::TransparencyLog => "transparency logs",
        AnchorKind::CertificateLog => "certificate logs",
        AnchorKind::TimestampAuthority => "timestamp authorities",
    }
}

fn digest(root: &policy::TrustRoot) -> String {
    oci::Digest::sha256(root.text().as_bytes()).hex().to_owned()
}

fn ago(age: Duration) -> String {
    if age < Duration::from_secs(60) { "just now".to_owned() } else { format!("{} ago", span(age)) }
}

/// In its largest unit that goes at least twice, rounded down.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [("days", 86_400), ("hours", 3600), ("minutes", 60), ("seconds", 1)];
    let unit = units.iter().find(|(_, length)| seconds >= 2 * length);
    let (name, length) = unit.unwrap_or(&("seconds", 1));
    format!("{} {name}", seconds / length)
}

/// Whoever reads may have heard enough.
fn tell(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_units_that_people_use() {
        for (seconds, told) in [
            (0, "0 seconds"),
            (59, "59 seconds"),
            (150, "2 minutes"),
            (86_400, "24 hours"),
            (200_000, "2 days"),
            (8_000_000, "92 days"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), told);
        }
    }
}

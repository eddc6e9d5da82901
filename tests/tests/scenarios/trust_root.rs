//! The trust root over TUF: what is taken, what is refused and why, and what is in force afterwards.

mod refused;
mod served;

use std::{path::PathBuf, sync::Arc};

use config::{Overrides, Settings};
use oci::UnixTime;
use policy::TrustRoot;
use proxy::{
    clock::Clock,
    trust::{self, Current, Origin, Outcome, TrustError},
};
use serde_json::Value;
use support::{
    sigstore::VirtualSigstore,
    tuf::{Mirror, Repository, Role},
};
use tempfile::TempDir;

/// A private Sigstore with its TUF repository and its mirror, and a pratique configured for it.
struct Stage {
    repository: Repository,
    mirror: Mirror,
    directory: TempDir,
    /// What the configuration names as trust root.
    first: String,
    /// Lines within `[limits]`.
    limits: &'static str,
}

/// For a mirror that stalls; every other one has the usual time, on a busy machine too.
const IMPATIENT: &str = "upstream_stall_timeout = \"2s\"";

impl Stage {
    async fn new() -> Self {
        let first = VirtualSigstore::new().trusted_root_json();
        let repository = Repository::new(&first);
        let mirror = Mirror::start(repository.files()).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let stage = Self { repository, mirror, directory, first, limits: "" };
        stage.write("trusted_root.json", &stage.first);
        stage.write("root.json", &stage.repository.initial());
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn settings(&self) -> Arc<Settings> {
        self.settings_with("")
    }

    fn settings_with(&self, policy: &str) -> Arc<Settings> {
        let text = format!(
            "listen = \"127.0.0.1:0\"\n[storage]\npath = \"store\"\n[limits]\n{}\n[policy]\n\
             trust_root = \"trusted_root.json\"\ntrust_root_mirror = \"{}\"\ntrust_root_initial = \"root.json\"\n{policy}\n",
            self.limits,
            self.mirror.url()
        );
        self.write("pratique.toml", &text);
        let overrides = Overrides { config: Some(self.path("pratique.toml")), ..Overrides::default() };
        Arc::new(config::load_without_environment(&overrides).unwrap().settings)
    }

    async fn update(&self) -> Result<Outcome, TrustError> {
        trust::update(&self.settings(), &Clock::system()).await
    }

    fn in_force(&self) -> Current {
        trust::load(&self.settings(), Clock::system().now()).unwrap().value
    }

    fn publish(&self) {
        self.mirror.publish(self.repository.files());
    }
}

/// `first` and one more transparency log.
fn with_another_log(first: &str) -> String {
    let mut root: Value = serde_json::from_str(first).unwrap();
    let other: Value = serde_json::from_str(&VirtualSigstore::new().trusted_root_json()).unwrap();
    root["tlogs"].as_array_mut().unwrap().push(other["tlogs"][0].clone());
    format!("{root:#}")
}

fn at(time: UnixTime) -> Clock {
    Clock::reading(move || time)
}

const DAY: u64 = 86_400_000;

fn days(now: UnixTime, days: u64) -> UnixTime {
    UnixTime::from_millis(now.as_millis() + days * DAY)
}

#[tokio::test]
async fn a_refresh_takes_what_the_repository_publishes_and_says_what_is_new() {
    let mut stage = Stage::new().await;
    let second = with_another_log(&stage.first);
    stage.repository.publish(&second);
    stage.publish();
    let outcome = stage.update().await.unwrap();
    assert!(outcome.is_changed());
    assert_eq!(outcome.versions.unwrap().to_string(), "root 1, timestamp 2, snapshot 2, targets 2");
    let told: Vec<_> = trust::changes(&outcome.before, &outcome.after).iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].starts_with("+ transparency log https://rekor.sigstore.test ("), "{told:?}");
    let in_force = stage.in_force();
    assert_eq!(in_force.root.text(), second);
    assert_eq!(in_force.origin, Origin::Refreshed(stage.mirror.url().to_owned()));
    assert_eq!(in_force.as_of, outcome.as_of);
    // Again: the same, and nothing but the roots after ours and the timestamp is asked for.
    let before = stage.mirror.calls().len();
    let again = stage.update().await.unwrap();
    assert!(!again.is_changed() && again.as_of >= outcome.as_of);
    let asked = stage.mirror.calls().split_off(before);
    assert_eq!(asked[..2], ["2.root.json", "timestamp.json"], "{asked:?}");
    assert_eq!(stage.in_force().root.text(), second);
}

#[tokio::test]
async fn roots_are_rotated_one_by_one_and_remembered_over_restarts() {
    let mut stage = Stage::new().await;
    stage.update().await.unwrap();
    for role in [Role::Root, Role::Timestamp, Role::Root, Role::Snapshot, Role::Targets] {
        stage.repository.rotate(role);
        Role::ALL[1..].iter().for_each(|role| stage.repository.advance(*role));
    }
    let second = with_another_log(&stage.first);
    stage.repository.publish(&second);
    stage.publish();
    let outcome = stage.update().await.unwrap();
    assert_eq!(outcome.versions.unwrap().root, 6);
    assert_eq!(stage.in_force().root.text(), second);
    let before = stage.mirror.calls().len();
    stage.update().await.unwrap();
    assert_eq!(stage.mirror.calls()[before], "7.root.json", "known roots are not fetched again");
}

#[tokio::test]
async fn the_last_good_one_is_in_force_at_the_next_start_without_network() {
    let mut stage = Stage::new().await;
    let second = with_another_log(&stage.first);
    stage.repository.publish(&second);
    stage.publish();
    stage.update().await.unwrap();
    let settings = stage.settings();
    drop(stage.mirror);
    let error = trust::update(&settings, &Clock::system()).await.unwrap_err();
    assert_eq!(error.as_str(), "unreachable");
    let loaded = trust::load(&settings, Clock::system().now()).unwrap();
    assert_eq!(loaded.value.root.text(), second);
    assert!(loaded.notes.iter().any(|note| note.starts_with("trust root: kept in the store")), "{:?}", loaded.notes);
}

#[tokio::test]
async fn what_is_kept_and_damaged_is_set_aside_and_replaced_by_the_next_refresh() {
    let mut stage = Stage::new().await;
    let second = with_another_log(&stage.first);
    stage.repository.publish(&second);
    stage.publish();
    stage.update().await.unwrap();
    let directory = stage.path("store/trust");
    let kept = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "kept"))
        .unwrap();
    let good = std::fs::read(&kept).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for (number, bad) in [&good[..good.len() / 2], &[], &flipped].into_iter().enumerate() {
        std::fs::write(&kept, bad).unwrap();
        let in_force = stage.in_force();
        assert_eq!(
            (in_force.root.text(), &in_force.origin),
            (stage.first.as_str(), &Origin::File(stage.path("trusted_root.json")))
        );
        let aside = kept.with_extension(format!("damaged-{}", number + 1));
        assert_eq!(std::fs::read(aside).unwrap(), bad);
        assert!(!kept.exists());
        stage.update().await.unwrap();
        assert_eq!(stage.in_force().root.text(), second);
    }
}

#[tokio::test]
async fn another_sigstore_never_gets_what_was_kept_for_the_former_one() {
    let mut stage = Stage::new().await;
    stage.repository.publish(&with_another_log(&stage.first));
    stage.publish();
    stage.update().await.unwrap();
    let other = VirtualSigstore::new().trusted_root_json();
    stage.write("root.json", &Repository::new(&other).initial());
    assert_eq!(stage.in_force().root.text(), stage.first);
}

#[tokio::test]
async fn the_age_counts_from_the_last_refresh_and_a_successful_one_moves_the_end() {
    let stage = Stage::new().await;
    let settings = stage.settings_with("trust_root_warn_age = \"30d\"\ntrust_root_max_age = \"90d\"");
    let begin = Clock::system().now();
    trust::update(&settings, &at(days(begin, 1))).await.unwrap();
    let after = |passed| {
        let now = days(begin, passed);
        let current = trust::load(&settings, now).unwrap().value;
        (current.warning(&settings, now), current.ends(&settings).unwrap())
    };
    let (warning, ends) = after(20);
    assert_eq!((warning, ends), (None, days(begin, 91)));
    let warning = after(40).0.unwrap();
    assert!(warning.starts_with("the trust root is 39 days old") && !warning.contains("admits nothing"), "{warning}");
    assert!(after(91).0.unwrap().contains("older than policy.trust_root_max_age, it admits nothing"));
    trust::update(&settings, &at(days(begin, 91))).await.unwrap();
    assert_eq!(after(92), (None, days(begin, 181)));
    // A date in the future is not believed: the age counts from when the configured file was written.
    let (_, ends) = after(0);
    assert!(ends < days(begin, 91), "{ends}");
}

#[tokio::test]
async fn a_bare_file_is_imported_unless_it_looks_older() {
    let stage = Stage::new().await;
    let settings = stage.settings();
    let import =
        async |name: &str, danger: bool| trust::import(&settings, &stage.path(name), danger, &Clock::system()).await;
    let second = with_another_log(&stage.first);
    stage.write("second.json", &second);
    let outcome = import("second.json", false).await.unwrap();
    assert!(outcome.is_changed() && outcome.versions.is_none());
    let in_force = stage.in_force();
    assert_eq!(in_force.root.text(), second);
    assert_eq!(in_force.origin, Origin::Imported(stage.path("second.json").display().to_string()));
    stage.write("first.json", &stage.first);
    let error = import("first.json", false).await.unwrap_err();
    assert!(matches!(&error, TrustError::Lacks { lost, .. } if lost.starts_with("- transparency log")), "{error}");
    let old = std::fs::File::options().write(true).open(stage.path("first.json")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
    let error = import("first.json", false).await.unwrap_err();
    assert!(error.to_string().contains("first.json is of 2023-11-14T22:13:20Z"), "{error}");
    stage.write("none.json", "{}");
    let error = import("none.json", true).await.unwrap_err();
    assert_eq!(error.as_str(), "unusable");
    assert_eq!(stage.in_force().root.text(), second);
    import("first.json", true).await.unwrap();
    assert_eq!(stage.in_force().root.text(), stage.first);
}

#[tokio::test]
async fn a_copy_of_a_repository_is_verified_like_a_mirror() {
    let mut stage = Stage::new().await;
    let second = with_another_log(&stage.first);
    let old = stage.repository.files();
    stage.repository.publish(&second);
    let copy = |name: &str, files: support::tuf::Files| {
        std::fs::create_dir_all(stage.path(name).join("targets")).unwrap();
        for (file, bytes) in &files {
            std::fs::write(stage.path(name).join(file), bytes).unwrap();
        }
    };
    copy("new", stage.repository.files());
    copy("old", old);
    let settings = stage.settings();
    let import = async |name: &str| trust::import(&settings, &stage.path(name), false, &Clock::system()).await;
    assert!(import("new").await.unwrap().is_changed());
    let error = proxy::error::chain(&import("old").await.unwrap_err());
    assert!(error.contains("rollback detected for timestamp: trusted version 2 > new version 1"), "{error}");
    assert_eq!(stage.in_force().root.text(), second);
    assert_eq!(stage.mirror.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_trust_root_that_is_a_file_and_nothing_more_is_neither_refreshed_nor_imported() {
    let stage = Stage::new().await;
    stage.write("alone.toml", "[storage]\npath = \"store\"\n[policy]\ntrust_root = \"trusted_root.json\"\n");
    let overrides = Overrides { config: Some(stage.path("alone.toml")), ..Overrides::default() };
    let settings = Arc::new(config::load_without_environment(&overrides).unwrap().settings);
    for error in [
        trust::update(&settings, &Clock::system()).await.unwrap_err(),
        trust::import(&settings, &stage.path("trusted_root.json"), false, &Clock::system()).await.unwrap_err(),
    ] {
        assert!(matches!(error, TrustError::NotRefreshed { .. }) && error.hint().is_some(), "{error}");
    }
    assert!(!stage.path("store").exists());
}

#[tokio::test]
async fn an_empty_configuration_trusts_what_is_compiled_in_until_a_copy_is_imported() {
    let directory = tempfile::tempdir().unwrap();
    let overrides = Overrides { storage: Some(directory.path().join("store")), ..Overrides::default() };
    let settings = Arc::new(config::load_without_environment(&overrides).unwrap().settings);
    let now = Clock::system().now();
    let current = trust::load(&settings, now).unwrap().value;
    assert_eq!(
        (current.origin.clone(), current.as_of.to_string().as_str()),
        (Origin::CompiledIn, "2026-08-21T00:00:00Z")
    );
    let copy = directory.path().join("carried.json");
    std::fs::write(&copy, TrustRoot::public_good().text()).unwrap();
    let outcome = trust::import(&settings, &copy, false, &Clock::system()).await.unwrap();
    assert!(!outcome.is_changed());
    let kept = trust::load(&settings, Clock::system().now()).unwrap().value;
    assert_eq!(kept.root.content_digest(), current.root.content_digest(), "nothing is judged again");
    assert!(kept.as_of > current.as_of, "but it is known to be current");
}

//! The configuration as a whole: sources, checks across sections, notes, and the documented example.
#![expect(clippy::disallowed_methods, reason = "tests write the files that they read")]

mod documentation;
mod errors;
mod policies;
mod sources;
mod upstreams;
mod weakenings;

use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use tempfile::TempDir;

use super::*;

/// A directory with a configuration file and what it names.
struct Case {
    dir: TempDir,
    overrides: Overrides,
    environment: Environment,
}

impl Case {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let environment = Environment { state_directory: Some("/var/lib/pratique".into()), ..Environment::default() };
        Self { dir, overrides: Overrides::default(), environment }
    }

    fn of(text: &str) -> Self {
        let mut case = Self::new().file("pratique.toml", text);
        case.overrides.config = Some(case.path("pratique.toml"));
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(self, name: &str, text: &str) -> Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        self
    }

    fn variable(mut self, name: &str, text: &str) -> Self {
        let variable = (name.into(), text.into());
        let read = Environment::of([variable], false).unwrap();
        self.environment.settings.extend(read.settings);
        self.environment.proxies.extend(read.proxies);
        self
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        load_from(&self.overrides, &self.environment)
    }

    fn settings(&self) -> Settings {
        self.load().unwrap().settings
    }

    /// The error and its hint as an operator sees them, without the directory's name.
    fn error(&self) -> String {
        let error = self.load().expect_err("this configuration must be refused");
        let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        format!("{error}{hint}").replace(&format!("{}/", self.dir.path().display()), "")
    }

    fn notes(&self) -> Vec<String> {
        let prefix = format!("{}/", self.dir.path().display());
        self.load().unwrap().notes.into_iter().map(|line| line.replace(&prefix, "")).collect()
    }

    fn weakened(&self) -> Vec<String> {
        self.notes().into_iter().filter(|line| line.starts_with("weakened: ")).collect()
    }
}

/// Each text is refused with exactly this error.
fn refused(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(Case::of(text).error(), format!("pratique.toml: {expected}"), "for {text}");
    }
}

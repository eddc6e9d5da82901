//! The only place that looks at the process's environment.

use std::{ffi::OsString, path::PathBuf};

use crate::{ConfigError, proxies};

const PREFIX: &str = "PRATIQUE_";

/// The variables that `serve` looks at, read once.
#[derive(Debug, Default)]
pub(crate) struct Environment {
    /// `PRATIQUE_*`: dotted key and text, in the order of the names.
    pub(crate) settings: Vec<(String, String)>,
    /// `$STATE_DIRECTORY`, as systemd gives it to a service.
    pub(crate) state_directory: Option<PathBuf>,
    /// `$XDG_DATA_HOME`.
    pub(crate) data_home: Option<PathBuf>,
    /// `$HTTPS_PROXY` and its like, those that are set to something.
    pub(crate) proxies: Vec<(String, String)>,
    /// `$HOME`.
    pub(crate) home: Option<PathBuf>,
    /// Whether the process runs as root.
    pub(crate) is_root: bool,
}

impl Environment {
    /// The process's own.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub(crate) fn of_process() -> Result<Self, ConfigError> {
        Self::of(std::env::vars_os(), rustix::process::geteuid().is_root())
    }

    pub(crate) fn of(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        is_root: bool,
    ) -> Result<Self, ConfigError> {
        let mut environment = Self { is_root, ..Self::default() };
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            let path = || Some(PathBuf::from(&value)).filter(|path| path.is_absolute());
            match name {
                // systemd separates several directories with colons; the first is the service's own.
                "STATE_DIRECTORY" => environment.state_directory = first_of_list(&value),
                "XDG_DATA_HOME" => environment.data_home = path(),
                "HOME" => environment.home = path(),
                _ => {
                    let text = || value.to_str().ok_or_else(|| ConfigError::NotUnicode { name: name.into() });
                    if proxies::VARIABLES.contains(&name) && !value.is_empty() {
                        environment.proxies.push((name.into(), text()?.into()));
                    }
                    if let Some(key) = name.strip_prefix(PREFIX) {
                        let text = text()?;
                        environment.settings.push((key.to_ascii_lowercase().replace("__", "."), text.into()));
                    }
                }
            }
        }
        environment.settings.sort();
        Ok(environment)
    }
}

/// What a credential helper is started with: where programs are and whose files it may use, and nothing else of this process.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn helper_environment() -> Vec<(&'static str, OsString)> {
    ["PATH", "HOME"].into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))).collect()
}

/// One variable of the process, for a command that honours it. Empty counts as unset.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn variable(name: &str) -> Result<Option<String>, ConfigError> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    let text = value.map(OsString::into_string).transpose();
    text.map_err(|_| ConfigError::NotUnicode { name: name.to_owned() })
}

fn first_of_list(value: &OsString) -> Option<PathBuf> {
    let first = value.to_str()?.split(':').next()?;
    Some(PathBuf::from(first)).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Environment {
        Environment::of(pairs.iter().map(|(name, value)| (name.into(), value.into())), false).unwrap()
    }

    #[test]
    fn only_our_variables_become_settings() {
        let environment = of(&[
            ("PRATIQUE_STORAGE__PATH", "/x"),
            ("PRATIQUE_LISTEN", "[::1]:1"),
            ("SSL_CERT_FILE", "/evil.pem"),
            ("RUST_LOG", "trace"),
            ("HTTPS_PROXY", "http://proxy.example"),
            ("XPRATIQUE_LISTEN", "no"),
        ]);
        let settings = [("listen", "[::1]:1"), ("storage.path", "/x")].map(|(key, text)| (key.into(), text.into()));
        assert_eq!(environment.settings, settings);
    }

    #[test]
    fn directories_that_are_empty_or_relative_count_as_unset() {
        let environment = of(&[("STATE_DIRECTORY", ""), ("XDG_DATA_HOME", "data"), ("HOME", "")]);
        assert_eq!((environment.state_directory, environment.data_home, environment.home), (None, None, None));
        let environment = of(&[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")]);
        assert_eq!(environment.state_directory, Some("/var/lib/a".into()));
    }

    #[test]
    fn a_setting_that_is_not_unicode_is_an_error_and_a_foreign_one_is_not() {
        let bytes = || OsString::from_vec(vec![0xff]);
        assert!(Environment::of([("FOREIGN".into(), bytes())], false).is_ok());
        assert!(Environment::of([("HTTPS_PROXY".into(), bytes())], false).is_err());
        let error = Environment::of([("PRATIQUE_LISTEN".into(), bytes())], false).unwrap_err();
        assert_eq!(error.to_string(), "PRATIQUE_LISTEN: want UTF-8 text, got other bytes");
    }
}

//! What the log looks like.

use serde::Deserialize;

/// `[log]`. The log goes to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// For people or for machines. Default human.
    pub format: LogFormat,
    /// What is logged: a level, or directives as `tracing-subscriber` reads them. Default `info`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, filter: "info".into() }
    }
}

/// `log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line for each event.
    Human,
    /// One JSON object for each event.
    Json,
}

//! What commands say, and how they end.

use std::{io::Write as _, process::ExitCode};

use config::{ConfigError, Loaded, Overrides};
use proxy::{
    command::{Answer, CacheAnswer, CacheRequest, Exit, Output, Request, Shown, show},
    control,
    error::chain,
};
use tokio::runtime::{Builder, Runtime};

use crate::progress::Display;

/// Where the store is and which upstreams there are: defaults, then the file, then PRATIQUE_* variables, then these flags. Where a
/// server owns the store it answers, by the configuration that it has in force.
#[derive(clap::Args, Clone)]
pub(crate) struct Place {
    /// The configuration file, TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<std::path::PathBuf>,
    /// The directory of the store.
    #[arg(long, value_name = "DIR")]
    pub(crate) storage: Option<std::path::PathBuf>,
}

/// Why a command ends before it has asked anybody.
pub(crate) struct Unasked {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Unasked {
    /// The command line cannot be meant.
    pub(crate) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into(), hint: Some(hint.into()) }
    }

    /// What was given cannot be used.
    pub(crate) fn unusable(message: impl Into<String>) -> Self {
        Self { exit: Exit::No, message: message.into(), hint: None }
    }
}

impl From<ConfigError> for Unasked {
    fn from(error: ConfigError) -> Self {
        Self { exit: Exit::No, message: chain(&error), hint: error.hint().map(str::to_owned) }
    }
}

impl Place {
    /// The configuration.
    pub(crate) fn load(&self) -> Result<Loaded, Unasked> {
        let overrides =
            Overrides { config: self.config.clone(), storage: self.storage.clone(), ..Overrides::default() };
        Ok(config::load(&overrides)?)
    }

    /// Lists what is kept, answer after answer: nobody holds a list of a hundred thousand images.
    pub(crate) fn list(&self, all: bool, output: Output) -> Result<ExitCode, Unasked> {
        let settings = self.load()?.settings;
        let runtime = runtime()?;
        let mut after = None;
        loop {
            let is_first = after.is_none();
            let request = Request::Cache(CacheRequest::Ls { all, after: after.take() });
            let answer = runtime.block_on(control::answer(&settings, request, |_| {}));
            let mut is_empty = false;
            if let Answer::Cache(CacheAnswer::Listed(listed)) = &answer {
                after.clone_from(&listed.next);
                is_empty = listed.images.is_empty();
            }
            // A person is told that there is nothing, and not that nothing further came.
            let is_silent = is_empty && !is_first && output == Output::Text;
            let exit = if is_silent { Exit::Yes } else { print(&show(&answer, output)) };
            if after.is_none() {
                return Ok(ExitCode::from(exit.code()));
            }
        }
    }

    /// Asks each of these, one after the other, and prints the answers.
    pub(crate) fn ask(&self, requests: Vec<Request>, output: Output) -> Result<ExitCode, Unasked> {
        let settings = self.load()?.settings;
        let runtime = runtime()?;
        let mut exit = Exit::Yes;
        for request in requests {
            let answer = runtime.block_on(async {
                let mut display = Display::new();
                let answer = control::answer(&settings, request, |progress| display.show(progress)).await;
                display.end();
                answer
            });
            exit = exit.max(print(&show(&answer, output)));
        }
        Ok(ExitCode::from(exit.code()))
    }
}

fn runtime() -> Result<Runtime, Unasked> {
    Builder::new_multi_thread().enable_all().build().map_err(|error| Unasked::unusable(chain(&error)))
}

/// The end of a command that asked somebody, or did not come to it.
pub(crate) fn end(outcome: Result<ExitCode, Unasked>) -> ExitCode {
    outcome.unwrap_or_else(|Unasked { exit, message, hint }| {
        let text = hint.map_or_else(|| message.clone(), |hint| format!("{message}\nhint: {hint}"));
        print(&Shown { stderr: format!("pratique: {text}\n"), exit, ..Shown::default() });
        ExitCode::from(exit.code())
    })
}

/// Prints an answer. A reader that has left has seen enough.
pub(crate) fn print(shown: &Shown) -> Exit {
    let _ = std::io::stderr().write_all(shown.stderr.as_bytes());
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(shown.stdout.as_bytes()).and_then(|()| out.flush());
    shown.exit
}

/// Prints an answer that nobody was asked for.
pub(crate) fn tell(answer: &Answer, output: Output) -> ExitCode {
    ExitCode::from(print(&show(answer, output)).code())
}

/// For people, or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// One JSON document.
    Json,
}

impl From<Form> for Output {
    fn from(form: Form) -> Self {
        match form {
            Form::Text => Self::Text,
            Form::Json => Self::Json,
        }
    }
}

//! `policy check`, `policy test` and `policy diff`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use config::{PolicyFiles, Settings};
use proxy::{
    command::{self, Answer, Flaw, PolicyText, Request},
    error::chain,
};

use crate::terminal::{Form, Place, Unasked, tell};

/// Policies before they are in force.
#[derive(clap::Subcommand)]
pub(crate) enum Policy {
    /// Tell everything that is wrong in policy files. Without files: those of the configuration. Asks neither store nor upstream.
    Check(Check),
    /// Tell what would be decided about images under these policies. Upstream is asked afresh; nothing is served.
    Test(Test),
    /// Tell which kept images and tags would be answered otherwise under these policies, by stored evidence.
    Diff(Diff),
}

#[derive(clap::Args)]
pub(crate) struct Check {
    /// Policy files
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
pub(crate) struct Test {
    /// Policy files, then images: what ends in .yaml, .yml or .json, or is a file, is a policy
    #[arg(value_name = "FILE… IMAGE", required = true)]
    files_and_images: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
pub(crate) struct Diff {
    /// Policy files, to stand in place of those in force
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
struct Common {
    /// For people or for programs
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "text")]
    output: Form,
    #[command(flatten)]
    place: Place,
}

impl Policy {
    pub(crate) fn run(self) -> Result<ExitCode, Unasked> {
        match self {
            Self::Check(check) => check.run(),
            Self::Test(test) => test.run(),
            Self::Diff(diff) => {
                let settings = diff.common.place.load()?.settings;
                let policies = read(&diff.files, &settings)?;
                diff.common.place.ask(vec![Request::PolicyDiff { policies }], diff.common.output.into())
            }
        }
    }
}

impl Check {
    fn run(self) -> Result<ExitCode, Unasked> {
        let settings = self.common.place.load()?.settings;
        let files = match (&settings.policy.files, self.files.is_empty()) {
            (_, false) => self.files,
            (PolicyFiles::Files(files), true) => files.clone(),
            (PolicyFiles::BuiltIn, true) => {
                let hint = "name some, or set policy.files in the configuration";
                return Err(Unasked::usage("there is no policy file to check: the built-in policy is in force", hint));
            }
        };
        // A file that cannot be read hides nothing of the others.
        let (mut texts, mut unread) = (Vec::new(), Vec::new());
        bounded(&files, &settings)?;
        for path in &files {
            match one(path, &settings) {
                Ok(text) => texts.push(text),
                Err(error) => unread.push(Flaw::whole(chain(&error))),
            }
        }
        let mut checked = command::check(&settings, &texts, unread);
        checked.files = files.iter().map(|path| path.display().to_string()).collect();
        Ok(tell(&Answer::Checked(checked), self.common.output.into()))
    }
}

impl Test {
    fn run(self) -> Result<ExitCode, Unasked> {
        let settings = self.common.place.load()?.settings;
        let (files, images): (Vec<_>, Vec<_>) = self.files_and_images.into_iter().partition(|it| is_policy(it));
        if files.is_empty() || images.is_empty() {
            let what = if files.is_empty() { "no policy file is named" } else { "no image is named" };
            return Err(Unasked::usage(
                what,
                "write it as pratique policy test new.yaml cgr.dev/chainguard/nginx:latest",
            ));
        }
        let files: Vec<_> = files.into_iter().map(PathBuf::from).collect();
        let request = Request::PolicyTest { policies: read(&files, &settings)?, images };
        self.common.place.ask(vec![request], self.common.output.into())
    }
}

fn is_policy(argument: &str) -> bool {
    let path = Path::new(argument);
    let extension = path.extension().and_then(|it| it.to_str());
    extension.is_some_and(|it| ["yaml", "yml", "json"].contains(&it)) || path.is_file()
}

fn read(files: &[PathBuf], settings: &Settings) -> Result<Vec<PolicyText>, Unasked> {
    bounded(files, settings)?;
    files.iter().map(|path| Ok(one(path, settings)?)).collect()
}

fn bounded(files: &[PathBuf], settings: &Settings) -> Result<(), Unasked> {
    let max = settings.limits.policy_files_max;
    if files.len() <= max {
        return Ok(());
    }
    let what = format!("{} policy files are named, at most {max} are read", files.len());
    Err(Unasked::usage(what, "raise limits.policy_files_max in the configuration"))
}

fn one(path: &Path, settings: &Settings) -> Result<PolicyText, config::ConfigError> {
    let text = config::read_text(path, settings.limits.policy_file_bytes_max)?;
    Ok(PolicyText { name: path.display().to_string(), text })
}

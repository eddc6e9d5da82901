//! `policy check`, `policy test` and `policy diff`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use config::{PolicyFiles, Settings};
use proxy::command::{self, Answer, PolicyText, Request};

use crate::terminal::{Form, Place, Unasked, tell};

/// Policies before they are in force.
#[derive(clap::Subcommand)]
pub(crate) enum Policy {
    /// Tell everything that is wrong in policy files. Without files: those of the configuration. Asks neither store nor upstream.
    Check(Check),
    /// Tell what would be decided about images under these policies. Upstream is asked afresh; nothing is served.
    Test(Test),
    /// Tell which kept images would be decided about otherwise under these policies, by stored evidence.
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
        let checked = command::check(&settings, &read(&files, &settings)?);
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
    let limits = &settings.limits;
    if files.len() > limits.policy_files_max {
        let what = format!("{} policy files are named, at most {} are read", files.len(), limits.policy_files_max);
        return Err(Unasked::usage(what, "raise limits.policy_files_max in the configuration"));
    }
    let one = |path: &PathBuf| {
        let text = config::read_text(path, limits.policy_file_bytes_max)?;
        Ok(PolicyText { name: path.display().to_string(), text })
    };
    files.iter().map(one).collect()
}

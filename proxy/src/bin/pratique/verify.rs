//! `verify`, as `cosign verify`.

use std::process::ExitCode;

use proxy::command::{Output, Request, Shown};

use crate::{
    cosign::Signer,
    terminal::{Place, Unasked, print},
};

/// Verify that images are signed, as cosign does: by the policies in force, or by the signer that is asked for.
///
/// Upstream is asked afresh; nothing is served. Exit code 0 where all images are verified.
#[derive(clap::Args)]
pub(crate) struct Verify {
    /// The image, as cgr.dev/chainguard/nginx:latest or cgr.dev/chainguard/nginx@sha256:…
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// What standard output gets: what was signed as a JSON array (json, as cosign does) or with its facts line by line (text), or all
    /// that was found, also where the answer is no (report)
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "json")]
    output: Printed,
    #[command(flatten)]
    signer: Signer,
    #[command(flatten)]
    place: Place,
}

/// As cosign prints it, or all that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Printed {
    Json,
    Text,
    Report,
}

impl From<Printed> for Output {
    fn from(printed: Printed) -> Self {
        match printed {
            Printed::Json => Self::Cosign,
            Printed::Text => Self::Text,
            Printed::Report => Self::Json,
        }
    }
}

impl Verify {
    pub(crate) fn run(self) -> Result<ExitCode, Unasked> {
        let (rules, notes) = self.signer.rules()?;
        told(&notes);
        let request = |image| Request::Verify { image, rules: rules.clone() };
        self.place.ask(self.images.into_iter().map(request).collect(), self.output.into())
    }
}

/// Lines about options that change nothing.
pub(crate) fn told(notes: &[String]) {
    let stderr = notes.iter().map(|note| format!("note: {note}\n")).collect::<Vec<_>>().concat();
    print(&Shown { stderr, ..Shown::default() });
}

//! `attestation`, as `cosign verify-attestation` and `cosign download attestation`.

use std::process::ExitCode;

use proxy::command::{Output, Request};

use crate::{
    cosign::Signer,
    terminal::{Place, Unasked},
    verify::{Printed, told},
};

/// Print what is attested about images: verified first, by the policies in force or the signer that is asked for.
///
/// Upstream is asked afresh. One envelope a line, as cosign prints them. Exit code 0 where every image has one that is good.
#[derive(clap::Args)]
pub(crate) struct Attestation {
    /// The image, as cgr.dev/chainguard/nginx:latest or cgr.dev/chainguard/nginx@sha256:…
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Of this type only: a URI, or one of cosign's short names (slsaprovenance1, spdxjson, …)
    #[arg(long = "predicate-type", alias = "type", value_name = "TYPE")]
    predicate_type: Option<String>,
    /// About the manifest for this platform, as linux/amd64; without it about the index
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// Print the predicate instead of the envelope, as `jq -r .payload | base64 -d | jq .predicate` does
    #[arg(long, conflicts_with = "output")]
    predicate: bool,
    /// What standard output gets: envelopes (json, text), or all that was found (report)
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "json")]
    output: Printed,
    #[command(flatten)]
    signer: Signer,
    #[command(flatten)]
    place: Place,
}

/// As cosign spells it.
#[derive(clap::Subcommand)]
pub(crate) enum Download {
    /// The same as `pratique attestation`: verified before it is printed.
    Attestation(Box<Attestation>),
}

impl Attestation {
    pub(crate) fn run(self) -> Result<ExitCode, Unasked> {
        let (rules, notes) = self.signer.rules()?;
        told(&notes);
        let output = if self.predicate { Output::Predicate } else { self.output.into() };
        let request = |image| Request::Attestation {
            image,
            platform: self.platform.clone(),
            predicate_type: self.predicate_type.clone(),
            rules: rules.clone(),
        };
        self.place.ask(self.images.into_iter().map(request).collect(), output)
    }
}

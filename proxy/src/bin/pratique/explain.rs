//! `explain`.

use std::process::ExitCode;

use proxy::command::Request;

use crate::terminal::{Form, Place, Unasked};

/// Tell what was decided about an image and why: each policy, authority and piece of evidence. Asks the store and nobody else.
#[derive(clap::Args)]
pub(crate) struct Explain {
    /// The image, as cgr.dev/chainguard/nginx:latest or cgr.dev/chainguard/nginx@sha256:…
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// For people or for programs
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "text")]
    output: Form,
    #[command(flatten)]
    place: Place,
}

impl Explain {
    pub(crate) fn run(self) -> Result<ExitCode, Unasked> {
        let request = |image| Request::Explain { image };
        self.place.ask(self.images.into_iter().map(request).collect(), self.output.into())
    }
}

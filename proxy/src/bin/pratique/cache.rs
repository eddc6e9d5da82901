//! `cache`.

use std::process::ExitCode;

use proxy::command::{CacheRequest, Request, ScrubRate};

use crate::terminal::{Form, Place, Unasked};

/// What is kept: look at it, pin it, let go of it, read it again.
#[derive(clap::Subcommand)]
pub(crate) enum Cache {
    /// Tell which images are kept, when they were last used, and how much of their layers is here.
    Ls {
        /// Evidence too, which is kept for the image it speaks about
        #[arg(short, long)]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Tell what is kept of images: tags, use, layers, config, evidence.
    Show(Images),
    /// Bring the store within its budgets now, the least recently used image first.
    Gc {
        /// Only tell what would leave
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Keep images whatever the budgets say. A tag that moves on leaves the pin where it is.
    Pin(Images),
    /// Let images go again when the budgets say so; they count as used now.
    Unpin(Images),
    /// Let go of images now, with verdicts, evidence, and all that no other image needs; of an index with its children.
    Rm {
        /// Only tell what would leave
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        images: Images,
    },
    /// Read everything again now; set aside what has rotted, and fetch again what admitted images need. Interrupted, it ends where it is,
    /// and the next one begins anew.
    Scrub {
        /// Read at most so many bytes a second: 20971520, 20MiB; 0 or `unlimited`: as fast as the disk reads. Without it,
        /// `storage.scrub_bytes_per_second` of the configuration
        #[arg(long, value_name = "BYTES", value_parser = rate)]
        rate: Option<ScrubRate>,
        #[command(flatten)]
        common: Common,
    },
    /// Tell how much is kept, and what the budgets are.
    Stats(Common),
}

#[derive(clap::Args)]
pub(crate) struct Images {
    /// Images, as cgr.dev/chainguard/nginx:latest or cgr.dev/chainguard/nginx@sha256:…
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(clap::Args)]
pub(crate) struct Common {
    /// For people or for programs
    #[arg(short, long, value_enum, value_name = "FORM", default_value = "text")]
    output: Form,
    #[command(flatten)]
    place: Place,
}

impl Cache {
    pub(crate) fn run(self) -> Result<ExitCode, Unasked> {
        match self {
            Self::Ls { all, common } => common.ask(vec![CacheRequest::Ls { all }]),
            Self::Show(images) => images.ask(|image| CacheRequest::Show { image }),
            Self::Gc { dry_run, common } => common.ask(vec![CacheRequest::Gc { dry_run }]),
            Self::Pin(images) => images.ask(|image| CacheRequest::Pin { image, pinned: true }),
            Self::Unpin(images) => images.ask(|image| CacheRequest::Pin { image, pinned: false }),
            Self::Rm { dry_run, images: Images { images, common } } => {
                common.ask(vec![CacheRequest::Rm { images, dry_run }])
            }
            Self::Scrub { rate, common } => common.ask(vec![CacheRequest::Scrub { rate: rate.unwrap_or_default() }]),
            Self::Stats(common) => common.ask(vec![CacheRequest::Stats]),
        }
    }
}

fn rate(typed: &str) -> Result<ScrubRate, String> {
    match config::parse_size(typed) {
        _ if typed == "unlimited" => Ok(ScrubRate::Unlimited),
        Some(0) => Ok(ScrubRate::Unlimited),
        Some(bytes) => Ok(ScrubRate::BytesPerSecond(bytes)),
        None => Err("want bytes a second such as 20971520 or 20MiB, or unlimited".to_owned()),
    }
}

impl Images {
    fn ask(self, request: impl Fn(String) -> CacheRequest) -> Result<ExitCode, Unasked> {
        self.common.ask(self.images.into_iter().map(request).collect())
    }
}

impl Common {
    fn ask(self, requests: Vec<CacheRequest>) -> Result<ExitCode, Unasked> {
        self.place.ask(requests.into_iter().map(Request::Cache).collect(), self.output.into())
    }
}

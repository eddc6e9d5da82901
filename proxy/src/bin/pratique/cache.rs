//! `cache`.

use std::process::ExitCode;

use proxy::command::{CacheRequest, Request, ScrubRate};

use crate::terminal::{Form, Place, Unasked};

const EXIT_CODES: &str = "Exit codes: 0 done, a scrub that fetched again what had rotted included; 1 an image is not kept or is \
                          pinned, or a blob cannot be read; 2 the command line cannot be read; 3 the store or the server did not \
                          answer, or something rotten cannot be fetched again now.";

/// What is kept: look at it, pin it, let go of it, read it again. A running server that owns the store answers itself; without one the
/// command opens the store that the configuration names.
#[derive(clap::Subcommand)]
#[command(after_help = EXIT_CODES)]
pub(crate) enum Cache {
    /// List the images and indexes that are kept, with their tags, when they were last used, and how much of their layers is here.
    Ls {
        /// Signatures and attestations too, which are kept for the image they speak about
        #[arg(short, long)]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Tell of an image its tags, use and verdicts, and of each of its parts whether it is here: children, config, layers, evidence.
    Show(Images),
    /// Bring the store within its budgets now, as a running server does by itself: where `storage.max_bytes` (layers) or
    /// `storage.metadata_max_bytes` (all else) is exceeded, the least recently used images leave first.
    Gc {
        /// Tell what would leave, and remove nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Keep images whatever the budgets say; an index with its children. The pin is on what a tag means now: it does not move with it.
    Pin(Images),
    /// Let images leave again when the budgets say so; they count as used just now.
    Unpin(Images),
    /// Let tags lead back: how new the images were that each has served does not count any more, and where it leads next sets that anew.
    /// The way out where `pratique.dev/rollback` refuses what was moved back on purpose.
    ForgetNewest(Images),
    /// Remove images now, with their verdicts and evidence, the children of an index, and all that no other image needs. All of them or
    /// none: a pinned one stays, and with it the others. The next pull fetches and judges them again.
    Rm {
        /// Tell what would leave, and remove nothing
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
    /// Tell how much is kept and on its way in, what the budgets are, and when the oldest image was used.
    Stats(Common),
}

#[derive(clap::Args)]
pub(crate) struct Images {
    /// Images that are kept, as cgr.dev/chainguard/nginx:latest or cgr.dev/chainguard/nginx@sha256:…; `pratique cache ls` lists them
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
            Self::Ls { all, common } => common.place.list(all, common.output.into()),
            Self::Show(images) => images.ask(|image| CacheRequest::Show { image }),
            Self::Gc { dry_run, common } => common.ask(vec![CacheRequest::Gc { dry_run }]),
            Self::Pin(images) => images.ask(|image| CacheRequest::Pin { image, pinned: true }),
            Self::Unpin(images) => images.ask(|image| CacheRequest::Pin { image, pinned: false }),
            Self::ForgetNewest(images) => images.ask(|image| CacheRequest::ForgetNewest { image }),
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

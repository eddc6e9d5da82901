//! A whole throw-away world: a Sigstore, an upstream, policies on disk, and pratique in front, started as an operator would start it.

use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use config::{Loaded, Overrides};
use oci::{Digest, UnixTime};
use proxy::{app::StartError, clock::Clock, server::Server};
use tempfile::TempDir;

use crate::{
    image::{self, Image},
    sigstore::{Options, Signer, VirtualSigstore},
    upstream::{Builder, Registry},
};

/// How long a pratique that was stopped may hold its store yet.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(10);

/// The parts that are there before pratique is.
pub struct World {
    /// Who signs.
    pub sigstore: VirtualSigstore,
    /// What stands behind pratique as `cgr.dev`.
    pub registry: Registry,
    /// Configuration, policies and store lie here.
    pub directory: TempDir,
}

/// What a test changes in the configuration.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Lines at the top of the file.
    pub top: String,
    /// Lines within `[storage]`.
    pub storage: String,
    /// Lines within `[policy]`.
    pub policy: String,
    /// Lines within `[[upstreams]]` of `cgr.dev`.
    pub upstream: String,
    /// Whole sections at the end.
    pub sections: String,
    /// Policies, by file name; none: the built-in one.
    pub policies: Vec<(String, String)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            top: "listen = \"127.0.0.1:0\"".to_owned(),
            storage: String::new(),
            policy: String::new(),
            upstream: String::new(),
            sections: String::new(),
            policies: Vec::new(),
        }
    }
}

impl Setup {
    /// With one policy instead of the built-in one.
    #[must_use]
    pub fn with_policy(text: &str) -> Self {
        Self { policies: vec![("policy.yaml".to_owned(), text.to_owned())], ..Self::default() }
    }

    /// With more sections at the end of the file.
    #[must_use]
    pub fn sections(mut self, text: &str) -> Self {
        self.sections.push_str(text);
        self
    }
}

impl World {
    /// A world with a plain upstream.
    pub async fn new() -> Self {
        Self::with(Registry::builder()).await
    }

    /// A world with this upstream.
    ///
    /// # Panics
    /// When the machine gives no port or no temporary directory.
    pub async fn with(builder: Builder) -> Self {
        Self {
            sigstore: VirtualSigstore::new(),
            registry: builder.start().await.expect("an upstream on loopback"),
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// Pushes `image` and signs it, and all below it, in the legacy layout as Chainguard does.
    pub fn push_signed(&self, repository: &str, tag: &str, image: &Image) {
        image.push(&self.registry, repository, Some(tag));
        self.sign(repository, image, &Signer::chainguard(), &Options::default());
    }

    /// Signs a pushed image and all below it in the legacy layout.
    pub fn sign(&self, repository: &str, image: &Image, signer: &Signer, options: &Options) {
        for digest in image.digests() {
            self.sign_alone(repository, &digest, signer, options);
        }
    }

    /// Signs what is pushed and nothing below it. The tag of the signature.
    pub fn sign_alone(&self, repository: &str, digest: &Digest, signer: &Signer, options: &Options) -> String {
        let signature = self.sigstore.sign_legacy(signer, &format!("cgr.dev/{repository}"), digest, options);
        let tag = image::cosign_tag(digest, "sig");
        image::signature_manifest(&[signature]).push(&self.registry, repository, Some(&tag));
        tag
    }

    /// Writes the configuration for `setup`, and returns its path.
    ///
    /// # Panics
    /// When the temporary directory cannot be written.
    pub fn write(&self, setup: &Setup) -> PathBuf {
        let directory = self.directory.path();
        let write = |name: &str, text: &str| {
            std::fs::write(directory.join(name), text).expect("a file in a temporary directory")
        };
        write("trusted_root.json", &self.sigstore.trusted_root_json());
        let mut policy =
            format!("trust_root = \"trusted_root.json\"\ntrust_root_warn_age = \"3650d\"\n{}\n", setup.policy);
        if !setup.policies.is_empty() {
            let names: Vec<_> = setup.policies.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let _ = writeln!(policy, "files = [{}]", names.join(", "));
        }
        for (name, text) in &setup.policies {
            write(name, text);
        }
        let ca = self.registry.ca_pem();
        write("ca.pem", &ca);
        let ca = if self.registry.url().starts_with("https") { "ca_file = \"ca.pem\"" } else { "" };
        let text = format!(
            "{}\n[storage]\npath = \"store\"\n{}\n[policy]\n{policy}\n[[upstreams]]\nname = \"cgr.dev\"\nurl = \"{}\"\nprefix = \"\"\n{ca}\n{}\n{}\n",
            setup.top,
            setup.storage,
            self.registry.url(),
            setup.upstream,
            setup.sections,
        );
        write("pratique.toml", &text);
        directory.join("pratique.toml")
    }

    /// The configuration for `setup`, loaded.
    ///
    /// # Panics
    /// When it cannot be loaded: a test that expects that loads it itself.
    pub fn load(&self, setup: &Setup) -> Loaded {
        let overrides = Overrides { config: Some(self.write(setup)), ..Overrides::default() };
        config::load_without_environment(&overrides)
            .unwrap_or_else(|error| panic!("the configuration does not load: {error}"))
    }

    /// pratique in front of this world, in this process.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn pratique(&self, setup: &Setup) -> Pratique {
        self.try_pratique(setup, Clock::system())
            .await
            .unwrap_or_else(|error| panic!("pratique does not start: {error}"))
    }

    /// pratique in front of this world, by `clock`. What the one before has left running in the background may hold the store for a moment.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn try_pratique(&self, setup: &Setup, clock: Clock) -> Result<Pratique, StartError> {
        let until = Instant::now() + GIVEN_BACK_WITHIN;
        loop {
            match Server::start(self.load(setup), clock.clone()).await {
                Err(StartError::Locked { .. }) if Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                outcome => return Ok(Pratique { server: Arc::new(outcome?) }),
            }
        }
    }
}

/// A time in milliseconds since 1970 that stands still until it is moved, and the clock that shows it.
#[must_use]
pub fn moved_by_hand(start: u64) -> (Arc<AtomicU64>, Clock) {
    let millis = Arc::new(AtomicU64::new(start));
    let hand = Arc::clone(&millis);
    (millis, Clock::reading(move || UnixTime::from_millis(hand.load(Ordering::SeqCst))))
}

/// The same, and where it is switched on each reading takes so long: who looks at what was decided reads the clock in between, and on a
/// busy machine much happens meanwhile.
#[must_use]
pub fn slowed_by_hand(start: u64, pause: Duration) -> (Arc<AtomicU64>, Arc<AtomicBool>, Clock) {
    let ((millis, clock), is_slow) = (moved_by_hand(start), Arc::new(AtomicBool::new(false)));
    let slowly = Arc::clone(&is_slow);
    let slowed = Clock::reading(move || {
        if slowly.load(Ordering::SeqCst) {
            thread::sleep(pause);
        }
        clock.now()
    });
    (millis, is_slow, slowed)
}

/// A pratique that runs in this process.
#[derive(Clone)]
pub struct Pratique {
    /// The server.
    pub server: Arc<Server>,
}

impl Pratique {
    /// `http://127.0.0.1:<port>`, or `https://` where it speaks TLS.
    #[must_use]
    pub fn url(&self) -> String {
        let tls = self.server.app.in_force().settings.tls.is_some();
        format!("{}://127.0.0.1:{}", if tls { "https" } else { "http" }, self.server.address.port())
    }

    /// Takes the configuration for `setup` into force.
    ///
    /// # Errors
    /// When it cannot be used.
    pub async fn reload(&self, world: &World, setup: &Setup) -> Result<(), StartError> {
        self.server.reload(world.load(setup)).await
    }

    /// Stops it and gives the store back.
    ///
    /// # Panics
    /// When somebody else still holds it.
    pub async fn stop(self) {
        let server = Arc::into_inner(self.server).expect("the last handle of this pratique");
        server.shutdown().await;
    }
}

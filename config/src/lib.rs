//! What the operator wrote, parsed and checked.
//!
//! This crate knows every key, its default, its unit and its bounds, which files a configuration names, and which of its settings
//! weaken what pratique promises. It refuses to know what policies say, and what any setting is used for.
//!
//! ```text
//! defaults < configuration file < PRATIQUE_* environment < flags      (sources); HTTPS_PROXY and its like (proxies)
//!        │ merged key by key, lists replaced whole
//!        ▼
//! sections as written  ── check ──▶  Settings + notes for the start-up log
//! ```
//!
//! Every key with its default is shown in `docs/configuration.md`; a test keeps the example there equal to the code.
//!
//! ```
//! let overrides = config::Overrides { listen: Some("127.0.0.1:5050".into()), storage: Some("store".into()), ..Default::default() };
//! // `load` does the same, and looks at PRATIQUE_* besides.
//! let loaded = config::load_without_environment(&overrides)?;
//! assert_eq!(loaded.settings.upstreams[0].name.as_str(), "cgr.dev");
//! # Ok::<(), config::ConfigError>(())
//! ```

mod cosign;
mod environment;
mod error;
mod evidence;
mod lifetimes;
mod limits;
mod listen;
mod log;
mod notes;
mod policy;
mod proxies;
mod refresh;
mod secret;
mod sources;
mod store;
mod text;
mod units;
mod upstream;

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

pub use cosign::CosignVariables;
pub use environment::helper_environment;
pub use error::{ConfigError, Origin, Place};
pub use evidence::Evidence;
pub use lifetimes::{TagRefresh, Tags, Verdicts};
pub use limits::Limits;
pub use listen::Tls;
pub use log::{Log, LogFormat};
pub use policy::{NoMatch, Policy, PolicyFiles, TrustRootSource};
pub use proxies::{ForwardProxy, Proxies};
pub use refresh::{MirrorUrl, TrustRootRefresh};
pub use secret::Secret;
pub use store::{FactsIn, Fsync, Storage, VerifyReads};
pub use text::read_text;
pub use units::{parse_duration, parse_size};
pub use upstream::{Credentials, HostPort, Scheme, Upstream, UpstreamUrl};

use environment::Environment;
use notes::Notes;
use sources::Sources;

/// Everything that can be set, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where clients connect. Default 127.0.0.1:5000.
    pub listen: SocketAddr,
    /// Plain HTTP beyond loopback was asked for. Default false.
    pub insecure: bool,
    /// Where `/healthz`, `/readyz` and `/metrics` are; plain HTTP. Default: nowhere.
    pub admin_listen: Option<SocketAddr>,
    /// TLS on `listen`. Default: plain HTTP.
    pub tls: Option<Tls>,
    /// Where content and facts are kept.
    pub storage: Storage,
    /// The registries behind; at least one, with distinct names and prefixes. Default: cgr.dev.
    pub upstreams: Vec<Upstream>,
    /// How long a tag is believed.
    pub tags: Tags,
    /// How long a verdict is believed.
    pub verdicts: Verdicts,
    /// Where policies and trust roots are.
    pub policy: Policy,
    /// A bound for everything that comes from outside.
    pub limits: Limits,
    /// What the log looks like.
    pub log: Log,
    /// What may be served as evidence.
    pub evidence: Evidence,
    /// Through whom upstreams are asked: `HTTPS_PROXY` and its like. Default: nobody.
    pub proxies: Proxies,
}

/// The flags of `pratique serve`. Each replaces its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config`: the configuration file. None is looked for where it is absent.
    pub config: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--storage`.
    pub storage: Option<PathBuf>,
    /// `--policy`: files, not patterns.
    pub policy: Vec<PathBuf>,
}

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What is set.
    pub settings: Settings,
    /// Lines for the start-up log: what was left to its default, and, beginning with `weakened:`, what is weaker than it could be.
    pub notes: Vec<String>,
    /// The configuration file, where there is one.
    pub file: Option<PathBuf>,
}

/// Reads flags, environment and file. Called at start and at each reload.
///
/// # Errors
///
/// The first thing found that is unknown, missing, malformed or contradictory, with its place.
pub fn load(overrides: &Overrides) -> Result<Loaded, ConfigError> {
    load_from(overrides, &Environment::of_process()?)
}

/// [`load`] by a program that has an environment of its own: what `PRATIQUE_*` and `HTTPS_PROXY` say there is not looked at.
///
/// # Errors
///
/// As [`load`].
pub fn load_without_environment(overrides: &Overrides) -> Result<Loaded, ConfigError> {
    load_from(overrides, &Environment::default())
}

fn load_from(overrides: &Overrides, environment: &Environment) -> Result<Loaded, ConfigError> {
    let sources = Sources::gather::<Written>(overrides, environment)?;
    let mut notes = Notes::default();
    let nothing = *overrides == Overrides::default() && environment.settings.is_empty();
    if nothing {
        notes.told("no configuration: the defaults are in force (docs/configuration.md)");
    }
    let settings = sources.extract::<Written>()?.check(&sources, environment, &mut notes)?;
    Ok(Loaded { settings, notes: notes.into_lines(), file: overrides.config.clone() })
}

/// All keys as written.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    listen: listen::Address,
    insecure: bool,
    admin_listen: Option<listen::Address>,
    tls: Option<listen::WrittenTls>,
    storage: store::WrittenStorage,
    upstreams: Option<Vec<upstream::WrittenUpstream>>,
    tags: Tags,
    verdicts: Verdicts,
    policy: policy::WrittenPolicy,
    limits: Limits,
    log: Log,
    evidence: Evidence,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            listen: listen::Address(SocketAddr::from(([127, 0, 0, 1], 5000))),
            insecure: false,
            admin_listen: None,
            tls: None,
            storage: store::WrittenStorage::default(),
            upstreams: None,
            tags: Tags::default(),
            verdicts: Verdicts::default(),
            policy: policy::WrittenPolicy::default(),
            limits: Limits::default(),
            log: Log::default(),
            evidence: Evidence::default(),
        }
    }
}

impl Written {
    fn check(self, sources: &Sources, environment: &Environment, notes: &mut Notes) -> Result<Settings, ConfigError> {
        let listen = self.listen.0;
        let admin_listen = self.admin_listen.map(|address| address.0);
        let upstreams = upstream::check(self.upstreams, sources, notes)?;
        let proxies = proxies::check(environment, notes)?;
        let policy = self.policy.check(self.limits.policy_files_max, sources, notes)?;
        let storage = self.storage.check(sources, environment, notes)?;
        let tls = self.tls.map(|tls| tls.check(sources, notes)).transpose()?;
        if tls.is_none() {
            listen::check_plain("listen", listen, self.insecure, sources, notes)?;
        }
        if let Some(address) = admin_listen {
            listen::check_plain("admin_listen", address, self.insecure, sources, notes)?;
            listen::check_apart(listen, address, sources)?;
        }
        listen::note_lent_credentials(listen, &upstreams, notes);
        self.limits.check(sources, notes)?;
        let evidence = self.evidence.check(sources, notes)?;
        Ok(Settings {
            listen,
            insecure: self.insecure,
            admin_listen,
            tls,
            storage,
            upstreams,
            tags: self.tags,
            verdicts: self.verdicts,
            policy,
            limits: self.limits,
            log: self.log,
            evidence,
            proxies,
        })
    }
}

#[cfg(test)]
mod tests;

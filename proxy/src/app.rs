//! The composition root: the only file that names all concrete types.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use config::{PolicyFiles, Settings, TrustRootSource};
use oci::{UnixTime, UpstreamName};
use policy::{Judge, LoadContext, PolicySet, SourceText, TrustRoot, VerdictLifetimes};
use storage::{FactsState, Store};
use tokio::sync::watch;

use crate::{
    admission::Admission,
    clock::Clock,
    error::{ApiError, chain},
    evidence::EvidenceStore,
    fill::Fills,
    resolve::Resolver,
    route::Routes,
    upstream::Upstream,
};

/// What a reload replaces as a whole: policies, trust root, credentials, routes.
pub struct InForce {
    /// Counts reloads; a permit or verdict found under another generation is looked at again.
    pub generation: u64,
    /// Who judges.
    pub judge: Arc<Judge>,
    /// Which path is which repository.
    pub routes: Routes,
    /// The upstreams by name.
    pub upstreams: BTreeMap<UpstreamName, Arc<Upstream>>,
    /// What the operator wrote.
    pub settings: Arc<Settings>,
}

impl InForce {
    /// The upstream of that name. Repositories are only made from configured names, but a reload may have taken one away.
    ///
    /// # Errors
    /// When it is gone.
    pub fn upstream(&self, name: &UpstreamName) -> Result<Arc<Upstream>, ApiError> {
        self.upstreams
            .get(name)
            .cloned()
            .ok_or_else(|| ApiError::Unknown { code: "NAME_UNKNOWN", what: format!("upstream {name}") })
    }
}

/// Everything a handler may reach.
pub struct App {
    in_force: watch::Sender<Arc<InForce>>,
    reloading: Mutex<()>,
    /// Reference to digest, digest to manifest.
    pub resolver: Arc<Resolver>,
    /// Whether it may be served.
    pub admission: Arc<Admission>,
    /// Blobs on their way in.
    pub fills: Fills,
    /// The store.
    pub store: Store,
    /// The time.
    pub clock: Clock,
}

/// Why there is nothing to serve with, or nothing new to serve by.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration does not hold together.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// A policy cannot be loaded.
    #[error("{0}")]
    Policy(policy::LoadErrors),
    /// The trust root cannot be used.
    #[error("trust root {path}: {why}")]
    TrustRoot {
        /// Which file, or the one inside.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// Policies and trust root do not make a judge.
    #[error("policies cannot be used: {0}")]
    Judge(String),
    /// An upstream cannot be set up.
    #[error("upstream {name}: {why}")]
    Upstream {
        /// Which one.
        name: UpstreamName,
        /// What is wrong.
        why: String,
    },
    /// The store cannot be opened.
    #[error("{0}")]
    Store(String),
    /// A listener cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The listener's certificate or key cannot be used.
    #[error("tls: {0}")]
    Tls(String),
}

/// Something loaded, and lines about it for the start-up log.
pub struct Noted<T> {
    /// What was loaded.
    pub value: T,
    /// One line each.
    pub notes: Vec<String>,
}

impl App {
    /// Opens the store and loads policies, trust root and upstreams.
    ///
    /// # Errors
    /// When any of them cannot be used: nothing is served rather than something unjudged.
    pub fn new(settings: Settings, clock: Clock) -> Result<Noted<Arc<Self>>, StartError> {
        let settings = Arc::new(settings);
        let Noted { value: in_force, mut notes } = load(&settings, 0, clock.now())?;
        let limits = Arc::new(settings.limits.clone());
        let store = Store::open(&settings.storage.path, limits.tag_history_max)
            .map_err(|error| StartError::Store(chain(&error)))?;
        if let FactsState::SetAside { moved_to, reason } = store.facts_state() {
            notes.push(format!(
                "the facts file was damaged ({reason}) and lies now in {}: verdicts and tags are learned again",
                moved_to.display()
            ));
        }
        let (in_force, watched) = watch::channel(Arc::new(in_force));
        let resolver = Arc::new(Resolver::new(store.clone(), clock.clone(), Arc::clone(&limits)));
        let evidence = EvidenceStore::new(store.clone(), Arc::clone(&limits));
        let admission =
            Admission::new(watched, Arc::clone(&resolver), evidence, store.clone(), clock.clone(), Arc::clone(&limits));
        let app = Self {
            in_force,
            reloading: Mutex::new(()),
            resolver,
            admission,
            fills: Fills::new(store.blobs().clone(), limits),
            store,
            clock,
        };
        Ok(Noted { value: Arc::new(app), notes })
    }

    /// What holds now.
    #[must_use]
    pub fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.in_force.borrow())
    }

    /// Takes new policies, trust root, credentials and upstreams into force. From here on every answer is under them, and every
    /// body under way looks at its permit again.
    ///
    /// # Errors
    /// When any of them cannot be used; what was in force stays.
    pub fn reload(&self, settings: Settings) -> Result<Vec<String>, StartError> {
        // One at a time: who began to read later is in force later.
        let _turn = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.in_force().generation + 1;
        let Noted { value, notes } = load(&Arc::new(settings), generation, self.clock.now())?;
        self.in_force.send_replace(Arc::new(value));
        Ok(notes)
    }
}

fn load(settings: &Arc<Settings>, generation: u64, now: UnixTime) -> Result<Noted<InForce>, StartError> {
    let Noted { value: policies, mut notes } = load_policies(settings)?;
    let trust_root = load_trust_root(settings)?;
    let ends = trust_root_ends(settings, now, &mut notes);
    let lifetimes = VerdictLifetimes {
        absent_ttl: settings.verdicts.absent_ttl,
        refused_ttl: settings.verdicts.refused_ttl,
        trust_root_ends: ends,
    };
    let judge = Judge::new(policies, &trust_root, lifetimes).map_err(|error| StartError::Judge(chain(&error)))?;
    let mut upstreams = BTreeMap::new();
    for upstream in &settings.upstreams {
        let client = Upstream::new(upstream, &settings.limits)
            .map_err(|error| StartError::Upstream { name: upstream.name.clone(), why: chain(&error) })?;
        upstreams.insert(upstream.name.clone(), Arc::new(client));
    }
    let value = InForce {
        generation,
        judge: Arc::new(judge),
        routes: Routes::new(&settings.upstreams),
        upstreams,
        settings: Arc::clone(settings),
    };
    Ok(Noted { value, notes })
}

fn load_policies(settings: &Settings) -> Result<Noted<PolicySet>, StartError> {
    let upstreams: Vec<_> = settings.upstreams.iter().map(|upstream| upstream.name.clone()).collect();
    let context = LoadContext {
        upstreams: &upstreams,
        no_match: no_match(settings.policy.no_match),
        custom_trust_root: matches!(settings.policy.trust_root, TrustRootSource::File(_)),
    };
    let loaded = match &settings.policy.files {
        PolicyFiles::BuiltIn => PolicySet::built_in(&context),
        PolicyFiles::Files(files) => {
            let texts = files
                .iter()
                .map(|path| {
                    let text = config::read_text(path, settings.limits.policy_file_bytes_max)?;
                    Ok(SourceText { name: path.display().to_string(), text })
                })
                .collect::<Result<Vec<_>, config::ConfigError>>()?;
            PolicySet::load(&texts, &context)
        }
    };
    let loaded = loaded.map_err(StartError::Policy)?;
    Ok(Noted { value: loaded.set, notes: loaded.notes })
}

fn no_match(configured: config::NoMatch) -> policy::NoMatch {
    match configured {
        config::NoMatch::Deny => policy::NoMatch::Deny,
        config::NoMatch::Warn => policy::NoMatch::Warn,
        config::NoMatch::Allow => policy::NoMatch::Allow,
    }
}

/// A `trusted_root.json` is larger than a policy: it holds certificates of every authority there ever was.
const TRUST_ROOT_BYTES_MAX: u64 = 4 * 1024 * 1024;

fn load_trust_root(settings: &Settings) -> Result<TrustRoot, StartError> {
    match &settings.policy.trust_root {
        TrustRootSource::PublicGood => Ok(TrustRoot::public_good()),
        TrustRootSource::File(path) => {
            let text = config::read_text(path, TRUST_ROOT_BYTES_MAX)?;
            TrustRoot::parse(text.as_bytes())
                .map_err(|error| StartError::TrustRoot { path: path.display().to_string(), why: chain(&error) })
        }
    }
}

/// When the root inside was last compared with the published one: 2026-08-21.
const PUBLIC_GOOD_AS_OF: UnixTime = UnixTime::from_millis(1_787_270_400_000);

#[expect(clippy::disallowed_methods, reason = "only the time of the file is looked at; its content is read by config")]
fn modified_at(path: &Path) -> Option<UnixTime> {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok()?;
    Some(UnixTime::from_millis(0).plus(modified.duration_since(UNIX_EPOCH).ok()?))
}

/// When the trust root becomes too old to be used, where the operator set an age. Its age counts from when the file was written; the
/// one inside from when it was last compared with the one that Sigstore publishes.
fn trust_root_ends(settings: &Settings, now: UnixTime, notes: &mut Vec<String>) -> Option<UnixTime> {
    let written = match &settings.policy.trust_root {
        TrustRootSource::PublicGood => PUBLIC_GOOD_AS_OF,
        TrustRootSource::File(path) => modified_at(path).unwrap_or(now),
    };
    let age = now.since(written).unwrap_or(Duration::ZERO);
    if age > settings.policy.trust_root_warn_age {
        notes.push(format!("the trust root is {} days old (of {written}); refresh it", age.as_secs() / 86_400));
    }
    settings.policy.trust_root_max_age.map(|max| written.plus(max))
}

/// Loads everything that serving needs but the store, and says what is in force.
///
/// # Errors
/// As [`App::new`].
pub fn check(settings: &Settings, clock: &Clock) -> Result<Vec<String>, StartError> {
    load(&Arc::new(settings.clone()), 0, clock.now()).map(|loaded| loaded.notes)
}

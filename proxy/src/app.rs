//! The composition root: the only file that names all concrete types.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use config::{PolicyFiles, Settings, TrustRootSource};
use oci::{UnixTime, UpstreamName};
use policy::{Judge, LoadContext, PolicySet, RegoBounds, SourceText, VerdictLifetimes};
use storage::{FactsState, Store, Told};

use crate::{
    admission::Admission,
    clock::Clock,
    error::{ApiError, chain},
    evidence::EvidenceStore,
    fill::Fills,
    keeping,
    manifest_room::ManifestRoom,
    meters::Meters,
    patience::Patience,
    refresh::InUse,
    resolve::Resolver,
    route::Routes,
    trust::{self, Current},
    upstream::{Network, System, Upstream},
};

/// What a reload replaces as a whole: policies, trust root, credentials, routes.
#[derive(Clone)]
pub struct InForce {
    /// Counts reloads; a permit or verdict found under another generation is looked at again.
    pub generation: u64,
    /// Who judges.
    pub judge: Arc<Judge>,
    /// Whom the judge trusts.
    pub trust: Arc<Current>,
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

    /// How long one who begins to wait for a decision now waits for it.
    #[must_use]
    pub fn patience(&self) -> Patience {
        Patience::from_now(&self.settings.limits)
    }
}

/// Everything a handler may reach.
pub struct App {
    in_force: Arc<Told<Arc<InForce>>>,
    reloading: Mutex<()>,
    network: Arc<dyn Network>,
    /// Reference to digest, digest to manifest.
    pub resolver: Arc<Resolver>,
    /// Whether it may be served.
    pub admission: Arc<Admission>,
    /// Blobs on their way in.
    pub fills: Fills,
    /// The store.
    pub store: Store,
    /// Which tags clients ask for.
    pub tags_in_use: InUse,
    /// The time.
    pub clock: Clock,
    /// What every answer is counted in.
    pub meters: Meters,
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
    /// Another process owns the store.
    #[error("store {} is in use by another process", path.display())]
    Locked {
        /// The store's directory.
        path: std::path::PathBuf,
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
        let network: Arc<dyn Network> = Arc::new(System::default());
        let Noted { value: in_force, mut notes } = load(&settings, None, clock.now(), &network)?;
        let store = Store::open_with(&settings.storage.path, &store_options(&settings)).map_err(not_opened)?;
        notes.extend(lost(store.facts_state()));
        if store.blobs().may_be_half() && settings.storage.fsync != config::Fsync::Never {
            notes.push(
                "the store was written with storage.fsync = \"never\": layers are hashed at every read until a scrub has seen all"
                    .to_owned(),
            );
        }
        Ok(Noted { value: Self::around(in_force, store, clock, network), notes })
    }

    /// The same around a store that is open already, and a network that need not be this machine's.
    ///
    /// # Errors
    /// As [`App::new`].
    pub fn within(
        settings: Settings,
        store: Store,
        clock: Clock,
        network: Arc<dyn Network>,
    ) -> Result<Noted<Arc<Self>>, StartError> {
        let Noted { value: in_force, notes } = load(&Arc::new(settings), None, clock.now(), &network)?;
        Ok(Noted { value: Self::around(in_force, store, clock, network), notes })
    }

    fn around(in_force: InForce, store: Store, clock: Clock, network: Arc<dyn Network>) -> Arc<Self> {
        let settings = Arc::clone(&in_force.settings);
        let limits = Arc::new(settings.limits.clone());
        store.ledger().set_budget(keeping::budget(&settings.storage));
        let in_force = Arc::new(Told::new(Arc::new(in_force)));
        let room = Arc::new(ManifestRoom::new(&limits));
        let resolver = Arc::new(Resolver::new(store.clone(), clock.clone(), Arc::clone(&limits), Arc::clone(&room)));
        let evidence = EvidenceStore::new(store.clone(), Arc::clone(&limits), room);
        let admission = Admission::new(
            Arc::clone(&in_force),
            Arc::clone(&resolver),
            evidence,
            store.clone(),
            clock.clone(),
            Arc::clone(&limits),
        );
        let elsewhere = Arc::new(Arc::clone(&admission));
        let upstreams = settings.upstreams.len();
        let app = Self {
            in_force,
            reloading: Mutex::new(()),
            network,
            resolver,
            admission,
            tags_in_use: InUse::new(limits.tags_refreshed_max),
            fills: Fills::new(store.clone(), clock.clone(), elsewhere, limits),
            store,
            clock,
            meters: Meters::default(),
        };
        app.fills.share_among(upstreams);
        Arc::new(app)
    }

    /// What holds now.
    #[must_use]
    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force.get()
    }

    /// What holds once another generation than `former` does.
    pub(crate) async fn in_force_after(&self, former: u64) -> Arc<InForce> {
        self.in_force.until(|in_force| in_force.generation != former).await
    }

    /// Takes new policies, trust root, credentials and upstreams into force. From here on every answer is under them, and every
    /// body under way looks at its permit again.
    ///
    /// # Errors
    /// When any of them cannot be used; what was in force stays.
    pub fn reload(&self, settings: Settings) -> Result<Vec<String>, StartError> {
        // One at a time: who began to read later is in force later.
        let _turn = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let (budget, upstreams) = (keeping::budget(&settings.storage), settings.upstreams.len());
        let former = self.in_force();
        let Noted { value, notes } = load(&Arc::new(settings), Some(&former), self.clock.now(), &self.network)?;
        self.in_force.set(Arc::new(value));
        self.store.ledger().set_budget(budget);
        self.fills.share_among(upstreams);
        Ok(notes)
    }

    /// Takes the trust root that a refresh or an import has kept in the store into force, and nothing else: files that the operator
    /// has changed wait for their reload. Whether its content is another. Blocks.
    ///
    /// # Errors
    /// When it cannot be used; what was in force stays.
    pub fn renew_trust_root(&self) -> Result<bool, StartError> {
        let _turn = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = InForce::clone(&self.in_force());
        let Noted { value: trust, .. } = trust::load(&fresh.settings, self.clock.now())?;
        let is_same = trust.root.content_digest() == fresh.trust.root.content_digest();
        if !trust.is_kept() || (is_same && trust.as_of == fresh.trust.as_of) {
            return Ok(false);
        }
        // Where no age is set, a root that was merely found current changes no verdict, and nobody need look again.
        if !is_same || fresh.settings.policy.trust_root_max_age.is_some() {
            let policies = fresh.judge.policies().clone();
            fresh.judge = Arc::new(judge(&fresh.settings, policies, &trust)?);
            fresh.generation += 1;
        }
        fresh.trust = Arc::new(trust);
        self.in_force.set(Arc::new(fresh));
        Ok(!is_same)
    }
}

/// Reads everything, at a reload to go on from what is in force until then.
fn load(
    settings: &Arc<Settings>,
    former: Option<&InForce>,
    now: UnixTime,
    network: &Arc<dyn Network>,
) -> Result<Noted<InForce>, StartError> {
    let Noted { value: policies, mut notes } = load_policies(settings)?;
    let Noted { value: trust, notes: told } = trust::load(settings, now)?;
    notes.extend(told);
    notes.extend(trust.warning(settings, now));
    let judge = judge(settings, policies, &trust)?;
    let mut upstreams = BTreeMap::new();
    for upstream in &settings.upstreams {
        let before = former.and_then(|former| former.upstreams.get(&upstream.name)).map(AsRef::as_ref);
        let client = Upstream::after(before, upstream, &settings.limits, &settings.proxies, network)
            .map_err(|error| StartError::Upstream { name: upstream.name.clone(), why: chain(&error) })?;
        upstreams.insert(upstream.name.clone(), Arc::new(client));
    }
    let value = InForce {
        generation: former.map_or(0, |former| former.generation + 1),
        judge: Arc::new(judge),
        trust: Arc::new(trust),
        routes: Routes::new(&settings.upstreams),
        upstreams,
        settings: Arc::clone(settings),
    };
    Ok(Noted { value, notes })
}

fn judge(settings: &Settings, policies: PolicySet, trust: &Current) -> Result<Judge, StartError> {
    let lifetimes = VerdictLifetimes {
        absent_ttl: settings.verdicts.absent_ttl,
        refused_ttl: settings.verdicts.refused_ttl,
        clock_ttl: settings.verdicts.clock_ttl,
        trust_root_ends: trust.ends(settings),
    };
    Judge::new(policies, &trust.root, lifetimes, rego_bounds(&settings.limits))
        .map_err(|error| StartError::Judge(chain(&error)))
}

/// What a rule may take.
fn rego_bounds(limits: &config::Limits) -> RegoBounds {
    RegoBounds { timeout: limits.rego_timeout, input_bytes_max: limits.rego_input_bytes_max }
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

/// What the operator has to know where facts were lost.
fn lost(facts: &FactsState) -> Option<String> {
    let how = match facts {
        FactsState::Intact | FactsState::New => return None,
        FactsState::Lost => "is gone".to_owned(),
        FactsState::SetAside { moved_to, reason } => {
            format!("was damaged ({reason}) and lies now in {}", moved_to.display())
        }
    };
    Some(format!(
        "the facts file {how}: verdicts and tags are learned again, pins and how new each tag was are lost, and blobs are kept for two weeks to be found again"
    ))
}

fn store_options(settings: &Settings) -> storage::Options {
    storage::Options {
        tags_max: settings.limits.tags_max,
        tag_history_max: settings.limits.tag_history_max,
        tag_targets_max: settings.limits.tag_targets_max,
        fsync: match settings.storage.fsync {
            config::Fsync::Always => storage::Fsync::Always,
            config::Fsync::Content => storage::Fsync::Content,
            config::Fsync::Never => storage::Fsync::Never,
        },
        facts: match settings.storage.facts {
            config::FactsIn::Redb => storage::FactsIn::Redb,
            config::FactsIn::Sled => storage::FactsIn::Sled,
        },
        min_free_bytes: settings.storage.min_free_bytes,
    }
}

fn not_opened(error: storage::StoreError) -> StartError {
    if let storage::StoreError::Locked { path } = error {
        return StartError::Locked { path };
    }
    StartError::Store(chain(&error))
}

pub(crate) fn no_match(configured: config::NoMatch) -> policy::NoMatch {
    match configured {
        config::NoMatch::Deny => policy::NoMatch::Deny,
        config::NoMatch::Warn => policy::NoMatch::Warn,
        config::NoMatch::Allow => policy::NoMatch::Allow,
    }
}

/// Loads everything that serving needs but the store, and says what is in force.
///
/// # Errors
/// As [`App::new`].
pub fn check(settings: &Settings, clock: &Clock) -> Result<Vec<String>, StartError> {
    let network: Arc<dyn Network> = Arc::new(System::default());
    load(&Arc::new(settings.clone()), None, clock.now(), &network).map(|loaded| loaded.notes)
}

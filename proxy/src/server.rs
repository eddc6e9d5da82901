//! A running pratique: listeners, reload, drain.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
};

use config::{Limits, Loaded};
use futures_util::future::join_all;
use metrics::{counter, gauge};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::{
    admin,
    app::{App, Noted, StartError},
    clock::Clock,
    control::Control,
    descriptors,
    error::chain,
    expiry, keeping,
    listen::{Listener, TlsFiles},
    refresh, rejudge, scrub, stack,
    supervise::supervised,
    telemetry, trust,
};

/// A server that answers until it is told to stop.
pub struct Server {
    /// Where clients pull from.
    pub address: SocketAddr,
    /// Where the admin listener is, where there is one.
    pub admin_address: Option<SocketAddr>,
    /// What it serves with.
    pub app: Arc<App>,
    tls: Option<Arc<TlsFiles>>,
    drain: watch::Sender<bool>,
    serving: JoinHandle<()>,
    control: Option<JoinHandle<()>>,
    background: Vec<JoinHandle<()>>,
    limits: Arc<Limits>,
    admin: Option<Admin>,
}

/// The second listener, which outlives the first: while bodies are drained, `/readyz` says so and `/metrics` still counts.
struct Admin {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Opens the store, loads what it judges by, binds, and serves. Tells in the log what is in force and what weakens it.
    ///
    /// # Errors
    /// When anything it needs cannot be used.
    pub async fn start(loaded: Loaded, clock: Clock) -> Result<Self, StartError> {
        let metrics = telemetry::metrics().map_err(StartError::Store)?;
        let settings = loaded.settings.clone();
        let limits = Arc::new(settings.limits.clone());
        let few_files = descriptors::raise(&limits);
        let tls = settings.tls.clone().map(TlsFiles::new).transpose()?.map(Arc::new);
        let opened = settings.clone();
        let Noted { value: app, notes } = storage::work::run(move || App::new(opened, clock))
            .await
            .map_err(|error| StartError::Store(error.to_string()))??;
        app.fills.sweep().await;
        let (drain, draining) = watch::channel(false);
        let listener = Listener::bind(settings.listen, tls.clone(), Arc::clone(&limits)).await?;
        let address = listener.address()?;
        let serving = tokio::spawn(listener.run(stack::stack(&app), draining.clone()));
        let (mut admin_address, mut admin) = (None, None);
        if let Some(address) = settings.admin_listen {
            let listener = Listener::bind(address, None, Arc::clone(&limits)).await?;
            let address = listener.address()?;
            tracing::info!(%address, "admin listener");
            admin_address = Some(address);
            let (stop, stopping) = watch::channel(false);
            let service = admin::service(&app, metrics.clone(), draining.clone());
            admin = Some(Admin { stop, task: tokio::spawn(listener.run(service, stopping)) });
        }
        let control = control(&app, Arc::clone(&limits), &draining);
        let background = background(&app, metrics, &draining);
        for note in loaded.notes.iter().chain(&notes).chain(&few_files) {
            tracing::info!("{note}");
        }
        show_policies(&app);
        tracing::info!(%address, storage = %settings.storage.path.display(), "serving");
        Ok(Self { address, admin_address, app, tls, drain, serving, control, background, limits, admin })
    }

    /// Takes a configuration that was read again into force: policies, trust root, credentials, upstreams, certificates. Addresses,
    /// storage and limits of listeners stay until a restart.
    ///
    /// # Errors
    /// When it cannot be used as a whole; everything stays as it was.
    pub async fn reload(&self, loaded: Loaded) -> Result<(), StartError> {
        let (app, tls) = (Arc::clone(&self.app), self.tls.clone());
        let Loaded { settings, notes: told, .. } = loaded;
        // All is read before anything is taken into force: a reload holds as a whole or not at all.
        let outcome = storage::work::run(move || {
            let fresh = tls.as_ref().map(|tls| tls.read_again()).transpose()?;
            let notes = app.reload(settings)?;
            if let (Some(tls), Some(fresh)) = (tls, fresh) {
                tls.install(fresh);
            }
            Ok(notes)
        });
        let outcome = outcome.await.unwrap_or_else(|error| Err(StartError::Store(error.to_string())));
        count_reload(outcome.is_ok());
        for note in told.iter().chain(&outcome?) {
            tracing::info!("{note}");
        }
        show_policies(&self.app);
        tracing::info!(
            generation = self.app.in_force().generation,
            "reloaded: policy, trust root and credentials are in force"
        );
        Ok(())
    }

    /// Stops accepting, lets requests under way end within `limits.drain_timeout`, and gives the store back.
    pub async fn shutdown(self) {
        tracing::info!("draining");
        self.drain.send_replace(true);
        let _ = self.serving.await;
        if let Some(control) = self.control {
            let _ = control.await;
        }
        if timeout(self.limits.drain_timeout, join_all(self.background)).await.is_err() {
            tracing::warn!("a task of the background did not end: the store is given back when it does");
        }
        if let Some(admin) = self.admin {
            admin.stop.send_replace(true);
            let _ = admin.task.await;
        }
        tracing::info!("stopped");
    }
}

/// What goes on beside requests. All of it is waited for at the end: all of it holds the store.
fn background(app: &Arc<App>, metrics: PrometheusHandle, draining: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    let [scrubbed, judging, renewing, kept, trusting, looked_up, ending] = std::array::from_fn(|_| Arc::clone(app));
    let judged = Arc::new(AtomicU64::new(app.in_force().generation));
    vec![
        supervised("scrub", draining, move |draining| scrub::run(Arc::clone(&scrubbed), draining)),
        supervised(rejudge::ROUNDS, draining, move |draining| {
            rejudge::after_reloads(Arc::clone(&judging), Arc::clone(&judged), draining)
        }),
        supervised(rejudge::RENEWALS, draining, move |draining| {
            rejudge::before_they_end(Arc::clone(&renewing), draining)
        }),
        supervised("upkeep", draining, move |draining| telemetry::upkeep(metrics.clone(), draining)),
        supervised("tags", draining, move |draining| refresh::run(Arc::clone(&looked_up), draining)),
        supervised("expiry", draining, move |draining| expiry::run(Arc::clone(&ending), draining)),
        supervised("keeping", draining, move |draining| keeping::run(Arc::clone(&kept), draining)),
        supervised("trust-root", draining, move |draining| trust::run(Arc::clone(&trusting), draining)),
    ]
}

/// Answers commands. A server that cannot is a server all the same.
fn control(app: &Arc<App>, limits: Arc<Limits>, draining: &watch::Receiver<bool>) -> Option<JoinHandle<()>> {
    match Control::bind(app, limits) {
        Ok(control) => {
            tracing::debug!(socket = %control.path().display(), "control socket");
            Some(tokio::spawn(control.run(Arc::clone(app), draining.clone())))
        }
        Err(error) => {
            tracing::warn!(
                "no control socket, so that commands cannot be answered while this serves: {}",
                chain(&error)
            );
            None
        }
    }
}

/// Counts a reload; one that ended before [`Server::reload`], because the configuration could not be read, is counted by its caller.
pub fn count_reload(is_ok: bool) {
    let outcome = if is_ok { "ok" } else { "failed" };
    counter!("pratique_reloads_total", "outcome" => outcome).increment(1);
}

fn show_policies(app: &App) {
    let policies = u32::try_from(app.in_force().judge.policies().policies().len()).unwrap_or(u32::MAX);
    gauge!("pratique_policies").set(policies);
}

//! `serve` and `check`.

use std::{error::Error, process::ExitCode, time::Duration};

use config::{ConfigError, Loaded, Overrides};
use proxy::{
    app,
    clock::Clock,
    error::chain,
    server::{Server, count_reload},
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};

/// How long the end waits for what nobody waits for.
const LEFT_BEHIND_FOR: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT.
pub(crate) fn serve(overrides: Overrides) -> ExitCode {
    let loaded = match load(&overrides) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    // At tokio's own interval, connections with much to send are polled dozens of times before anybody looks whether others can go on.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().event_interval(4).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let outcome = runtime.block_on(run(loaded, overrides));
    // All that was to be kept is: a reload that was left may still wait for a credential helper.
    runtime.shutdown_timeout(LEFT_BEHIND_FOR);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error.as_ref()),
    }
}

async fn run(loaded: Loaded, overrides: Overrides) -> Result<(), Box<dyn Error>> {
    // Handlers first: a signal that comes while the store is being opened is not lost.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(loaded, Clock::system()).await?;
    let reloads = async {
        while hangup.recv().await.is_some() {
            reload(&server, &overrides).await;
        }
    };
    // Also in the middle of a reload, which may wait for credential helpers: it takes effect as a whole or not at all.
    tokio::select! {
        () = reloads => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    server.shutdown().await;
    Ok(())
}

async fn reload(server: &Server, overrides: &Overrides) {
    let overrides = overrides.clone();
    let loaded = tokio::task::spawn_blocking(move || config::load(&overrides)).await;
    let outcome = match loaded {
        Ok(Ok(loaded)) => server.reload(loaded).await.map_err(|error| chain(&error)),
        Ok(Err(error)) => {
            count_reload(false);
            Err(told(&error))
        }
        Err(error) => {
            count_reload(false);
            Err(error.to_string())
        }
    };
    if let Err(error) = outcome {
        tracing::error!("reload failed, what was in force stays: {error}");
    }
}

/// Loads everything as `serve` would and tells what would be in force.
pub(crate) fn check(overrides: &Overrides) -> ExitCode {
    let loaded = match load(overrides) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    match app::check(&loaded.settings, &Clock::system()) {
        Ok(notes) => {
            for note in loaded.notes.iter().chain(&notes) {
                tracing::info!("{note}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

pub(crate) fn load(overrides: &Overrides) -> Result<Loaded, ExitCode> {
    let loaded = config::load(overrides).map_err(|error| {
        say(&told(&error));
        ExitCode::FAILURE
    })?;
    if let Err(why) = telemetry::logs(&loaded.settings.log) {
        say(&why);
        return Err(ExitCode::FAILURE);
    }
    Ok(loaded)
}

/// An error in the configuration and, on a line of its own, what to do about it.
fn told(error: &ConfigError) -> String {
    match error.hint() {
        Some(hint) => format!("{}\nhint: {hint}", chain(error)),
        None => chain(error),
    }
}

pub(crate) fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    say(&chain(error));
    ExitCode::FAILURE
}

#[expect(
    clippy::print_stderr,
    reason = "the command line speaks to the person who typed it; the log may not be set up yet"
)]
pub(crate) fn say(text: &str) {
    eprintln!("pratique: {text}");
}

//! The control socket: commands are answered by the server that owns the store, and by the command itself where none does.
//!
//! ```text
//! <storage>/control.sock, mode 0600     HTTP/1.1, POST /v1/command, a request in JSON
//!                                       answered by lines of JSON: how far it has come, any number of times; then the answer
//! ```
//!
//! Who may open the socket may also read and write the store: it is for the same user only, and knows no further permission. No image
//! and no blob ever passes through it.

mod client;
mod server;

use std::{sync::Arc, time::Duration};

use config::Settings;
use serde::{Deserialize, Serialize};
use storage::Store;

pub use client::ask;
pub use server::Control;

use crate::{
    app::{App, Noted, StartError},
    clock::Clock,
    command::{self, Answer, CacheRequest, Failure, Kind, Progress, Reporter, Request},
    error::chain,
};

/// Where requests go.
const PATH: &str = "/v1/command";
/// Names the build: another one may speak otherwise.
const VERSION_HEADER: &str = "pratique-version";
/// This build.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Largest request: the policy files of an organization with room to spare. A hundred policies are some hundred KiB.
const REQUEST_BYTES_MAX: usize = 32 << 20;
/// Largest answer: the largest attestation that any configuration lets in is far below it, its encoding included.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// Longest work on one request. A comparison looks at every kept image.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Longest scrub: fifty terabytes at the rate that is the default.
const SCRUB_TIMEOUT: Duration = Duration::from_secs(30 * 86_400);
/// How often a store is tried that somebody owns who does not answer: it may be starting, or going.
const TRIES: u32 = 20;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(250);

/// A line of what is answered; the last one is the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Progress(Progress),
    Answer(Box<Answer>),
}

/// Answers `request`: asks the server that owns the store of `settings`, or opens the store where there is none. `tell` hears meanwhile
/// how far it has come, a few times a second at most; from commands that take no time, never.
pub async fn answer(settings: &Settings, request: Request, mut tell: impl FnMut(&Progress)) -> Answer {
    let mut owner = None;
    for _ in 0..TRIES {
        match Store::socket_of(&settings.storage.path) {
            Ok(None) => {}
            Ok(Some(socket)) => match ask(&socket, &request, &mut tell).await {
                Ok(answer) => return answer,
                // A name that a killed server left behind, or one that is about to be there.
                Err(client::AskError::NobodyThere(_)) => {}
                Err(error) => return unanswered(chain(&error)),
            },
            Err(error) => return unanswered(chain(&error)),
        }
        match open(settings.clone()).await {
            Ok(app) => {
                let reporter = Reporter::default();
                return reporter.heard().until(Box::pin(command::answer(&app, request, &reporter)), &mut tell).await;
            }
            Err(StartError::Locked { path }) => owner = Some(path),
            Err(error @ StartError::Store(_)) => return unanswered(chain(&error)),
            Err(error) => return Answer::Failed(Failure { kind: Kind::No, message: chain(&error), hint: None }),
        }
        tokio::time::sleep(PAUSE).await;
    }
    let store = owner.unwrap_or_else(|| settings.storage.path.clone());
    let message =
        format!("store {} is in use by another process, which does not answer on control.sock", store.display());
    let hint = "wait for that process to end, or start this command as its user";
    Answer::Failed(Failure { kind: Kind::Unanswered, message, hint: Some(hint.to_owned()) })
}

/// How long work on this request may take.
fn patience(request: &Request) -> Duration {
    if is_scrub(request) { SCRUB_TIMEOUT } else { COMMAND_TIMEOUT }
}

fn is_scrub(request: &Request) -> bool {
    matches!(request, Request::Cache(CacheRequest::Scrub { .. }))
}

async fn open(settings: Settings) -> Result<Arc<App>, StartError> {
    let opened = storage::work::run(move || App::new(settings, Clock::system())).await;
    let Noted { value, .. } = opened.map_err(|error| StartError::Store(error.to_string()))??;
    Ok(value)
}

fn unanswered(message: String) -> Answer {
    Answer::Failed(Failure { kind: Kind::Unanswered, message, hint: None })
}

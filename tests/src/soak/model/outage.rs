//! Upstreams that are gone for hours: what was served before goes on, what was not is told to come again, and then all is as before.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    CLIENTS, Course, Simulation,
    client::{Client, Got, Outcome},
    operate,
    operation::{Operation, What},
    world::Held,
};

/// Between two rounds of questions, of which those that nobody answers take their time.
const EVERY: Duration = Duration::from_secs(60);
/// For so long, within `tags.max_stale`.
const HOUR: Duration = Duration::from_secs(3600);
/// More than `tags.max_stale` less the hour.
const LONGER: Duration = Duration::from_secs(3700);
/// What is pulled before.
const WARM: [&str; 2] = ["latest", "stable"];
const REPOSITORY: &str = "chainguard/app";

impl Simulation {
    /// An hour without upstreams, then longer than tags are believed, then upstreams again.
    pub(super) async fn outage(mut self) -> Course {
        self.chaos.reign(&self.registries);
        let mut client = Client::new(&self.door, false);
        self.warm_up(&mut client).await;
        self.record.set_out(true);
        self.registries.iter().for_each(crate::upstream::Registry::drop_connections);
        let gone = Instant::now();
        while gone.elapsed() < HOUR {
            sleep(EVERY).await;
            self.look(&mut client, true).await;
        }
        sleep(LONGER).await;
        self.look(&mut client, false).await;
        self.law.calls(&self.registries);
        self.record.set_out(false);
        self.recover().await;
        self.law.calls(&self.registries);
        let (trace, violations) = self.record.take();
        Course { operations: self.operations, trace, violations }
    }

    fn is_warm(held: &Held) -> bool {
        held.upstream == 0
            && held.repository == REPOSITORY
            && held.tag.as_deref().is_some_and(|tag| WARM.contains(&tag))
    }

    async fn warm_up(&mut self, client: &mut Client) {
        let world = std::sync::Arc::clone(&self.world);
        for held in world.manifests.iter().filter(|held| Self::is_warm(held)) {
            for what in everything_of(held) {
                self.served(client, &Operation::plain(held, what), &held.image.digest).await;
            }
        }
        // Refused for good reasons, which do not become better.
        for held in world.manifests.iter().filter(|held| held.admitted == [false; 2] && held.tag.is_some()) {
            self.ask(client, &Operation::plain(held, What::Manifest(held.image.digest.clone()))).await;
        }
    }

    /// One round of questions; whether tags may still be believed.
    async fn look(&mut self, client: &mut Client, believed: bool) {
        let world = std::sync::Arc::clone(&self.world);
        for held in &world.manifests {
            let is_warm = Self::is_warm(held);
            let whats = if is_warm { everything_of(held) } else { what_is_unseen(held) };
            for what in whats {
                let is_tag = matches!(what, What::Tag(_));
                let operation = Operation::plain(held, what);
                let outcome = self.ask(client, &operation).await;
                let right = match (&outcome, is_warm) {
                    (Outcome::Answer(got), true) if is_tag && believed => got.status == 200 && is_told(got),
                    (Outcome::Answer(got), true) if is_tag => got.status == 503,
                    (Outcome::Answer(got), true) => got.status == 200 && got.is_complete,
                    // What may never be served may be refused as well: the law looks at what is served.
                    (Outcome::Answer(got), false) => {
                        got.status == 503 || got.status == 403 && held.admitted != [true; 2]
                    }
                    (Outcome::Lost | Outcome::Stuck, _) => false,
                };
                if !right {
                    let path = operation.asked().path;
                    self.record.violation(&format!(
                        "{path} without upstream, warm: {is_warm}, tags believed: {believed}: {outcome:?}"
                    ));
                }
            }
        }
    }

    async fn ask(&mut self, client: &mut Client, operation: &Operation) -> Outcome {
        self.operations += 1;
        operate(client, operation, &self.law, &self.record, CLIENTS).await
    }
}

/// The tag, the manifests and the blobs of an image.
fn everything_of(held: &Held) -> Vec<What> {
    let tag = held.tag.clone().map(What::Tag);
    let manifest = What::Manifest(held.image.digest.clone());
    let blobs = held.image.blobs.iter().map(|(digest, _)| What::Blob(digest.clone()));
    tag.into_iter().chain([manifest]).chain(blobs).collect()
}

/// By tag and by digest; not what the evidence of something warm is, which is in the store.
fn what_is_unseen(held: &Held) -> Vec<What> {
    match &held.tag {
        Some(tag) if !tag.contains('.') => vec![What::Tag(tag.clone()), What::Manifest(held.image.digest.clone())],
        Some(_) | None => Vec::new(),
    }
}

fn is_told(got: &Got) -> bool {
    got.header("warning").is_some_and(|warning| warning.starts_with("299 - \"tag as of"))
}

//! Upstreams that behave: whatever passes is served within a few tries.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use oci::Digest;
use serde_json::Value;
use tokio::time::sleep;

use super::{
    CLIENTS, Simulation,
    client::{Client, Got, Outcome},
    operate,
    operation::{Operation, What},
    passing,
    world::{Held, is_governed},
};
use crate::upstream::Registry;

/// How often something that passes may fail after upstream behaves again, and how long a client waits between.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_secs(20);

impl Simulation {
    /// From here on upstream behaves: whatever passes is served within a few tries.
    pub(super) async fn recover(&mut self) {
        self.chaos.calm();
        self.registries.iter().for_each(Registry::clear_faults);
        self.chaos.reign(&self.registries);
        let (world, mut client) = (Arc::clone(&self.world), Client::new(&self.door, false));
        for held in passing(&world, self.record.policy()) {
            let blobs = held.image.blobs.iter().map(|(digest, _)| What::Blob(digest.clone()));
            for what in std::iter::once(manifest_of(held)).chain(blobs) {
                self.served(&mut client, &Operation::plain(held, what), &held.image.digest).await;
            }
        }
        self.tags_settle(&mut client).await;
        self.lists_are_whole(&mut client).await;
    }

    /// Every repository that a policy is about tells its tags, and every manifest that passes what refers to it and passes too.
    async fn lists_are_whole(&mut self, client: &mut Client) {
        let (world, policy) = (Arc::clone(&self.world), self.record.policy());
        let mut asked = BTreeSet::new();
        for held in &world.manifests {
            let (upstream, repository) = (held.upstream, held.repository);
            if asked.insert((upstream, repository)) {
                let due = if is_governed(upstream, repository) { 200 } else { 403 };
                let operation = Operation::plain(held, What::Tags);
                self.due(client, &operation, &format!("answered {due}"), |got| got.status == due).await;
            }
            let digest = &held.image.digest;
            let operation = Operation::plain(held, What::Referrers(digest.clone()));
            if !held.admitted[policy] {
                self.due(client, &operation, "refused", |got| got.status == 403).await;
                continue;
            }
            let refer = |other: &&Held| other.document()["subject"]["digest"] == *digest.to_string();
            let due = world.in_it(upstream, repository).filter(refer).filter(|other| other.admitted[policy]);
            let due: BTreeSet<_> = due.map(|other| other.image.digest.to_string()).collect();
            self.due(client, &operation, &format!("answered with {due:?}"), |got| listed(got) == Some(due.clone()))
                .await;
        }
    }

    /// Every tag of an image leads where upstream says, or is refused with that.
    async fn tags_settle(&mut self, client: &mut Client) {
        let (world, policy) = (Arc::clone(&self.world), self.record.policy());
        for held in &world.manifests {
            let Some(tag) = held.tag.as_deref().filter(|tag| !tag.contains('.')) else { continue };
            let target = self.record.target(held.upstream, held.repository, tag);
            let target = target.and_then(|target| world.held(held.upstream, held.repository, &target));
            let due = target.filter(|target| target.admitted[policy]).map(|target| target.image.digest.to_string());
            let is_due = |got: &Got| match &due {
                Some(due) => got.status == 200 && got.header("docker-content-digest") == Some(due),
                None => got.status == 403,
            };
            let wanted = due.as_ref().map_or("refused".to_owned(), |due| format!("served as {due}"));
            self.due(client, &Operation::plain(held, What::Tag(tag.to_owned())), &wanted, is_due).await;
        }
    }

    /// While upstream still behaves, clients get the manifests of what passes: their layers are asked for when it does not any more.
    pub(super) async fn admit(&mut self) {
        self.record.tell("what passes is admitted");
        let (world, mut client) = (Arc::clone(&self.world), Client::new(&self.door, false));
        for held in passing(&world, self.record.policy()) {
            self.served(&mut client, &Operation::plain(held, manifest_of(held)), &held.image.digest).await;
        }
    }

    pub(super) async fn served(&mut self, client: &mut Client, operation: &Operation, manifest: &Digest) {
        // A tag is believed for a while to mean what upstream has made up.
        let is_meant = |got: &Got| match &operation.what {
            What::Tag(_) => got.header("docker-content-digest") == Some(&manifest.to_string()),
            What::Manifest(_) | What::Blob(_) | What::Referrers(_) | What::Tags => true,
        };
        self.due(client, operation, "served", |got| got.status == 200 && is_meant(got)).await;
    }

    /// Asks until the answer is what it must be now that upstream behaves.
    async fn due(&mut self, client: &mut Client, operation: &Operation, wanted: &str, is_due: impl Fn(&Got) -> bool) {
        for _ in 0..TRIES {
            self.operations += 1;
            let outcome = operate(client, operation, &self.law, &self.record, CLIENTS).await;
            if matches!(&outcome, Outcome::Answer(got) if got.is_complete && is_due(got)) {
                return;
            }
            // Whom upstream asked for patience asks for at least a second of it.
            sleep(self.world.paced(PAUSE).max(Duration::from_secs(1))).await;
        }
        self.record.violation(&format!("{} is not {wanted} although upstream behaves", operation.asked().path));
    }
}

/// Which digests a list of referrers has.
fn listed(got: &Got) -> Option<BTreeSet<String>> {
    let list: Value = serde_json::from_slice(&got.body).ok()?;
    list["manifests"].as_array()?.iter().map(|entry| Some(entry["digest"].as_str()?.to_owned())).collect()
}

/// As it becomes known: evidence by its tag.
fn manifest_of(held: &Held) -> What {
    match held.tag.as_ref().filter(|tag| tag.contains('.')) {
        Some(tag) => What::Tag(tag.clone()),
        None => What::Manifest(held.image.digest.clone()),
    }
}

//! Upstreams that behave: whatever passes is served within a few tries.

use std::{sync::Arc, time::Duration};

use oci::Digest;
use tokio::time::sleep;

use super::{
    CLIENTS, Simulation,
    client::{Client, Got, Outcome},
    operate,
    operation::{Operation, What},
    passing,
    world::Held,
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
        for _ in 0..TRIES {
            self.operations += 1;
            let outcome = operate(client, operation, &self.law, &self.record, CLIENTS).await;
            if matches!(&outcome, Outcome::Answer(got) if got.status == 200 && got.is_complete && is_meant(got)) {
                return;
            }
            // Whom upstream asked for patience asks for at least a second of it.
            sleep(self.world.paced(PAUSE).max(Duration::from_secs(1))).await;
        }
        self.record.violation(&format!("{} is not served although upstream behaves", operation.asked().path));
    }
}

/// As it becomes known: evidence by its tag.
fn manifest_of(held: &Held) -> What {
    match held.tag.as_ref().filter(|tag| tag.contains('.')) {
        Some(tag) => What::Tag(tag.clone()),
        None => What::Manifest(held.image.digest.clone()),
    }
}

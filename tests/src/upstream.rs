//! An upstream registry in memory, for tests and the demo: it speaks what real registries speak, and misbehaves on order.
//!
//! ```text
//!   Place::Registry   /v2/…, /token      manifests, tags, referrers, blobs (or a 307 to ↓)
//!   Place::Auth       /token             the realm, where it is not the registry's own host
//!   Place::Storage    /blob-store/…      presigned blobs; answers 400 to whoever sends it an Authorization header, as S3 does
//!   Place::Foreign    anything           nobody should come here with credentials; gives tokens and blobs to all who ask
//! ```
//!
//! Each place is a listener of its own on 127.0.0.1, on a port that the operating system picks. All of them write one call log
//! and look into one list of faults. Nothing ends by the clock: tokens end by [`Registry::revoke_tokens`], stalls by
//! [`Injected::release`]; only [`Fault::Late`] and [`Fault::Trickle`] take the time that they say. Without listeners
//! ([`Builder::in_memory`]) connections are made by [`Registry::line`].

mod answer;
mod body;
mod builder;
mod calls;
mod contents;
mod draft;
mod fault;
mod flushes;
mod gzip;
mod listen;
mod noise;
mod range;
mod referrers;
mod storage;
mod tls;
mod token;
mod waiting;

#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, atomic::Ordering};

use bytes::Bytes;
use oci::Digest;
use tokio::io::DuplexStream;

pub use builder::{Builder, Referrers};
pub use calls::{Call, ends_with};
pub use contents::NoSuchContent;
pub use fault::{Fault, Injected};
pub use noise::noise;
pub use tls::{Certificate, TestCa};
pub use token::TokenAuth;
pub use waiting::NeverReached;

use listen::{Closed, Running, Shared};

/// One of the four listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The registry itself.
    Registry,
    /// The token service, where it is not the registry's own `/token`.
    Auth,
    /// The blob storage that redirects lead to.
    Storage,
    /// A host that has nothing to do with this registry.
    Foreign,
}

impl Place {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Registry, Self::Auth, Self::Storage, Self::Foreign];
}

/// A running upstream. Everything stops when it is dropped.
pub struct Registry {
    shared: Arc<Shared>,
    running: Option<Running>,
    closed: Option<Closed>,
}

impl Registry {
    /// A plain HTTP registry without authentication, with the referrers API and without redirects; the builder says otherwise.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Stops listening and breaks every connection; the contents, faults and call log stay, and so do the ports: who connects is refused,
    /// whatever other tests start meanwhile.
    pub async fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            self.closed = Some(running.stop(&self.shared).await);
        }
    }

    /// Stops for good; when this returns, nothing listens and nothing is sent any more.
    pub async fn shutdown(mut self) {
        self.stop().await;
    }

    /// Breaks every open connection, in the middle of whatever it carries; new ones are accepted.
    pub fn drop_connections(&self) {
        self.shared.cut.change(|epoch| {
            *epoch += 1;
            true
        });
    }

    /// A connection to `place` in memory, which is served until it is dropped.
    #[must_use]
    pub fn line(&self, place: Place) -> DuplexStream {
        let (line, serving) = listen::line(&self.shared, place);
        tokio::spawn(serving);
        line
    }

    /// How many connections `place` has accepted so far.
    #[must_use]
    pub fn connections(&self, place: Place) -> u64 {
        self.shared.connections.of(place)
    }

    /// How many bytes all bodies of all answers had so far.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    // -- where it is

    /// `http://127.0.0.1:port` of the registry, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(Place::Registry)
    }

    /// The same for any place.
    #[must_use]
    pub fn url_of(&self, place: Place) -> String {
        self.shared.url_of(place)
    }

    /// The registry's `host:port`, as a client names it in an image reference and a configuration lists it.
    #[must_use]
    pub fn host_port(&self) -> String {
        self.host_port_of(Place::Registry)
    }

    /// The same for any place.
    #[must_use]
    pub fn host_port_of(&self, place: Place) -> String {
        self.shared.host_port_of(place)
    }

    /// The registry's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.shared.port_of(Place::Registry)
    }

    /// The CA to trust, as PEM. With [`Certificate::UnknownCa`] it is *not* the one that signed.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.shared.ca.pem()
    }

    // -- what it holds

    /// Stores a manifest under the SHA-256 of its bytes and, where `tag` is given, moves the tag to it.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: impl Into<Bytes>,
    ) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        self.put_manifest_as(repository, &digest, media_type, bytes);
        if let Some(tag) = tag {
            self.put_tag(repository, tag, &digest);
        }
        digest
    }

    /// Stores a manifest under any digest: one of another algorithm, or one that is not true.
    pub fn put_manifest_as(&self, repository: &str, digest: &Digest, media_type: &str, bytes: impl Into<Bytes>) {
        self.contents(|contents| {
            contents.put_manifest(repository, digest, media_type, bytes.into());
        });
    }

    /// Points a tag at a digest, whether or not there is such a manifest.
    pub fn put_tag(&self, repository: &str, tag: &str, digest: &Digest) {
        self.contents(|contents| contents.put_tag(repository, tag, digest));
    }

    /// Stores a blob under the SHA-256 of its bytes; the bytes are shared, not copied.
    pub fn put_blob(&self, repository: &str, bytes: impl Into<Bytes>) -> Digest {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        self.put_blob_as(repository, &digest, bytes);
        digest
    }

    /// Stores a blob under any digest, true or not.
    pub fn put_blob_as(&self, repository: &str, digest: &Digest, bytes: impl Into<Bytes>) {
        self.contents(|contents| contents.put_blob(repository, digest, bytes.into()));
    }

    /// Writes the referrers tag schema's index of every manifest of `repository` whose `subject` is `subject`, under the tag
    /// `<algorithm>-<hex>`, as clients do where the referrers API is missing.
    pub fn put_referrers_tag(&self, repository: &str, subject: &Digest) {
        let index = self.contents(|contents| referrers::index(&referrers::of(contents, repository, subject)));
        let tag = format!("{}-{}", subject.algorithm().as_str(), subject.hex());
        self.put_manifest(repository, Some(&tag), referrers::INDEX, index);
    }

    /// The bytes of a manifest, by tag or digest.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn manifest(&self, repository: &str, reference: &str) -> Result<Bytes, NoSuchContent> {
        self.contents(|contents| contents.manifest(repository, reference))
            .map(|(_, stored)| stored.bytes)
            .ok_or_else(|| NoSuchContent::new(repository, reference))
    }

    /// The bytes of a blob.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Result<Bytes, NoSuchContent> {
        self.contents(|contents| contents.blob(repository, digest))
            .ok_or_else(|| NoSuchContent::new(repository, &digest.to_string()))
    }

    /// Takes a tag away; its manifest stays.
    pub fn delete_tag(&self, repository: &str, tag: &str) {
        self.contents(|contents| contents.delete_tag(repository, tag));
    }

    /// Takes a manifest away, and every tag that points at it.
    pub fn delete_manifest(&self, repository: &str, digest: &Digest) {
        self.contents(|contents| contents.delete_manifest(repository, digest));
    }

    /// Takes a blob away.
    pub fn delete_blob(&self, repository: &str, digest: &Digest) {
        self.contents(|contents| contents.delete_blob(repository, digest));
    }

    // -- what was asked of it

    /// Every call since the start or [`clear_calls`](Self::clear_calls), in order of arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.all()
    }

    /// How many calls are such.
    pub fn count(&self, such: impl Fn(&Call) -> bool) -> usize {
        self.calls().iter().filter(|call| such(call)).count()
    }

    /// Forgets the calls so far.
    pub fn clear_calls(&self) {
        self.shared.calls.clear();
    }

    /// Waits until `wanted` such calls have arrived (not: been answered).
    ///
    /// # Errors
    ///
    /// When they have not within a minute; the error lists the calls that came.
    pub async fn called(&self, wanted: usize, such: impl Fn(&Call) -> bool) -> Result<(), NeverReached> {
        self.shared.calls.reached(wanted, such).await
    }

    // -- how it misbehaves

    /// From now on, answers every call that is `such` with this fault; several faults on one call apply in the order of their
    /// injection. The handle limits, counts, releases and ends it.
    pub fn fault(&self, such: impl Fn(&Call) -> bool + Send + Sync + 'static, fault: Fault) -> Injected {
        self.shared.faults.inject(Box::new(such), fault)
    }

    /// From now on, asks `decide` what is to go wrong with each call, in the order in which they arrive; faults on one call apply in
    /// their order. What hangs or stalls by it goes on when it is replaced or [cleared](Self::clear_faults).
    pub fn misbehave(&self, decide: impl FnMut(&Call) -> Vec<Fault> + Send + 'static) {
        self.shared.faults.decide_by(Some(Box::new(decide)));
    }

    /// Ends every fault; stalled answers go on.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Every token handed out so far stops working, as after its expiry or a rotation of keys.
    pub fn revoke_tokens(&self) {
        self.shared.tokens.revoke();
    }

    fn contents<T>(&self, work: impl FnOnce(&mut contents::Contents) -> T) -> T {
        work(&mut self.shared.contents.write().unwrap_or_else(PoisonError::into_inner))
    }
}

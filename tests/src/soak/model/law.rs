//! What must hold of every answer.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, StatusCode};
use oci::Digest;
use serde_json::Value;
use storage::Store;
use tokio::time::Instant;

use super::{
    client::{Got, Outcome, Reading},
    operation::{Operation, What},
    parts::is_part,
    record::{Record, subject_of},
    world::{CLIENT_CANARY, Held, UPSTREAMS, World, secrets},
};

/// An answer that is read as it comes is under a policy that was in force so long before its end: what was on its way to the client arrives.
const GRACE: Duration = Duration::from_millis(100);
/// The same where a machine takes its time.
const REAL_GRACE: Duration = Duration::from_secs(2);
/// How long a client waits for the head of an answer about a manifest: `limits.decision_timeout`, and what is done besides.
const HEAD_WITHIN: Duration = Duration::from_secs(22);
/// How long before it is written down upstream may have told where a tag leads: the manifest is brought first.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// Statuses that are answers. 500 would be a fault of ours, and nothing here gives a reason for one.
const STATUSES: [u16; 10] = [200, 206, 304, 400, 403, 404, 416, 429, 502, 503];

/// What looks at every answer.
pub struct Law {
    pub(super) world: Arc<World>,
    pub(super) record: Arc<Record>,
    store: Store,
}

/// An answer, and when it began and ended.
pub struct Seen<'a> {
    /// What was asked.
    pub operation: &'a Operation,
    /// When it was asked.
    pub began: Instant,
    /// When the head came.
    pub head_at: Instant,
}

impl Law {
    /// Over what `store` is behind.
    pub fn new(world: Arc<World>, record: Arc<Record>, store: Store) -> Self {
        Self { world, record, store }
    }

    /// Looks at what came of an operation. What it was, for the trace.
    pub async fn judge(&self, seen: &Seen<'_>, outcome: &Outcome) -> String {
        let (told, failed) = match outcome {
            Outcome::Stuck => ("stuck".to_owned(), Err("it never came to an end".to_owned())),
            // A body that breaks before its head has left the buffer takes that along.
            Outcome::Lost if matches!(seen.operation.what, What::Blob(_)) => ("lost".to_owned(), Ok(())),
            Outcome::Lost => ("lost".to_owned(), Err("there was no answer, by a new connection either".to_owned())),
            Outcome::Answer(got) => {
                let how = if got.is_complete { "whole" } else { "broken" };
                (format!("{} {how} {}", got.status.as_u16(), got.body.len()), self.answer(seen, got).await)
            }
        };
        if let Err(why) = failed {
            let asked = seen.operation.asked();
            self.record.violation(&format!("{} {} {:?} -> {told}: {why}", asked.method, asked.path, asked.headers));
        }
        told
    }

    async fn answer(&self, seen: &Seen<'_>, got: &Got) -> Result<(), String> {
        if !STATUSES.contains(&got.status.as_u16()) {
            return Err(format!("not a status that pratique answers: {}", String::from_utf8_lossy(&got.body)));
        }
        let is_blob = matches!(seen.operation.what, What::Blob(_));
        if !is_blob && seen.head_at - seen.began > HEAD_WITHIN {
            return Err(format!("the head came after {:?}", seen.head_at - seen.began));
        }
        headers_tell_no_secret(got)?;
        is_what_was_asked(seen.operation, got)?;
        let is_success = got.status.is_success() || got.status == StatusCode::NOT_MODIFIED;
        if !is_success {
            return body_tells_no_secret(got);
        }
        match &seen.operation.what {
            What::Tag(_) => self.manifest(seen, got, None),
            What::Manifest(digest) => self.manifest(seen, got, Some(digest)),
            What::Blob(digest) => self.blob(seen, got, digest).await,
            What::Referrers(subject) => self.referrers(seen, got, subject),
            What::Tags => body_tells_no_secret(got).and_then(|()| self.tags(seen, got)),
        }
    }

    fn grace(&self) -> Duration {
        if self.world.is_real() { REAL_GRACE } else { GRACE }
    }

    /// The policies under which an answer that ends now may have been given.
    fn policies(&self, seen: &Seen<'_>, got: &Got) -> BTreeSet<usize> {
        let grace = self.grace();
        let since = match seen.operation.reading {
            // One that broke may have waited long for leave to go on.
            _ if !got.is_complete => seen.began,
            Reading::Prompt => Instant::now().checked_sub(grace).map_or(seen.began, |grace| seen.began.max(grace)),
            Reading::Slow(_) | Reading::Leaves(_) => seen.began,
        };
        self.record.policies_since(since)
    }

    fn known(&self, seen: &Seen<'_>, digest: &Digest) -> Option<&Held> {
        self.world.held(seen.operation.upstream, seen.operation.repository, digest)
    }

    /// Whether upstream has shown it as evidence counts too.
    fn admitted(&self, seen: &Seen<'_>, got: &Got, digest: &Digest) -> Result<&Held, String> {
        let is_claimed = |policy: &usize| self.is_claimed(seen, digest, *policy);
        match self.known(seen, digest).filter(|_| self.policies(seen, got).iter().any(is_claimed)) {
            Some(held) => Ok(held),
            None => self.admitted_itself(seen, got, digest),
        }
    }

    /// A manifest of that repository, which may be served under a policy that was in force.
    pub(super) fn admitted_itself(&self, seen: &Seen<'_>, got: &Got, digest: &Digest) -> Result<&Held, String> {
        let held = self.known(seen, digest);
        let held = held.ok_or_else(|| format!("{digest} is no manifest of that repository"))?;
        let policies = self.policies(seen, got);
        let is_admitted = policies.iter().any(|policy| held.admitted[*policy]);
        if is_admitted { Ok(held) } else { Err(format!("{digest} is not admitted under policies {policies:?}")) }
    }

    /// Whether upstream has shown that evidence as another image's, which is admitted under `policy`. Whether it is true is for whoever takes
    /// it to see.
    fn is_claimed(&self, seen: &Seen<'_>, evidence: &Digest, policy: usize) -> bool {
        let Operation { upstream, repository, .. } = seen.operation;
        let is_admitted = |subject| self.known(seen, &subject).is_some_and(|held| held.admitted[policy]);
        self.world.is_evidence_manifest(evidence)
            && self.record.claimed_subjects(*upstream, repository, evidence).into_iter().any(is_admitted)
    }

    fn manifest(&self, seen: &Seen<'_>, got: &Got, asked: Option<&Digest>) -> Result<(), String> {
        let told = got.header("docker-content-digest").and_then(|told| told.parse::<Digest>().ok());
        let told = told.ok_or("no digest is told")?;
        if asked.is_some_and(|asked| *asked != told) {
            return Err(format!("{told} was served instead"));
        }
        if let (What::Tag(tag), None) = (&seen.operation.what, self.known(seen, &told)) {
            return self.evidence(seen, got, tag, &told);
        }
        let held = self.admitted(seen, got, &told)?;
        if let What::Tag(tag) = &seen.operation.what {
            self.led(seen, got, tag, &told)?;
        }
        if got.status == StatusCode::NOT_MODIFIED {
            return Ok(());
        }
        if got.status != StatusCode::OK {
            return Err("no status of a manifest".to_owned());
        }
        if got.header("content-type") != Some(held.image.media_type.as_str()) {
            return Err(format!("its type is told as {:?}", got.header("content-type")));
        }
        // Unlike a blob it is right from its first byte on.
        if !held.image.manifest.starts_with(&got.body) {
            return Err("other bytes".to_owned());
        }
        is_content(seen.operation, got, &held.image.manifest)
    }

    /// A tag means what upstream showed under it within `tags.ttl`; what it showed longer ago is told by a warning, and within
    /// `tags.max_stale`. One that is served while another cannot be decided on may have been looked at last whenever it was.
    fn led(&self, seen: &Seen<'_>, got: &Got, tag: &str, told: &Digest) -> Result<(), String> {
        let Operation { upstream, repository, .. } = seen.operation;
        let lifetimes = &self.world.settings[0].tags;
        let believed = match got.header("warning").unwrap_or_default() {
            warning if warning.starts_with("299 - \"tag as of before ") => None,
            warning if warning.starts_with("299 - \"tag as of ") => Some(lifetimes.max_stale),
            _ => Some(lifetimes.ttl),
        };
        let within = self.world.paced(TOLD_WITHIN) + self.grace();
        let since = believed.and_then(|believed| seen.began.checked_sub(believed + within));
        if self.record.has_led((*upstream, repository, tag), told, since) {
            return Ok(());
        }
        Err(format!("{told} is not where the tag has led within {believed:?}"))
    }

    /// What nobody has pushed, and was found under a tag: upstream may put other evidence there whenever it likes, even flip a bit in what
    /// says where it is, and whether it is true is for whoever takes it to see. It is of an image that is admitted, all the same, and has
    /// nothing in it but what evidence has, be it another image's.
    fn evidence(&self, seen: &Seen<'_>, got: &Got, tag: &str, told: &Digest) -> Result<(), String> {
        let method = &seen.operation.method;
        let subject = subject_of(tag).ok_or_else(|| format!("{told} is no manifest of that repository"))?;
        self.admitted_itself(seen, got, &subject)?;
        let Operation { upstream, repository, .. } = seen.operation;
        if !self.record.is_spoiled(*upstream, &format!("/v2/{repository}/manifests/{tag}"), None) {
            return Err(format!("upstream has never shown {told} there"));
        }
        if got.status == StatusCode::NOT_MODIFIED {
            return Ok(());
        }
        if got.status != StatusCode::OK {
            return Err("no status of a manifest".to_owned());
        }
        if method == Method::HEAD || !got.is_complete {
            return Ok(());
        }
        if Digest::sha256(&got.body) != *told {
            return Err("other bytes than its digest says".to_owned());
        }
        let manifest: Value = serde_json::from_slice(&got.body).map_err(|error| error.to_string())?;
        let layers = manifest["layers"].as_array().ok_or("no layers")?;
        let is_evidence = |layer: &Value| {
            let digest = layer["digest"].as_str().and_then(|digest| digest.parse().ok());
            digest.is_some_and(|digest| self.world.is_evidence_anywhere(&digest))
        };
        if layers.iter().all(is_evidence) { Ok(()) } else { Err("a layer that is no evidence".to_owned()) }
    }

    async fn blob(&self, seen: &Seen<'_>, got: &Got, digest: &Digest) -> Result<(), String> {
        let Operation { upstream, repository, .. } = seen.operation;
        let policies = self.policies(seen, got);
        let is_claimed = |policy| {
            let mut such = self.world.manifests.iter().filter(|held| held.has(digest));
            such.any(|held| self.is_claimed(seen, &held.image.digest, policy))
        };
        let is_reached = |policy| self.world.is_reached(*upstream, repository, digest, policy);
        if !policies.iter().any(|policy| is_reached(*policy) || is_claimed(*policy)) {
            return Err(format!("no admitted manifest of that repository reaches it under policies {policies:?}"));
        }
        if got.header("docker-content-digest") != Some(&digest.to_string()) {
            return Err(format!("its digest is told as {:?}", got.header("docker-content-digest")));
        }
        if got.status == StatusCode::NOT_MODIFIED {
            return Ok(());
        }
        let bytes = self.world.blob(digest).ok_or("a blob that nobody made")?;
        if seen.operation.method == Method::HEAD {
            return is_content(seen.operation, got, bytes);
        }
        // What the whole was when the answer ended is known to be right only where it is stored: nothing is dropped in here.
        if got.is_complete && self.store.blobs().open(digest).await.map_err(|error| error.to_string())?.is_none() {
            return Err("it was complete before the whole blob was known to be right".to_owned());
        }
        if got.status == StatusCode::OK {
            return is_content(seen.operation, got, bytes);
        }
        let spans = seen.operation.range.as_deref().ok_or("a part although the whole was asked for")?;
        is_part(spans, got, bytes)
    }
}

fn headers_tell_no_secret(got: &Got) -> Result<(), String> {
    got.headers.values().try_for_each(|value| tells_no_secret(value.as_bytes()))
}

/// What is no content of an image is text of pratique's own.
fn body_tells_no_secret(got: &Got) -> Result<(), String> {
    tells_no_secret(&got.body)
}

fn tells_no_secret(bytes: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(bytes);
    let mut known = (0..UPSTREAMS).flat_map(secrets).chain(["token-".to_owned(), CLIENT_CANARY.to_owned()]);
    if known.any(|secret| text.contains(&secret)) { Err("it tells a secret".to_owned()) } else { Ok(()) }
}

/// Who holds it already is told just that, and nobody else is; HEAD never has a body.
fn is_what_was_asked(Operation { method, holds, .. }: &Operation, got: &Got) -> Result<(), String> {
    let is_held = holds.as_ref().is_some_and(|held| got.header("docker-content-digest") == Some(&held.to_string()));
    match got.status {
        StatusCode::NOT_MODIFIED if !is_held => return Err("the client does not hold it".to_owned()),
        StatusCode::NOT_MODIFIED if !got.body.is_empty() => return Err("304 has a body".to_owned()),
        StatusCode::OK | StatusCode::PARTIAL_CONTENT if is_held => return Err("the client holds it already".to_owned()),
        _ => {}
    }
    if method == Method::HEAD && !got.body.is_empty() { Err("HEAD has a body".to_owned()) } else { Ok(()) }
}

/// Whether an answer with the whole is right, as far as it came.
fn is_content(operation: &Operation, got: &Got, bytes: &Bytes) -> Result<(), String> {
    if got.header("content-length") != Some(&bytes.len().to_string()) {
        return Err(format!("its length is told as {:?}", got.header("content-length")));
    }
    let is_here = operation.method != Method::HEAD && got.is_complete;
    if is_here && got.body != bytes { Err("other bytes".to_owned()) } else { Ok(()) }
}

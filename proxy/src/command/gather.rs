//! What a command judges by: an image as upstream has it now, and the evidence about it; or what the store has of both.

use std::{sync::Arc, time::Duration};

use config::Tags;
use oci::{Digest, ManifestKind, Platform, Reference, Repository, UntrustedManifest};
use policy::{Assessment, Effect, Judge, Record};

use super::{
    answer::{Failure, Judged, Verdict},
    image::Image,
};
use crate::{
    admission::Offered,
    app::{App, InForce},
};

/// A tag that nobody remembers: upstream is asked, and nothing stands in for its answer.
const AFRESH: Tags = Tags { ttl: Duration::ZERO, max_stale: Duration::ZERO };

/// One manifest.
pub(super) struct Subject {
    pub(super) repository: Repository,
    pub(super) manifest: Arc<UntrustedManifest>,
}

impl Subject {
    pub(super) fn digest(&self) -> &Digest {
        self.manifest.digest()
    }
}

/// The image as upstream has it now; of an index the manifest for `platform`, where one is asked for.
pub(super) async fn subject(
    app: &Arc<App>,
    in_force: &InForce,
    image: &Image,
    platform: Option<&str>,
) -> Result<Subject, Failure> {
    let repository = image.repository.clone();
    let upstream = in_force.upstream(repository.upstream())?;
    let digest = match &image.reference {
        Reference::Digest(digest) => digest.clone(),
        Reference::Tag(tag) => app.resolver.tag(&upstream, &repository, tag, &AFRESH).await?.digest,
    };
    let mut manifest = app.resolver.manifest(&upstream, &repository, &digest).await?;
    if let Some(platform) = platform {
        let child = child(&manifest, platform)?;
        manifest = app.resolver.manifest(&upstream, &repository, &child).await?;
    }
    Ok(Subject { repository, manifest })
}

fn child(manifest: &UntrustedManifest, wanted: &str) -> Result<Digest, Failure> {
    let ManifestKind::Index { manifests } = manifest.kind() else {
        let what = format!("--platform {wanted}: {} is one image and no index", manifest.digest());
        return Err(Failure::usage(what, "leave --platform out"));
    };
    let written = |platform: &Platform| {
        let variant = platform.variant.as_ref().map_or_else(String::new, |variant| format!("/{variant}"));
        format!("{}/{}{variant}", platform.os, platform.architecture)
    };
    let listed = || manifests.iter().filter_map(|child| Some((child, child.platform.as_ref()?)));
    let exact = listed().find(|(_, platform)| written(platform) == wanted);
    // Who leaves the variant out takes the only one.
    let only = || {
        let short = |platform: &Platform| format!("{}/{}", platform.os, platform.architecture) == wanted;
        let mut found = listed().filter(|(_, platform)| short(platform));
        found.next().filter(|_| found.next().is_none())
    };
    if let Some((child, _)) = exact.or_else(only) {
        return Ok(child.digest.clone());
    }
    let there: Vec<_> = listed().map(|(_, platform)| super::image::shown(&written(platform))).collect();
    let hint = format!("there are {}", there.join(", "));
    Err(Failure::no(format!("--platform {wanted}: {} lists no such platform", manifest.digest())).hint(hint))
}

/// All that upstream offers now of what `judge` wants to see.
pub(super) async fn evidence(
    app: &App,
    in_force: &InForce,
    judge: &Arc<Judge>,
    subject: &Subject,
    bytes_max: Option<u64>,
) -> Offered {
    app.admission.offered(in_force, judge, (&subject.repository, &subject.manifest), bytes_max).await
}

/// Runs a judgement where it does not keep others waiting, and hands back what it looked at.
pub(super) async fn judging<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Failure::unanswered("a judgement ended without a verdict"))
}

/// What an assessment says about an image.
pub(super) fn judged(image: &str, repository: &Repository, digest: &Digest, assessment: &Assessment) -> Judged {
    match assessment {
        Assessment::Complete(record) | Assessment::Partial(record) => of_record(image, record),
        Assessment::Undecided(undecided) => Judged {
            image: image.to_owned(),
            repository: repository.clone(),
            digest: digest.clone(),
            verdict: Verdict::Undecided,
            message: Some(format!("cannot decide: {undecided}")),
            hint: None,
            policies: Vec::new(),
            decided_at: None,
            ends_at: None,
        },
    }
}

/// What a record says about an image.
pub(super) fn of_record(image: &str, record: &Record) -> Judged {
    let (verdict, message, hint) = match record.effect() {
        Effect::Serve => (Verdict::Served, None, None),
        Effect::Warn(warning) => (Verdict::Warned, Some(warning.clone()), None),
        Effect::Refuse(refusal) => (Verdict::Refused, Some(refusal.message.clone()), refusal.hint.clone()),
        Effect::Absent(refusal) => (Verdict::Absent, Some(refusal.message.clone()), refusal.hint.clone()),
    };
    Judged {
        image: image.to_owned(),
        repository: record.repository().clone(),
        digest: record.digest().clone(),
        verdict,
        message,
        hint,
        policies: record.findings().to_vec(),
        decided_at: Some(record.decided_at()),
        ends_at: record.ends_at(),
    }
}

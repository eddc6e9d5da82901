//! What a command judges by: an image as upstream has it now, and the evidence about it; or what the store has of both.

use std::{sync::Arc, time::Duration};

use config::{TagRefresh, Tags};
use oci::{Digest, ManifestKind, Platform, Reference, Repository, UntrustedManifest};
use policy::{Assessment, ChildJudgement, ChildOutcome, Effect, Judge, Record};

use super::{
    answer::{Failure, Judged, Verdict},
    image::Image,
};
use crate::{
    admission::Offered,
    app::{App, InForce},
    collect::About,
    evidence,
};

/// A tag that nobody remembers: upstream is asked, and nothing stands in for its answer.
const AFRESH: Tags =
    Tags { ttl: Duration::ZERO, max_stale: Duration::ZERO, wait: Duration::ZERO, refresh: TagRefresh::Never };

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

/// A platform as clients write it.
pub(super) fn written(platform: &Platform) -> String {
    let variant = platform.variant.as_ref().map_or_else(String::new, |variant| format!("/{variant}"));
    format!("{}/{}{variant}", platform.os, platform.architecture)
}

fn child(manifest: &UntrustedManifest, wanted: &str) -> Result<Digest, Failure> {
    let ManifestKind::Index { manifests } = manifest.kind() else {
        let what = format!("--platform {wanted}: {} is one image and no index", manifest.digest());
        return Err(Failure::usage(what, "leave --platform out"));
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
    let Subject { repository, manifest } = subject;
    let about = About::Itself(repository.clone(), manifest.digest().clone());
    let wanted = judge.wanted(repository, manifest.digest());
    let subject = evidence::Subject { repository, manifest };
    app.admission.offered(in_force, (judge, about), subject, &wanted, bytes_max).await
}

/// Runs a judgement where it does not keep others waiting, and hands back what it looked at.
pub(super) async fn judging<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    storage::work::run(work).await.map_err(|_| Failure::unanswered("a judgement ended without a verdict"))
}

/// What an assessment says about an image.
pub(super) fn judged(image: &str, repository: &Repository, digest: &Digest, assessment: &Assessment) -> Judged {
    match assessment {
        Assessment::Complete(record) | Assessment::Partial(record) => of_record(image, record),
        Assessment::Undecided(undecided) => {
            without_record(image, repository, digest, Verdict::Undecided, format!("cannot decide: {undecided}"))
        }
    }
}

/// What a judgement through an index says about a child; `None` where nothing is asked of the child besides.
pub(super) fn judged_through(
    image: &str,
    repository: &Repository,
    digest: &Digest,
    judgement: &ChildJudgement,
) -> Option<Judged> {
    if let Some(record) = judgement.record.as_ref().or(judgement.in_memory.as_ref()) {
        return Some(of_record(image, record));
    }
    let (verdict, message, hint) = match &judgement.outcome {
        ChildOutcome::Refused(refusal) => (Verdict::Refused, refusal.message.clone(), refusal.hint.clone()),
        ChildOutcome::Absent(refusal) => (Verdict::Absent, refusal.message.clone(), refusal.hint.clone()),
        ChildOutcome::Undecided(undecided) => (Verdict::Undecided, format!("cannot decide: {undecided}"), None),
        ChildOutcome::Admitted(_)
        | ChildOutcome::NotListed
        | ChildOutcome::IndexEnded
        | ChildOutcome::NeedsEvidence(_) => return None,
    };
    Some(Judged { hint, ..without_record(image, repository, digest, verdict, message) })
}

/// A verdict of which there is nothing to store.
pub(super) fn without_record(
    image: &str,
    repository: &Repository,
    digest: &Digest,
    verdict: Verdict,
    message: String,
) -> Judged {
    Judged {
        image: image.to_owned(),
        repository: repository.clone(),
        digest: digest.clone(),
        verdict,
        message: Some(message),
        hint: None,
        policies: Vec::new(),
        decided_at: None,
        ends_at: None,
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

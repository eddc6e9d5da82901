//! Manifests by tag and by digest: resolve, admit, respond.

use oci::Reference;

use super::{Asked, condition};
use crate::{
    admission::{Entry, Tagged},
    error::ApiError,
    resolve::Resolved,
    respond::{self, Answer, Told},
    route::Named,
};

/// The answer, where all that it takes is in memory and counts now. The same answer as [`get`] would give; `None` says nothing.
pub(super) fn recalled(asked: &Asked<'_>, named: &Named, reference: &Reference) -> Option<Answer> {
    let (app, repository) = (asked.app, &named.repository);
    let (admitted, warnings) = match reference {
        Reference::Digest(digest) => (app.admission.recalled(asked.in_force, repository, digest)?, Vec::new()),
        Reference::Tag(tag) => {
            let digest = app.resolver.recalled(repository, tag, &asked.in_force.settings.tags)?;
            let led = app.admission.recalled_tag(asked.in_force, repository, tag, &digest)?;
            app.meters.tag_hit();
            app.tags_in_use.used(repository, tag, app.clock.now());
            led
        }
    };
    // A reload may have come in the meantime: from its line in the log on no answer begins under what was in force before.
    if app.in_force().generation != asked.in_force.generation {
        return None;
    }
    app.meters.manifest_hit();
    app.store.ledger().used(repository, admitted.digest(), app.clock.now());
    let held = condition::is_held(asked.headers, admitted.digest());
    Some(respond::manifest(&admitted, named, Told { head: asked.head, held, warnings }))
}

/// `GET` and `HEAD /v2/<name>/manifests/<reference>`.
pub(super) async fn get(asked: &Asked<'_>, named: &Named, reference: Reference) -> Result<Answer, ApiError> {
    // Nothing is fetched for a repository that no policy can let in.
    asked.may_serve(named)?;
    let (admission, patience) = (&asked.app.admission, asked.patience);
    let (entry, warnings) = match reference {
        Reference::Digest(digest) => (admission.manifest(&named.repository, &digest, patience).await?, Vec::new()),
        Reference::Tag(tag) => {
            let upstream = asked.in_force.upstream(named.repository.upstream())?;
            let tags = &asked.in_force.settings.tags;
            let Resolved { digest, warning } = asked.app.resolver.tag(&upstream, &named.repository, &tag, tags).await?;
            let Tagged { entry, warnings } = admission.tagged(&named.repository, &tag, &digest, patience).await?;
            // Upstream may have said meanwhile what the tag means now.
            let is_it = *entry.digest() == digest;
            let warning = warning.filter(|_| is_it || !admission.has_moved_on(&named.repository, &tag, &digest));
            asked.app.tags_in_use.used(&named.repository, &tag, asked.app.clock.now());
            (entry, warning.into_iter().chain(warnings).collect())
        }
    };
    asked.app.store.ledger().used(&named.repository, entry.digest(), asked.app.clock.now());
    let held = condition::is_held(asked.headers, entry.digest());
    let told = Told { head: asked.head, held, warnings };
    Ok(match entry {
        Entry::Image(admitted) => respond::manifest(&admitted, named, told),
        Entry::Evidence(admitted) => respond::evidence(&admitted, named, &told),
    })
}

//! What a tag would be answered with, by what is stored alone: the image it means, the guards of tags, the last good image.

use std::sync::Arc;

use oci::{Digest, Repository, Tag};
use policy::{Admitted, Dated, Guard, Guarded, Judge, Led, Manifest};
use storage::TagServed;

use super::{
    answer::{Failure, Judged, TagAnswer, Verdict},
    kept::Kept,
};
use crate::app::App;

/// A tag, and who judges where it leads.
pub(super) struct Leads<'a> {
    pub app: &'a App,
    pub judge: &'a Arc<Judge>,
    pub repository: &'a Repository,
    pub tag: &'a Tag,
    pub served: &'a TagServed,
}

impl Leads<'_> {
    /// What the tag is answered with while it means `digest`, and why where that is not served. In the order of
    /// [`Admission::tagged`](crate::admission::Admission::tagged).
    pub(super) async fn answer(&self, digest: &Digest) -> Result<(TagAnswer, Option<String>), Failure> {
        let (judged, admitted) = self.said(digest).await?;
        let why = match judged.verdict {
            Verdict::Served | Verdict::Warned => {
                let guarded = self.guarded(digest, (&judged, admitted.as_deref()), None);
                let Some(refusal) = guarded.refusal else {
                    let warned = judged.verdict == Verdict::Warned || !guarded.warnings.is_empty();
                    return Ok((TagAnswer::Served { digest: digest.clone(), warned }, None));
                };
                Some(refusal.message)
            }
            Verdict::Refused | Verdict::Absent => judged.message,
            Verdict::Undecided => return Ok((TagAnswer::Undecided, judged.message)),
        };
        if self.judge.tag_guards(self.repository, digest, &[]).keep_last_good() {
            let mut exempt = Some(Guard::Rollback);
            let itself = self.served.targets.iter().find(|target| target.digest == *digest);
            if !judged.verdict.serves()
                && let Some(itself) = itself
                && !self.app.admission.is_refused_for_good(self.repository, itself)?
            {
                exempt = None;
            }
            for target in self.served.targets.iter().filter(|target| target.digest != *digest) {
                let (judged, admitted) = self.said(&target.digest).await?;
                match judged.verdict {
                    Verdict::Served | Verdict::Warned => {
                        if self.guarded(&target.digest, (&judged, admitted.as_deref()), exempt).refusal.is_none() {
                            return Ok((TagAnswer::LastGood { digest: target.digest.clone() }, why));
                        }
                    }
                    Verdict::Refused | Verdict::Absent => {
                        if !self.app.admission.is_refused_for_good(self.repository, target)? {
                            exempt = None;
                        }
                    }
                    Verdict::Undecided => return Ok((TagAnswer::Undecided, judged.message)),
                }
            }
        }
        Ok((TagAnswer::Refused, why))
    }

    async fn said(&self, digest: &Digest) -> Result<(Judged, Option<Arc<Admitted<Manifest>>>), Failure> {
        Kept::new(self.app, self.judge).said_with_admission(self.repository, digest).await
    }

    fn guarded(
        &self,
        digest: &Digest,
        (judged, admitted): (&Judged, Option<&Admitted<Manifest>>),
        exempt: Option<Guard>,
    ) -> Guarded {
        // What let in the index counts too, as when the tag is pulled.
        let (signed_at, guards) = if let Some(admitted) = admitted {
            (admitted.signed_at(), admitted.guards().clone())
        } else {
            let guards = self.judge.tag_guards(self.repository, digest, &judged.policies);
            (policy::signed_at(judged.policies.iter()), guards)
        };
        let newest = self.served.newest.as_ref().map(|(digest, at)| (digest, *at));
        let led = Led { repository: self.repository, tag: self.tag, image: Dated { digest, signed_at }, newest };
        guards.look(&led, self.app.clock.now(), exempt)
    }
}

//! What a signature must rest on besides its signer: `ctlog`, `rfc3161timestamp`, and whose word counts.

use super::{
    field::{Field, Mapping, Schema},
    report::{Report, shown},
    roots::Part,
    scope::Scope,
};
use crate::authority::{Proof, RootRef, Trust};

const CTLOG: Schema = Schema { known: &["url", "trustRootRef"], refused: &[], ignored: &[] };

const TIMESTAMP: Schema = Schema { known: &["trustRootRef"], refused: &[], ignored: &[] };

const PUBLIC_CA: &str = "https://fulcio.sigstore.dev";
const PUBLIC_LOG: &str = "https://rekor.sigstore.dev";

/// What an authority writes about it. Flawed or not: what is written is not taken for missing.
pub(super) struct Written {
    log: Option<RootRef>,
    timestamp: Option<RootRef>,
}

/// Reads both.
pub(super) fn read(authority: &Mapping<'_>, scope: Scope<'_>, report: &mut Report) -> Written {
    let log = authority.field("ctlog").map(|field| log(&field, scope, report));
    let stamp = authority.field("rfc3161timestamp");
    let timestamp = stamp.as_ref().map(|field| timestamp(field, scope, report));
    if let (Some(stamp), true) = (&stamp, log.is_some()) {
        let what = "beside ctlog: log and timestamp are both asked for here; the controller then skips the log";
        report.note(stamp.line, &stamp.path, what);
    }
    Written { log, timestamp }
}

impl Written {
    /// For the holder of a key: what is not written is not asked for.
    pub(super) fn by_key(self) -> Proof {
        let (log, timestamp) = (self.log.is_some(), self.timestamp.is_some());
        let trust = Trust {
            ca: RootRef::Configured,
            log: self.log.unwrap_or_default(),
            timestamp: self.timestamp.unwrap_or_default(),
        };
        Proof { log, timestamp, trust }
    }

    /// For the holder of a certificate of `ca`: the log, unless a timestamp replaces it. What is not written is the CA's own.
    pub(super) fn by_certificate(self, ca: RootRef) -> Proof {
        let timestamp = self.timestamp.is_some();
        let log = self.log.is_some() || !timestamp;
        let trust = Trust {
            log: self.log.unwrap_or_else(|| ca.clone()),
            timestamp: self.timestamp.unwrap_or_else(|| ca.clone()),
            ca,
        };
        Proof { log, timestamp, trust }
    }

    fn is_empty(&self) -> bool {
        self.log.is_none() && self.timestamp.is_none()
    }
}

/// Reads `url` and `trustRootRef` of `keyless`: whose certificates are believed.
pub(super) fn certificate_authority(
    keyless: &Mapping<'_>,
    written: &Written,
    scope: Scope<'_>,
    report: &mut Report,
) -> RootRef {
    let reference = keyless.field("trustRootRef");
    if let Some(url) = keyless.field("url") {
        check_url(&url, PUBLIC_CA, reference.is_some(), scope, report);
    }
    let Some(field) = reference else {
        return RootRef::Configured;
    };
    if written.is_empty() {
        let hint = "write ctlog with the trustRootRef of its log beside keyless, or rfc3161timestamp with that of its timestamp \
                    authority";
        field.error(
            report,
            "stands without ctlog and rfc3161timestamp, by which the controller would ask for no signed time",
            Some(hint),
        );
    }
    scope.roots.refer(&field, Part::CertificateAuthorities, report)
}

/// The log's address says only that the log is asked for: which log is believed is the trust root's business.
fn log(ctlog: &Field<'_>, scope: Scope<'_>, report: &mut Report) -> RootRef {
    if ctlog.is_empty() {
        let what = "is empty, by which the controller would skip the log; expected a mapping with url or trustRootRef";
        let hint =
            "write url: https://rekor.sigstore.dev to ask for the log; leave ctlog out to not ask for it with a key";
        ctlog.error(report, what, Some(hint));
        return RootRef::Configured;
    }
    let Some(mapping) = ctlog.mapping(report, &CTLOG) else {
        return RootRef::Configured;
    };
    let (url, reference) = (mapping.field("url"), mapping.field("trustRootRef"));
    match (&url, &reference) {
        (None, None) => {
            mapping.required(report, "url", "write url: https://rekor.sigstore.dev, or trustRootRef");
        }
        (None, Some(_)) if scope.beta => {
            let what = "has no url: the log is asked for here; the controller drops such a ctlog in v1beta1";
            report.note(ctlog.line, &ctlog.path, what);
        }
        (None | Some(_), _) => {}
    }
    if let Some(url) = url {
        check_url(&url, PUBLIC_LOG, reference.is_some(), scope, report);
    }
    reference.map_or(RootRef::Configured, |field| scope.roots.refer(&field, Part::Logs, report))
}

fn timestamp(field: &Field<'_>, scope: Scope<'_>, report: &mut Report) -> RootRef {
    let hint = "write trustRootRef: with the name of a TrustRoot document that has timestampAuthorities";
    if field.is_empty() {
        let what = "is empty, by which the controller would ask for no timestamp; expected a mapping with trustRootRef";
        field.error(report, what, Some(hint));
        return RootRef::Configured;
    }
    let reference = field.mapping(report, &TIMESTAMP).and_then(|it| it.required(report, "trustRootRef", hint));
    reference.map_or(RootRef::Configured, |field| scope.roots.refer(&field, Part::TimestampAuthorities, report))
}

/// `vouched`: a trust root is named beside it.
fn check_url(field: &Field<'_>, public: &str, vouched: bool, scope: Scope<'_>, report: &mut Report) {
    let Some(url) = field.text(report) else {
        return;
    };
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
    if host.is_empty() || host.starts_with('/') || host.contains(char::is_whitespace) {
        let what = format!("is {}; expected a URL as {public}", shown(url));
        field.error(
            report,
            what,
            Some("no request goes there: it says what is meant, the trust root what is believed"),
        );
    } else if url.trim_end_matches('/') != public && !vouched && !scope.context.custom_trust_root {
        let what = format!("is {}, which the public-good trust root does not vouch for; expected {public}", shown(url));
        field.error(
            report,
            what,
            Some(
                "name the TrustRoot document of that Sigstore by trustRootRef beside it, or set policy.trust_root in the \
                 configuration to its trusted_root.json",
            ),
        );
    }
}

//! The extensions by which Fulcio writes into a certificate what the issuer said about the holder.

use std::collections::BTreeMap;

use rcgen::CustomExtension;
use x509_cert::der::{Encode as _, asn1::Utf8StringRef};

use super::signer::Signer;

const ARC: [u64; 8] = [1, 3, 6, 1, 4, 1, 57264, 1];
/// The deprecated extensions hold bare text; the later ones, from this number on, a `UTF8String`.
const FIRST_UTF8: u64 = 8;
const OLD_ISSUER: u64 = 1;
const ISSUER: u64 = 8;
/// The commit of the workflow, and of everything else that wants a commit.
const COMMIT: &str = "49ce8751d8c7d7e5f1ddbb538a53f64570d201ac";

/// The issuer in both spellings, where there is one; for a GitHub workflow also what GitHub tells about the run. `old_issuer` goes into
/// the deprecated extension, the signer's own into the one that replaced it.
pub(super) fn extensions(signer: &Signer, old_issuer: &str) -> Vec<CustomExtension> {
    let mut claims = Workflow::of(signer).map_or_else(BTreeMap::new, |workflow| workflow.claims());
    claims.extend(signer.claims.clone());
    if !signer.issuer.is_empty() {
        claims.insert(OLD_ISSUER, old_issuer.to_owned());
        claims.insert(ISSUER, signer.issuer.clone());
    }
    claims.into_iter().map(|(number, text)| extension(number, &text)).collect()
}

/// `https://github.com/<owner>/<name>/<path>@<ref>`, taken apart.
struct Workflow<'a> {
    uri: &'a str,
    owner: &'a str,
    repository: String,
    path: &'a str,
    reference: &'a str,
}

impl<'a> Workflow<'a> {
    fn of(signer: &'a Signer) -> Option<Self> {
        let path = signer.subject.strip_prefix("https://github.com/")?;
        let (path, reference) = path.split_once('@')?;
        let mut parts = path.splitn(3, '/');
        let (owner, name, path) = (parts.next()?, parts.next()?, parts.next()?);
        (signer.issuer == Signer::GITHUB).then(|| Self {
            uri: &signer.subject,
            owner,
            repository: format!("{owner}/{name}"),
            path,
            reference,
        })
    }

    fn claims(&self) -> BTreeMap<u64, String> {
        let source = format!("https://github.com/{}", self.repository);
        let owner = format!("https://github.com/{}", self.owner);
        let run = format!("{source}/actions/runs/4257651368/attempts/1");
        let claims: [(u64, &str); 19] = [
            (2, "push"),
            (3, COMMIT),
            (4, self.path),
            (5, &self.repository),
            (6, self.reference),
            (9, self.uri),
            (10, COMMIT),
            (11, "github-hosted"),
            (12, &source),
            (13, COMMIT),
            (14, self.reference),
            (15, "558312201"),
            (16, &owner),
            (17, "87436699"),
            (18, self.uri),
            (19, COMMIT),
            (20, "push"),
            (21, &run),
            (22, "public"),
        ];
        claims.into_iter().map(|(number, text)| (number, text.to_owned())).collect()
    }
}

fn extension(number: u64, text: &str) -> CustomExtension {
    let mut oid = ARC.to_vec();
    oid.push(number);
    let content = if number < FIRST_UTF8 {
        text.as_bytes().to_vec()
    } else {
        let der = Utf8StringRef::new(text).and_then(|text| text.to_der());
        der.expect("a text is a UTF8String")
    };
    CustomExtension::from_oid_content(&oid, content)
}

//! The extensions by which Fulcio writes into a certificate what the issuer said about the holder.

use rcgen::CustomExtension;
use x509_cert::der::{Encode as _, asn1::Utf8StringRef};

use super::signer::Signer;

const ARC: [u64; 8] = [1, 3, 6, 1, 4, 1, 57264, 1];
/// The commit of the workflow, and of everything else that wants a commit.
const COMMIT: &str = "49ce8751d8c7d7e5f1ddbb538a53f64570d201ac";

/// The issuer in both spellings; for a GitHub workflow also what GitHub tells about the run. `old_issuer` goes into the deprecated
/// extension, the signer's own into the one that replaced it.
pub(super) fn extensions(signer: &Signer, old_issuer: &str) -> Vec<CustomExtension> {
    let mut extensions = vec![raw(1, old_issuer)];
    let workflow = Workflow::of(signer);
    if let Some(workflow) = &workflow {
        extensions.extend(workflow.deprecated());
    }
    extensions.push(utf8(8, &signer.issuer));
    if let Some(workflow) = &workflow {
        extensions.extend(workflow.current());
    }
    extensions
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

    fn deprecated(&self) -> [CustomExtension; 5] {
        [raw(2, "push"), raw(3, COMMIT), raw(4, self.path), raw(5, &self.repository), raw(6, self.reference)]
    }

    fn current(&self) -> [CustomExtension; 14] {
        let source = format!("https://github.com/{}", self.repository);
        [
            utf8(9, self.uri),
            utf8(10, COMMIT),
            utf8(11, "github-hosted"),
            utf8(12, &source),
            utf8(13, COMMIT),
            utf8(14, self.reference),
            utf8(15, "558312201"),
            utf8(16, &format!("https://github.com/{}", self.owner)),
            utf8(17, "87436699"),
            utf8(18, self.uri),
            utf8(19, COMMIT),
            utf8(20, "push"),
            utf8(21, &format!("{source}/actions/runs/4257651368/attempts/1")),
            utf8(22, "public"),
        ]
    }
}

fn raw(number: u64, text: &str) -> CustomExtension {
    extension(number, text.as_bytes().to_vec())
}

fn utf8(number: u64, text: &str) -> CustomExtension {
    let der = Utf8StringRef::new(text).and_then(|text| text.to_der());
    extension(number, der.expect("a text is a UTF8String"))
}

fn extension(number: u64, content: Vec<u8>) -> CustomExtension {
    let mut oid = ARC.to_vec();
    oid.push(number);
    CustomExtension::from_oid_content(&oid, content)
}

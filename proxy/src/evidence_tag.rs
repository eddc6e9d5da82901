//! Tags that say by their name what they speak about.

use oci::{Digest, Tag};

/// The tag under which evidence about `subject` lies: `sha256-<hex>` and a suffix.
#[must_use]
pub fn evidence_tag(subject: &Digest, suffix: &str) -> Option<Tag> {
    evidence_tag_at("", subject, suffix)
}

/// The same behind a prefix, as a policy's `source.tagPrefix` says.
#[must_use]
pub fn evidence_tag_at(prefix: &str, subject: &Digest, suffix: &str) -> Option<Tag> {
    format!("{prefix}{}-{}{suffix}", subject.algorithm(), subject.hex()).parse().ok()
}

/// The subject and the suffix of a tag that holds evidence: `.sig`, `.att` or `.sbom`. The tag without suffix is none: it is judged like any image.
#[must_use]
pub fn subject_of(tag: &Tag) -> Option<Digest> {
    let stem = [".sig", ".att", ".sbom"].iter().find_map(|suffix| tag.as_str().strip_suffix(suffix))?;
    let (algorithm, hex) = stem.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use oci::Algorithm;

    use super::*;

    #[test]
    fn evidence_tags_name_their_subject() {
        let subject = Digest::sha256(b"x");
        let tag = evidence_tag(&subject, ".att").unwrap();
        assert_eq!(subject_of(&tag), Some(subject.clone()));
        assert_eq!(subject_of(&evidence_tag(&subject, "").unwrap()), None);
        for other in ["latest", "sha256-short.sig", "sha256-.sig", "x.sig"] {
            assert_eq!(subject_of(&other.parse().unwrap()), None);
        }
        // 128 digits and a suffix are longer than a tag may be.
        assert_eq!(evidence_tag(&Digest::of(Algorithm::Sha512, b"x"), ".sig"), None);
    }
}

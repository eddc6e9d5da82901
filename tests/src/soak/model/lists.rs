//! What must hold of lists: the tags of a repository, and what refers to a manifest.

use http::Method;
use oci::Digest;
use serde_json::Value;

use super::{
    client::Got,
    law::{Law, Seen},
    world::{is_governed, prefix},
};

impl Law {
    /// The tags are those that upstream has, all of them; where a bit of its answer was flipped, one of them may be another or missing.
    pub(super) fn tags(&self, seen: &Seen<'_>, got: &Got) -> Result<(), String> {
        let operation = seen.operation;
        let (upstream, repository) = (operation.upstream, operation.repository);
        if !is_governed(upstream, repository) {
            return Err("no policy is about that repository".to_owned());
        }
        let Some(listed) = list(seen, got)? else { return Ok(()) };
        let name = format!("{}{repository}", prefix(upstream));
        if listed["name"] != *name {
            return Err(format!("the repository is told as {}", listed["name"]));
        }
        let told = listed["tags"].as_array().ok_or("no list")?.iter().map(|tag| tag.as_str().unwrap_or_default());
        let (told, there): (Vec<_>, Vec<_>) = (told.collect(), self.record.tags(upstream, repository));
        let is_spoiled = self.record.is_spoiled(upstream, &format!("/v2/{repository}/tags/list"), Some(seen.began));
        if !is_spoiled && told == there {
            return Ok(());
        }
        let missing = there.iter().filter(|tag| !told.contains(&tag.as_str())).count();
        let mut others = told.iter().filter(|tag| !there.iter().any(|there| there == *tag));
        let (other, more) = (others.next(), others.next());
        let is_like_one = |other: &&str| there.iter().any(|tag| is_one_bit_apart(tag, other));
        if is_spoiled && missing <= 1 && other.is_none_or(is_like_one) && more.is_none() {
            return Ok(());
        }
        Err(format!("the tags are told as {told:?}, spoiled: {is_spoiled}; there are {there:?}"))
    }

    /// Each entry is a manifest of that repository which names this very subject, may be served, and is told as it is. A subject that may not
    /// be served has none.
    pub(super) fn referrers(&self, seen: &Seen<'_>, got: &Got, subject: &Digest) -> Result<(), String> {
        let Some(listed) = list(seen, got)? else { return Ok(()) };
        for entry in listed["manifests"].as_array().ok_or("no list")? {
            self.admitted_itself(seen, got, subject)?;
            let digest =
                entry["digest"].as_str().and_then(|digest| digest.parse::<Digest>().ok()).ok_or("no digest")?;
            let held = self.admitted_itself(seen, got, &digest)?;
            let manifest = held.document();
            if manifest["subject"]["digest"] != *subject.to_string() {
                return Err(format!("{digest} does not refer to {subject}"));
            }
            let kind = manifest.get("artifactType").unwrap_or(&manifest["config"]["mediaType"]);
            let size = Value::from(held.image.manifest.len());
            for (field, is) in [("mediaType", &manifest["mediaType"]), ("size", &size), ("artifactType", kind)] {
                if entry[field] != *is {
                    return Err(format!("{field} of {digest} is told as {}, not {is}", entry[field]));
                }
            }
        }
        Ok(())
    }
}

/// The document, where all of it came.
fn list(seen: &Seen<'_>, got: &Got) -> Result<Option<Value>, String> {
    if got.status != 200 {
        return Err("no status of a list".to_owned());
    }
    if seen.operation.method == Method::HEAD || !got.is_complete {
        return Ok(None);
    }
    serde_json::from_slice(&got.body).map(Some).map_err(|error| error.to_string())
}

fn is_one_bit_apart(one: &str, other: &str) -> bool {
    let apart = one.bytes().zip(other.bytes()).map(|(one, other)| (one ^ other).count_ones());
    one.len() == other.len() && apart.sum::<u32>() == 1
}

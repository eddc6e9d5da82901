//! The field's nouns: digest, repository, reference, descriptor, manifest.
//!
//! This crate knows how these are written and when they are malformed. It parses what upstream published and never writes it
//! again: the bytes that came in are the bytes that go out. It refuses to know the network, the disk, policies and the clock.
//!
//! Glossary: a *repository* is an upstream's name and a path together (`cgr.dev/chainguard/nginx`); a *reference* is a tag or a
//! digest within it; a *descriptor* points at content by media type, digest and size; a *manifest* is an image manifest or an
//! index. Everything parsed here but not yet judged is called `Untrusted…`.

mod addressed;
mod descriptor;
mod digest;
mod error;
pub mod json;
mod manifest;
mod media_type;
mod reference;
mod repository;
mod time;

pub use addressed::{Addressed, DigestMismatch};
pub use descriptor::{Descriptor, Platform};
pub use digest::{Algorithm, Digest, Hasher};
pub use error::NameError;
pub use manifest::{ManifestError, ManifestKind, ManifestLimits, UntrustedManifest};
pub use media_type::MediaType;
pub use reference::{Reference, Tag};
pub use repository::{Repository, RepositoryPath, UpstreamName};
pub use time::{NotATime, UnixTime};

//! What upstream holds: files in the shape of a registry, signed images among them.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use oci::Digest;
use support::{
    image::{self, Image, cosign_tag},
    sigstore::{Options, Signer, VirtualSigstore},
    upstream::noise,
};

use super::Failure;

/// The repository all images are in, as clients name it.
pub const REPOSITORY: &str = "chainguard/bench";

/// How large the blobs are, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// The blob of the single streams and of the cold pull.
    pub large: usize,
    /// The blob of the herd of 32.
    pub medium: usize,
    /// The blob of the 64 streams, of the herd of 200 and of the faults.
    pub small: usize,
}

/// Path and length of one blob.
#[derive(Debug, Clone)]
pub struct Blob {
    /// `/v2/…`, as it is asked for.
    pub path: String,
    /// In bytes.
    pub length: u64,
    /// What its bytes must hash to.
    pub digest: Digest,
}

/// A tree of files that a plain web server turns into a registry.
pub struct Tree {
    /// What the web server is to serve.
    pub root: PathBuf,
    /// Lines of an nginx `map` from a tag's path to its digest.
    pub tags: String,
    /// The image with all blobs, by tag.
    pub tag: String,
    /// The same by digest.
    pub by_digest: String,
    /// Its blobs, as [`Sizes`] tells them apart.
    pub large: Blob,
    /// See [`Sizes::medium`].
    pub medium: Blob,
    /// See [`Sizes::small`].
    pub small: Blob,
    /// A signed image whose one layer has other bytes than its digest says.
    pub rotten_tag: String,
    /// That layer.
    pub rotten: Blob,
}

impl Tree {
    /// Makes, signs and writes everything.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(root: &Path, sigstore: &VirtualSigstore, sizes: Sizes) -> Result<Self, Failure> {
        let layers =
            [sizes.large, sizes.medium, sizes.small].into_iter().zip(1..).map(|(size, seed)| noise(size, seed));
        let (good, rotten) =
            (image::single("linux/amd64", layers), image::single("linux/amd64", [noise(sizes.small, 9)]));
        let mut writer = Writer { root: root.join("v2").join(REPOSITORY), tags: String::new() };
        writer.signed(&good, "good", sigstore)?;
        writer.signed(&rotten, "rotten", sigstore)?;
        let [large, medium, small] = good.layers() else { return Err("three layers were put in".into()) };
        let [spoilt] = rotten.layers() else { return Err("one layer was put in".into()) };
        let mut other = spoilt.1.to_vec();
        if let Some(byte) = other.get_mut(sizes.small / 2) {
            *byte ^= 1;
        }
        writer.blob(&spoilt.0, &other)?;
        let manifest = |name: &str| format!("/v2/{REPOSITORY}/manifests/{name}");
        Ok(Self {
            root: root.to_owned(),
            tags: writer.tags,
            tag: manifest("good"),
            by_digest: manifest(&good.digest.to_string()),
            large: Blob::new(large),
            medium: Blob::new(medium),
            small: Blob::new(small),
            rotten_tag: manifest("rotten"),
            rotten: Blob::new(spoilt),
        })
    }
}

impl Blob {
    fn new((digest, bytes): &(Digest, Bytes)) -> Self {
        let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
        Self { path, length: bytes.len() as u64, digest: digest.clone() }
    }
}

struct Writer {
    root: PathBuf,
    tags: String,
}

impl Writer {
    /// Writes an image and its signature in the layout that Chainguard publishes.
    fn signed(&mut self, image: &Image, tag: &str, sigstore: &VirtualSigstore) -> Result<(), Failure> {
        self.image(image, tag)?;
        let name = format!("cgr.dev/{REPOSITORY}");
        let signature = sigstore.sign_legacy(&Signer::chainguard(), &name, &image.digest, &Options::default());
        self.image(&image::signature_manifest(&[signature]), &cosign_tag(&image.digest, "sig"))
    }

    fn image(&mut self, image: &Image, tag: &str) -> Result<(), Failure> {
        image.blobs.iter().try_for_each(|(digest, bytes)| self.blob(digest, bytes))?;
        for name in [tag, &image.digest.to_string()] {
            self.file(&format!("manifests/{name}"), &image.manifest)?;
        }
        writeln!(self.tags, "\"/v2/{REPOSITORY}/manifests/{tag}\" {};", image.digest)?;
        Ok(())
    }

    fn blob(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Failure> {
        self.file(&format!("blobs/{digest}"), bytes)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.root.join(name);
        fs::create_dir_all(path.parent().ok_or("a file lies in a directory")?)?;
        Ok(fs::write(path, bytes)?)
    }
}

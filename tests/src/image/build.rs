//! Images and indexes, piece by piece.

use std::collections::BTreeMap;

use bytes::Bytes;
use oci::{Algorithm, Descriptor, Digest, MediaType, Platform};
use serde_json::{Value, json};

use super::{
    Document, Image, Pointer,
    layer::{Entry, tar},
};

/// Whose media types a manifest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Flavor {
    /// The OCI image specification's.
    #[default]
    Oci,
    /// Docker's, version 2 schema 2.
    Docker,
}

impl Flavor {
    fn manifest(self) -> &'static str {
        match self {
            Self::Oci => MediaType::OCI_MANIFEST,
            Self::Docker => MediaType::DOCKER_MANIFEST,
        }
    }

    fn index(self) -> &'static str {
        match self {
            Self::Oci => MediaType::OCI_INDEX,
            Self::Docker => MediaType::DOCKER_LIST,
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::Oci => MediaType::OCI_CONFIG,
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    fn layer(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.layer.v1.tar",
            Self::Docker => "application/vnd.docker.image.rootfs.diff.tar",
        }
    }
}

/// An image for `platform` (`linux/amd64`, `linux/arm64/v8`) with these layers, whatever their bytes.
#[must_use]
pub fn single(platform: &str, layers: impl IntoIterator<Item = Bytes>) -> Image {
    let builder = Builder::new(platform);
    layers.into_iter().fold(builder, Builder::layer).build()
}

/// An image from scratch that runs `binary`, which must be static, as `/run`; `argument` is what it is started with.
#[must_use]
pub fn runnable(platform: &str, binary: &[u8], argument: &[&str]) -> Image {
    let command: Vec<&str> = std::iter::once("/run").chain(argument.iter().copied()).collect();
    Builder::new(platform).layer(tar(&[Entry::executable("run", binary)])).config("Entrypoint", json!(command)).build()
}

/// An index of these images, in OCI's media types.
#[must_use]
pub fn index(children: impl IntoIterator<Item = Image>) -> Image {
    index_builder(children).build()
}

/// An index of these images, more to be said about it.
#[must_use]
pub fn index_builder(children: impl IntoIterator<Item = Image>) -> IndexBuilder {
    IndexBuilder {
        children: children.into_iter().collect(),
        listed: None,
        flavor: Flavor::default(),
        algorithm: Algorithm::Sha256,
        annotations: BTreeMap::new(),
        subject: None,
        artifact_type: None,
    }
}

/// An image under construction.
#[derive(Debug, Clone)]
pub struct Builder {
    platform: Platform,
    flavor: Flavor,
    algorithm: Algorithm,
    layers: Vec<Layer>,
    config: Value,
    raw_config: Option<(String, Bytes)>,
    annotations: BTreeMap<String, String>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
}

#[derive(Debug, Clone)]
struct Layer {
    media_type: Option<String>,
    bytes: Bytes,
    annotations: BTreeMap<String, String>,
}

impl Builder {
    /// An image without layers for `os/architecture[/variant]`.
    #[must_use]
    pub fn new(platform: &str) -> Self {
        let mut parts = platform.splitn(3, '/').map(str::to_owned);
        Self {
            platform: Platform {
                os: parts.next().unwrap_or_default(),
                architecture: parts.next().unwrap_or_default(),
                variant: parts.next(),
            },
            flavor: Flavor::default(),
            algorithm: Algorithm::Sha256,
            layers: Vec::new(),
            config: json!({}),
            raw_config: None,
            annotations: BTreeMap::new(),
            subject: None,
            artifact_type: None,
        }
    }

    /// Adds a layer, a plain tar for clients that unpack it.
    #[must_use]
    pub fn layer(mut self, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        self.layers.push(Layer { media_type: None, bytes, annotations: BTreeMap::new() });
        self
    }

    /// Adds a layer under any media type, with annotations.
    #[must_use]
    pub fn layer_as(
        mut self,
        media_type: &str,
        bytes: impl Into<Bytes>,
        annotations: BTreeMap<String, String>,
    ) -> Self {
        let media_type = Some(media_type.to_owned());
        self.layers.push(Layer { media_type, bytes: bytes.into(), annotations });
        self
    }

    /// Sets a field of the container's configuration, such as `Entrypoint`.
    #[must_use]
    pub fn config(mut self, field: &str, value: Value) -> Self {
        if let Some(config) = self.config.as_object_mut() {
            config.insert(field.to_owned(), value);
        }
        self
    }

    /// Replaces the config by any bytes under any media type.
    #[must_use]
    pub fn config_as(mut self, media_type: &str, bytes: impl Into<Bytes>) -> Self {
        self.raw_config = Some((media_type.to_owned(), bytes.into()));
        self
    }

    /// Uses these media types.
    #[must_use]
    pub fn flavor(mut self, flavor: Flavor) -> Self {
        self.flavor = flavor;
        self
    }

    /// Names manifest, config and layers by this algorithm.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Annotates the manifest.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Makes it a referrer of that.
    #[must_use]
    pub fn subject(mut self, subject: &Descriptor) -> Self {
        self.subject = Some(bare(subject));
        self
    }

    /// Says what kind of artifact it is.
    #[must_use]
    pub fn artifact_type(mut self, artifact_type: &str) -> Self {
        self.artifact_type = Some(artifact_type.to_owned());
        self
    }

    /// Writes it.
    #[must_use]
    pub fn build(self) -> Image {
        let (config_type, config) = self.raw_config.clone().unwrap_or_else(|| self.image_config());
        let config_digest = Digest::of(self.algorithm, &config);
        let mut blobs = vec![(config_digest.clone(), config.clone())];
        let mut layers = Vec::new();
        for Layer { media_type, bytes, annotations } in self.layers {
            let digest = Digest::of(self.algorithm, &bytes);
            let media_type = media_type.as_deref().unwrap_or(self.flavor.layer());
            layers.push(Pointer { annotations, ..Pointer::to(media_type, &digest, &bytes) });
            blobs.push((digest, bytes));
        }
        let document = Document {
            schema_version: 2,
            media_type: self.flavor.manifest().to_owned(),
            config: Some(Pointer::to(&config_type, &config_digest, &config)),
            layers: Some(layers),
            manifests: None,
            annotations: self.annotations.clone(),
            subject: self.subject.as_ref().map(Pointer::from),
            artifact_type: self.artifact_type.clone(),
        };
        let (manifest, digest) = document.write(self.algorithm);
        // Without one of its own, a referrer's kind is that of its config (OCI distribution, listing referrers).
        let artifact_type = self.artifact_type.or(self.subject.is_some().then_some(config_type));
        Image {
            manifest,
            media_type: MediaType::new(self.flavor.manifest()),
            digest,
            blobs,
            children: Vec::new(),
            artifact_type: artifact_type.as_deref().map(MediaType::new),
            annotations: self.annotations,
            platform: Some(self.platform).filter(|platform| !platform.os.is_empty()),
        }
    }

    fn image_config(&self) -> (String, Bytes) {
        let plain = |layer: &Layer| Digest::sha256(&layer.bytes);
        let diff_ids: Vec<Digest> = self.layers.iter().map(plain).collect();
        let mut config = json!({
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "created": "2025-10-09T08:53:20Z",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": self.layers.iter().map(|_| json!({ "created": "2025-10-09T08:53:20Z" })).collect::<Vec<_>>(),
        });
        if let (Some(variant), Some(config)) = (&self.platform.variant, config.as_object_mut()) {
            config.insert("variant".to_owned(), json!(variant));
        }
        (self.flavor.config().to_owned(), config.to_string().into())
    }
}

/// An index under construction.
#[derive(Debug, Clone)]
pub struct IndexBuilder {
    children: Vec<Image>,
    listed: Option<Vec<Descriptor>>,
    flavor: Flavor,
    algorithm: Algorithm,
    annotations: BTreeMap<String, String>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
}

impl IndexBuilder {
    /// Lists these instead of what the children are: fewer, more, or lies about them.
    #[must_use]
    pub fn listing(mut self, descriptors: Vec<Descriptor>) -> Self {
        self.listed = Some(descriptors);
        self
    }

    /// Uses these media types.
    #[must_use]
    pub fn flavor(mut self, flavor: Flavor) -> Self {
        self.flavor = flavor;
        self
    }

    /// Names the index by this algorithm.
    #[must_use]
    pub fn algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }

    /// Annotates the index.
    #[must_use]
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Makes it a referrer of that.
    #[must_use]
    pub fn subject(mut self, subject: &Descriptor) -> Self {
        self.subject = Some(bare(subject));
        self
    }

    /// Says what kind of artifact it is.
    #[must_use]
    pub fn artifact_type(mut self, artifact_type: &str) -> Self {
        self.artifact_type = Some(artifact_type.to_owned());
        self
    }

    /// Writes it.
    #[must_use]
    pub fn build(self) -> Image {
        let described = || self.children.iter().map(Image::descriptor).collect();
        let listed: Vec<Descriptor> = self.listed.clone().unwrap_or_else(described);
        let document = Document {
            schema_version: 2,
            media_type: self.flavor.index().to_owned(),
            config: None,
            layers: None,
            manifests: Some(listed.iter().map(Pointer::from).collect()),
            annotations: self.annotations.clone(),
            subject: self.subject.as_ref().map(Pointer::from),
            artifact_type: self.artifact_type.clone(),
        };
        let (manifest, digest) = document.write(self.algorithm);
        Image {
            manifest,
            media_type: MediaType::new(self.flavor.index()),
            digest,
            blobs: Vec::new(),
            children: self.children,
            artifact_type: self.artifact_type.as_deref().map(MediaType::new),
            annotations: self.annotations,
            platform: None,
        }
    }
}

/// A descriptor with what a `subject` holds: type, digest and size.
fn bare(descriptor: &Descriptor) -> Descriptor {
    Descriptor { artifact_type: None, annotations: BTreeMap::new(), platform: None, ..descriptor.clone() }
}

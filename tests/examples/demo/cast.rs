//! The images of the demonstration, and what each of them is to show.

use support::{
    image::{self, Image},
    sigstore::{KeyKind, KeySigner, Options, Signer},
    upstream::{Fault, ends_with},
    world::World,
};

/// One image and what should become of it.
pub struct Part {
    pub repository: String,
    pub shows: &'static str,
    pub expected: Expected,
    key: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    Served,
    Refused,
    /// The manifest is served; a blob that is not what it says never completes, or never begins.
    BrokenOff,
}

/// Pushes every image into the stand-in for cgr.dev.
pub fn push(world: &World) -> Vec<Part> {
    let mut stage = Stage { world, parts: Vec::new() };
    stage.good();
    stage.bad();
    stage.parts
}

struct Stage<'a> {
    world: &'a World,
    parts: Vec<Part>,
}

impl Stage<'_> {
    fn good(&mut self) {
        let image = self.push("legacy-signed", "signed as Chainguard signs today (.sig tag)", Expected::Served);
        self.sign(&image, "legacy-signed", &Signer::chainguard());

        let image = self.push("bundle-signed", "signed with cosign 3 (Sigstore bundle as referrer)", Expected::Served);
        let bundle = self.world.sigstore.sign_bundle(&Signer::chainguard(), &image.digest, &Options::default());
        let referrer = image::bundle_referrer(&image.descriptor(), &bundle);
        referrer.push(&self.world.registry, "chainguard/bundle-signed", None);

        let children = ["linux/amd64", "linux/arm64"].map(|platform| single(platform, "multi-platform"));
        let index = image::index(children);
        self.place("chainguard/multi-platform", "an index for two platforms, signed", Expected::Served, &index);
        self.sign(&index, "multi-platform", &Signer::chainguard());

        let key = KeySigner::generate(KeyKind::P256);
        let image = single("linux/amd64", "key-signed");
        self.place("acme/key-signed", "signed with a key that the policy names", Expected::Served, &image);
        let signature = key.sign_legacy("cgr.dev/acme/key-signed", &image.digest, None, &Options::default());
        self.attach("acme/key-signed", &image, &image::signature_manifest(&[signature]));
        if let Some(part) = self.parts.last_mut() {
            part.key = Some(key.public_pem());
        }
    }

    fn bad(&mut self) {
        self.push("unsigned", "never signed", Expected::Refused);

        let image = self.push("wrong-identity", "signed by a workflow of somebody else", Expected::Refused);
        self.sign(&image, "wrong-identity", &Signer::fork());

        let image = self.push("wrong-issuer", "the right name, vouched for by another issuer", Expected::Refused);
        let subject = Signer::chainguard().subject;
        self.sign(&image, "wrong-issuer", &Signer::new("https://issuer.example.com", &subject));

        let image = self.push("borrowed", "carries another image's signature", Expected::Refused);
        let other = single("linux/amd64", "somebody else");
        let signature = self.world.sigstore.sign_legacy(
            &Signer::chainguard(),
            "cgr.dev/chainguard/borrowed",
            &other.digest,
            &Options::default(),
        );
        self.attach("chainguard/borrowed", &image, &image::signature_manifest(&[signature]));

        let image =
            self.push("tampered-layer", "signed, but a byte of its layer was changed upstream", Expected::BrokenOff);
        self.sign(&image, "tampered-layer", &Signer::chainguard());
        self.world.registry.fault(ends_with(&image.layers()[0].0), Fault::Corrupt(7));

        let image = self.push("signature-removed", "was signed; somebody removed the signature", Expected::Refused);
        self.sign(&image, "signature-removed", &Signer::chainguard());
        self.world.registry.delete_tag("chainguard/signature-removed", &image::cosign_tag(&image.digest, "sig"));
    }

    fn push(&mut self, name: &str, shows: &'static str, expected: Expected) -> Image {
        let image = single("linux/amd64", name);
        self.place(&format!("chainguard/{name}"), shows, expected, &image);
        image
    }

    fn place(&mut self, repository: &str, shows: &'static str, expected: Expected, image: &Image) {
        image.push(&self.world.registry, repository, Some("latest"));
        self.parts.push(Part { repository: repository.to_owned(), shows, expected, key: None });
    }

    fn sign(&self, image: &Image, name: &str, signer: &Signer) {
        self.world.sign(&format!("chainguard/{name}"), image, signer, &Options::default());
    }

    fn attach(&self, repository: &str, image: &Image, signature: &Image) {
        signature.push(&self.world.registry, repository, Some(&image::cosign_tag(&image.digest, "sig")));
    }
}

fn single(platform: &str, name: &str) -> Image {
    let text = format!("{name} for {platform}\n").repeat(2000);
    let layer = image::layer::tar(&[image::layer::Entry::file("motd", text.as_bytes())]);
    image::single(platform, [layer])
}

/// The policies: Chainguard's public identity for its images, a key for acme's.
pub fn policies(parts: &[Part]) -> String {
    let key = parts.iter().find_map(|part| part.key.as_deref()).unwrap_or_default();
    let key = key.lines().fold(String::new(), |text, line| text + "          " + line + "\n");
    let Signer { issuer, subject, .. } = Signer::chainguard();
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: chainguard-public
spec:
  images:
  - glob: cgr.dev/chainguard/**
  authorities:
  - name: release
    keyless:
      identities:
      - issuer: {issuer}
        subject: {subject}
---
apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: acme
spec:
  images:
  - glob: cgr.dev/acme/**
  authorities:
  - name: acme-key
    key:
      data: |
{key}"
    )
}

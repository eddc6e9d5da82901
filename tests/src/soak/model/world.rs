//! What the upstreams of a simulation hold, and what of it may be served: byte for byte the same for the same seed.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use config::{Overrides, Settings};
use oci::{Digest, MediaType};
use serde_json::Value;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::{
    image::{self, Builder, Image, cosign_tag},
    policies,
    sigstore::{Flaw, Options, Signer, VirtualSigstore, predicate},
    upstream::{self as registry, Certificate, Place, Registry, TestCa, TokenAuth, noise},
};

/// How many upstreams there are.
pub const UPSTREAMS: usize = 2;
/// Between how many policies the operator goes back and forth.
pub const POLICIES: usize = 2;
/// Their names, and the prefixes that clients write.
const NAMES: [(&str, &str); UPSTREAMS] = [("cgr.dev", ""), ("mirror.example", "mirror")];
/// Who pratique is to each of them.
const ACCOUNTS: [(&str, &str); UPSTREAMS] = [("alice", "canary-password-a"), ("bob", "canary-password-b")];
/// Who vouches for the upstream that is reached over TLS.
const CA_FILE: &str = "ca.pem";
/// What clients bring, and nobody else may see.
pub const CLIENT_CANARY: &str = "canary-of-a-client";

/// Everything that does not change while a seed runs.
pub struct World {
    /// Policies and trust root, which each reload reads again.
    _directory: TempDir,
    /// The configuration under each of the policies.
    pub settings: [Settings; POLICIES],
    ca: TestCa,
    stage: Stage,
    /// Every manifest in every repository.
    pub manifests: Vec<Held>,
    /// Blobs that an upstream shows in a repository of which no manifest names them.
    strays: Vec<(usize, &'static str, Bytes)>,
    /// What digests are called in a trace.
    names: BTreeMap<String, String>,
    /// Every blob, by name.
    pub blobs: Vec<(Digest, Bytes)>,
}

/// A manifest in a repository.
#[derive(Debug, Clone)]
pub struct Held {
    /// At which upstream.
    pub upstream: usize,
    /// In which repository there.
    pub repository: &'static str,
    /// The tag that it has in the beginning.
    pub tag: Option<String>,
    /// It and its blobs.
    pub image: Image,
    /// Under which policies it may be served.
    pub admitted: [bool; POLICIES],
}

impl Held {
    /// Whether it has that blob.
    #[must_use]
    pub fn has(&self, blob: &Digest) -> bool {
        self.image.blobs.iter().any(|(digest, _)| digest == blob)
    }

    /// Whether it is in that repository.
    #[must_use]
    pub fn is_in(&self, upstream: usize, repository: &str) -> bool {
        self.upstream == upstream && self.repository == repository
    }

    /// What is written in it.
    #[must_use]
    pub fn document(&self) -> Value {
        serde_json::from_slice(&self.image.manifest).unwrap_or_default()
    }

    /// Whether its tag is that of signatures or attestations.
    #[must_use]
    pub fn is_evidence(&self) -> bool {
        let kind = self.tag.as_deref().and_then(|tag| tag.rsplit_once('.')).map(|(_, kind)| kind);
        kind.is_some_and(|kind| ["sig", "att"].contains(&kind))
    }
}

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Chainguard,
    Fork,
    Person,
    /// Whom no policy names.
    Stranger,
}

impl Who {
    fn signer(self) -> Signer {
        match self {
            Self::Chainguard => Signer::chainguard(),
            Self::Fork => Signer::fork(),
            Self::Person => Signer::person(),
            Self::Stranger => Signer::new("https://accounts.example", "stranger@example.com"),
        }
    }
}

/// Globs, and whom each policy accepts for them.
const RULES: [(&str, [Who; POLICIES]); 4] = [
    ("cgr.dev/chainguard/**", [Who::Chainguard, Who::Fork]),
    ("cgr.dev/team/**", [Who::Person, Who::Chainguard]),
    ("cgr.dev/vault/**", [Who::Chainguard, Who::Chainguard]),
    ("mirror.example/**", [Who::Person, Who::Fork]),
];

/// Whom each policy accepts for a repository.
fn rule(upstream: usize, repository: &str) -> Option<&'static (&'static str, [Who; POLICIES])> {
    let name = format!("{}/{repository}", NAMES[upstream].0);
    RULES.iter().find(|(glob, _)| name.starts_with(glob.trim_end_matches("**")))
}

/// Under which policies a signature by one of `signers` lets an image of that repository in.
fn accepted(upstream: usize, repository: &str, signers: &[Who]) -> [bool; POLICIES] {
    rule(upstream, repository).map_or([false; POLICIES], |(_, who)| who.map(|who| signers.contains(&who)))
}

/// Where everything is, and how fast time goes by.
#[derive(Debug, Clone)]
struct Stage {
    ports: BTreeMap<(usize, Place), u16>,
    /// By how much all durations are shortened.
    pace: u32,
}

impl Stage {
    fn places() -> impl Iterator<Item = (usize, Place)> {
        (0..UPSTREAMS).flat_map(|upstream| Place::ALL.map(|place| (upstream, place)))
    }

    /// Ports that nobody need listen at.
    fn simulated() -> Self {
        Self { ports: Self::places().zip(5001..).collect(), pace: 1 }
    }

    /// Ports that are free on this machine, and real time that is short.
    fn real() -> Self {
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port on loopback");
        let bound: Vec<_> = Self::places().map(|at| (at, free())).collect();
        let port = |listener: &TcpListener| listener.local_addr().expect("a listener has an address").port();
        Self { ports: bound.iter().map(|(at, listener)| (*at, port(listener))).collect(), pace: PACE }
    }

    fn url(&self, upstream: usize, place: Place) -> String {
        let scheme = if is_tls(upstream, place) { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port(upstream, place))
    }

    fn port(&self, upstream: usize, place: Place) -> u16 {
        self.ports.get(&(upstream, place)).copied().unwrap_or_default()
    }
}

/// By how much durations are shortened where time is real.
const PACE: u32 = 20;

impl World {
    /// Mints everything, with keys and so digests by the seed.
    ///
    /// # Panics
    /// When the machine gives no keys or no temporary directory.
    #[must_use]
    pub fn mint(seed: u64) -> Self {
        Self::on(Stage::simulated(), seed)
    }

    /// The same for upstreams that listen on this machine, in real time that is short.
    ///
    /// # Panics
    /// When the machine gives no keys, no ports or no temporary directory.
    #[must_use]
    pub fn mint_for_sockets(seed: u64) -> Self {
        Self::on(Stage::real(), seed)
    }

    fn on(stage: Stage, seed: u64) -> Self {
        let sigstore = VirtualSigstore::drawn(seed);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut making = Making { sigstore: &sigstore, manifests: Vec::new(), names: BTreeMap::new() };
        let strays = making.all();
        let Making { manifests, mut names, .. } = making;
        let mut blobs: BTreeMap<String, (Digest, Bytes)> = BTreeMap::new();
        for held in &manifests {
            for (number, (digest, bytes)) in held.image.blobs.iter().enumerate() {
                let of = names.get(held.image.digest.hex()).cloned().unwrap_or_default();
                let name = names.entry(digest.hex().to_owned()).or_insert_with(|| format!("{of}.{number}"));
                blobs.insert(name.clone(), (digest.clone(), bytes.clone()));
            }
        }
        let write = |name: &str, text: &str| {
            fs::write(directory.path().join(name), text).expect("a file in a temporary directory");
        };
        write("trusted_root.json", &sigstore.trusted_root_json());
        let ca = TestCa::new().expect("a key");
        write(CA_FILE, &ca.pem());
        for (upstream, (_, password)) in ACCOUNTS.iter().enumerate() {
            write(&format!("password-{upstream}"), password);
        }
        let settings = std::array::from_fn(|policy| settings(directory.path(), policy, &stage));
        let blobs = blobs.into_values().collect();
        Self { _directory: directory, settings, ca, stage, manifests, strays, names, blobs }
    }

    /// The upstreams as they are in the beginning. Nobody listens.
    ///
    /// # Panics
    /// When there is no key for a certificate that nobody shows.
    #[must_use]
    pub fn registries(&self) -> [Registry; UPSTREAMS] {
        let registries = std::array::from_fn(|upstream| self.builder(upstream).in_memory().expect("the CA is made"));
        self.fill(&registries);
        registries
    }

    /// The same, listening.
    ///
    /// # Errors
    /// When somebody else has taken a port.
    pub async fn listening(&self) -> io::Result<[Registry; UPSTREAMS]> {
        let registries = [self.builder(0).start().await?, self.builder(1).start().await?];
        self.fill(&registries);
        Ok(registries)
    }

    fn builder(&self, upstream: usize) -> registry::Builder {
        let (user, password) = ACCOUNTS[upstream];
        let realm = if upstream == 0 { Place::Auth } else { Place::Registry };
        let auth = TokenAuth::account(user, password).realm_at(realm).salted(user);
        let builder = Registry::builder().ca(&self.ca).token_auth(auth).https();
        let plain = Place::ALL.into_iter().filter(|place| !is_tls(upstream, *place));
        let builder = plain.fold(builder, registry::Builder::plain);
        let at = |place: Place| self.stage.port(upstream, place);
        let builder = Place::ALL.iter().fold(builder, |builder, place| builder.port(*place, at(*place)));
        if upstream == 0 { builder.redirect_blobs() } else { builder }
    }

    fn fill(&self, registries: &[Registry; UPSTREAMS]) {
        for held in &self.manifests {
            held.image.push(&registries[held.upstream], held.repository, held.tag.as_deref());
        }
        for (upstream, repository, bytes) in &self.strays {
            registries[*upstream].put_blob(repository, bytes.clone());
        }
    }

    /// Where a place is.
    #[must_use]
    pub fn url(&self, upstream: usize, place: Place) -> String {
        self.stage.url(upstream, place)
    }

    /// What shows such a certificate.
    ///
    /// # Panics
    /// When there is no key for it.
    #[must_use]
    pub fn acceptor(&self, certificate: Certificate) -> TlsAcceptor {
        let config = self.ca.server_config(certificate, &[b"http/1.1"]).expect("a key");
        TlsAcceptor::from(Arc::new(config))
    }

    /// Which place that port is.
    #[must_use]
    pub fn place(&self, port: u16) -> Option<(usize, Place)> {
        self.stage.ports.iter().find(|(_, of)| **of == port).map(|(at, _)| *at)
    }

    /// How long that is here.
    #[must_use]
    pub fn paced(&self, duration: Duration) -> Duration {
        duration / self.stage.pace
    }

    /// Whether time is real and nothing but this machine is to be spoken to.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.stage.pace > 1
    }

    /// `text` with names in the place of digests, so that it is the same from process to process.
    #[must_use]
    pub fn named(&self, text: &str) -> String {
        const HEX: usize = 64;
        let (mut named, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(at) = rest.find("sha256") {
            let (before, digest) = rest.split_at(at);
            named.push_str(before);
            let hex = digest.get(7..7 + HEX).unwrap_or_default();
            if let Some(name) = self.names.get(hex) {
                let _ = write!(named, "<{name}>");
                rest = &digest[7 + HEX..];
            } else {
                named.push_str("sha256");
                rest = &digest[6..];
            }
        }
        named.push_str(rest);
        named
    }

    /// All manifests of that repository.
    pub fn in_it(&self, upstream: usize, repository: &str) -> impl Iterator<Item = &Held> {
        self.manifests.iter().filter(move |held| held.is_in(upstream, repository))
    }

    /// The manifest of that digest in that repository.
    #[must_use]
    pub fn held(&self, upstream: usize, repository: &str, digest: &Digest) -> Option<&Held> {
        self.in_it(upstream, repository).find(|held| held.image.digest == *digest)
    }

    /// The bytes of a blob.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> Option<&Bytes> {
        self.blobs.iter().find(|(known, _)| known == digest).map(|(_, bytes)| bytes)
    }

    /// Whether that manifest is evidence, of whatever.
    #[must_use]
    pub fn is_evidence_manifest(&self, digest: &Digest) -> bool {
        self.manifests.iter().any(|held| held.image.digest == *digest && held.is_evidence())
    }

    /// Whether some evidence has that blob, in whatever repository: an upstream that lies may show it in any other.
    #[must_use]
    pub fn is_evidence_anywhere(&self, blob: &Digest) -> bool {
        self.manifests.iter().any(|held| held.is_evidence() && held.has(blob))
    }

    /// Whether, under `policy`, a manifest of that repository that may be served has that blob.
    #[must_use]
    pub fn is_reached(&self, upstream: usize, repository: &str, blob: &Digest, policy: usize) -> bool {
        self.in_it(upstream, repository).any(|held| held.admitted[policy] && held.has(blob))
    }
}

/// What clients write before a repository of that upstream.
#[must_use]
pub fn prefix(upstream: usize) -> String {
    let prefix = NAMES[upstream].1;
    if prefix.is_empty() { String::new() } else { format!("{prefix}/") }
}

/// Whether a policy is about that repository; both are about the same.
#[must_use]
pub fn is_governed(upstream: usize, repository: &str) -> bool {
    rule(upstream, repository).is_some()
}

/// Whether connections to that place are over TLS.
#[must_use]
pub fn is_tls(upstream: usize, place: Place) -> bool {
    upstream == 1 && place == Place::Registry
}

/// What must never be seen outside of the upstream whose it is.
#[must_use]
pub fn secrets(upstream: usize) -> Vec<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let (user, password) = ACCOUNTS[upstream];
    vec![password.to_owned(), STANDARD.encode(format!("{user}:{password}"))]
}

/// What is in every token that this upstream hands out, and in no other's.
#[must_use]
pub fn token_of(upstream: usize) -> String {
    format!("token-{}", ACCOUNTS[upstream].0)
}

fn settings(directory: &Path, policy: usize, stage: &Stage) -> Settings {
    let mut files = Vec::new();
    for (number, (glob, who)) in RULES.iter().enumerate() {
        let signer = who[policy].signer();
        let name = format!("policy-{policy}-{number}.yaml");
        let text = policies::keyless(&format!("rule-{number}"), glob, &signer.issuer, &signer.subject);
        let text = text.replace("    keyless:\n", "    keyless:\n      insecureIgnoreSCT: true\n");
        fs::write(directory.join(&name), text).expect("a file in a temporary directory");
        files.push(format!("\"{name}\""));
    }
    let mut text = format!(
        "listen = \"127.0.0.1:0\"\n[storage]\npath = \"store\"\n[policy]\ntrust_root = \"trusted_root.json\"\ntrust_root_warn_age = \"3650d\"\nfiles = [{}]\n{}",
        files.join(", "),
        limits(stage.pace)
    );
    for (upstream, ((name, prefix), (user, _))) in NAMES.iter().zip(ACCOUNTS).enumerate() {
        let at = |place| format!("127.0.0.1:{}", stage.port(upstream, place));
        let ca_file =
            if is_tls(upstream, Place::Registry) { format!("ca_file = \"{CA_FILE}\"\n") } else { String::new() };
        let _ = write!(
            text,
            "\n[[upstreams]]\nname = \"{name}\"\nurl = \"{}\"\n{ca_file}prefix = \"{prefix}\"\nusername = \"{user}\"\npassword_file = \"password-{upstream}\"\nrealms = [\"{}\"]\nredirects = [\"{}\"]\n",
            stage.url(upstream, Place::Registry),
            at(Place::Auth),
            at(Place::Storage),
        );
    }
    let file = directory.join(format!("pratique-{policy}.toml"));
    fs::write(&file, text).expect("a file in a temporary directory");
    let overrides = Overrides { config: Some(file), ..Overrides::default() };
    config::load_without_environment(&overrides).expect("a configuration that loads").settings
}

/// Short, so that much ends and begins again within one seed.
fn limits(pace: u32) -> String {
    let ms = |millis: u32| format!("\"{}ms\"", millis / pace);
    format!(
        "
[tags]
ttl = {}
max_stale = {}
[verdicts]
absent_ttl = {}
refused_ttl = {}
[limits]
upstream_response_timeout = {}
upstream_stall_timeout = {}
fill_timeout = {}
fill_tries_max = 4
fill_pause_max = {}
fills_max = 6
fills_per_repository_max = 4
fills_per_upstream_max = 5
drain_timeout = \"1s\"
",
        ms(5_000),
        ms(7_200_000),
        ms(3_000),
        ms(5_000),
        ms(4_000),
        ms(6_000),
        ms(120_000),
        ms(2_000),
    )
}

/// How everything is signed: a CT log could not sign the same each time.
fn options() -> Options {
    Options::flawed(Flaw::SctMissing)
}

/// The world in the making.
struct Making<'a> {
    sigstore: &'a VirtualSigstore,
    manifests: Vec<Held>,
    names: BTreeMap<String, String>,
}

const APP: &str = "chainguard/app";
const TEAM: &str = "team/app";
const VAULT: &str = "vault/app";
const HIDDEN: &str = "hidden/app";

impl Making<'_> {
    /// Everything, and the strays.
    fn all(&mut self) -> Vec<(usize, &'static str, Bytes)> {
        let shared = noise(180_000, 1);
        let amd64 = image::single("linux/amd64", [noise(220_000, 2), noise(2_000, 3)]);
        let arm64 = image::single("linux/arm64", [noise(90_000, 4)]);
        let multi = image::index(vec![amd64.clone(), arm64]);
        let release = image::single("linux/amd64", [noise(150_000, 5)]);
        let both = image::single("linux/amd64", [shared.clone(), noise(40_000, 6)]);
        let forked = image::single("linux/amd64", [noise(80_000, 7)]);
        let bare = image::single("linux/amd64", [noise(70_000, 8)]);
        let dup = image::single("linux/amd64", [shared.clone(), noise(3_000, 9)]);
        let own = image::single("linux/amd64", [shared, noise(5_000, 10)]);
        let vaulted = image::single("linux/amd64", [noise(100_000, 11)]);
        let hidden = image::single("linux/amd64", [noise(100_000, 12)]);
        let other = image::single("linux/amd64", [noise(75_000, 13)]);
        let swapped = image::index(vec![amd64.clone(), bare.clone()]);

        // The index vouches for its children; one of them has a signature of its own besides.
        self.image(0, APP, "latest", "multi", &multi, &[Who::Chainguard]);
        self.signature(0, APP, "amd64", &amd64, &[Who::Chainguard]);
        self.image(0, APP, "stable", "release", &release, &[Who::Chainguard]);
        self.image(0, APP, "edge", "both", &both, &[Who::Chainguard, Who::Fork]);
        self.image(0, APP, "forked", "forked", &forked, &[Who::Fork]);
        self.image(0, APP, "bare", "bare", &bare, &[]);
        self.image(0, APP, "dup", "dup", &dup, &[Who::Chainguard]);
        self.image(0, APP, "swapped", "swapped", &swapped, &[]);
        self.evidence(&release);
        self.impostors(&release, &both, &bare);
        self.image(0, TEAM, "latest", "own", &own, &[Who::Person]);
        self.image(0, TEAM, "dup", "dup", &dup, &[Who::Chainguard]);
        self.image(0, VAULT, "latest", "vaulted", &vaulted, &[Who::Chainguard]);
        self.image(0, HIDDEN, "latest", "hidden", &hidden, &[Who::Chainguard]);
        self.image(1, APP, "latest", "other", &other, &[Who::Person]);
        self.image(1, APP, "dup", "dup", &dup, &[Who::Chainguard]);
        self.image(1, APP, "edge", "both", &both, &[Who::Chainguard, Who::Fork]);
        self.image(1, APP, "stable", "release", &release, &[Who::Chainguard]);
        self.image(1, APP, "bare", "bare", &bare, &[]);
        let layer = |image: &Image| image.layers().first().map(|(_, bytes)| bytes.clone()).unwrap_or_default();
        vec![(0, APP, layer(&vaulted)), (0, APP, layer(&hidden)), (0, TEAM, layer(&release)), (1, APP, layer(&forked))]
    }

    fn name(&mut self, image: &Image, name: &str) {
        self.names.entry(image.digest.hex().to_owned()).or_insert_with(|| name.to_owned());
    }

    fn hold(
        &mut self,
        upstream: usize,
        repository: &'static str,
        tag: Option<String>,
        (image, admitted): (&Image, [bool; POLICIES]),
    ) {
        self.manifests.push(Held { upstream, repository, tag, image: image.clone(), admitted });
    }

    /// An image, what is below it, and its signatures.
    fn image(
        &mut self,
        upstream: usize,
        repository: &'static str,
        tag: &str,
        name: &str,
        image: &Image,
        signers: &[Who],
    ) {
        self.name(image, name);
        let admitted = accepted(upstream, repository, signers);
        for (number, child) in image.children.iter().enumerate() {
            self.name(child, &format!("{name}-{number}"));
            match self
                .manifests
                .iter_mut()
                .find(|held| held.is_in(upstream, repository) && held.image.digest == child.digest)
            {
                Some(held) => held.admitted = std::array::from_fn(|policy| held.admitted[policy] || admitted[policy]),
                None => self.hold(upstream, repository, None, (child, admitted)),
            }
        }
        self.hold(upstream, repository, Some(tag.to_owned()), (image, admitted));
        if !signers.is_empty() {
            self.signature(upstream, repository, name, image, signers);
        }
    }

    /// What lies under the tag `.sig` of `image`, all signatures in one manifest.
    fn signature(&mut self, upstream: usize, repository: &'static str, name: &str, image: &Image, signers: &[Who]) {
        let reference = format!("{}/{repository}", NAMES[upstream].0);
        let sign = |who: &Who| self.sigstore.sign_legacy(&who.signer(), &reference, &image.digest, &options());
        let signatures: Vec<_> = signers.iter().map(sign).collect();
        let manifest = image::signature_manifest(&signatures);
        self.name(&manifest, &format!("{name}.sig@{upstream}/{repository}"));
        let admitted = accepted(upstream, repository, signers);
        let tag = cosign_tag(&image.digest, "sig");
        self.hold(upstream, repository, Some(tag), (&manifest, admitted));
    }

    /// An attestation, and a bundle that refers to the image.
    fn evidence(&mut self, release: &Image) {
        let admitted = accepted(0, APP, &[Who::Chainguard]);
        let (signer, options) = (Signer::chainguard(), options());
        let said = predicate::spdx(&release.digest);
        let attested = self.sigstore.attest_legacy(&signer, &release.digest, predicate::SPDX, &said, &options);
        let attestation = image::attestation_manifest(&[attested]);
        self.name(&attestation, "release.att");
        self.hold(0, APP, Some(cosign_tag(&release.digest, "att")), (&attestation, admitted));
        let bundle = self.sigstore.sign_bundle(&signer, &release.digest, &options);
        let referrer = image::bundle_referrer(&release.descriptor(), &bundle);
        self.name(&referrer, "release.bundle");
        self.hold(0, APP, None, (&referrer, admitted));
    }

    /// What calls itself evidence and is none, or is of nothing that anybody lets in.
    fn impostors(&mut self, release: &Image, both: &Image, bare: &Image) {
        let never = [false; POLICIES];
        // Runnable, under the tag of evidence of an image that is admitted.
        let runnable = image::single("linux/amd64", [noise(30_000, 20)]);
        self.name(&runnable, "runnable");
        self.hold(0, APP, Some(cosign_tag(&release.digest, "sbom")), (&runnable, never));
        // The same with the type of evidence, by tag and as a referrer.
        let disguised = |seed, subject: Option<&Image>| {
            let builder = Builder::new("linux/amd64").layer_as("text/spdx+json", noise(20_000, seed), BTreeMap::new());
            let builder = subject.into_iter().fold(builder, |builder, subject| builder.subject(&subject.descriptor()));
            builder.artifact_type("text/spdx+json").build()
        };
        let tagged = disguised(21, None);
        self.name(&tagged, "disguised-tag");
        self.hold(0, APP, Some(cosign_tag(&both.digest, "sbom")), (&tagged, never));
        let referrer = disguised(22, Some(both));
        self.name(&referrer, "disguised-referrer");
        self.hold(0, APP, None, (&referrer, never));
        // True evidence of what is not admitted.
        self.signature(0, APP, "bare", bare, &[Who::Stranger]);
        let said = Bytes::from_static(br#"{"spdxVersion":"SPDX-2.3","name":"bare"}"#);
        let bill = Builder::new("")
            .config_as(MediaType::EMPTY_JSON, "{}")
            .layer_as("text/spdx+json", said, BTreeMap::new())
            .subject(&bare.descriptor())
            .artifact_type("text/spdx+json")
            .build();
        self.name(&bill, "bare.bill");
        self.hold(0, APP, None, (&bill, never));
    }
}

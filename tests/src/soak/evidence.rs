//! What much evidence costs: memory and time for large attestations and for crowds of pieces, of which few are good.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use oci::{Descriptor, Digest, MediaType};
use serde_json::{Value, json};

use super::{
    Bounds, Say, Stage, Tally, failed,
    memory::in_mib,
    stage::{clients_view, ended_well},
};
use crate::{
    client::Client,
    image::{self, Builder, Image},
    policies,
    process::Process,
    sigstore::{LegacySignature, Options, Signer, predicate::SPDX},
    upstream::{Fault, noise},
    world::Setup,
};

const REPOSITORY: &str = "chainguard/large";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Longest wait for an answer that is yes or no.
const PATIENCE: Duration = Duration::from_secs(300);

/// How much.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Of one attestation, bytes.
    pub attestation_bytes: usize,
    /// Layers of a `.sig`, and referrers of one image.
    pub crowd: usize,
    /// For an answer about a crowd.
    pub crowd_within: Duration,
}

impl Size {
    /// 100 MiB; 10 000 layers and referrers, answered within 5 s.
    pub const FULL: Self = Self { attestation_bytes: 100 << 20, crowd: 10_000, crowd_within: Duration::from_secs(5) };

    /// Above idle, for one attestation, with and without a content rule: 450 MiB and 2 GiB for 100 MiB.
    fn attestation_above_max(self, ruled: bool) -> u64 {
        let bytes = self.attestation_bytes as u64;
        if ruled { bytes * 2048 / 100 } else { bytes * 450 / 100 }
    }
}

/// Above idle, for a crowd.
const CROWD_ABOVE_MAX: u64 = 64 << 20;

/// Where an attestation lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    AttestationTag,
    Referrer,
}

/// A crowd, and whether there is a good one in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crowd {
    Layers,
    Referrers,
    Loop,
}

/// Each kind in turn; each round all of them.
pub async fn run(bounds: Bounds, size: Size, say: Say) -> Tally {
    let mut tally = Tally::default();
    for round in bounds.each() {
        for place in [Place::AttestationTag, Place::Referrer] {
            for ruled in [false, true] {
                tally.count(attestation(size, place, ruled, round, say).await);
            }
        }
        for (crowd, is_good) in [
            (Crowd::Layers, true),
            (Crowd::Layers, false),
            (Crowd::Referrers, true),
            (Crowd::Referrers, false),
            (Crowd::Loop, true),
            (Crowd::Loop, false),
        ] {
            tally.count(crowded(size, crowd, is_good, round, say).await);
        }
    }
    tally
}

/// Two images with one large attestation each, asked for at once: they must not be in memory together.
async fn attestation(size: Size, place: Place, ruled: bool, round: u64, say: Say) -> Result<(), String> {
    let stage = Stage::new(&Setup::with_policy(&policy(ruled))).await;
    let images: Vec<_> = (0..2).map(|seed| image::single("linux/amd64", [noise(5000, seed)])).collect();
    let predicate = packages(size.attestation_bytes);
    for image in &images {
        image.push(&stage.world.registry, REPOSITORY, None);
        attest(&stage, image, place, &predicate);
    }
    drop(predicate);
    let measured = measure(&stage, &images, &format!("{place:?}-{ruled}-{round}")).await?;
    let told = format!(
        "two attestations of {} MiB, {place:?}, {}: {measured}",
        size.attestation_bytes >> 20,
        if ruled { "with a rule" } else { "without a rule" },
    );
    say(&told);
    measured.is(200, size.attestation_above_max(ruled), PATIENCE).map_err(|why| failed(&told, why))
}

async fn crowded(size: Size, crowd: Crowd, is_good: bool, round: u64, say: Say) -> Result<(), String> {
    let stage = Stage::new(&Setup::default()).await;
    let image = image::single("linux/amd64", [noise(5000, 1)]);
    image.push(&stage.world.registry, REPOSITORY, None);
    match crowd {
        Crowd::Layers => layers(&stage, &image, size.crowd, is_good),
        Crowd::Referrers => referrers(&stage, &image, size.crowd, is_good),
        Crowd::Loop => {
            referrers(&stage, &image, 10, is_good);
            let link = Fault::header("link", "<?page=again>; rel=\"next\"");
            stage.world.registry.fault(crate::upstream::Call::is_referrers, link);
        }
    }
    let measured = measure(&stage, &[image], &format!("{crowd:?}-{is_good}-{round}")).await?;
    let told = format!("{} {crowd:?}, {}: {measured}", size.crowd, if is_good { "one good" } else { "none good" });
    say(&told);
    // Where the list has no end, nobody can say that nothing is there.
    let want = match (is_good, crowd) {
        (true, _) => 200,
        (false, Crowd::Loop) => 503,
        (false, Crowd::Layers | Crowd::Referrers) => 403,
    };
    measured.is(want, CROWD_ABOVE_MAX, size.crowd_within).map_err(|why| failed(&told, why))
}

/// What asking for images cost.
struct Measured {
    statuses: Vec<u16>,
    took: Duration,
    /// Bytes.
    above: u64,
    text: String,
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} after {:.1?}, {} above idle", self.statuses, self.took, in_mib(self.above))
    }
}

impl Measured {
    fn is(&self, status: u16, above_max: u64, within: Duration) -> Result<(), String> {
        if self.statuses.iter().any(|got| *got != status) {
            return Err(format!("want {status}: {}", self.text));
        }
        if self.above > above_max {
            return Err(format!("at most {} are allowed", in_mib(above_max)));
        }
        if self.took > within {
            return Err(format!("want an answer within {within:?}"));
        }
        Ok(())
    }
}

/// Asks a fresh pratique for all images at once, until each answer is yes or no, or undecided without being late.
async fn measure(stage: &Stage, images: &[Image], store: &str) -> Result<Measured, String> {
    let store = stage.store(store);
    let process = stage.serve(&store).await?;
    let (client, base) = clients_view(&process);
    warm(stage, &client, &base).await?;
    let idle = process.resident()?;
    let started = Instant::now();
    let asked = join_all(images.iter().map(|image| ask(&client, &base, &image.digest, started)));
    let answers = asked.await.into_iter().collect::<Result<Vec<_>, String>>()?;
    let (took, peak) = (started.elapsed(), process.resident_peak()?);
    end(process).await?;
    stage.discard(&store)?;
    Ok(Measured {
        statuses: answers.iter().map(|(status, _)| *status).collect(),
        took,
        above: peak.saturating_sub(idle),
        text: answers.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(" / "),
    })
}

async fn ask(client: &Client, base: &str, digest: &Digest, started: Instant) -> Result<(u16, String), String> {
    let url = format!("{base}/v2/{REPOSITORY}/manifests/{digest}");
    loop {
        let answer = client.get(&url, &[]).await.map_err(|error| error.to_string())?;
        let late = answer.status == 503 && answer.text().contains("still looking");
        if !late || started.elapsed() > PATIENCE {
            return Ok((answer.status.as_u16(), answer.text()));
        }
    }
}

/// One small image, refused or not: what the first judgement needs is not above idle.
async fn warm(stage: &Stage, client: &Client, base: &str) -> Result<(), String> {
    let image = image::single("linux/amd64", [noise(100, 99)]);
    stage.world.push_signed(REPOSITORY, "warm", &image);
    ask(client, base, &image.digest, Instant::now()).await.map(drop)
}

async fn end(process: Process) -> Result<(), String> {
    ended_well(&process.terminate().await.map_err(|silent| silent.to_string())?)
}

fn policy(ruled: bool) -> String {
    let Signer { issuer, subject, .. } = Signer::chainguard();
    let rule = "      policy:
        type: rego
        data: |
          package sigstore
          default isCompliant = false
          isCompliant { input.predicate.marker == \"here\" }
";
    let attestations = format!("    attestations:\n    - name: packages\n      predicateType: {SPDX}\n");
    policies::keyless("packages", "cgr.dev/**", &issuer, &subject) + &attestations + if ruled { rule } else { "" }
}

/// A list of packages that makes an envelope of about so many bytes, which are a third more than its payload's.
fn packages(envelope_bytes: usize) -> Value {
    let package = |number: usize| {
        json!({
            "SPDXID": format!("SPDXRef-Package-{number}"),
            "name": format!("package-{number}"),
            "versionInfo": "1.29.1-r3",
            "downloadLocation": "https://packages.example/none",
            "licenseDeclared": "MIT",
            "checksums": [{"algorithm": "SHA256", "checksumValue": Digest::sha256(&number.to_be_bytes()).hex()}],
        })
    };
    let one = package(100_000).to_string().len() + 1;
    let packages: Vec<_> = (0..envelope_bytes / 4 * 3 / one).map(package).collect();
    json!({"marker": "here", "packages": packages})
}

fn attest(stage: &Stage, image: &Image, place: Place, predicate: &Value) {
    let (world, signer, options) = (&stage.world, Signer::chainguard(), Options::default());
    match place {
        Place::AttestationTag => {
            let layer = world.sigstore.attest_legacy(&signer, &image.digest, SPDX, predicate, &options);
            let tag = image::cosign_tag(&image.digest, "att");
            image::attestation_manifest(&[layer]).push(&world.registry, REPOSITORY, Some(&tag));
        }
        Place::Referrer => {
            let bundle = world.sigstore.attest_bundle(&signer, &image.digest, SPDX, predicate, &options);
            let referrer = image::bundle_referrer_as_seen(&image.descriptor(), &bundle, SPDX);
            referrer.push(&world.registry, REPOSITORY, None);
        }
    }
}

/// So many layers in a `.sig`. One manifest may not hold so many whole signatures: the junk has a short one each.
fn layers(stage: &Stage, image: &Image, count: usize, is_good: bool) {
    let junk = |number: usize| LegacySignature {
        media_type: MediaType::SIMPLE_SIGNING,
        payload: Bytes::from(format!(r#"{{"critical":{{"junk":{number}}}}}"#)),
        annotations: BTreeMap::from([("dev.cosignproject.cosign/signature".to_owned(), "MEQCIA==".to_owned())]),
    };
    let mut layers: Vec<_> = (1..count).map(junk).collect();
    let signed = stage.world.sigstore.sign_legacy(
        &if is_good { Signer::chainguard() } else { Signer::fork() },
        &format!("cgr.dev/{REPOSITORY}"),
        &image.digest,
        &Options::default(),
    );
    layers.insert(count / 2, signed);
    let tag = image::cosign_tag(&image.digest, "sig");
    image::signature_manifest(&layers).push(&stage.world.registry, REPOSITORY, Some(&tag));
}

/// So many referrers, all of them calling themselves bundles.
fn referrers(stage: &Stage, image: &Image, count: usize, is_good: bool) {
    let (registry, subject) = (&stage.world.registry, image.descriptor());
    for number in 1..count {
        junk_referrer(&subject, number).push(registry, REPOSITORY, None);
    }
    let signer = if is_good { Signer::chainguard() } else { Signer::fork() };
    let bundle = stage.world.sigstore.sign_bundle(&signer, &image.digest, &Options::default());
    image::bundle_referrer(&subject, &bundle).push(registry, REPOSITORY, None);
}

fn junk_referrer(subject: &Descriptor, number: usize) -> Image {
    Builder::new("")
        .config_as(MediaType::EMPTY_JSON, "{}")
        .layer_as(BUNDLE, format!("{{\"junk\":{number}}}"), BTreeMap::new())
        .subject(subject)
        .artifact_type(BUNDLE)
        .build()
}

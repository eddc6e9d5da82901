//! What every client meets: an upstream with a signed and an unsigned image, and the real pratique in front of it.

use std::path::{Path, PathBuf};

use oci::Digest;
use serde_json::json;
use support::{
    client::Client,
    image::{self, Entry, Image},
    needs,
    process::Process,
    pull,
    upstream::{Place, Registry, TokenAuth},
    world::{Setup, World},
};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    hello,
    tls::{Ca, NAME, Tunnel},
};

/// Signed as Chainguard signs, for two platforms; what this machine's runs prints [`TEXT`].
pub const SIGNED: &str = "chainguard/multi-platform";
/// The same, never signed.
pub const UNSIGNED: &str = "chainguard/unsigned";
/// What the image says when it runs.
pub const TEXT: &str = "what was signed is what runs";

/// Upstream, images, pratique.
pub struct Stage {
    pub world: World,
    pub pratique: Process,
    pub image: Image,
    pub unsigned: Image,
    /// What clients write before the repository.
    pub host: String,
    /// pratique's own word on the unsigned image, which clients are to show.
    pub reason: String,
    /// Over TLS only.
    pub tls: Option<Tls>,
    /// For the clients' files; gone with the stage.
    pub files: TempDir,
}

/// What is besides there over TLS.
pub struct Tls {
    pub ca: Ca,
    pub tunnel: Tunnel,
}

impl Stage {
    /// Plain HTTP on loopback at both ends.
    pub async fn http() -> Self {
        Self::http_with(&Setup::default()).await
    }

    /// The same under other policies; one for these images, `chainguard-public`, is among them.
    pub async fn http_with(setup: &Setup) -> Self {
        let world = World::new().await;
        let (image, unsigned) = push(&world).await;
        let pratique = Process::serve(&world.write(setup)).await.unwrap();
        let url = format!("http://{}", pratique.host_port());
        let reason = reason(&Client::plain(), &url).await;
        let host = pratique.host_port();
        Self { world, pratique, image, unsigned, host, reason, tls: None, files: tempfile::tempdir().unwrap() }
    }

    /// TLS at both ends, under a private CA each; upstream wants a token from another host, and blobs lie on a third.
    ///
    /// Clients reach pratique by a name that only the tunnel knows: dockerd checks no certificate of anything on 127.0.0.0/8.
    pub async fn https() -> Self {
        let auth = TokenAuth::account(support::canary::USER, support::canary::PASSWORD).realm_at(Place::Auth);
        let world = World::with(Registry::builder().https().token_auth(auth).redirect_blobs()).await;
        let (image, unsigned) = push(&world).await;
        let ca = Ca::new();
        let pratique = Process::serve(&world.write(&secured(&world, &ca))).await.unwrap();
        let client = Client::trusting(&ca.pem()).unwrap();
        let port = pratique.address.port();
        let reason = reason(&client, &format!("https://127.0.0.1:{port}")).await;
        let tunnel = Tunnel::to(pratique.address).await;
        let tls = Some(Tls { ca, tunnel });
        let host = format!("{NAME}:{port}");
        Self { world, pratique, image, unsigned, host, reason, tls, files: tempfile::tempdir().unwrap() }
    }

    /// Writes a file for a client, and returns where it lies.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file in a directory")).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Lets a client find pratique: over TLS, by the name that only the tunnel knows.
    pub fn point(&self, client: &mut Command) {
        if let Some(tls) = &self.tls {
            client.env("HTTPS_PROXY", tls.tunnel.url());
        }
    }

    /// A directory with the private CA as docker, podman and skopeo look for it; over plain HTTP there is none.
    pub fn certificates(&self) -> Option<PathBuf> {
        let tls = self.tls.as_ref()?;
        let file = self.file("certs.d/ca.crt", &tls.ca.pem());
        file.parent().map(Path::to_owned)
    }

    /// Tells which HTTP a client spoke, as far as that can be seen through TLS: pratique takes HTTP/2 wherever it is offered, which
    /// a handshake of our own shows, and the tunnel sees the offers.
    pub async fn note_http(&self, client: &str) {
        let Some(tls) = &self.tls else { return };
        let offers = tls.tunnel.http2_offered();
        assert!(!offers.is_empty(), "{client} never came through the tunnel");
        let with = offers.iter().filter(|offered| **offered).count();
        needs::note(&format!("NOTE: {client} offered HTTP/2 on {with} of its {} TLS connections", offers.len()));

        let chosen = tls.tunnel.handshake(&tls.ca, self.pratique.address.port()).await;
        assert_eq!(chosen.as_deref(), Some(&b"h2"[..]), "pratique takes HTTP/2 where it is offered");
        assert_eq!(tls.tunnel.http2_offered().last(), Some(&true), "the tunnel sees the offer");
    }

    /// `<host>/<repository>:latest`.
    pub fn reference(&self, repository: &str) -> String {
        format!("{}/{repository}:latest", self.host)
    }

    /// The image for this machine.
    pub fn own(&self) -> &Image {
        let own = self.image.children.iter().find(|child| {
            child.platform.as_ref().is_some_and(|it| format!("{}/{}", it.os, it.architecture) == hello::platform())
        });
        own.expect("an image for this machine")
    }

    /// Every manifest and blob of the signed image, index first.
    pub fn content(&self) -> Vec<(Digest, Vec<u8>)> {
        fn collect(image: &Image, into: &mut Vec<(Digest, Vec<u8>)>) {
            into.push((image.digest.clone(), image.manifest.to_vec()));
            into.extend(image.blobs.iter().map(|(digest, bytes)| (digest.clone(), bytes.to_vec())));
            image.children.iter().for_each(|child| collect(child, into));
        }
        let mut content = Vec::new();
        collect(&self.image, &mut content);
        content
    }

    /// Fails unless upstream was asked as the set-up says: over TLS the token service and the blob storage too.
    pub fn check_upstream_calls(&self) {
        let upstream = &self.world.registry;
        assert!(upstream.count(|call| call.place == Place::Registry && call.is_manifest()) > 0);
        if self.tls.is_some() {
            assert!(upstream.count(|call| call.place == Place::Auth) > 0, "no token was asked for");
            assert!(upstream.count(|call| call.place == Place::Storage) > 0, "no redirect was followed");
        }
    }
}

async fn push(world: &World) -> (Image, Image) {
    let other = if hello::platform() == "linux/arm64" { "linux/amd64" } else { "linux/arm64" };
    let binary = hello::binary().await;
    let build = |note: &str| {
        let elsewhere = image::tar(&[Entry::file("note", note.as_bytes())]);
        image::index([runs(&binary, note), image::single(other, [elsewhere])])
    };
    let (signed, unsigned) = (build(TEXT), build("nobody signed this"));
    world.push_signed(SIGNED, "latest", &signed);
    unsigned.push(&world.registry, UNSIGNED, Some("latest"));
    (signed, unsigned)
}

/// Not `image::runnable`: its program is `/run`, where podman wants a directory.
fn runs(binary: &[u8], text: &str) -> Image {
    image::Builder::new(hello::platform())
        .layer(image::tar(&[Entry::executable("hello", binary)]))
        .config("Entrypoint", json!(["/hello", text]))
        .build()
}

fn secured(world: &World, ca: &Ca) -> Setup {
    let write = |name: &str, text: &str| std::fs::write(world.directory.path().join(name), text).unwrap();
    let (certificate, key) = ca.server();
    write("tls.crt", &certificate);
    write("tls.key", &key);
    write("password", support::canary::PASSWORD);
    let at = |place| world.registry.host_port_of(place);
    let mut setup = Setup::default().sections("[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n");
    setup.upstream = format!(
        "username = \"robot\"\npassword_file = \"password\"\nrealms = [\"{}\"]\nredirects = [\"{}\"]",
        at(Place::Auth),
        at(Place::Storage),
    );
    setup
}

/// What pratique tells a plain HTTP client about the unsigned image.
async fn reason(client: &Client, url: &str) -> String {
    let answer = client.get(&format!("{url}/v2/{UNSIGNED}/manifests/latest"), &[]).await.unwrap();
    assert_eq!(answer.status, 403, "{}", answer.text());
    let reason = pull::message(&answer);
    assert!(reason.starts_with("refused by policy chainguard-public: "), "{reason}");
    reason
}

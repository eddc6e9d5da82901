//! What cannot be meant is refused with a reason and a way out, and with its exit code.

use support::{
    image,
    sigstore::{KeyKind, KeySigner, Layout, Options, Signer},
    world::Setup,
};

use crate::{PUBLIC, Stage, run};

const IMAGE: &str = "cgr.dev/chainguard/nginx";

#[tokio::test]
async fn options_that_cannot_be_meant_are_refused_with_a_reason() {
    let stage = Stage::public(Layout::Legacy).await;
    for (arguments, wanted) in [
        (["--certificate-identity", "x"].as_slice(), "--certificate-oidc-issuer"),
        (&["--certificate-oidc-issuer", "x"], "--certificate-identity"),
        (&["--certificate-identity", "x", "--certificate-identity-regexp", "y"], "beside each other"),
        (
            &["--certificate-identity-regexp", "(", "--certificate-oidc-issuer", "x"],
            "--certificate-identity-regexp: does not parse",
        ),
        (&["--key", "k8s://ns/name"], "keys are not fetched"),
        (&["--key", "awskms:///alias/x"], "keys are not fetched"),
        (&["--key", "https://example.com/cosign.pub"], "keys are not fetched"),
        (&["--key", "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"], "--key: "),
        (&["-a", "novalue"], "expected key=value"),
        (
            &["--certificate-identity", "x", "--certificate-oidc-issuer", "y", "--insecure-ignore-tlog"],
            "--insecure-ignore-tlog",
        ),
        (&["--check-claims=false"], "--check-claims is not supported"),
        (&["-a", "env=a,b"], "expected key=value"),
        (&["--local-image"], "--local-image is not supported"),
        (&["--ca-roots", "x.pem"], "--trusted-root"),
        (&["--registry-username", "x"], "password_file"),
        (&["--allow-http-registry"], "url and ca_file"),
        (&["--no-such-option"], "--no-such-option"),
    ] {
        let all: Vec<_> = ["verify"].iter().chain(arguments).chain([&IMAGE]).copied().collect();
        let said = stage.run(&all).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", said.stderr);
        assert!(said.stderr.contains(wanted), "{arguments:?}: {wanted} is not in: {}", said.stderr);
        assert!(!said.stderr.contains("panicked"), "{}", said.stderr);
    }
    let said = stage.run(&["verify", "--key", "/nowhere.pub", IMAGE]).await;
    assert_eq!(said.code, Some(1), "{}", said.stderr);
}

#[tokio::test]
async fn options_that_change_nothing_are_taken_and_told() {
    let stage = Stage::public(Layout::Legacy).await;
    let said =
        stage.run(&["verify", "--offline", "--rekor-url=https://rekor.example", "--check-claims=true", IMAGE]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    for name in ["--offline", "--rekor-url", "--check-claims"] {
        assert!(said.stderr.contains(&format!("note: {name} changes nothing: ")), "{}", said.stderr);
    }
}

#[tokio::test]
async fn images_of_registries_that_are_no_upstream_are_refused_with_the_way_out() {
    let stage = Stage::public(Layout::Legacy).await;
    for image in ["ghcr.io/a/b", "127.0.0.1:9/chainguard/nginx", "localhost:9/a", "CGR.dev/x/y", "a b", "x@sha256:12"] {
        let said = stage.run(&["verify", image]).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{image}: {}", said.stderr);
        assert!(said.stderr.contains("hint: write it as "), "{image}: {}", said.stderr);
    }
    // Where pratique itself listens, the path is what a client would ask it for.
    let setup = Setup { top: "listen = \"127.0.0.1:5077\"".to_owned(), ..Setup::default() };
    stage.world.write(&setup);
    for image in ["127.0.0.1:5077/chainguard/nginx", "localhost:5077/chainguard/nginx:latest"] {
        let said = stage.run(&["verify", image]).await;
        assert_eq!(said.code, Some(0), "{image}: {}", said.stderr);
    }
}

#[tokio::test]
async fn nobody_can_say_where_upstream_is_down() {
    let mut stage = Stage::public(Layout::Legacy).await;
    stage.world.registry.stop().await;
    for command in ["verify", "attestation"] {
        let said = stage.run(&[command, IMAGE]).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(3), ""), "{command}: {}", said.stderr);
    }
}

#[tokio::test]
async fn conditions_are_asked_of_the_very_signature() {
    let setup = Setup::default();
    let stage = Stage::new("chainguard/bare", &Signer::fork(), Layout::Legacy, &setup).await;
    let options = Options { annotations: [("env".to_owned(), "production".to_owned())].into(), ..Options::default() };
    let image = image::single("linux/amd64", [support::upstream::noise(10, 5)]);
    image.push(&stage.world.registry, PUBLIC, Some("latest"));
    stage.world.sign(PUBLIC, &image, &Signer::chainguard(), &options);
    let chainguard = Signer::chainguard();
    let identity = ["--certificate-identity", &chainguard.subject, "--certificate-oidc-issuer", &chainguard.issuer];
    let ask = |more: &[&str]| {
        let all: Vec<String> =
            ["verify"].iter().chain(&identity).chain(more).chain([&IMAGE]).map(|it| (*it).to_owned()).collect();
        all
    };
    for (more, code, wanted) in [
        (["-a", "env=production"].as_slice(), 0, "env=production"),
        (&["-a", "env=testing"], 1, "annotation env=\"testing\" is wanted, and it is \"production\""),
        (&["-a", "env=production", "-a", "sha=1"], 1, "annotation sha=\"1\" is wanted, and it is not there"),
        (&["--certificate-github-workflow-ref", "refs/heads/other"], 1, "workflow ref \"refs/heads/other\" is wanted"),
    ] {
        let all = ask(more);
        let said = stage.run(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!(said.code, Some(code), "{more:?}: {}", said.stderr);
        assert!(said.stderr.contains(wanted), "{more:?}: {wanted} is not in: {}", said.stderr);
    }
}

#[tokio::test]
async fn a_key_verifies_with_the_log_unless_it_is_told_not_to_ask() {
    let stage = Stage::public(Layout::Legacy).await;
    let signer = KeySigner::generate(KeyKind::P256);
    let key = stage.file("cosign.pub", &signer.public_pem());
    let image = image::single("linux/amd64", [support::upstream::noise(10, 6)]);
    for (tag, log) in [("logged", Some(&stage.world.sigstore)), ("unlogged", None)] {
        let repository = format!("chainguard/{tag}");
        image.push(&stage.world.registry, &repository, Some("latest"));
        let signature = signer.sign_legacy(&format!("cgr.dev/{repository}"), &image.digest, log, &Options::default());
        let manifest = image::signature_manifest(&[signature]);
        manifest.push(&stage.world.registry, &repository, Some(&image::cosign_tag(&image.digest, "sig")));
    }
    let said = stage.run(&["verify", "--key", &key, "cgr.dev/chainguard/logged"]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    insta::assert_snapshot!("verify_key", stage.plain(&format!("{}{}", said.stderr, said.stdout)));
    let said = stage.run(&["verify", "--key", &signer.public_pem(), "cgr.dev/chainguard/logged"]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let said = stage.run(&["verify", "--key", &key, "cgr.dev/chainguard/unlogged"]).await;
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let said =
        stage.run(&["verify", "--key", &key, "--insecure-ignore-tlog=true", "cgr.dev/chainguard/unlogged"]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

#[tokio::test]
async fn what_is_served_unverified_is_not_called_verified() {
    let setup = Setup { policy: "no_match = \"allow\"".to_owned(), ..Setup::default() };
    let stage = Stage::new("elsewhere/image", &Signer::chainguard(), Layout::Legacy, &setup).await;
    let said = stage.run(&["verify", "cgr.dev/elsewhere/image"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{}", said.stderr);
    assert!(said.stderr.contains("is served, and is not verified"), "{}", said.stderr);
}

#[tokio::test]
async fn completions_are_printed_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let said = run(&["completions", shell], &[]).await;
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        assert!(said.stdout.contains("certificate-identity") && said.stdout.contains("explain"), "{shell}");
    }
}

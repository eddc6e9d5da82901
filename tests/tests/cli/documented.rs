//! The commands of Chainguard's documentation, with `cosign` replaced by `pratique`, for its public images and for those of an
//! organization; in both layouts.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use support::{
    sigstore::{Layout, Signer, predicate},
    world::{Setup, World},
};

use crate::{PUBLIC, Said, Stage};

const ISSUER: &str = "--certificate-oidc-issuer=https://token.actions.githubusercontent.com";
const IDENTITY: &str =
    "--certificate-identity=https://github.com/chainguard-images/images/.github/workflows/release.yaml@refs/heads/main";
const IMAGE: &str = "cgr.dev/chainguard/nginx";

/// The organization, its repository, and its two identities: of the service that copies images, and of the one that builds them.
const ORGANIZATION: &str = "example.com";
const CATALOG_SYNCER: &str = "720909c9f5279097d847ad02a2f24ba8f59de36a/a033a6fabe0bfa0d";
const APKO_BUILDER: &str = "720909c9f5279097d847ad02a2f24ba8f59de36a/1f127a0c0bfa0d5e";

fn one_line(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `jq -r .payload | base64 -d | jq .predicate`
fn predicate_of(envelope: &Value) -> Value {
    let payload = STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&payload).unwrap()["predicate"].clone()
}

fn is_yes(said: &Said) {
    assert_eq!(said.code, Some(0), "{}{}", said.stdout, said.stderr);
}

#[tokio::test]
async fn verify_says_of_a_public_image_what_cosign_says() {
    for layout in [Layout::Legacy, Layout::Bundle] {
        let stage = Stage::public(layout).await;
        let said = stage.run_both(&["verify", ISSUER, IDENTITY, IMAGE]).await;
        is_yes(&said);
        let signatures: Value = serde_json::from_str(&said.stdout).expect("one JSON array, as jq reads it");
        let [signature] = signatures.as_array().unwrap().as_slice() else { panic!("{signatures}") };
        let critical = &signature["critical"];
        assert_eq!(critical["image"]["docker-manifest-digest"], stage.index.digest.to_string());
        assert_eq!(critical["identity"]["docker-reference"], "cgr.dev/chainguard/nginx");
        assert_eq!(signature["optional"]["Issuer"], Signer::chainguard().issuer);
        assert_eq!(signature["optional"]["Subject"], Signer::chainguard().subject);
        let name = if layout == Layout::Legacy { "verify_legacy" } else { "verify_bundle" };
        insta::assert_snapshot!(name, stage.plain(&format!("{}{}", said.stderr, said.stdout)));
    }
}

#[tokio::test]
async fn without_identity_the_policies_in_force_decide() {
    let stage = Stage::public(Layout::Legacy).await;
    for image in
        [IMAGE, "cgr.dev/chainguard/nginx:latest", "chainguard/nginx", &format!("{IMAGE}@{}", stage.index.digest)]
    {
        let said = stage.run_both(&["verify", image]).await;
        is_yes(&said);
        assert!(said.stderr.contains(&format!("Verification for {image} --")), "{}", said.stderr);
    }
}

#[tokio::test]
async fn verify_of_an_organizations_image_takes_the_documented_pattern() {
    for (uidp, layout) in [(CATALOG_SYNCER, Layout::Legacy), (APKO_BUILDER, Layout::Bundle)] {
        let signer = Signer::new("https://issuer.enforce.dev", &format!("https://issuer.enforce.dev/{uidp}"));
        let repository = format!("{ORGANIZATION}/python");
        let stage = Stage::new(&repository, &signer, layout, &Setup::default()).await;
        let issuer = "--certificate-oidc-issuer=https://issuer.enforce.dev";
        let pattern =
            format!("--certificate-identity-regexp=https://issuer.enforce.dev/({CATALOG_SYNCER}|{APKO_BUILDER})");
        let image = format!("cgr.dev/{repository}:latest");
        let said = stage.run_both(&["verify", issuer, &pattern, &image]).await;
        is_yes(&said);
        assert!(said.stdout.contains(uidp), "{}", said.stdout);
        // The whole subject has to match: what holds such a string is somebody else.
        let part = format!("--certificate-identity-regexp=issuer.enforce.dev/{}", &uidp[..40]);
        let said = stage.run(&["verify", issuer, &part, &image]).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{}", said.stderr);
        assert!(said.stderr.contains("must match from first to last character"), "{}", said.stderr);
        let typed = format!("https://issuer.enforce.dev/{uidp}");
        let said = stage.run(&["verify", issuer, "--certificate-identity", &typed, &image]).await;
        is_yes(&said);
    }
}

#[tokio::test]
async fn variables_of_cosigns_stand_for_its_options_and_the_option_wins() {
    let stage = Stage::public(Layout::Legacy).await;
    let chainguard = Signer::chainguard();
    let fork = Signer::fork();
    let both = [
        ("COSIGN_CERTIFICATE_IDENTITY", chainguard.subject.as_str()),
        ("COSIGN_CERTIFICATE_OIDC_ISSUER", chainguard.issuer.as_str()),
    ];
    is_yes(&stage.run_with(&["verify", IMAGE], &both).await);
    let wrong = [
        ("COSIGN_CERTIFICATE_IDENTITY_REGEXP", fork.subject.as_str()),
        ("COSIGN_CERTIFICATE_OIDC_ISSUER_REGEXP", "https://token[.]actions[.]githubusercontent[.]com"),
    ];
    let said = stage.run_with(&["verify", IMAGE], &wrong).await;
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    is_yes(&stage.run_with(&["verify", IDENTITY, IMAGE], &wrong).await);
    let said = stage.run_with(&["verify", IMAGE], &[("COSIGN_MAX_ATTACHMENT_SIZE", "10")]).await;
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    for layout in [Layout::Legacy, Layout::Bundle] {
        let stage = Stage::public(layout).await;
        let arguments = ["attestation", "--type", predicate::SPDX, IMAGE];
        let said = stage.run_with(&arguments, &[("COSIGN_MAX_ATTACHMENT_SIZE", "10")]).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{}", said.stderr);
        is_yes(&stage.run_with(&arguments, &[("COSIGN_MAX_ATTACHMENT_SIZE", "10MB")]).await);
    }
    let said = stage.run_with(&["verify", IMAGE], &[("COSIGN_MAX_ATTACHMENT_SIZE", "much")]).await;
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("COSIGN_MAX_ATTACHMENT_SIZE: want a size above zero"), "{}", said.stderr);
}

#[tokio::test]
async fn cosign_repository_says_where_the_tags_are() {
    let stage = Stage::new("elsewhere/signatures", &Signer::chainguard(), Layout::Legacy, &Setup::default()).await;
    stage.index.push(&stage.world.registry, PUBLIC, Some("latest"));
    let said = stage.run(&["verify", ISSUER, IDENTITY, IMAGE]).await;
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    let there = [("COSIGN_REPOSITORY", "cgr.dev/elsewhere/signatures")];
    is_yes(&stage.run_with(&["verify", ISSUER, IDENTITY, IMAGE], &there).await);
    // It says where, and not who: without an identity the policies in force decide, which say both.
    let said = stage.run_with(&["verify", IMAGE], &there).await;
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("note: COSIGN_REPOSITORY is not looked at"), "{}", said.stderr);
    let nowhere = [("COSIGN_REPOSITORY", "gcr.io/elsewhere/signatures")];
    let said = stage.run_with(&["verify", ISSUER, IDENTITY, IMAGE], &nowhere).await;
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("COSIGN_REPOSITORY: is"), "{}", said.stderr);
}

#[tokio::test]
async fn attestations_are_downloaded_and_verified_by_the_documented_commands() {
    for layout in [Layout::Legacy, Layout::Bundle] {
        let stage = Stage::public(layout).await;
        let amd64 = &stage.index.children[0].digest;
        let spdx = "--predicate-type=https://spdx.dev/Document";
        let said = stage.run_both(&["download", "attestation", "--platform=linux/amd64", spdx, IMAGE]).await;
        is_yes(&said);
        let envelopes = one_line(&said.stdout);
        let [envelope] = envelopes.as_slice() else { panic!("{}", said.stdout) };
        assert_eq!(envelope["payloadType"], "application/vnd.in-toto+json");
        assert!(envelope["signatures"][0]["sig"].as_str().is_some_and(|sig| !sig.is_empty()), "{envelope}");
        assert!(predicate_of(envelope).to_string().contains("SPDX-2.3"), "{envelope}");

        // The same in one command, and of the index another document.
        let arguments = ["attestation", "--platform", "linux/amd64", spdx, "--predicate", IMAGE];
        let said = stage.run_both(&arguments).await;
        is_yes(&said);
        assert_eq!(serde_json::from_str::<Value>(&said.stdout).unwrap(), predicate_of(envelope));
        let said = stage.run(&["attestation", spdx, "--predicate", IMAGE]).await;
        is_yes(&said);
        assert_ne!(serde_json::from_str::<Value>(&said.stdout).unwrap(), predicate_of(envelope), "of the index");

        let arguments = ["verify-attestation", "--type", "https://spdx.dev/Document", ISSUER, IDENTITY, IMAGE];
        let said = stage.run_both(&arguments).await;
        is_yes(&said);
        assert_eq!(one_line(&said.stdout).len(), 1);
        let name = if layout == Layout::Legacy { "attestation_legacy" } else { "attestation_bundle" };
        insta::assert_snapshot!(name, stage.plain(&said.stderr));

        // Without a type, all three, of any platform by its digest.
        let said = stage.run(&["download", "attestation", &format!("{IMAGE}@{amd64}")]).await;
        is_yes(&said);
        assert_eq!(one_line(&said.stdout).len(), 3, "{}{}", said.stdout, said.stderr);
        let said = stage.run(&["verify-attestation", "--type", "slsaprovenance1", ISSUER, IDENTITY, IMAGE]).await;
        is_yes(&said);
    }
}

#[tokio::test]
async fn attestations_of_an_organizations_image_are_verified_by_the_documented_commands() {
    let issuer = "--certificate-oidc-issuer=https://issuer.enforce.dev";
    let pattern = format!("--certificate-identity-regexp=https://issuer.enforce.dev/({CATALOG_SYNCER}|{APKO_BUILDER})");
    let spdx = "--predicate-type=https://spdx.dev/Document";
    let example = include_str!("../../../docs/examples/policies/chainguard-private.yaml");
    for (uidp, layout) in [(CATALOG_SYNCER, Layout::Legacy), (APKO_BUILDER, Layout::Bundle)] {
        let signer = Signer::new("https://issuer.enforce.dev", &format!("https://issuer.enforce.dev/{uidp}"));
        let repository = format!("{ORGANIZATION}/python");
        let image = format!("cgr.dev/{repository}:latest");
        let stage = Stage::new(&repository, &signer, layout, &Setup::default()).await;
        for predicate_type in [predicate::PROVENANCE, predicate::IMAGE_CONFIGURATION, predicate::SPDX] {
            let arguments = ["verify-attestation", "--type", predicate_type, issuer, &pattern, &image];
            let said = stage.run_both(&arguments).await;
            is_yes(&said);
            let [envelope] = one_line(&said.stdout).try_into().expect("one line");
            assert!(!predicate_of(&envelope).is_null(), "{envelope}");
        }
        let arguments =
            ["attestation", "--platform", "linux/amd64", spdx, issuer, &pattern, "--predicate", image.as_str()];
        let said = stage.run_both(&arguments).await;
        is_yes(&said);
        let of_amd64: Value = serde_json::from_str(&said.stdout).unwrap();
        // Somebody else of the same issuer.
        let other = pattern.replace(CATALOG_SYNCER, "0/0").replace(APKO_BUILDER, "0/1");
        let said = stage.run(&["attestation", spdx, issuer, &other, &image]).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{}", said.stderr);

        // `cosign download attestation` names nobody: who may have attested, the policies say. The built-in one knows no organization.
        let download = ["download", "attestation", "--platform=linux/amd64", spdx, &image];
        let said = stage.run(&download).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{}", said.stderr);
        let policy = example
            .replace("0123456789abcdef0123456789abcdef01234567/0123456789abcdef", CATALOG_SYNCER)
            .replace("0123456789abcdef0123456789abcdef01234567/fedcba9876543210", APKO_BUILDER);
        stage.world.write(&Setup::with_policy(&policy));
        let said = stage.run_both(&download).await;
        is_yes(&said);
        let [envelope] = one_line(&said.stdout).try_into().expect("one line");
        assert_eq!(predicate_of(&envelope), of_amd64);
    }
}

#[tokio::test]
async fn what_somebody_else_attested_is_not_printed() {
    for layout in [Layout::Legacy, Layout::Bundle] {
        let stage = Stage::new(PUBLIC, &Signer::fork(), layout, &Setup::default()).await;
        for arguments in [
            ["attestation", "--predicate-type", "https://spdx.dev/Document", IMAGE].as_slice(),
            &["attestation", IMAGE],
            &["verify", IMAGE],
            &["verify", ISSUER, IDENTITY, IMAGE],
        ] {
            let said = stage.run_both(arguments).await;
            assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{arguments:?}: {}", said.stderr);
            assert!(said.stderr.contains("evil/fork"), "{arguments:?}: {}", said.stderr);
        }
        let said = stage.run(&["attestation", "--type", "https://cyclonedx.org/bom", IMAGE]).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{}", said.stderr);
    }
}

#[tokio::test]
async fn a_trusted_root_can_be_given_and_then_counts_alone() {
    let stage = Stage::public(Layout::Legacy).await;
    let other = World::new().await;
    let own = stage.file("own.json", &stage.world.sigstore.trusted_root_json());
    let foreign = stage.file("foreign.json", &other.sigstore.trusted_root_json());
    for arguments in [["verify", IMAGE].as_slice(), &["verify", ISSUER, IDENTITY, IMAGE]] {
        let with = |root: &str| {
            arguments
                .iter()
                .map(|it| (*it).to_owned())
                .chain(["--trusted-root".to_owned(), root.to_owned()])
                .collect::<Vec<_>>()
        };
        let own = with(&own);
        is_yes(&stage.run(&own.iter().map(String::as_str).collect::<Vec<_>>()).await);
        let foreign = with(&foreign);
        let said = stage.run(&foreign.iter().map(String::as_str).collect::<Vec<_>>()).await;
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{}", said.stderr);
    }
}

/// A certificate or key of a `trusted_root.json` as PEM.
fn pem(root: &Value, pointers: &[&str], label: &str) -> String {
    let block = |pointer: &&str| {
        let base64 = root.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {root}"));
        let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    };
    pointers.iter().map(block).collect()
}

#[tokio::test]
async fn variables_of_sigstores_name_a_sigstore_of_ones_own() {
    let stage = Stage::public(Layout::Legacy).await;
    let root: Value = serde_json::from_str(&stage.world.sigstore.trusted_root_json()).unwrap();
    let chain = "/certificateAuthorities/0/certChain/certificates";
    let count = root.pointer(chain).and_then(Value::as_array).unwrap().len();
    let certificates: Vec<_> = (0..count).map(|index| format!("{chain}/{index}/rawBytes")).collect();
    let certificates: Vec<_> = certificates.iter().map(String::as_str).collect();
    let ca = stage.file("ca.pem", &pem(&root, &certificates, "CERTIFICATE"));
    let log = stage.file("rekor.pub", &pem(&root, &["/tlogs/0/publicKey/rawBytes"], "PUBLIC KEY"));
    let ct = stage.file("ct.pub", &pem(&root, &["/ctlogs/0/publicKey/rawBytes"], "PUBLIC KEY"));
    // The configuration trusts another Sigstore, which says nothing about this image.
    let other = World::new().await;
    stage.file("trusted_root.json", &other.sigstore.trusted_root_json());
    let all = [
        ("SIGSTORE_ROOT_FILE", ca.as_str()),
        ("SIGSTORE_REKOR_PUBLIC_KEY", log.as_str()),
        ("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", ct.as_str()),
    ];
    let command = ["verify", ISSUER, IDENTITY, IMAGE];
    is_yes(&stage.run_with(&command, &all).await);
    assert_eq!(stage.run(&command).await.code, Some(1));
    let without_log = stage.run_with(&command, &[all[0], all[2]]).await;
    assert_eq!(without_log.code, Some(1), "the configured log knows nothing of it: {}", without_log.stderr);
    let without_ca = stage.run_with(&command, &all[1..]).await;
    assert_eq!(without_ca.code, Some(2), "{}", without_ca.stderr);
    let by_policy = stage.run_with(&["verify", IMAGE], &all).await;
    assert_eq!(by_policy.code, Some(1), "{}", by_policy.stderr);
    assert!(by_policy.stderr.contains("note: SIGSTORE_ROOT_FILE is not looked at"), "{}", by_policy.stderr);
}

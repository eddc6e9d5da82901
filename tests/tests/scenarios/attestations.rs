//! Attestations: asked for where a policy wants them, found in either layout, kept, and asked anew when a new policy wants more.

use std::time::Duration;

use support::{
    image::{self, Image, Publisher, cosign_tag},
    pull::message,
    sigstore::{Layout, Options, Signer, predicate},
    upstream::{Call, Fault, Referrers, Registry, ends_with},
    world::{Pratique, Setup, World},
};

use crate::{chainguard_policy, get, keyless_policy, sized};

const REPOSITORY: &str = "chainguard/nginx";

/// What an authority under test has besides its name and identity.
#[derive(Default)]
pub(crate) struct Demand<'a> {
    pub(crate) annotation: &'a str,
    pub(crate) attestations: &'a [&'a str],
    pub(crate) source: &'a str,
    pub(crate) rule: &'a str,
}

/// A policy for Chainguard's identity that demands this.
pub(crate) fn demanding(signer: &Signer, demand: &Demand<'_>) -> String {
    let Demand { annotation, attestations, source, rule } = demand;
    let annotations = if annotation.is_empty() { String::new() } else { format!("  annotations:\n    {annotation}\n") };
    let list: String = attestations
        .iter()
        .enumerate()
        .map(|(number, uri)| format!("    - name: a{number}\n      predicateType: {uri}\n"))
        .collect::<Vec<_>>()
        .concat();
    let list = if list.is_empty() { list } else { format!("    attestations:\n{list}") };
    let source = if source.is_empty() { String::new() } else { format!("    source:\n    - {source}\n") };
    let rule = if rule.is_empty() {
        String::new()
    } else {
        let indented: String = rule.lines().map(|line| format!("      {line}\n")).collect::<Vec<_>>().concat();
        format!("  policy:\n    type: rego\n    fetchConfigFile: true\n    data: |\n{indented}")
    };
    let (issuer, subject) = (&signer.issuer, &signer.subject);
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1
kind: ClusterImagePolicy
metadata:
  name: demanding
{annotations}spec:
  images:
  - glob: \"cgr.dev/**\"
  authorities:
  - name: release
    keyless:
      identities:
      - issuer: {issuer}
        subject: {subject}
{source}{list}{rule}"
    )
}

fn provenance_wanted() -> Setup {
    let demand = Demand { attestations: &[predicate::PROVENANCE], ..Demand::default() };
    Setup::with_policy(&demanding(&Signer::chainguard(), &demand))
}

fn signature_wanted() -> Setup {
    Setup::with_policy(&chainguard_policy("signed", "cgr.dev/**"))
}

fn publish(world: &World, layout: Layout, image: &Image) {
    let (signer, options) = (Signer::chainguard(), Options::default());
    let publisher = Publisher { sigstore: &world.sigstore, signer: &signer, options: &options, layout };
    publisher.publish(&world.registry, REPOSITORY, "latest", image);
}

/// Pushes an `.att` with these attestations.
fn attest(world: &World, signer: &Signer, image: &Image, types: &[&str]) {
    let predicate = predicate::provenance(predicate::BUILDER);
    let attested = types
        .iter()
        .map(|uri| world.sigstore.attest_legacy(signer, &image.digest, uri, &predicate, &Options::default()))
        .collect::<Vec<_>>();
    let manifest = image::attestation_manifest(&attested);
    manifest.push(&world.registry, REPOSITORY, Some(&cosign_tag(&image.digest, "att")));
}

fn url(pratique: &Pratique, reference: impl std::fmt::Display) -> String {
    format!("{}/v2/{REPOSITORY}/manifests/{reference}", pratique.url())
}

fn asks(suffix: &'static str) -> impl Fn(&Call) -> bool + Send + Sync + 'static {
    move |call| call.is_manifest() && call.path.ends_with(suffix)
}

#[tokio::test]
async fn an_attestation_in_either_layout_admits() {
    for (layout, referrers) in [
        (Layout::Legacy, Referrers::Api),
        (Layout::Legacy, Referrers::Missing),
        (Layout::Bundle, Referrers::Api),
        (Layout::Bundle, Referrers::Paged(1)),
    ] {
        let world = World::with(Registry::builder().referrers(referrers)).await;
        let image = sized(5000, 1);
        publish(&world, layout, &image);
        let pratique = world.pratique(&provenance_wanted()).await;
        let answer = get(&url(&pratique, "latest")).await;
        assert_eq!(answer.status, 200, "{layout:?}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_bundle_under_the_referrers_tag_admits_whatever_the_list_says_of_it() {
    let world = World::with(Registry::builder().referrers(Referrers::Missing)).await;
    let image = sized(5000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let said = predicate::provenance(predicate::BUILDER);
    let bundle = world.sigstore.attest_bundle(
        &Signer::chainguard(),
        &image.digest,
        predicate::PROVENANCE,
        &said,
        &Options::default(),
    );
    let referrer = image::bundle_referrer(&image.descriptor(), &bundle);
    let index = image::referrers_tag_index_of_old(&[referrer]);
    index.push(&world.registry, REPOSITORY, Some(&image::referrers_tag(&image.digest)));
    let pratique = world.pratique(&provenance_wanted()).await;
    let answer = get(&url(&pratique, "latest")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn what_is_not_attested_is_refused_in_words_that_say_what_was_wanted() {
    let world = World::new().await;
    let image = sized(5000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let setup = provenance_wanted().sections("[verdicts]\nabsent_ttl = \"0s\"\nrefused_ttl = \"0s\"\n");
    let pratique = world.pratique(&setup).await;
    let refused = async |image: &Image| {
        let answer = get(&url(&pratique, &image.digest)).await;
        assert_eq!(answer.status, 403, "{}", answer.text());
        message(&answer)
    };
    let nothing = refused(&image).await;
    assert!(nothing.contains("no attestation of type \"https://slsa.dev/provenance/v1\""), "{nothing}");
    assert!(nothing.contains("cosign attestation tag, referrers API, referrers tag"), "{nothing}");
    attest(&world, &Signer::chainguard(), &image, &[predicate::SPDX]);
    let other_type = refused(&image).await;
    assert!(other_type.contains("is an attestation of type \"https://spdx.dev/Document\""), "{other_type}");
    attest(&world, &Signer::fork(), &image, &[predicate::SPDX, predicate::PROVENANCE]);
    let other_signer = refused(&image).await;
    assert!(other_signer.contains("identity does not match"), "{other_signer}");
    attest(&world, &Signer::chainguard(), &image, &[predicate::SPDX, predicate::PROVENANCE]);
    assert_eq!(get(&url(&pratique, &image.digest)).await.status, 200);
}

#[tokio::test]
async fn a_place_that_does_not_answer_leaves_undecided_only_those_who_want_it() {
    let world = World::new().await;
    let image = sized(5000, 1);
    publish(&world, Layout::Legacy, &image);
    world.registry.fault(asks(".att"), Fault::status(503));
    let pratique = world.pratique(&provenance_wanted()).await;
    let answer = get(&url(&pratique, "latest")).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(message(&answer).contains("cosign attestation tag"), "{}", message(&answer));
    world.registry.clear_calls();
    pratique.reload(&world, &signature_wanted()).await.unwrap();
    assert_eq!(get(&url(&pratique, "latest")).await.status, 200);
    assert_eq!(world.registry.count(asks(".att")), 0, "nobody wants attestations");
    assert_eq!(world.registry.count(asks(".sig")), 1);
}

#[tokio::test]
async fn a_policy_that_begins_to_want_attestations_has_them_collected_and_only_them() {
    let world = World::new().await;
    let image = sized(5000, 1);
    publish(&world, Layout::Legacy, &image);
    let pratique = world.pratique(&signature_wanted()).await;
    assert_eq!(get(&url(&pratique, &image.digest)).await.status, 200);
    let down = world.registry.fault(|_| true, Fault::status(503));
    pratique.reload(&world, &provenance_wanted()).await.unwrap();
    let undecided = get(&url(&pratique, &image.digest)).await;
    assert_eq!(undecided.status, 503, "never collected is not absent: {}", undecided.text());
    down.clear();
    world.registry.clear_calls();
    assert_eq!(get(&url(&pratique, &image.digest)).await.status, 200);
    assert_eq!(world.registry.count(asks(".att")), 1);
    assert_eq!(world.registry.count(Call::is_referrers), 0, "asked before, and kept");
    // Back to signatures: what was kept of them was not lost.
    world.registry.clear_calls();
    pratique.reload(&world, &signature_wanted()).await.unwrap();
    assert_eq!(get(&url(&pratique, &image.digest)).await.status, 200);
    assert_eq!(world.registry.count(|_| true), 0);
}

#[tokio::test]
async fn without_upstream_the_store_has_all_that_the_judgement_needs() {
    for layout in [Layout::Legacy, Layout::Bundle] {
        let mut world = World::new().await;
        let image = sized(5000, 1);
        publish(&world, layout, &image);
        let pratique = world.pratique(&provenance_wanted()).await;
        assert_eq!(get(&url(&pratique, &image.digest)).await.status, 200);
        pratique.stop().await;
        world.registry.stop().await;
        // Another policy that wants the same places: judged from the store.
        let both = [predicate::PROVENANCE, predicate::SPDX];
        let demand = Demand { attestations: &both, ..Demand::default() };
        let pratique = world.pratique(&Setup::with_policy(&demanding(&Signer::chainguard(), &demand))).await;
        assert_eq!(get(&url(&pratique, &image.digest)).await.status, 200, "{layout:?}");
        if layout == Layout::Legacy {
            let tag = cosign_tag(&image.digest, "att");
            assert_eq!(get(&url(&pratique, tag)).await.status, 200, "evidence is there too");
        }
        let demand = Demand { attestations: &["https://cyclonedx.org/bom"], ..Demand::default() };
        let wrong = Setup::with_policy(&demanding(&Signer::chainguard(), &demand));
        pratique.reload(&world, &wrong).await.unwrap();
        assert_eq!(get(&url(&pratique, &image.digest)).await.status, 403, "{layout:?}");
    }
}

#[tokio::test]
async fn attestations_that_no_policy_wants_are_served_on_demand() {
    let world = World::new().await;
    let image = sized(5000, 1);
    publish(&world, Layout::Legacy, &image);
    let pratique = world.pratique(&signature_wanted()).await;
    assert_eq!(get(&url(&pratique, &image.digest)).await.status, 200);
    assert_eq!(world.registry.count(asks(".att")), 0);
    let tag = cosign_tag(&image.digest, "att");
    let answer = get(&url(&pratique, &tag)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Known now: no second look at upstream.
    world.registry.clear_calls();
    let again = get(&url(&pratique, &tag)).await;
    assert_eq!((again.status.as_u16(), again.received()), (200, answer.received()));
    assert_eq!(world.registry.count(|_| true), 0);
}

#[tokio::test]
async fn where_each_platform_brings_its_own_only_those_that_do_are_served() {
    let world = World::new().await;
    let index = image::index([sized(5000, 1), image::single("linux/arm64", [support::upstream::noise(6000, 2)])]);
    index.push(&world.registry, REPOSITORY, Some("latest"));
    let [attested, bare] = &index.children[..] else { panic!("two children") };
    attest(&world, &Signer::chainguard(), &index, &[predicate::PROVENANCE]);
    attest(&world, &Signer::chainguard(), attested, &[predicate::PROVENANCE]);
    let annotation = "pratique.dev/attestations-per-platform: \"true\"";
    let demand = Demand { annotation, attestations: &[predicate::PROVENANCE], ..Demand::default() };
    let pratique = world.pratique(&Setup::with_policy(&demanding(&Signer::chainguard(), &demand))).await;
    let status = async |digest| get(&url(&pratique, digest)).await.status.as_u16();
    assert_eq!(get(&url(&pratique, "latest")).await.status, 200);
    assert_eq!((status(&attested.digest).await, status(&bare.digest).await), (200, 403));
    let blob = |image: &Image| format!("{}/v2/{REPOSITORY}/blobs/{}", pratique.url(), image.layers()[0].0);
    assert_eq!(get(&blob(attested)).await.status, 200);
    assert_eq!(get(&blob(bare)).await.status, 403);
    // Without the annotation the index speaks for all.
    pratique.reload(&world, &provenance_wanted()).await.unwrap();
    assert_eq!(status(&bare.digest).await, 200);
}

#[tokio::test]
async fn a_policy_may_name_another_repository_and_a_prefix() {
    let world = World::new().await;
    let image = sized(5000, 1);
    image.push(&world.registry, REPOSITORY, Some("latest"));
    let signature = world.sigstore.sign_legacy(&Signer::chainguard(), "cgr.dev/x", &image.digest, &Options::default());
    let tag = format!("prod-{}", cosign_tag(&image.digest, "sig"));
    image::signature_manifest(&[signature]).push(&world.registry, "chainguard/signatures", Some(&tag));
    let setup = |source: &str| {
        let demand = Demand { source, ..Demand::default() };
        Setup::with_policy(&demanding(&Signer::chainguard(), &demand))
            .sections("[verdicts]\nabsent_ttl = \"0s\"\nrefused_ttl = \"0s\"\n")
    };
    let pratique = world.pratique(&setup("oci: cgr.dev/chainguard/signatures")).await;
    let answer = get(&url(&pratique, &image.digest)).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(message(&answer).contains("cosign tag in cgr.dev/chainguard/signatures"), "{}", message(&answer));
    pratique.reload(&world, &setup("oci: cgr.dev/chainguard/signatures\n      tagPrefix: prod-")).await.unwrap();
    let answer = get(&url(&pratique, &image.digest)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The repository of signatures opens nothing else.
    assert_eq!(world.registry.count(|call| call.path.contains("chainguard/signatures") && call.is_referrers()), 0);
}

#[tokio::test]
async fn a_rule_sees_the_configs_of_all_platforms() {
    let world = World::new().await;
    let index = image::index([sized(5000, 1), image::single("linux/arm64", [support::upstream::noise(6000, 2)])]);
    world.push_signed(REPOSITORY, "latest", &index);
    let rule = |platform: &str| {
        let text = format!(
            "package sigstore\ndefault isCompliant = false\nisCompliant {{\n  input.config[\"linux/amd64\"].architecture == \"amd64\"\n  input.config[\"{platform}\"].os == \"linux\"\n}}\n"
        );
        let demand = Demand { rule: &text, ..Demand::default() };
        Setup::with_policy(&demanding(&Signer::chainguard(), &demand))
    };
    let pratique = world.pratique(&rule("linux/arm64")).await;
    let answer = get(&url(&pratique, &index.digest)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // Judged from the store, and refused there.
    world.registry.clear_calls();
    pratique.reload(&world, &rule("linux/s390x")).await.unwrap();
    let answer = get(&url(&pratique, &index.digest)).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert!(message(&answer).contains("rule of the policy"), "{}", message(&answer));
    assert_eq!(world.registry.count(|_| true), 0);
}

#[tokio::test]
async fn configs_that_cannot_be_asked_for_leave_undecided() {
    let world = World::new().await;
    let image = sized(5000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let (config, _) = image.config().unwrap();
    let fault = world.registry.fault(ends_with(&config), Fault::status(503));
    let rule = "package sigstore\ndefault isCompliant = false\nisCompliant { input.config[\"linux/amd64\"] }\n";
    let demand = Demand { rule, ..Demand::default() };
    let pratique = world.pratique(&Setup::with_policy(&demanding(&Signer::chainguard(), &demand))).await;
    let answer = get(&url(&pratique, &image.digest)).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    fault.clear();
    let answer = get(&url(&pratique, &image.digest)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_registry_that_answers_a_missing_tag_with_the_image_has_told_nothing() {
    let world = World::new().await;
    let index = image::index([sized(5000, 1)]);
    index.push(&world.registry, REPOSITORY, Some("latest"));
    for tag in ["sig", "att"].map(|suffix| cosign_tag(&index.digest, suffix)) {
        world.registry.put_tag(REPOSITORY, &tag, &index.digest);
    }
    world.registry.put_tag(REPOSITORY, &image::referrers_tag(&index.digest), &index.digest);
    let pratique = world.pratique(&provenance_wanted().sections("[verdicts]\nabsent_ttl = \"0s\"\n")).await;
    for setup in [provenance_wanted(), signature_wanted()] {
        pratique.reload(&world, &setup.sections("[verdicts]\nabsent_ttl = \"0s\"\n")).await.unwrap();
        let answer = get(&url(&pratique, &index.digest)).await;
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert!(message(&answer).contains("(looked at: "), "absent, not unreadable: {}", message(&answer));
    }
    // Nothing that stood there instead is in the way of what comes.
    publish(&world, Layout::Bundle, &index);
    let answer = get(&url(&pratique, &index.digest)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn within_the_time_budget_or_not_the_work_goes_on() {
    let world = World::new().await;
    let image = sized(5000, 1);
    publish(&world, Layout::Legacy, &image);
    let slow = world.registry.fault(asks(".att"), Fault::Hang);
    let setup =
        provenance_wanted().sections("[limits]\ndecision_timeout = \"1s\"\nupstream_response_timeout = \"30s\"\n");
    let pratique = world.pratique(&setup).await;
    let answer = get(&url(&pratique, &image.digest)).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, Some("5")), "{}", answer.text());
    slow.release();
    // A busy machine may need more than one budget for the rest.
    let decided = async {
        loop {
            let answer = get(&url(&pratique, &image.digest)).await;
            if answer.status != 503 {
                break answer;
            }
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(20), decided).await.expect("a decision");
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(world.registry.count(asks(".att")), 1, "asked once");
}

/// Two policies: `signed` is enforced, `demanding` asks for provenance in this mode.
fn signed_and_attested(mode: &str) -> Setup {
    let demand = Demand { attestations: &[predicate::PROVENANCE], ..Demand::default() };
    let attested = demanding(&Signer::chainguard(), &demand).replace("spec:\n", &format!("spec:\n  mode: {mode}\n"));
    let signed = chainguard_policy("signed", "cgr.dev/**");
    let policies = vec![("signed.yaml".to_owned(), signed), ("attested.yaml".to_owned(), attested)];
    Setup { policies, ..Setup::default() }.sections("[verdicts]\nabsent_ttl = \"1s\"\nrefused_ttl = \"1s\"\n")
}

#[tokio::test]
async fn what_could_not_be_asked_is_asked_after_the_verdict_has_ended() {
    for restarted in [false, true] {
        let world = World::new().await;
        let image = sized(5000, 1);
        image.push(&world.registry, REPOSITORY, Some("latest"));
        let down = world.registry.fault(asks(".att"), Fault::status(503));
        let pratique = world.pratique(&signed_and_attested("enforce")).await;
        let answer = get(&url(&pratique, &image.digest)).await;
        assert_eq!(answer.status, 403, "no signature, whatever is attested: {}", answer.text());
        down.clear();
        publish(&world, Layout::Legacy, &image);
        let pratique = if restarted {
            pratique.stop().await;
            world.pratique(&signed_and_attested("enforce")).await
        } else {
            pratique
        };
        let mut answer = get(&url(&pratique, &image.digest)).await;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(1100)).await;
            answer = get(&url(&pratique, &image.digest)).await;
        }
        assert_eq!(answer.status, 200, "restarted: {restarted}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_warning_of_what_could_not_be_asked_ends_when_it_can_and_an_outage_refuses_nothing() {
    let world = World::new().await;
    let image = sized(5000, 1);
    publish(&world, Layout::Legacy, &image);
    let down = world.registry.fault(asks(".att"), Fault::status(503));
    let pratique = world.pratique(&signed_and_attested("warn")).await;
    let warned = async |why: &str| {
        let answer = get(&url(&pratique, &image.digest)).await;
        assert_eq!(answer.status, 200, "{why}: {}", answer.text());
        answer.header("warning").is_some()
    };
    assert!(warned("first").await);
    let outage = world.registry.fault(|_| true, Fault::status(503));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(warned("in an outage").await, "by what is stored");
    outage.clear();
    down.clear();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(!warned("after it").await);
}

#[tokio::test]
async fn a_child_of_which_not_all_could_be_asked_is_asked_about_again() {
    let world = World::new().await;
    let index = image::index([sized(5000, 1)]);
    let child = &index.children[0];
    publish(&world, Layout::Legacy, &index);
    world.registry.delete_tag(REPOSITORY, &cosign_tag(&child.digest, "sig"));
    world.registry.delete_tag(REPOSITORY, &cosign_tag(&child.digest, "att"));
    let tag = cosign_tag(&child.digest, "att");
    let down = world.registry.fault(move |call| call.is_manifest() && call.path.ends_with(&tag), Fault::status(503));
    // Both ask each child for its own: one for what is not there, the other for what cannot be asked.
    let annotation = "pratique.dev/attestations-per-platform: \"true\"";
    let demand = Demand { annotation, attestations: &[predicate::PROVENANCE], ..Demand::default() };
    let attested = demanding(&Signer::chainguard(), &demand);
    let signed = chainguard_policy("child-signed", "cgr.dev/**")
        .replace("  - glob: \"cgr.dev/**\"", &format!("  - glob: \"cgr.dev/**@{}\"", child.digest));
    let policies = vec![("signed.yaml".to_owned(), signed), ("attested.yaml".to_owned(), attested)];
    let ttl = "[verdicts]\nabsent_ttl = \"1s\"\nrefused_ttl = \"1s\"\n";
    let pratique = world.pratique(&Setup { policies, ..Setup::default() }.sections(ttl)).await;
    assert_eq!(get(&url(&pratique, &index.digest)).await.status, 200);
    let first = get(&url(&pratique, &child.digest)).await;
    assert_eq!(first.status, 403, "{}", first.text());
    down.clear();
    publish(&world, Layout::Legacy, child);
    let mut answer = first;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        answer = get(&url(&pratique, &child.digest)).await;
    }
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[tokio::test]
async fn a_warning_that_has_ended_is_renewed_by_what_is_stored_where_upstream_is_out() {
    let world = World::new().await;
    let image = sized(5000, 1);
    publish(&world, Layout::Legacy, &image);
    let fork = Signer::fork();
    let warning =
        keyless_policy("fork", "cgr.dev/**", &fork.issuer, &fork.subject).replace("spec:\n", "spec:\n  mode: warn\n");
    let signed = chainguard_policy("signed", "cgr.dev/**");
    let policies = vec![("signed.yaml".to_owned(), signed), ("fork.yaml".to_owned(), warning)];
    let ttl = "[verdicts]\nabsent_ttl = \"1s\"\nrefused_ttl = \"1s\"\n";
    let pratique = world.pratique(&Setup { policies, ..Setup::default() }.sections(ttl)).await;
    let warned = async |why: &str| {
        let answer = get(&url(&pratique, &image.digest)).await;
        assert_eq!(answer.status, 200, "{why}: {}", answer.text());
        answer.header("warning").unwrap_or_default().to_owned()
    };
    assert!(warned("upstream is there").await.contains("identity does not match"));
    let outage = world.registry.fault(|_| true, Fault::status(503));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    warned("upstream is out").await;
    outage.clear();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(warned("upstream is back").await.contains("identity does not match"));
}

#[tokio::test]
async fn what_was_absent_is_not_called_so_again_while_its_place_does_not_answer() {
    let annotation = "pratique.dev/attestations-per-platform: \"true\"";
    let demand = Demand { annotation, attestations: &[predicate::PROVENANCE], ..Demand::default() };
    let ttl = "[verdicts]\nabsent_ttl = \"1s\"\nrefused_ttl = \"1s\"\n";
    for of_child in [false, true] {
        let world = World::new().await;
        let index = image::index([sized(5000, 1)]);
        let subject = if of_child { &index.children[0] } else { &index };
        publish(&world, Layout::Legacy, &index);
        let tag = cosign_tag(&subject.digest, "att");
        world.registry.delete_tag(REPOSITORY, &tag);
        let setup = Setup::with_policy(&demanding(&Signer::chainguard(), &demand)).sections(ttl);
        let pratique = world.pratique(&setup).await;
        if of_child {
            assert_eq!(get(&url(&pratique, &index.digest)).await.status, 200);
        }
        let absent = get(&url(&pratique, &subject.digest)).await;
        assert_eq!(absent.status, 403, "{}", absent.text());
        let down = world.registry.fault(asks(".att"), Fault::status(503));
        publish(&world, Layout::Legacy, subject);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let unasked = get(&url(&pratique, &subject.digest)).await;
        assert_eq!(unasked.status, 503, "child: {of_child}: {}", unasked.text());
        down.clear();
        let answer = get(&url(&pratique, &subject.digest)).await;
        assert_eq!(answer.status, 200, "child: {of_child}: {}", answer.text());
    }
}

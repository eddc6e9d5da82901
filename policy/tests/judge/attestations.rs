//! What is attested: types, identities, rules and conditions, in both layouts.

use std::time::Duration;

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest, UntrustedManifest};
use policy::{
    ChildOutcome, Finding, Form, Judge, NoMatch, Origin, Outcome, Reason, RegoBounds, Source, TrustRoot, Unasked,
    UntrustedConfigs, UntrustedEvidence, UntrustedPiece,
};
use serde_json::{Value, json};

use super::{
    CLOCK_TTL, NOW, SIGSTORE, admitted, bundle, evidence, good, image, index, judge_of, judged, lifetimes, refused,
    repository,
    sigstore::{LegacySignature, Options, Signer},
};

const SLSA: &str = "https://slsa.dev/provenance/v1";
const SPDX: &str = "https://spdx.dev/Document";
const BUILDER: &str = "https://github.com/chainguard-dev/terraform-provider-apko";

/// A policy for everything on cgr.dev with one keyless authority for Chainguard's identity; `attestations` are list items indented by
/// four, `rest` stands at the level of `spec`'s fields, `annotations` at that of metadata's.
fn policy(annotations: &str, attestations: &str, rest: &str) -> String {
    let signer = Signer::chainguard();
    let attestations =
        if attestations.is_empty() { String::new() } else { format!("    attestations:\n{attestations}") };
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: attested\n{annotations}spec:\n  images:\n  - \
         glob: cgr.dev/**\n{rest}  authorities:\n  - name: release\n    keyless:\n      url: https://fulcio.sigstore.dev\n      \
         identities:\n      - issuer: {:?}\n        subject: {:?}\n{attestations}",
        signer.issuer, signer.subject
    )
}

fn wants(name: &str, predicate_type: &str, rule: &str) -> String {
    let rule =
        if rule.is_empty() { String::new() } else { format!("      policy:\n        type: rego\n{}", data(10, rule)) };
    format!("    - name: {name}\n      predicateType: {predicate_type}\n{rule}")
}

/// A block of Rego under `data`, where that field is indented by two less.
fn data(indent: usize, rule: &str) -> String {
    let pad = " ".repeat(indent);
    let lines: String = rule.lines().map(|line| format!("{pad}{line}\n")).collect::<Vec<_>>().concat();
    format!("{}data: |\n{lines}", " ".repeat(indent - 2))
}

fn builder_is(builder: &str) -> String {
    format!(
        "package sigstore\ndefault isCompliant = false\nisCompliant {{\n  input.predicate.runDetails.builder.id == \"{builder}\"\n}}"
    )
}

fn judge(text: &str) -> Judge {
    judge_of(&[text.to_owned()], NoMatch::Deny)
}

fn provenance() -> Value {
    json!({ "buildDefinition": { "buildType": "https://apko.dev/slsa-build-type@v1" }, "runDetails": { "builder": { "id": BUILDER } } })
}

fn attest(signer: &Signer, digest: &Digest, predicate_type: &str, predicate: &Value) -> UntrustedPiece {
    let LegacySignature { payload, annotations, .. } =
        SIGSTORE.attest_legacy(signer, digest, predicate_type, predicate, &Options::default());
    UntrustedPiece {
        bytes: Addressed::hash(Algorithm::Sha256, payload),
        form: Form::CosignAttestation { annotations },
        origin: Origin::beside(Source::CosignAttestationTag),
    }
}

fn attest_in_bundle(signer: &Signer, digest: &Digest, predicate_type: &str, predicate: &Value) -> UntrustedPiece {
    bundle(SIGSTORE.attest_bundle(signer, digest, predicate_type, predicate, &Options::default()))
}

fn reason(judge: &Judge, manifest: &UntrustedManifest, pieces: Vec<UntrustedPiece>) -> (bool, Reason, String) {
    let (absent, refusal) = refused(judged(judge, manifest, &evidence(pieces)));
    (absent, refusal.reason, refusal.message)
}

#[test]
fn an_attested_image_is_admitted_in_either_layout_and_the_record_says_by_what() {
    let judge = judge(&policy("", &wants("provenance", SLSA, &builder_is(BUILDER)), ""));
    for attest in [attest, attest_in_bundle] {
        let image = image("attested");
        let piece = attest(&Signer::chainguard(), image.digest(), SLSA, &provenance());
        let seen = piece.digest().clone();
        let judgement = judged(&judge, &image, &evidence(vec![piece]));
        let record = judgement.record.clone().unwrap();
        let [finding] = record.findings() else { panic!("{record:?}") };
        let Finding::Verified { authority, pieces } = &finding.finding else { panic!("{finding:?}") };
        let [piece] = pieces.as_slice() else { panic!("{pieces:?}") };
        let attested = piece.attestation.as_ref().unwrap();
        assert_eq!(
            (authority.as_str(), attested.name.as_str(), attested.predicate_type.as_str()),
            ("release", "provenance", SLSA)
        );
        assert_eq!(piece.evidence, seen);
        assert!(piece.signed_at.is_some());
        assert!(admitted(judgement).is_verified());
    }
}

/// CVE-2022-35930: a signature is no attestation.
#[test]
fn a_signature_does_not_stand_in_for_an_attestation_nor_the_reverse() {
    let image = image("signed");
    let attested = judge(&policy("", &wants("provenance", SLSA, ""), ""));
    let mut signature = good(image.digest());
    let (absent, why, _) = reason(&attested, &image, vec![signature.clone()]);
    assert_eq!((absent, why), (true, Reason::AttestationMissing));
    // Nor where it lies under the tag of attestations.
    signature.origin = Origin::beside(Source::CosignAttestationTag);
    let (_, why, _) = reason(&attested, &image, vec![signature]);
    assert_eq!(why, Reason::AttestationMissing);
    let (_, why, message) = reason(
        &judge(&policy("", "", "")),
        &image,
        vec![attest_in_bundle(&Signer::chainguard(), image.digest(), SLSA, &provenance())],
    );
    assert_eq!(why, Reason::SignatureMissing);
    assert!(message.contains(SLSA), "{message}");
}

/// CVE-2022-35929: any attestation is not this attestation.
#[test]
fn an_attestation_of_another_type_is_none_and_is_told() {
    let image = image("other type");
    let judge = judge(&policy("", &wants("provenance", SLSA, ""), ""));
    for attest in [attest, attest_in_bundle] {
        let piece = attest(&Signer::chainguard(), image.digest(), SPDX, &json!({}));
        let (absent, why, message) = reason(&judge, &image, vec![piece]);
        assert_eq!((absent, why), (true, Reason::AttestationMissing));
        assert!(message.contains(SLSA) && message.contains(SPDX), "{message}");
    }
}

/// Kyverno #4668: each attestation must be by the authority's identity.
#[test]
fn an_attestation_by_somebody_else_or_about_another_image_does_not_count() {
    let (image, other) = (image("whose"), image("another"));
    let judge = judge(&policy("", &wants("provenance", SLSA, ""), ""));
    for attest in [attest, attest_in_bundle] {
        let by_a_fork = attest(&Signer::fork(), image.digest(), SLSA, &provenance());
        let (absent, why, message) = reason(&judge, &image, vec![by_a_fork]);
        assert_eq!((absent, why), (false, Reason::IdentityMismatch), "{message}");
        let of_another = attest(&Signer::chainguard(), other.digest(), SLSA, &provenance());
        let (absent, why, message) = reason(&judge, &image, vec![of_another]);
        assert_eq!((absent, why), (false, Reason::DigestMismatch), "{message}");
    }
}

#[test]
fn every_listed_attestation_must_be_there() {
    let image = image("two");
    let judge = judge(&policy("", &format!("{}{}", wants("provenance", SLSA, ""), wants("sbom", SPDX, "")), ""));
    let slsa = attest(&Signer::chainguard(), image.digest(), SLSA, &provenance());
    let spdx = attest_in_bundle(&Signer::chainguard(), image.digest(), SPDX, &json!({ "SPDXID": "SPDXRef-DOCUMENT" }));
    for one in [slsa.clone(), spdx.clone()] {
        let (absent, why, _) = reason(&judge, &image, vec![one]);
        assert_eq!((absent, why), (true, Reason::AttestationMissing));
    }
    let judgement = judged(&judge, &image, &evidence(vec![slsa, spdx]));
    let record = judgement.record.clone().unwrap();
    let Finding::Verified { pieces, .. } = &record.findings()[0].finding else { panic!("{record:?}") };
    assert_eq!(pieces.len(), 2);
    admitted(judgement);
}

#[test]
fn a_rule_refuses_what_is_attested_otherwise_and_a_good_one_beside_it_suffices() {
    let image = image("ruled");
    let judge = judge(&policy("", &wants("provenance", SLSA, &builder_is("https://example.com/another")), ""));
    let piece = attest(&Signer::chainguard(), image.digest(), SLSA, &provenance());
    let (absent, why, message) = reason(&judge, &image, vec![piece.clone()]);
    assert_eq!((absent, why), (false, Reason::RuleUnmet));
    assert!(message.contains("attestation \"provenance\""), "{message}");
    let other = json!({ "runDetails": { "builder": { "id": "https://example.com/another" } } });
    let better = attest_in_bundle(&Signer::chainguard(), image.digest(), SLSA, &other);
    admitted(judged(&judge, &image, &evidence(vec![piece, better])));
}

#[test]
fn a_verdict_whose_rule_read_the_time_ends_with_it() {
    let image = image("timed");
    let rule = "package sigstore\nisCompliant {\n  time.now_ns() > 0\n}";
    let pieces = || vec![attest(&Signer::chainguard(), image.digest(), SLSA, &provenance())];
    let timed = judge(&policy("", &wants("provenance", SLSA, rule), ""));
    let record = judged(&timed, &image, &evidence(pieces())).record.unwrap();
    assert_eq!(record.ends_at(), Some(NOW.plus(CLOCK_TTL)));
    let untimed = judge(&policy("", &wants("provenance", SLSA, &builder_is(BUILDER)), ""));
    assert_eq!(judged(&untimed, &image, &evidence(pieces())).record.unwrap().ends_at(), None);
    // The time is that of the judgement, whatever the system's clock says.
    let before_2027 = format!("package sigstore\nisCompliant {{\n  time.now_ns() == {}000000\n}}", NOW.as_millis());
    let exact = judge(&policy("", &wants("provenance", SLSA, &before_2027), ""));
    admitted(judged(&exact, &image, &evidence(pieces())));
}

#[test]
fn a_rule_that_comes_to_no_end_leaves_the_image_undecided() {
    let image = image("endless");
    let rule = "package sigstore\nisCompliant {\n  count({[a, b, c, d] | a := numbers.range(1, 300)[_]; b := numbers.range(1, 300)[_]; c := numbers.range(1, 300)[_]; d := numbers.range(1, 300)[_]}) > 0\n}";
    let upstreams = ["cgr.dev".parse().unwrap()];
    let context = policy::LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: true };
    let text = policy("", &wants("provenance", SLSA, rule), "");
    let set = policy::PolicySet::load(&[policy::SourceText { name: "endless.yaml".to_owned(), text }], &context);
    let root = TrustRoot::parse(SIGSTORE.trusted_root_json().as_bytes()).unwrap();
    let bounds = RegoBounds { timeout: Duration::from_millis(100), ..RegoBounds::default() };
    let judge = Judge::new(set.unwrap_or_else(|errors| panic!("{errors}")).set, &root, lifetimes(), bounds).unwrap();
    let piece = attest(&Signer::chainguard(), image.digest(), SLSA, &provenance());
    let judgement = judged(&judge, &image, &evidence(vec![piece]));
    assert!(judgement.record.is_none() && judgement.in_memory.is_none());
    let Outcome::Undecided(undecided) = judgement.outcome else { panic!("{:?}", judgement.outcome) };
    assert!(undecided.to_string().contains("provenance"), "{undecided}");
}

#[test]
fn only_what_a_policy_reads_is_collected() {
    let image = image("wanted");
    let wanted = |text: &str| judge(text).wanted(&repository(), image.digest()).origins;
    let sources = |text: &str| wanted(text).into_iter().map(|origin| origin.source).collect::<Vec<_>>();
    let (api, tag) = (Source::ReferrersApi, Source::ReferrersTag);
    assert_eq!(sources(&policy("", "", "")), [Source::CosignTag, api, tag]);
    assert_eq!(sources(&policy("", &wants("p", SLSA, ""), "")), [Source::CosignAttestationTag, api, tag]);
}

#[test]
fn a_place_that_the_authority_does_not_look_at_leaves_nothing_open() {
    let image = image("open");
    let judge = judge(&policy("", &wants("provenance", SLSA, ""), ""));
    let unasked = |source| UntrustedEvidence {
        unasked: vec![Unasked { origin: Origin::beside(source), why: "timed out".to_owned() }],
        ..evidence(Vec::new())
    };
    let (absent, refusal) = refused(judged(&judge, &image, &unasked(Source::CosignTag)));
    assert_eq!((absent, refusal.reason), (true, Reason::AttestationMissing));
    let judgement = judged(&judge, &image, &unasked(Source::CosignAttestationTag));
    assert!(matches!(judgement.outcome, Outcome::Undecided(_)), "{:?}", judgement.outcome);
}

#[test]
fn the_policys_own_rule_sees_what_all_authorities_found() {
    let image = image("overall");
    let rule =
        "package sigstore\nisCompliant {\n  count(input.authorityMatches.release.attestations.provenance) >= 2\n}";
    let rest = format!("  policy:\n    type: rego\n{}", data(6, rule));
    let judge = judge(&policy("", &wants("provenance", SLSA, ""), &rest));
    let legacy = attest(&Signer::chainguard(), image.digest(), SLSA, &provenance());
    let bundle = attest_in_bundle(&Signer::chainguard(), image.digest(), SLSA, &provenance());
    let (absent, why, message) = reason(&judge, &image, vec![legacy.clone()]);
    assert_eq!((absent, why), (false, Reason::RuleUnmet), "{message}");
    admitted(judged(&judge, &image, &evidence(vec![legacy, bundle])));
}

#[test]
fn a_rule_on_the_images_config_waits_for_the_config() {
    let image = image("configured");
    let rule = "package sigstore\nisCompliant {\n  input.config[\"linux/amd64\"].config.User == \"65532\"\n}";
    let rest = format!("  policy:\n    type: rego\n    fetchConfigFile: true\n{}", data(6, rule));
    let judge = judge(&policy("", "", &rest));
    assert!(judge.wanted(&repository(), image.digest()).configs);
    let with = |configs| UntrustedEvidence { configs, ..evidence(vec![good(image.digest())]) };
    let config = |user: &str| {
        let text = json!({ "os": "linux", "architecture": "amd64", "config": { "User": user } }).to_string();
        UntrustedConfigs::Asked(vec![Addressed::hash(Algorithm::Sha256, Bytes::from(text))])
    };
    let unasked = judged(&judge, &image, &with(UntrustedConfigs::Unasked));
    assert!(matches!(unasked.outcome, Outcome::Undecided(_)), "{:?}", unasked.outcome);
    let (_, refusal) = refused(judged(&judge, &image, &with(config("0"))));
    assert_eq!(refusal.reason, Reason::RuleUnmet);
    let (_, refusal) = refused(judged(&judge, &image, &with(UntrustedConfigs::Flawed("no JSON".to_owned()))));
    assert_eq!(refusal.reason, Reason::EvidenceUnreadable);
    admitted(judged(&judge, &image, &with(config("65532"))));
}

#[test]
fn conditions_are_asked_of_the_very_piece_that_satisfies() {
    let image = image("conditions");
    let annotations =
        "  annotations:\n    pratique.dev/workflow-trigger: schedule\n    pratique.dev/annotations: team=release\n";
    let judge = judge(&policy(annotations, "", ""));
    let sign = |signer: Signer, team: &str| {
        let options = Options { annotations: [("team".to_owned(), team.to_owned())].into(), ..Options::default() };
        let signature = SIGSTORE.sign_legacy(&signer, "cgr.dev/chainguard/nginx", image.digest(), &options);
        super::legacy(signature)
    };
    let scheduled = || Signer::chainguard().trigger("schedule");
    let pushed = || Signer::chainguard().trigger("push");
    // Half of it on one piece, the other half on another: neither piece is good.
    let (_, why, message) = reason(&judge, &image, vec![sign(scheduled(), "other"), sign(pushed(), "release")]);
    assert_eq!(why, Reason::ConditionUnmet);
    assert!(message.contains("wanted"), "{message}");
    admitted(judged(&judge, &image, &evidence(vec![sign(pushed(), "other"), sign(scheduled(), "release")])));
}

#[test]
fn an_index_opens_only_to_children_with_attestations_of_their_own_where_the_policy_says_so() {
    let annotations = "  annotations:\n    pratique.dev/attestations-per-platform: \"true\"\n";
    let judge = judge(&policy(annotations, &wants("sbom", SPDX, ""), ""));
    let (attested, bare) = (image("attested child"), image("bare child"));
    let index = index(&[&attested, &bare]);
    let sbom = |digest: &Digest| attest(&Signer::chainguard(), digest, SPDX, &json!({}));
    let index = admitted(judged(&judge, &index, &evidence(vec![sbom(index.digest())])));
    let ChildOutcome::NeedsEvidence(wanted) = judge.admit_child(&index, bare.clone(), None, NOW).outcome else {
        panic!("the child's own attestations were not asked for")
    };
    assert!(wanted.origins.contains(&Origin::beside(Source::CosignAttestationTag)));
    let judged = |child: &UntrustedManifest, pieces| {
        judge.admit_child(&index, child.clone(), Some(&evidence(pieces)), NOW).outcome
    };
    assert!(matches!(judged(&bare, Vec::new()), ChildOutcome::Absent(_)));
    // The index's attestation is not the child's.
    assert!(matches!(judged(&bare, vec![sbom(index.digest())]), ChildOutcome::Refused(_)));
    assert!(matches!(judged(&attested, vec![sbom(attested.digest())]), ChildOutcome::Admitted(_)));
}

/// A glob may name the index's digest alone: its children are asked for their own all the same.
#[test]
fn a_glob_with_the_indexs_digest_asks_each_child_too() {
    let (attested, bare) = (image("attested child"), image("bare child"));
    let index = index(&[&attested, &bare]);
    let annotations = "  annotations:\n    pratique.dev/attestations-per-platform: \"true\"\n";
    let text = policy(annotations, &wants("sbom", SPDX, ""), "")
        .replace("glob: cgr.dev/**", &format!("glob: cgr.dev/chainguard/nginx@{}", index.digest()));
    let judge = judge(&text);
    let sbom = |digest: &Digest| attest(&Signer::chainguard(), digest, SPDX, &json!({}));
    let index = admitted(judged(&judge, &index, &evidence(vec![sbom(index.digest())])));
    let unasked = judge.admit_child(&index, bare.clone(), None, NOW).outcome;
    assert!(matches!(unasked, ChildOutcome::NeedsEvidence(_)), "{unasked:?}");
    let none = judge.admit_child(&index, bare, Some(&evidence(Vec::new())), NOW).outcome;
    assert!(matches!(none, ChildOutcome::Absent(_)), "{none:?}");
    let own = evidence(vec![sbom(attested.digest())]);
    assert!(matches!(judge.admit_child(&index, attested, Some(&own), NOW).outcome, ChildOutcome::Admitted(_)));
}

/// A rule can ask that something is not there; a place that did not answer is not an empty one.
#[test]
fn a_rule_that_asks_for_an_absence_is_not_satisfied_by_silence() {
    let image = image("revoked");
    let rule = "package sigstore\nisCompliant {\n  not input.authorityMatches.revoked\n}";
    let fork = Signer::fork();
    let revoked = format!(
        "  - name: revoked\n    keyless:\n      url: https://fulcio.sigstore.dev\n      identities:\n      - issuer: {:?}\n        subject: {:?}\n    attestations:\n    - name: notice\n      predicateType: {SPDX}\n",
        fork.issuer, fork.subject
    );
    let text = format!("{}{revoked}", policy("", "", &format!("  policy:\n    type: rego\n{}", data(6, rule))));
    let judge = judge(&text);
    let heard = evidence(vec![good(image.digest())]);
    admitted(judged(&judge, &image, &heard));
    let why = "timed out".to_owned();
    let unasked = vec![Unasked { origin: Origin::beside(Source::CosignAttestationTag), why }];
    let silent = judged(&judge, &image, &UntrustedEvidence { unasked, ..heard });
    assert!(matches!(silent.outcome, Outcome::Undecided(_)), "{:?}", silent.outcome);
    let notice = attest(&fork, image.digest(), SPDX, &json!({}));
    let (_, why, _) = reason(&judge, &image, vec![good(image.digest()), notice]);
    assert_eq!(why, Reason::RuleUnmet);
}

/// The same where what revokes and what is asked for are of one authority, which is satisfied by what was heard.
#[test]
fn a_satisfied_authority_does_not_speak_for_the_places_that_did_not_answer() {
    let image = image("revoked by its own");
    let (chainguard, fork) = (Signer::chainguard(), Signer::fork());
    let rule = format!(
        "package sigstore\nrevoked {{ input.authorityMatches.release.signatures[_].subject == {:?} }}\nisCompliant {{\n  not revoked\n}}",
        fork.subject
    );
    let second = format!("      - issuer: {:?}\n        subject: {:?}\n", fork.issuer, fork.subject);
    let text = policy("", "", &format!("  policy:\n    type: rego\n{}", data(6, &rule))) + &second;
    let judge = judge(&text);
    let heard = evidence(vec![super::bundle(SIGSTORE.sign_bundle(&chainguard, image.digest(), &Options::default()))]);
    admitted(judged(&judge, &image, &heard));
    let unasked = vec![Unasked { origin: Origin::beside(Source::CosignTag), why: "timed out".to_owned() }];
    let silent = judged(&judge, &image, &UntrustedEvidence { unasked, ..heard });
    assert!(matches!(silent.outcome, Outcome::Undecided(_)), "{:?}", silent.outcome);
}

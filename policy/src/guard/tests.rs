use oci::Digest;
use proptest::prelude::*;

use super::*;
use crate::{
    policy_set::{LoadContext, NoMatch, PolicySet, SourceText},
    record::Finding,
};

const DAY: u64 = 86_400_000;
const NOW: UnixTime = UnixTime::from_millis(1000 * DAY);

fn days_ago(days: u64) -> UnixTime {
    UnixTime::from_millis(NOW.as_millis() - days * DAY)
}

fn digest(name: &str) -> Digest {
    Digest::sha256(name.as_bytes())
}

fn repository() -> Repository {
    "cgr.dev/chainguard/nginx".parse().unwrap()
}

/// A policy with these annotations, each without its prefix.
fn policy(name: &str, mode: &str, annotations: &[&str]) -> String {
    let lines: String =
        annotations.iter().map(|line| format!("    pratique.dev/{line}\n")).collect::<Vec<_>>().concat();
    format!(
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: {name}\n  annotations:\n    x: y\n{lines}spec:\n  \
         mode: {mode}\n  images: [{{glob: cgr.dev/**}}]\n  authorities:\n  - keyless: {{identities: [{{issuer: i, subject: s}}]}}\n"
    )
}

fn set(policies: &[String]) -> PolicySet {
    let upstreams = ["cgr.dev".parse().unwrap()];
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: false };
    let source = |(n, text): (usize, &String)| SourceText { name: format!("{n}.yaml"), text: text.clone() };
    let sources: Vec<_> = policies.iter().enumerate().map(source).collect();
    PolicySet::load(&sources, &context).unwrap_or_else(|errors| panic!("{errors}")).set
}

/// What a policy found in one piece that names the image so.
fn found(policy: &str, names: &[&str]) -> PolicyFinding {
    found_at(policy, names, None)
}

/// The same, signed then.
fn found_at(policy: &str, names: &[&str], signed_at: Option<UnixTime>) -> PolicyFinding {
    let piece = serde_json::json!({
        "attestation": null,
        "signer": { "key": { "fingerprint": "f" } },
        "signed_at": signed_at,
        "names": names,
        "evidence": digest("piece").to_string(),
        "origin": crate::evidence::Origin::beside(crate::evidence::Source::CosignTag),
    });
    let finding = Finding::Verified { authority: "a".to_owned(), pieces: vec![serde_json::from_value(piece).unwrap()] };
    PolicyFinding { policy: Some(policy.to_owned()), mode: Mode::Enforce, finding, authorities: Vec::new() }
}

fn guards(policies: &[String], findings: &[PolicyFinding]) -> TagGuards {
    let set = set(policies);
    let all: Vec<_> = set.policies().iter().collect();
    TagGuards::of(&all, &repository(), &findings.iter())
}

/// The same guards, each policy having found an image that was signed then.
fn signed(guards: &TagGuards, signed_at: Option<UnixTime>) -> TagGuards {
    let signed = |guarding: &Guarding| Guarding { signed_at, ..guarding.clone() };
    TagGuards { guarding: guards.guarding.iter().map(signed).collect(), last_good: guards.last_good }
}

/// The tag leads to `image`, signed then; the newest it has led to was signed then.
fn look(guards: &TagGuards, signed_at: Option<UnixTime>, newest: Option<(&Digest, UnixTime)>) -> Guarded {
    let (repository, tag, image) = (repository(), "latest".parse().unwrap(), digest("image"));
    let led = Led { repository: &repository, tag: &tag, image: Dated { digest: &image, signed_at }, newest };
    signed(guards, signed_at).look(&led, NOW, None)
}

/// `deny`, `warn` or `pass`, with each guard that met something.
fn told_of(guarded: &Guarded) -> String {
    let outcome = match (&guarded.refusal, guarded.warnings.as_slice()) {
        (Some(_), _) => "deny",
        (None, []) => "pass",
        (None, _) => "warn",
    };
    let met: Vec<_> = guarded.met.iter().map(|(guard, level)| format!("{} {level:?}", guard.reason())).collect();
    if met.is_empty() { outcome.to_owned() } else { format!("{outcome}: {}", met.join(", ")) }
}

#[test]
fn a_tag_that_leads_back_is_met_in_each_mode() {
    let (newer, older, image) = (days_ago(1), days_ago(9), digest("image"));
    let other = digest("other");
    for (mode, level) in [("enforce", "allow"), ("enforce", "warn"), ("enforce", "deny"), ("warn", "deny")] {
        let guards = guards(&[policy("own", mode, &[&format!("rollback: {level}")])], &[]);
        let look = |signed_at, newest| told_of(&look(&guards, signed_at, newest));
        let met = match (mode, level) {
            (_, "allow") => "pass: rolled-back Pass",
            ("enforce", "deny") => "deny: rolled-back Deny",
            _ => "warn: rolled-back Warn",
        };
        assert_eq!(look(Some(older), Some((&other, newer))), met, "{mode} {level}");
        assert_eq!(look(Some(newer), Some((&other, older))), "pass", "it leads on");
        assert_eq!(look(Some(newer), Some((&other, newer))), "pass", "as new");
        assert_eq!(look(Some(older), Some((&image, newer))), "pass", "it is the newest");
        assert_eq!(look(Some(older), None), "pass", "the first use");
        let undated = if level == "allow" { "pass" } else { met };
        assert_eq!(look(None, Some((&other, newer))), undated, "{mode} {level}: nobody knows when it was signed");
        assert_eq!(look(None, None), undated, "nor that it is the first");
        assert_eq!(look(None, Some((&image, newer))), "pass", "it is the newest");
    }
}

#[test]
fn ages_are_met_and_what_has_none_fails() {
    let frozen = guards(&[policy("own", "enforce", &["max-age: 30d"])], &[]);
    let fresh = guards(&[policy("own", "enforce", &["min-age: 24h"])], &[]);
    let future = Some(NOW.plus(Duration::from_secs(1)));
    for (signed_at, by_frozen, by_fresh) in [
        (Some(days_ago(31)), "deny: frozen Deny", "pass"),
        (Some(days_ago(30)), "pass", "pass"),
        (Some(days_ago(1)), "pass", "pass"),
        (Some(days_ago(0)), "pass", "deny: too-fresh Deny"),
        (future, "pass", "deny: too-fresh Deny"),
        (None, "deny: frozen Deny", "deny: too-fresh Deny"),
    ] {
        assert_eq!(told_of(&look(&frozen, signed_at, None)), by_frozen, "{signed_at:?}");
        assert_eq!(told_of(&look(&fresh, signed_at, None)), by_fresh, "{signed_at:?}");
    }
    let warns = guards(&[policy("own", "warn", &["max-age: 30d"])], &[]);
    assert_eq!(told_of(&look(&warns, Some(days_ago(31)), None)), "warn: frozen Warn");
}

#[test]
fn an_image_of_another_name_is_met_by_default() {
    let named = |annotations: &[&str], names: &[&str]| {
        told_of(&look(&guards(&[policy("own", "enforce", annotations)], &[found("own", names)]), None, None))
    };
    let (own, redis) = ("ghcr.io/other/nginx:1@sha256:00", "cgr.dev/chainguard/redis");
    assert_eq!(named(&[], &[redis]), "warn: renamed Warn");
    assert_eq!(named(&["bind-name: off"], &[redis]), "pass");
    assert_eq!(named(&["bind-name: deny"], &[redis]), "deny: renamed Deny");
    for names in [&[own][..], &[], &[redis, own], &["nginx"], &["pkg:oci/nginx?repository_url=x/redis"]] {
        assert_eq!(named(&["bind-name: deny"], names), "pass", "{names:?}");
    }
    for names in [&["cgr.dev/nginx/redis"][..], &["nginx/"], &["cgr.dev/chainguard/nginx-dev"], &["NGINX"]] {
        assert_eq!(named(&["bind-name: deny"], names), "deny: renamed Deny", "{names:?}");
    }
    // By digest: its own, or that of the index whose evidence let it in.
    for by_digest in [digest("image"), digest("index")] {
        for name in [by_digest.to_string(), by_digest.hex().to_owned()] {
            assert_eq!(named(&["bind-name: deny"], &[&name]), "pass", "{name}");
            assert_eq!(named(&["bind-name: deny"], &[&name, redis]), "deny: renamed Deny", "{name}");
        }
    }
    let aliases = "bind-name-aliases: nginx=redis,nginx=envoy,web=caddy";
    assert_eq!(named(&["bind-name: deny", aliases], &[redis]), "pass");
    assert_eq!(named(&["bind-name: deny", aliases], &["x/caddy"]), "deny: renamed Deny");
    // What another policy found says nothing.
    let guards = guards(&[policy("own", "enforce", &["bind-name: deny"])], &[found("other", &[redis])]);
    assert_eq!(told_of(&look(&guards, None, None)), "pass");
}

#[test]
fn the_strictest_of_several_policies_holds() {
    let policies = [
        policy("warns", "enforce", &["rollback: warn"]),
        policy("denies", "enforce", &["rollback: deny"]),
        policy("soft", "warn", &["rollback: deny", "max-age: 1d"]),
    ];
    let other = digest("other");
    let guarded = look(&guards(&policies, &[]), Some(days_ago(9)), Some((&other, days_ago(1))));
    assert_eq!(told_of(&guarded), "deny: rolled-back Deny, frozen Warn");
    assert_eq!(guarded.refusal.unwrap().policy, "denies");
    assert_eq!(guarded.warnings.len(), 3);
}

#[test]
fn a_time_that_another_policy_knows_passes_no_guard() {
    let (repository, tag, image, other) = (repository(), "latest".parse().unwrap(), digest("image"), digest("other"));
    let newest = Some((&other, days_ago(5)));
    let look = |annotation: &str, mode: &str, own, others| {
        let policies = [policy("own", "enforce", &[annotation]), policy("other", mode, &[])];
        let mut findings = [found_at("own", &[], own), found_at("other", &[], others)];
        findings[1].mode = if mode == "warn" { Mode::Warn } else { Mode::Enforce };
        let image = Dated { digest: &image, signed_at: crate::signed_at(findings.iter()) };
        let led = Led { repository: &repository, tag: &tag, image, newest };
        told_of(&guards(&policies, &findings).look(&led, NOW, None))
    };
    let (now, yesterday, long_ago) = (Some(NOW), Some(days_ago(1)), Some(days_ago(40)));
    for mode in ["enforce", "warn"] {
        // Signed long ago for the other: no day in this one's log.
        assert_eq!(look("min-age: 24h", mode, now, long_ago), met_with_rollback(mode, "too-fresh"), "{mode}");
        assert_eq!(look("min-age: 24h", mode, yesterday, now), "pass", "{mode}");
        // Signed just now for the other, and at no known time for this one.
        for (annotation, reason) in [("max-age: 30d", "frozen"), ("rollback: deny", "rolled-back")] {
            assert_eq!(look(annotation, mode, None, now), format!("deny: {reason} Deny"), "{mode}");
            assert_eq!(look(annotation, mode, yesterday, now), "pass", "{mode}");
        }
    }
    // Who is let in by both is as old as the older says.
    assert_eq!(look("max-age: 30d", "enforce", yesterday, long_ago), "deny: frozen Deny, rolled-back Pass");
    assert_eq!(look("rollback: deny", "enforce", yesterday, long_ago), "deny: rolled-back Deny");
    // What only warns lets nothing in.
    assert_eq!(look("max-age: 30d", "warn", yesterday, long_ago), "pass");
    assert_eq!(look("rollback: deny", "warn", yesterday, long_ago), "pass");
}

/// Denied by this guard, and told to metrics as a rollback where the other policy's time counts.
fn met_with_rollback(mode: &str, reason: &str) -> String {
    let rollback = if mode == "enforce" { ", rolled-back Pass" } else { "" };
    format!("deny: {reason} Deny{rollback}")
}

#[test]
fn where_policies_only_warn_their_times_count() {
    let mut found = found_at("own", &[], Some(days_ago(40)));
    found.mode = Mode::Warn;
    assert_eq!(crate::signed_at([&found].into_iter()), Some(days_ago(40)));
    let guards = guards(&[policy("own", "warn", &["max-age: 30d"])], &[found]);
    let (repository, tag, image) = (repository(), "latest".parse().unwrap(), digest("image"));
    let image = Dated { digest: &image, signed_at: None };
    let led = Led { repository: &repository, tag: &tag, image, newest: None };
    assert_eq!(told_of(&guards.look(&led, NOW, None)), "warn: frozen Warn");
}

#[test]
fn the_last_good_one_is_kept_only_where_every_policy_says_so() {
    let (keeps, not) = (policy("a", "enforce", &["on-refusal: last-good"]), policy("b", "enforce", &[]));
    assert!(guards(std::slice::from_ref(&keeps), &[]).keep_last_good());
    assert!(!guards(std::slice::from_ref(&not), &[]).keep_last_good());
    assert!(!guards(&[keeps, not], &[]).keep_last_good());
    assert!(!TagGuards::of(&[], &repository(), &std::iter::empty()).keep_last_good());
}

#[test]
fn the_last_good_one_is_older_by_nature() {
    let guards = guards(&[policy("own", "enforce", &["rollback: deny", "max-age: 30d"])], &[]);
    let (repository, tag, image, other) = (repository(), "latest".parse().unwrap(), digest("image"), digest("other"));
    let look = |days| {
        let signed_at = Some(days_ago(days));
        let image = Dated { digest: &image, signed_at };
        let led = Led { repository: &repository, tag: &tag, image, newest: Some((&other, days_ago(1))) };
        told_of(&signed(&guards, signed_at).look(&led, NOW, Some(Guard::Rollback)))
    };
    assert_eq!(look(9), "pass");
    assert_eq!(look(31), "deny: frozen Deny");
}

#[test]
fn a_refusal_tells_both_images_and_their_times() {
    let annotations = ["rollback: deny", "max-age: 36h", "min-age: 90m", "bind-name: deny"];
    let one = |annotation: &str, signed_at| {
        let guards = guards(&[policy("own", "enforce", &[annotation])], &[found("own", &["x/redis\"\n"])]);
        let guarded = look(&guards, signed_at, Some((&digest("other"), days_ago(1))));
        let refusal = guarded.refusal.unwrap();
        assert_eq!((refusal.signed_at, refusal.newest), (signed_at, Some((digest("other"), days_ago(1)))));
        format!("{}\nhint: {}\n", refusal.message, refusal.hint)
    };
    let old = Some(days_ago(9));
    let told = [
        one(annotations[0], old),
        one(annotations[1], old),
        one(annotations[2], Some(NOW)),
        one(annotations[3], old),
        one(annotations[0], None),
    ];
    insta::assert_snapshot!(told.concat().replace(digest("image").hex(), "1111").replace(digest("other").hex(), "0000"), @r#"
    refused by policy own: tag cgr.dev/chainguard/nginx:latest leads back to sha256:1111, signed 1972-09-18T00:00:00Z; it has led to sha256:0000, signed 1972-09-26T00:00:00Z (pratique.dev/rollback)
    hint: pull by digest to take it anyway; if it is meant, pratique cache forget-newest cgr.dev/chainguard/nginx:latest
    refused by policy own: tag cgr.dev/chainguard/nginx:latest leads to sha256:1111, signed 1972-09-18T00:00:00Z, more than 36h ago (pratique.dev/max-age); the newest it has led to is sha256:0000, signed 1972-09-26T00:00:00Z
    hint: pull by digest to take it anyway
    refused by policy own: tag cgr.dev/chainguard/nginx:latest leads to sha256:1111, signed 1972-09-27T00:00:00Z, less than 90m ago (pratique.dev/min-age); the newest it has led to is sha256:0000, signed 1972-09-26T00:00:00Z
    hint: pull by digest to take it anyway
    refused by policy own: tag cgr.dev/chainguard/nginx:latest leads to sha256:1111, which was signed as "x/redis\"\u{a}" (pratique.dev/bind-name)
    hint: pull by digest to take it anyway
    refused by policy own: tag cgr.dev/chainguard/nginx:latest leads to sha256:1111, of which no signed time is known (pratique.dev/rollback); the newest it has led to is sha256:0000, signed 1972-09-26T00:00:00Z
    hint: pull by digest to take it anyway; if it is meant, pratique cache forget-newest cgr.dev/chainguard/nginx:latest
    "#);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is served raises the floor, and the floor itself is always let through.
    #[test]
    fn the_newest_itself_is_never_a_rollback(times in prop::collection::vec(prop::option::of(0_u64..20), 1..30)) {
        let guards = guards(&[policy("own", "enforce", &["rollback: deny"])], &[]);
        let (repository, tag) = (repository(), "latest".parse().unwrap());
        let mut newest: Option<(Digest, UnixTime)> = None;
        for (n, days) in times.into_iter().enumerate() {
            let (image, signed_at) = (digest(&n.to_string()), days.map(days_ago));
            let floor = newest.clone();
            let newest_told = floor.as_ref().map(|(digest, at)| (digest, *at));
            let image_told = Dated { digest: &image, signed_at };
            let led = Led { repository: &repository, tag: &tag, image: image_told, newest: newest_told };
            let served = signed(&guards, signed_at).look(&led, NOW, None).refusal.is_none();
            prop_assert_eq!(served, signed_at.is_some_and(|at| newest_told.is_none_or(|(_, then)| at >= then)));
            if served && newest_told.is_none_or(|(_, then)| signed_at > Some(then)) {
                newest = signed_at.map(|at| (image.clone(), at));
            }
            if let Some((floor, then)) = &newest {
                let image = Dated { digest: floor, signed_at: Some(*then) };
                let led = Led { image, newest: Some((floor, *then)), ..led };
                prop_assert_eq!(signed(&guards, Some(*then)).look(&led, NOW, None), Guarded::default());
            }
        }
    }
}

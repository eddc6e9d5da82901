//! Guards of tags: what can be written, and what is refused.

use std::time::Duration;

use super::*;
use crate::guard::{Guards, Level};

fn guards(annotations: &[&str]) -> Guards {
    let loaded = load(&annotated(&with_identity("issuer: i\nsubject: s"), annotations));
    loaded.unwrap_or_else(|errors| panic!("{errors}")).set.policies()[0].guards().clone()
}

#[test]
fn guards_are_read_and_have_their_defaults() {
    assert_eq!(guards(&[]), Guards::default());
    let defaults = ["rollback: allow", "bind-name: warn", "on-refusal: deny"].map(|it| format!("pratique.dev/{it}"));
    let defaults: Vec<_> = defaults.iter().map(String::as_str).collect();
    assert_eq!(guards(&defaults), Guards::default());
    let Guards { rollback, max_age, min_age, bind_name, aliases, last_good } = guards(&[
        "pratique.dev/rollback: deny",
        "pratique.dev/max-age: 30d",
        "pratique.dev/min-age: 1h30m",
        "pratique.dev/bind-name: deny",
        "pratique.dev/bind-name-aliases: web=nginx,web=httpd",
        "pratique.dev/on-refusal: last-good",
    ]);
    assert_eq!((rollback, bind_name, last_good), (Level::Deny, Level::Deny, true));
    assert_eq!((max_age, min_age), (Some(Duration::from_secs(30 * 86_400)), Some(Duration::from_secs(5400))));
    let aliases: Vec<_> = aliases.iter().map(|(own, signed)| (own.as_str(), signed.as_str())).collect();
    assert_eq!(aliases, [("web", "httpd"), ("web", "nginx")]);
}

#[test]
fn what_cannot_be_meant_of_a_guard_is_refused() {
    let keyless = with_identity("issuer: i\nsubject: s");
    let said = [
        "rollback: 'true'",
        "rollback: true",
        "rollback: off",
        "bind-name: allow",
        "on-refusal: warn",
        "max-age: 30",
        "max-age: '0s'",
        "min-age: 1 day",
        "bind-name-aliases: web",
        "bind-name-aliases: web=cgr.dev/nginx",
        "bind-name-aliases: web=web",
        "bind-name-aliases: web=a,web=a",
        "bind-name-aliases: web=a, b=c",
    ]
    .map(|annotation| flaws(&annotated(&keyless, &[&format!("pratique.dev/{annotation}")])));
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn guards_that_contradict_each_other_are_refused() {
    let keyless = with_identity("issuer: i\nsubject: s");
    let both = |annotations: &[&str]| flaws(&annotated(&keyless, annotations));
    insta::assert_snapshot!(both(&["pratique.dev/max-age: 1d", "pratique.dev/min-age: 24h"]));
    insta::assert_snapshot!(both(&["pratique.dev/bind-name: 'off'", "pratique.dev/bind-name-aliases: a=b"]));
}

#[test]
fn a_guard_of_time_stands_beside_no_authority_without_one() {
    let undated = by_key("");
    let dated = by_key("ctlog: {url: https://rekor.sigstore.dev}");
    let beside = with_authority(KEYLESS) + "    - static: {action: pass}\n";
    for guard in ["rollback: warn", "rollback: deny", "max-age: 30d", "min-age: 1h"] {
        let guard = format!("pratique.dev/{guard}");
        for impossible in [&undated, &beside] {
            let said = flaws(&annotated(impossible, &[&guard]));
            assert!(said.contains("cannot be asked of authority") && said.contains("signed time"), "{guard}: {said}");
        }
        assert!(load(&annotated(&dated, &[&guard])).is_ok(), "{guard}: the log dates it");
    }
    for harmless in ["rollback: allow", "bind-name: deny", "on-refusal: last-good"] {
        assert!(load(&annotated(&undated, &[&format!("pratique.dev/{harmless}")])).is_ok(), "{harmless}");
    }
    insta::assert_snapshot!(flaws(&annotated(&undated, &["pratique.dev/rollback: deny"])));
}

#[test]
fn a_guard_that_is_off_or_only_warns_is_told() {
    let keyless = with_identity("issuer: i\nsubject: s");
    let off = notes(&annotated(&keyless, &["pratique.dev/bind-name: 'off'"]));
    assert!(off.starts_with("weakened: own.yaml:6: ") && off.contains("any image of the same signer"), "{off}");
    let warns = annotated(&keyless, &["pratique.dev/rollback: deny"]).replace("spec:", "spec:\n  mode: warn");
    assert!(notes(&warns).contains("guards of a policy with mode: warn only warn"), "{}", notes(&warns));
}

#[test]
fn a_guard_of_time_beside_a_key_is_told() {
    let (by_key, by_name) =
        (by_key("ctlog: {url: https://rekor.sigstore.dev}"), with_identity("issuer: i\nsubject: s"));
    for (guard, is_told) in [
        ("rollback: warn", true),
        ("rollback: deny", true),
        ("max-age: 30d", true),
        ("rollback: allow", false),
        // An old signature that is dated anew is too fresh all the more.
        ("min-age: 1h", false),
    ] {
        let guard = format!("pratique.dev/{guard}");
        let told = notes(&annotated(&by_key, &[&guard]));
        assert_eq!(told.contains("weakened: ") && told.contains("stands beside a key"), is_told, "{guard}: {told}");
        assert!(!notes(&annotated(&by_name, &[&guard])).contains("stands beside a key"), "{guard}");
    }
}

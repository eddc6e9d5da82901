//! What a rule is shown of an image's configs is what clients read in them.

use bytes::Bytes;
use oci::{Addressed, Algorithm};
use policy::{ChildOutcome, NoMatch, Outcome, Reason, UntrustedConfigs, UntrustedEvidence};

use super::{
    NOW, SIGSTORE, STATIC_PASS, bundle, evidence, image, index, judge_of, judged, keyless, policy,
    sigstore::{Options, Signer},
};

/// Nobody on any platform is root.
const RULE: &str = "  policy:
    type: rego
    fetchConfigFile: true
    data: |
      package sigstore
      default isCompliant = false
      isCompliant {
        input.config[_].config.User == \"65532\"
        not root
      }
      root { input.config[_].config.User == \"root\" }
";

fn config(text: &str) -> Addressed {
    Addressed::hash(Algorithm::Sha256, Bytes::from(text.to_owned()))
}

fn of(os: &str, user: &str) -> Addressed {
    config(&format!(r#"{{"os":"{os}","architecture":"amd64","config":{{"User":"{user}"}}}}"#))
}

fn refused(outcome: Outcome) -> Option<Reason> {
    match outcome {
        Outcome::Admitted(_) => None,
        Outcome::Refused(refusal) | Outcome::Absent(refusal) => Some(refusal.reason),
        Outcome::Undecided(undecided) => panic!("{undecided}"),
    }
}

#[test]
fn a_config_that_clients_may_read_otherwise_is_not_read() {
    let judge = judge_of(&[policy("p", "enforce", "cgr.dev/**", STATIC_PASS) + RULE], NoMatch::Deny);
    let verdict = |text: &str| {
        let configs = UntrustedConfigs::Asked(vec![config(text)]);
        refused(judged(&judge, &image("x"), &UntrustedEvidence { configs, ..evidence(vec![]) }).outcome)
    };
    for good in [
        r#"{"os":"linux","architecture":"amd64","config":{"User":"65532"}}"#,
        // Keys that are data may differ in case, and be called anything.
        r#"{"os":"linux","architecture":"amd64","config":{"User":"65532","Labels":{"user":"x","User":"y"},"Volumes":{"/a":{},"/A":{}}}}"#,
        r#"{"os":"linux","architecture":"amd64","config":{"User":"65532"},"history":[{"created_by":"x","empty_layer":true}],"moby.buildkit.x":{"a":1}}"#,
    ] {
        assert_eq!(verdict(good), None, "{good}");
    }
    for bad in [
        r#"{"os":"linux","architecture":"amd64","config":{"User":"65532"},"Config":{"User":"root"}}"#,
        r#"{"os":"linux","architecture":"amd64","config":{"User":"65532","user":"root"}}"#,
        r#"{"os":"linux","architecture":"amd64","config":{"User":"65532"},"OS":"windows"}"#,
        // Alone, it hides a value from a rule that forbids it.
        r#"{"os":"linux","architecture":"amd64","config":{"User":"65532","entrypoint":["/bin/sh"]}}"#,
        r#"{"os":"linux","architecture":"amd64","config":{"User":"65532"},"rootfs":{"Type":"layers"}}"#,
        r#"{"os":"linux","architecture":"amd64","config":{"User":"65532","Healthcheck":{"test":["x"]}}}"#,
        r#"{"os":"linux","architecture":"amd64","config":{"User":"65532","U\u017fer":"root"}}"#,
        r#"{"os":"linux","architecture":"amd64","config":{"User":"65532"},"history":[{"Created_By":"x"}]}"#,
    ] {
        assert_eq!(verdict(bad), Some(Reason::EvidenceUnreadable), "{bad}");
    }
    assert_eq!(verdict(r#"{"os":"linux","architecture":"amd64","config":{"User":"root"}}"#), Some(Reason::RuleUnmet));
}

#[test]
fn no_config_hides_another_of_its_platform() {
    let signer = Signer::chainguard();
    let judge = judge_of(&[policy("p", "enforce", "cgr.dev/**", &keyless(&signer)) + RULE], NoMatch::Deny);
    let (one, other) = (image("one"), image("other"));
    let index = index(&[&one, &other]);
    let piece = bundle(SIGSTORE.sign_bundle(&signer, index.digest(), &Options::default()));
    let verdict = |configs: Vec<Addressed>| {
        let configs = UntrustedConfigs::Asked(configs);
        judged(&judge, &index, &UntrustedEvidence { configs, ..evidence(vec![piece.clone()]) }).outcome
    };
    let (good, root) = (of("linux", "65532"), of("linux", "root"));
    for configs in [vec![good.clone(), root.clone()], vec![root, good.clone()]] {
        assert_eq!(refused(verdict(configs)), Some(Reason::EvidenceUnreadable), "which one a client runs, it chooses");
    }
    // What says nothing of a platform, as attestations among the children do, may differ; each of them is shown.
    for os in ["", "unknown"] {
        let (first, second) = (of(os, "a"), of(os, "b"));
        assert_eq!(refused(verdict(vec![good.clone(), first.clone(), second])), None, "{os}");
        let root = of(os, "root");
        for configs in [vec![good.clone(), first.clone(), root.clone()], vec![good.clone(), root, first]] {
            assert_eq!(refused(verdict(configs)), Some(Reason::RuleUnmet), "{os}");
        }
    }
    // Whoever writes a config calls its platform as they like: not as another is shown.
    let (first, last) = (of("unknown", "a"), of("unknown", "b"));
    let named = format!("amd64@{}", first.digest());
    let root = config(&format!(r#"{{"os":"unknown","architecture":"{named}","config":{{"User":"root"}}}}"#));
    let verdict_of = refused(verdict(vec![good.clone(), root, first, last]));
    assert_eq!(verdict_of, Some(Reason::EvidenceUnreadable));
    let Outcome::Admitted(index) = verdict(vec![good.clone(), good]) else { panic!("twice the same hides nothing") };
    let child = judge.admit_child(&index, one, None, NOW);
    assert!(matches!(child.outcome, ChildOutcome::Admitted(_)));
}

//! Rules as Chainguard's images and the controller's examples call for them.

use super::*;

const PROVENANCE: &str = r#"{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://slsa.dev/provenance/v1",
"subject":[{"name":"cgr.dev/chainguard/nginx","digest":{"sha256":"aa"}}],
"predicate":{"buildDefinition":{"buildType":"https://apko.dev/slsa-build-type@v1"},
"runDetails":{"builder":{"id":"https://github.com/chainguard-images/images/.github/workflows/release.yaml@refs/heads/main"}}}}"#;

const BUILDER: &str = r#"package sigstore

default isCompliant = false

isCompliant {
  input.predicateType == "https://slsa.dev/provenance/v1"
  startswith(input.predicate.runDetails.builder.id, "https://github.com/chainguard-images/images/.github/workflows/")
}
"#;

#[test]
fn provenance_of_the_right_builder_is_taken() {
    assert_eq!(why(BUILDER, PROVENANCE), None);
    for other in ["https://github.com/evil/images/", "xhttps://github.com/chainguard-images/images/"] {
        let changed = PROVENANCE.replace("https://github.com/chainguard-images/images/", other);
        assert_eq!(why(BUILDER, &changed).as_deref(), Some("isCompliant is false"), "{other}");
    }
    let none = PROVENANCE.replace("runDetails", "details");
    assert!(why(BUILDER, &none).is_some());
    let kind = PROVENANCE.replace("provenance/v1\"", "provenance/v0.2\"");
    assert!(why(BUILDER, &kind).is_some());
}

#[test]
fn an_image_configuration_must_not_run_as_root() {
    let text = r#"package sigstore
import rego.v1

isCompliant contains response if {
  config := input.predicate
  unsafe := [p | some p in config.contents.packages; p in {"busybox", "bash"}]
  response := {
    "result": object.get(config, ["accounts", "run-as"], "0") != "0",
    "error": sprintf("runs as %v", [object.get(config, ["accounts", "run-as"], "root")]),
    "warning": concat(",", unsafe),
  }
}
"#;
    let config = |user: &str, packages: &str| {
        format!(
            r#"{{"predicateType":"https://apko.dev/image-configuration","predicate":{{"accounts":{user},"contents":{{"packages":{packages}}}}}}}"#
        )
    };
    assert_eq!(why(text, &config(r#"{"run-as":"65532"}"#, r#"["nginx"]"#)), None);
    assert_eq!(why(text, &config("{}", r#"["nginx"]"#)).unwrap(), r#"isCompliant says "runs as root""#);
    assert_eq!(why(text, &config(r#"{"run-as":"0"}"#, "[]")).unwrap(), r#"isCompliant says "runs as 0""#);
    let warned = why(text, &config(r#"{"run-as":"65532"}"#, r#"["bash"]"#)).unwrap();
    assert_eq!(warned, r#"isCompliant is true with a warning: "bash""#);
    assert!(why(text, r#"{"predicate":{}}"#).is_some());
}

#[test]
fn a_package_must_be_there_in_a_version() {
    let text = body(
        "found := input.predicate.packages[_]\nfound.name == \"openssl\"\nsemver.compare(found.versionInfo, \"3.1.0\") >= 0",
    );
    let sbom = |name: &str, version: &str| {
        format!(
            r#"{{"predicateType":"https://spdx.dev/Document","predicate":{{"packages":[{{"name":"a"}},{{"name":"{name}","versionInfo":"{version}"}}]}}}}"#
        )
    };
    assert_eq!(why(&text, &sbom("openssl", "3.2.1")), None);
    for (name, version) in [("openssl", "3.0.9"), ("openssl", "new"), ("libressl", "3.2.1")] {
        assert!(why(&text, &sbom(name, version)).is_some(), "{name} {version}");
    }
    assert!(why(&text, r#"{"predicate":{"packages":[]}}"#).is_some());
}

#[test]
fn what_a_cue_policy_says_of_a_value_can_be_said_in_rego() {
    // CUE leaves a value that is absent alone; the first rule does too, the second asks that it be there.
    let open = body(r#"object.get(input, ["predicate", "Data"], "foobar") == "foobar""#);
    let closed = body(r#"input.predicate.Data == "foobar""#);
    let inputs = [r#"{"predicate":{"Data":"foobar"}}"#, r#"{"predicate":{"Data":"x"}}"#, r#"{"predicate":{}}"#, "{}"];
    let says = |text: &str| inputs.map(|input| why(text, input).is_none());
    assert_eq!(says(&open), [true, false, true, true]);
    assert_eq!(says(&closed), [true, false, false, false]);
}

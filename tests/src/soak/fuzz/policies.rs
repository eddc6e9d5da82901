//! Policy files.

use oci::{Digest, Repository};
use policy::{LoadContext, NoMatch, PolicySet, SourceText};

use crate::sigstore::{KeyKind, KeySigner};

/// What loads has a policy in it, of which every question can be asked; what does not, says where.
pub(super) fn load(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let upstreams = ["cgr.dev", "docker.io"].map(|name| name.parse().expect("a name"));
    let context = LoadContext { upstreams: &upstreams, no_match: NoMatch::Deny, custom_trust_root: true };
    let source = SourceText { name: "fuzzed.yaml".to_owned(), text: text.to_owned() };
    match PolicySet::load(&[source], &context) {
        Ok(loaded) => {
            assert!(!loaded.set.policies().is_empty(), "a set without policies");
            let repository: Repository = "cgr.dev/chainguard/nginx".parse().expect("a repository");
            for policy in loaded.set.matching(&repository, &Digest::sha256(b"")) {
                assert!(!policy.authorities().is_empty(), "a policy that nobody has to satisfy");
                assert!(loaded.set.may_match_repository(&repository), "matches an image and not its repository");
            }
        }
        Err(errors) => {
            assert!(errors.to_string().contains("fuzzed.yaml"), "an error that does not say where: {errors}")
        }
    }
}

pub(super) fn files() -> Vec<Vec<u8>> {
    let head = |name: &str| {
        format!("apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata:\n  name: {name}\nspec:\n")
    };
    let images = "  images:\n  - glob: \"cgr.dev/chainguard/**\"\n  - glob: cgr.dev/*/nginx@sha256:*\n  authorities:\n";
    let keyless = "  - name: release\n    keyless:\n      url: https://fulcio.sigstore.dev\n      insecureIgnoreSCT: true\n      identities:\n      \
                   - issuer: https://token.actions.githubusercontent.com\n        subjectRegExp: ^https://github\\.com/chainguard-images/.*$\n    \
                   ctlog:\n      url: https://rekor.sigstore.dev\n";
    let pem = KeySigner::generate(KeyKind::P256).public_pem().trim().replace('\n', "\n        ");
    let key = format!("  - key:\n      hashAlgorithm: sha256\n      data: |\n        {pem}\n");
    let fixed = "  - static:\n      action: fail\n      message: withdrawn\n";
    let warn = format!("{}  mode: warn\n{images}{key}", head("warned"));
    let both = format!("{}{images}{keyless}---\n{}{images}{fixed}", head("first"), head("second"));
    let all = format!("{}{images}{keyless}{key}{fixed}", head("all"));
    let built_in = include_str!("../../../../policy/src/built-in.yaml").to_owned();
    [warn, both, all, built_in].map(String::into_bytes).to_vec()
}

//! From what cosign's options ask for to a policy in the one language there is, and from there to a judge.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use config::TrustRootSource;
use oci::{Repository, UpstreamName};
use policy::{Judge, LoadContext, LoadError, NoMatch, PolicySet, SourceText, TrustRoot};
use serde_json::{Value, json};

use super::{
    answer::Failure,
    request::{Annotation, Asked, PolicyText, Rules, Sigstore, Word},
};
use crate::{app::InForce, error::chain};

/// What the policy is called that options make; refusals name it.
pub(super) const OPTIONS: &str = "command-line";
const LOG: &str = "https://rekor.sigstore.dev";

/// Policies to judge by, with lines about them.
pub(super) struct Loaded {
    pub(super) set: PolicySet,
    pub(super) notes: Vec<String>,
}

/// The policies that `rules` mean for an image of `repository`: those in force, or the one that options ask for.
pub(super) fn policies(in_force: &InForce, rules: &Rules, repository: &Repository) -> Result<Loaded, Failure> {
    let Some(asked) = &rules.asked else {
        return Ok(Loaded { set: in_force.judge.policies().clone(), notes: Vec::new() });
    };
    let source = SourceText { name: OPTIONS.to_owned(), text: documents(asked, repository)? };
    let upstreams = names(in_force);
    let context = LoadContext {
        upstreams: &upstreams,
        // The policy matches the image, so that this decides nothing.
        no_match: NoMatch::Deny,
        custom_trust_root: rules.trusted_root.is_some() || has_own_root(in_force),
    };
    let loaded = PolicySet::load(&[source], &context).map_err(|errors| {
        let told: Vec<_> = errors.iter().map(by_option).collect();
        let hint = errors.iter().find_map(|error| error.hint.clone());
        Failure { kind: super::Kind::Usage, message: told.join("; "), hint }
    })?;
    Ok(Loaded { set: loaded.set, notes: loaded.notes.iter().map(|note| note_by_option(note)).collect() })
}

/// Policies from files, as they would be in force.
pub(super) fn of_files(in_force: &InForce, policies: &[PolicyText]) -> Result<Loaded, Failure> {
    let sources: Vec<_> =
        policies.iter().map(|it| SourceText { name: it.name.clone(), text: it.text.clone() }).collect();
    let upstreams = names(in_force);
    let context = LoadContext {
        upstreams: &upstreams,
        no_match: in_force.judge.policies().no_match(),
        custom_trust_root: has_own_root(in_force),
    };
    let loaded = PolicySet::load(&sources, &context).map_err(|errors| Failure::no(errors.to_string()))?;
    Ok(Loaded { set: loaded.set, notes: loaded.notes })
}

/// A judge by these policies; by the trust root in force unless `rules` bring another.
pub(super) fn judge(in_force: &InForce, set: PolicySet, rules: &Rules) -> Result<Judge, Failure> {
    let root = rules.trusted_root.as_ref().map(|text| TrustRoot::parse(text.as_bytes())).transpose();
    let root = root.map_err(|error| Failure::no(format!("--trusted-root: {}", chain(&error))))?;
    in_force.judge.by(set, root.as_ref()).map_err(|error| Failure::no(chain(&error)))
}

fn names(in_force: &InForce) -> Vec<UpstreamName> {
    in_force.settings.upstreams.iter().map(|upstream| upstream.name.clone()).collect()
}

fn has_own_root(in_force: &InForce) -> bool {
    matches!(in_force.settings.policy.trust_root, TrustRootSource::File(_))
}

/// The policy, and the trust root where one is asked for, as JSON, which is YAML.
fn documents(asked: &Asked, repository: &Repository) -> Result<String, Failure> {
    let policy = document(asked, repository)?;
    Ok(match trust_root(&asked.sigstore)? {
        Some(root) => format!("{policy}\n---\n{root}\n"),
        None => policy.to_string(),
    })
}

/// A Sigstore of one's own by its keys and certificates.
fn trust_root(sigstore: &Sigstore) -> Result<Option<Value>, Failure> {
    let Sigstore { ca, log, certificate_log, timestamps } = sigstore;
    let Some(ca) = ca else {
        if *sigstore == Sigstore::default() {
            return Ok(None);
        }
        let what = "SIGSTORE_REKOR_PUBLIC_KEY, SIGSTORE_CT_LOG_PUBLIC_KEY_FILE or SIGSTORE_TSA_CERTIFICATE_FILE stands without \
                    SIGSTORE_ROOT_FILE";
        return Err(Failure::usage(
            what,
            "set that too, or give the whole trust root of that Sigstore by --trusted-root",
        ));
    };
    let authority = |pem: &String| {
        json!([{
            "subject": { "organization": OPTIONS, "commonName": OPTIONS },
            "uri": "https://sigstore.invalid",
            "certChain": STANDARD.encode(pem),
        }])
    };
    let key = |pem: &String| json!([{ "baseURL": "https://sigstore.invalid", "hashAlgorithm": "sha256", "publicKey": STANDARD.encode(pem) }]);
    let mut keys = serde_json::Map::from_iter([("certificateAuthorities".to_owned(), authority(ca))]);
    keys.extend(log.iter().map(|pem| ("tLogs".to_owned(), key(pem))));
    keys.extend(certificate_log.iter().map(|pem| ("ctLogs".to_owned(), key(pem))));
    keys.extend(timestamps.iter().map(|pem| ("timestampAuthorities".to_owned(), authority(pem))));
    Ok(Some(json!({
        "apiVersion": "policy.sigstore.dev/v1alpha1",
        "kind": "TrustRoot",
        "metadata": { "name": OPTIONS },
        "spec": { "sigstoreKeys": keys },
    })))
}

/// The log is asked for: one's own where its key is given.
fn log(asked: &Asked) -> Value {
    match &asked.sigstore.log {
        Some(_) => json!({ "url": LOG, "trustRootRef": OPTIONS }),
        None => json!({ "url": LOG }),
    }
}

fn document(asked: &Asked, repository: &Repository) -> Result<Value, Failure> {
    let mut metadata = json!({ "name": OPTIONS });
    let annotations = conditions(asked)?;
    if let (Some(metadata), false) = (metadata.as_object_mut(), annotations.is_empty()) {
        metadata.insert("annotations".to_owned(), annotations.into());
    }
    Ok(json!({
        "apiVersion": "policy.sigstore.dev/v1beta1",
        "kind": "ClusterImagePolicy",
        "metadata": metadata,
        "spec": {
            "images": [{ "glob": format!("{}@*", repository.canonical()) }],
            "authorities": [authority(asked)?],
        },
    }))
}

fn authority(asked: &Asked) -> Result<Value, Failure> {
    let mut authority = serde_json::Map::new();
    authority.insert("name".to_owned(), "signer".into());
    match (&asked.key, &asked.issuer, &asked.subject) {
        (Some(pem), None, None) => {
            authority.insert("key".to_owned(), key(asked, pem));
            if !asked.ignore_log {
                authority.insert("ctlog".to_owned(), log(asked));
            }
        }
        (None, Some(issuer), Some(subject)) => {
            authority.insert("keyless".to_owned(), keyless(asked, issuer, subject)?);
            authority.insert("ctlog".to_owned(), log(asked));
        }
        (Some(_), _, _) => {
            let what = "--key stands beside an identity; expected one of the two";
            return Err(Failure::usage(what, "a key has no certificate: leave the --certificate-… options out"));
        }
        (None, _, None) => {
            let what = "who signed is not said: expected --certificate-identity or --certificate-identity-regexp";
            let hint = "add it; or leave all identity options out to verify by the policies in force";
            return Err(Failure::usage(what, hint));
        }
        (None, None, Some(_)) => {
            let what = "who vouched for the signer is not said: expected --certificate-oidc-issuer or \
                        --certificate-oidc-issuer-regexp";
            return Err(Failure::usage(what, "add it: the same subject means another signer under another issuer"));
        }
    }
    let mut source = serde_json::Map::new();
    source.extend(asked.repository.iter().map(|it| ("oci".to_owned(), it.as_str().into())));
    source.extend(asked.tag_prefix.iter().map(|it| ("tagPrefix".to_owned(), it.as_str().into())));
    if !source.is_empty() {
        authority.insert("source".to_owned(), json!([source]));
    }
    Ok(authority.into())
}

fn key(asked: &Asked, pem: &str) -> Value {
    match &asked.hash_algorithm {
        Some(hash) => json!({ "data": pem, "hashAlgorithm": hash }),
        None => json!({ "data": pem }),
    }
}

fn keyless(asked: &Asked, issuer: &Word, subject: &Word) -> Result<Value, Failure> {
    if asked.ignore_log {
        let what =
            "--insecure-ignore-tlog: a certificate lives ten minutes, and only the log says that it signed within them";
        return Err(Failure::usage(what, "leave it out; it is for --key"));
    }
    let identity =
        serde_json::Map::from_iter([half(issuer, "issuer", "issuerRegExp"), half(subject, "subject", "subjectRegExp")]);
    Ok(match &asked.sigstore.ca {
        Some(_) => json!({ "identities": [identity], "insecureIgnoreSCT": asked.ignore_sct, "trustRootRef": OPTIONS }),
        None => json!({ "identities": [identity], "insecureIgnoreSCT": asked.ignore_sct }),
    })
}

fn half(word: &Word, exact: &str, pattern: &str) -> (String, Value) {
    match word {
        Word::Exact(text) => (exact.to_owned(), text.as_str().into()),
        Word::Pattern(text) => (pattern.to_owned(), text.as_str().into()),
    }
}

fn conditions(asked: &Asked) -> Result<serde_json::Map<String, Value>, Failure> {
    let workflow =
        asked.workflow.iter().map(|it| (format!("pratique.dev/workflow-{}", it.name), it.value.clone().into()));
    let mut conditions: serde_json::Map<_, _> = workflow.collect();
    if let Some(bad) = asked.annotations.iter().find(|it| it.value.contains(',') || it.name.contains(',')) {
        let what = format!("--annotations {}={}: a comma cannot be asked for", bad.name, bad.value);
        return Err(Failure::usage(what, "ask for it in Rego, and use pratique policy test"));
    }
    if !asked.annotations.is_empty() {
        let pair = |Annotation { name, value }: &Annotation| format!("{name}={value}");
        let pairs: Vec<_> = asked.annotations.iter().map(pair).collect();
        conditions.insert("pratique.dev/annotations".to_owned(), pairs.join(",").into());
    }
    Ok(conditions)
}

/// Which option made a field.
const FIELDS: [(&str, &str); 13] = [
    ("certificateAuthorities[0].certChain", "SIGSTORE_ROOT_FILE"),
    ("timestampAuthorities[0].certChain", "SIGSTORE_TSA_CERTIFICATE_FILE"),
    ("tLogs[0].publicKey", "SIGSTORE_REKOR_PUBLIC_KEY"),
    ("ctLogs[0].publicKey", "SIGSTORE_CT_LOG_PUBLIC_KEY_FILE"),
    ("issuerRegExp", "--certificate-oidc-issuer-regexp"),
    ("subjectRegExp", "--certificate-identity-regexp"),
    ("issuer", "--certificate-oidc-issuer"),
    ("subject", "--certificate-identity"),
    ("key.data", "--key"),
    ("key.hashAlgorithm", "--signature-digest-algorithm"),
    ("source[0].oci", "COSIGN_REPOSITORY"),
    ("source[0].tagPrefix", "--attachment-tag-prefix"),
    ("annotations", "--annotations"),
];

/// A flaw, told by the option that was typed rather than by the policy that was made of it.
fn by_option(error: &LoadError) -> String {
    let option = FIELDS.iter().find(|(field, _)| error.field.ends_with(field)).map(|(_, option)| *option);
    let workflow = error.field.rsplit_once("pratique.dev/workflow-").map(|(_, name)| name.trim_matches(['"', ']']));
    match (option, workflow) {
        (Some(option), _) => format!("{option}: {}", error.what),
        (None, Some(name)) => format!("--certificate-github-workflow-{name}: {}", error.what),
        (None, None) => format!("{}: {}", error.field, error.what),
    }
}

/// The same for a note, which begins with its place.
fn note_by_option(note: &str) -> String {
    let option = FIELDS.iter().find_map(|(field, option)| {
        let (_, what) = note.split_once(&format!("{field}: "))?;
        Some(format!("{option}: {what}"))
    });
    option.unwrap_or_else(|| note.to_owned())
}

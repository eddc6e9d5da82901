//! Cosign's options and variables, and what they mean here.

use std::path::{Path, PathBuf};

use config::CosignVariables;
use proxy::command::{Annotation, Asked, Rules, Sigstore, Word};

use crate::{foreign::Foreign, terminal::Unasked};

/// Who must have signed. Without any of these the policies in force decide.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Who must have signed (without any of these: the policies in force)")]
pub(crate) struct Signer {
    /// The subject of the signing certificate, exactly [env: `COSIGN_CERTIFICATE_IDENTITY`]
    #[arg(long, value_name = "SUBJECT")]
    certificate_identity: Option<String>,
    /// A regular expression that matches the subject from first to last character [env: `COSIGN_CERTIFICATE_IDENTITY_REGEXP`]
    #[arg(long, value_name = "REGEXP")]
    certificate_identity_regexp: Option<String>,
    /// Who vouched for the signer, exactly [env: `COSIGN_CERTIFICATE_OIDC_ISSUER`]
    #[arg(long, value_name = "URL")]
    certificate_oidc_issuer: Option<String>,
    /// A regular expression that matches the issuer from first to last character [env: `COSIGN_CERTIFICATE_OIDC_ISSUER_REGEXP`]
    #[arg(long, value_name = "REGEXP")]
    certificate_oidc_issuer_regexp: Option<String>,
    /// A public key instead of a certificate: a file, or the PEM text itself
    // PEM begins with hyphens.
    #[arg(long, value_name = "FILE|PEM", allow_hyphen_values = true)]
    key: Option<String>,
    /// What a signature by --key is made over: sha256, sha384 or sha512
    #[arg(long, value_name = "ALGORITHM", requires = "key")]
    signature_digest_algorithm: Option<String>,
    /// What was signed carries this annotation; may be given several times
    #[arg(short, long, value_name = "KEY=VALUE", value_delimiter = ',')]
    annotations: Vec<String>,
    /// The certificate names this event
    #[arg(long, value_name = "EVENT")]
    certificate_github_workflow_trigger: Option<String>,
    /// The certificate names this commit
    #[arg(long, value_name = "SHA")]
    certificate_github_workflow_sha: Option<String>,
    /// The certificate names this workflow
    #[arg(long, value_name = "NAME")]
    certificate_github_workflow_name: Option<String>,
    /// The certificate names this repository
    #[arg(long, value_name = "OWNER/NAME")]
    certificate_github_workflow_repository: Option<String>,
    /// The certificate names this ref
    #[arg(long, value_name = "REF")]
    certificate_github_workflow_ref: Option<String>,
    /// With --key: do not ask for an entry in the transparency log
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    insecure_ignore_tlog: bool,
    /// Accept certificates that were published in no certificate log
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false")]
    insecure_ignore_sct: bool,
    /// What stands before `sha256-<hex>` in cosign's tags
    #[arg(long, value_name = "PREFIX")]
    attachment_tag_prefix: Option<String>,
    /// A `trusted_root.json` in place of the trust root in force
    #[arg(long, value_name = "FILE")]
    trusted_root: Option<PathBuf>,
    #[command(flatten)]
    foreign: Foreign,
}

/// A key in PEM; RSA of 16384 bits is below 4 KiB.
const KEY_BYTES_MAX: u64 = 64 << 10;
/// A `trusted_root.json` holds certificates of every authority there ever was.
const TRUST_ROOT_BYTES_MAX: u64 = 4 << 20;

impl Signer {
    /// What is asked for, with lines about options that change nothing. Files are read here: a server opens none.
    pub(crate) fn rules(&self) -> Result<(Rules, Vec<String>), Unasked> {
        let mut notes = self.foreign.told()?;
        let variables = CosignVariables::of_process()?;
        let mut asked = self.asked(&variables)?;
        // Where evidence lies says nothing about who signed.
        let is_asked = asked != Asked { repository: asked.repository.clone(), ..Asked::default() };
        if is_asked && self.trusted_root.is_none() {
            asked.sigstore = sigstore(&variables)?;
        }
        if !is_asked && variables.repository.is_some() {
            notes.push("COSIGN_REPOSITORY is not looked at: the policies in force say where evidence lies".to_owned());
        }
        if !is_asked || self.trusted_root.is_some() {
            let why = if is_asked {
                "--trusted-root says whom to trust"
            } else {
                "the policies in force say whom they trust"
            };
            notes.extend(ignored(&variables).map(|name| format!("{name} is not looked at: {why}")));
        }
        let trusted_root = self.trusted_root.as_deref().map(|path| config::read_text(path, TRUST_ROOT_BYTES_MAX));
        let rules = Rules {
            asked: is_asked.then_some(asked),
            trusted_root: trusted_root.transpose()?,
            attachment_bytes_max: variables.attachment_bytes_max,
        };
        Ok((rules, notes))
    }

    fn asked(&self, variables: &CosignVariables) -> Result<Asked, Unasked> {
        let key = self.key.as_deref().map(key).transpose()?;
        let subject = word(
            ("certificate-identity", self.certificate_identity.as_ref(), self.certificate_identity_regexp.as_ref()),
            // A variable is the option left out; with a key there is no identity to leave out.
            (&variables.certificate_identity, &variables.certificate_identity_regexp, key.is_none()),
        )?;
        let issuer = word(
            (
                "certificate-oidc-issuer",
                self.certificate_oidc_issuer.as_ref(),
                self.certificate_oidc_issuer_regexp.as_ref(),
            ),
            (&variables.certificate_oidc_issuer, &variables.certificate_oidc_issuer_regexp, key.is_none()),
        )?;
        let workflow = [
            ("trigger", &self.certificate_github_workflow_trigger),
            ("sha", &self.certificate_github_workflow_sha),
            ("name", &self.certificate_github_workflow_name),
            ("repository", &self.certificate_github_workflow_repository),
            ("ref", &self.certificate_github_workflow_ref),
        ];
        let claim =
            |(name, value): (&str, &Option<String>)| Some(Annotation { name: name.to_owned(), value: value.clone()? });
        Ok(Asked {
            issuer,
            subject,
            key,
            hash_algorithm: self.signature_digest_algorithm.clone(),
            ignore_log: self.insecure_ignore_tlog,
            ignore_sct: self.insecure_ignore_sct,
            annotations: self.annotations.iter().map(|pair| annotation(pair)).collect::<Result<_, _>>()?,
            workflow: workflow.into_iter().filter_map(claim).collect(),
            repository: variables.repository.clone(),
            tag_prefix: self.attachment_tag_prefix.clone(),
            sigstore: Sigstore::default(),
        })
    }
}

/// One half of an identity: the option, else the variable; exactly or by pattern, never both.
fn word(
    (name, exact, pattern): (&str, Option<&String>, Option<&String>),
    (exact_variable, pattern_variable, counts): (&Option<String>, &Option<String>, bool),
) -> Result<Option<Word>, Unasked> {
    let variable =
        |variable: &Option<String>| variable.clone().filter(|_| counts && exact.is_none() && pattern.is_none());
    match (exact.cloned().or_else(|| variable(exact_variable)), pattern.cloned().or_else(|| variable(pattern_variable)))
    {
        (Some(_), Some(_)) => {
            let what = format!("--{name} and --{name}-regexp stand beside each other; expected one of the two");
            Err(Unasked::usage(what, "leave one out, of the options and of their COSIGN_… variables"))
        }
        (Some(exact), None) => Ok(Some(Word::Exact(exact))),
        (None, Some(pattern)) => Ok(Some(Word::Pattern(pattern))),
        (None, None) => Ok(None),
    }
}

fn annotation(pair: &str) -> Result<Annotation, Unasked> {
    let split = pair.split_once('=').filter(|(name, value)| !name.is_empty() && !value.is_empty());
    let (name, value) = split.ok_or_else(|| {
        Unasked::usage(format!("--annotations {pair}: expected key=value"), "write it as -a env=production")
    })?;
    Ok(Annotation { name: name.to_owned(), value: value.to_owned() })
}

/// Where keys are that nobody here can ask for.
const KEY_STORES: [&str; 9] =
    ["k8s://", "awskms://", "gcpkms://", "azurekms://", "hashivault://", "gitlab://", "github://", "pkcs11:", "env://"];

fn key(written: &str) -> Result<String, Unasked> {
    if written.trim_start().starts_with("-----BEGIN") {
        return Ok(written.to_owned());
    }
    let store = KEY_STORES.iter().find(|store| written.starts_with(**store));
    if store.is_some() || written.contains("://") {
        let what = format!("--key {written}: keys are not fetched; expected a file, or the PEM text itself");
        return Err(Unasked::usage(what, "write the public key into a file: cosign public-key --key … > cosign.pub"));
    }
    Ok(config::read_text(Path::new(written), KEY_BYTES_MAX)?)
}

/// The files that variables name, read.
fn sigstore(variables: &CosignVariables) -> Result<Sigstore, Unasked> {
    let read = |path: &Option<PathBuf>| path.as_deref().map(|path| config::read_text(path, KEY_BYTES_MAX)).transpose();
    Ok(Sigstore {
        ca: read(&variables.root_file)?,
        log: read(&variables.rekor_public_key)?,
        certificate_log: read(&variables.ct_log_public_key_file)?,
        timestamps: read(&variables.tsa_certificate_file)?,
    })
}

/// Variables that only an ad-hoc policy can honour.
fn ignored(variables: &CosignVariables) -> impl Iterator<Item = &'static str> {
    [
        ("SIGSTORE_ROOT_FILE", variables.root_file.is_some()),
        ("SIGSTORE_REKOR_PUBLIC_KEY", variables.rekor_public_key.is_some()),
        ("SIGSTORE_CT_LOG_PUBLIC_KEY_FILE", variables.ct_log_public_key_file.is_some()),
        ("SIGSTORE_TSA_CERTIFICATE_FILE", variables.tsa_certificate_file.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is_set)| is_set.then_some(name))
}

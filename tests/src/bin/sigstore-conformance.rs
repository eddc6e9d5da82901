//! The client that Sigstore's conformance suite runs: `verify-bundle`, through pratique's own policy crate. It exits with 0 where the
//! signature is accepted.
//!
//! It signs nothing, so the suite is to be run with `--skip-signing`; and of version 0.1 it takes only bundles that bring their proof,
//! as decided for pratique.

#![allow(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool reads files and speaks to the person who runs it"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{Args, Parser, Subcommand};
use oci::{Digest, UnixTime};
use policy::{
    TrustRoot,
    artifact::{Artifact, ArtifactSigner, verify},
};

/// Sigstore's conformance client for pratique.
#[derive(Parser)]
#[command(name = "sigstore-conformance", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Verifies a bundle.
    VerifyBundle(VerifyBundle),
}

#[derive(Args)]
struct VerifyBundle {
    /// By the staging instance's trust root, where no other is given: the suite gives both.
    #[arg(long)]
    staging: bool,
    /// The bundle.
    #[arg(long)]
    bundle: PathBuf,
    /// The certificate's subject alternative name.
    #[arg(long, requires = "certificate_oidc_issuer", required_unless_present = "key", conflicts_with = "key")]
    certificate_identity: Option<String>,
    /// The OIDC issuer that vouched.
    #[arg(long, requires = "certificate_identity")]
    certificate_oidc_issuer: Option<String>,
    /// A public key, PEM.
    #[arg(long)]
    key: Option<PathBuf>,
    /// A `trusted_root.json`; the public-good instance's by default.
    #[arg(long)]
    trusted_root: Option<PathBuf>,
    /// The file that is signed, or its digest as `sha256:<hex>`.
    file_or_digest: String,
}

fn main() -> ExitCode {
    let Command::VerifyBundle(call) = Cli::parse().command;
    match call.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

impl VerifyBundle {
    fn run(&self) -> Result<(), String> {
        let root = self.root()?;
        let signer = self.signer()?;
        let bundle = read(&self.bundle)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
        let now = UnixTime::from_millis(u64::try_from(now.as_millis()).map_err(|error| error.to_string())?);
        // A file of that very name comes first, as the protocol of the suite has it.
        let file = Path::new(&self.file_or_digest);
        let verdict = match self.file_or_digest.parse::<Digest>() {
            Ok(digest) if !file.exists() => verify(&bundle, &Artifact::Digest(digest), &signer, &root, now),
            _ => verify(&bundle, &Artifact::Bytes(&read(file)?), &signer, &root, now),
        };
        verdict.map(drop).map_err(|fault| fault.to_string())
    }

    fn root(&self) -> Result<TrustRoot, String> {
        match &self.trusted_root {
            Some(file) => TrustRoot::parse(&read(file)?).map_err(|error| format!("{}: {error}", file.display())),
            None if self.staging => Ok(TrustRoot::staging()),
            None => Ok(TrustRoot::public_good()),
        }
    }

    fn signer(&self) -> Result<ArtifactSigner, String> {
        match (&self.key, &self.certificate_identity, &self.certificate_oidc_issuer) {
            (Some(file), ..) => {
                let pem = String::from_utf8(read(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
                Ok(ArtifactSigner::Key { pem })
            }
            (None, Some(identity), Some(issuer)) => {
                Ok(ArtifactSigner::Certificate { identity: identity.clone(), issuer: issuer.clone() })
            }
            (None, ..) => Err("neither a key nor an identity and its issuer".to_owned()),
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

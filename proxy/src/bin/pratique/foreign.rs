//! Cosign's other options. Each is taken and told, or refused with the reason: none is silently ignored.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::Error};

use crate::terminal::Unasked;

/// Those that were given, with their values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Foreign(Vec<(&'static Meaning, String)>);

/// What an option of cosign's means here.
#[derive(Debug)]
struct Meaning {
    name: &'static str,
    takes: Takes,
    /// Of `Switch` the value that changes nothing; of others none does.
    harmless: Harmless,
    why: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// `--name`, `--name=true`, `--name=false`.
    Switch,
    /// `--name value`.
    Value,
}

/// Which values change nothing, and are told rather than refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harmless {
    Always,
    Never,
    WhenTrue,
    WhenFalse,
}

const fn switch(name: &'static str, harmless: Harmless, why: &'static str) -> Meaning {
    Meaning { name, takes: Takes::Switch, harmless, why }
}

const fn value(name: &'static str, harmless: Harmless, why: &'static str) -> Meaning {
    Meaning { name, takes: Takes::Value, harmless, why }
}

const ALWAYS_OFFLINE: &str = "verification is always offline: log entries are verified from what the registry holds";
const BOTH_LAYOUTS: &str = "tags and referrers are always looked at, in the older layout and as bundles";
const CLAIMS: &str = "a signature that names another image says nothing about this one";
const ROOTS: &str = "certificates are believed by the trust root: give one by --trusted-root";
const CREDENTIALS: &str = "set username and password_file of the upstream in the configuration";
const TRANSPORT: &str = "set url and ca_file of the upstream in the configuration";
const REGISTRY_ONLY: &str = "signatures are looked up in the registry, beside the image";
const NO_KEY_STORE: &str = "write the public key into a file and give it by --key";

use Harmless::{Always, Never, WhenFalse, WhenTrue};

const FOREIGN: [Meaning; 35] = [
    switch("offline", Always, ALWAYS_OFFLINE),
    switch("private-infrastructure", WhenFalse, "give the trust root of that Sigstore by --trusted-root"),
    switch("new-bundle-format", Always, BOTH_LAYOUTS),
    switch("experimental-oci11", Always, BOTH_LAYOUTS),
    switch(
        "use-signed-timestamps",
        Always,
        "signed timestamps count wherever they are, as the trust root has authorities for them",
    ),
    switch("check-claims", WhenTrue, CLAIMS),
    switch("local-image", WhenFalse, REGISTRY_ONLY),
    switch("allow-insecure-registry", WhenFalse, TRANSPORT),
    switch("allow-http-registry", WhenFalse, TRANSPORT),
    switch("k8s-keychain", WhenFalse, CREDENTIALS),
    switch("sk", WhenFalse, NO_KEY_STORE),
    switch("verbose", Always, "every piece of evidence that failed is told anyway"),
    value("rekor-url", Always, ALWAYS_OFFLINE),
    value("timeout", Always, "time is bounded by the limits of the configuration"),
    value("max-workers", Always, "concurrency is bounded by the limits of the configuration"),
    value("output-file", Never, "redirect standard output"),
    value("slot", Never, NO_KEY_STORE),
    value("certificate", Never, REGISTRY_ONLY),
    value("certificate-chain", Never, ROOTS),
    value("ca-roots", Never, ROOTS),
    value("ca-intermediates", Never, ROOTS),
    value("timestamp-certificate-chain", Never, ROOTS),
    value("sct", Never, "the proof of publication is read from the certificate"),
    value("signature", Never, REGISTRY_ONLY),
    value("payload", Never, REGISTRY_ONLY),
    value("bundle", Never, REGISTRY_ONLY),
    value("registry-username", Never, CREDENTIALS),
    value("registry-password", Never, CREDENTIALS),
    value("registry-token", Never, CREDENTIALS),
    value("registry-cacert", Never, TRANSPORT),
    value("registry-client-cert", Never, TRANSPORT),
    value("registry-client-key", Never, TRANSPORT),
    value("registry-server-name", Never, TRANSPORT),
    value("registry-referrers-mode", Always, BOTH_LAYOUTS),
    value("policy", Never, "write it as Rego in a ClusterImagePolicy, and use pratique policy test"),
];

impl Foreign {
    /// A line about each that changes nothing.
    ///
    /// # Errors
    /// The first that would change something.
    pub(crate) fn told(&self) -> Result<Vec<String>, Unasked> {
        self.0.iter().map(|(meaning, written)| meaning.told(written)).collect()
    }
}

impl Meaning {
    fn told(&self, written: &str) -> Result<String, Unasked> {
        let Self { name, why, .. } = self;
        let is_harmless = match self.harmless {
            Always => true,
            Never => false,
            WhenTrue => written == "true",
            WhenFalse => written == "false",
        };
        if is_harmless {
            return Ok(format!("--{name} changes nothing: {why}"));
        }
        Err(Unasked::usage(format!("--{name} is not supported"), *why))
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.name).long(self.name).hide(true).action(ArgAction::Set);
        match self.takes {
            Takes::Value => arg,
            Takes::Switch => {
                arg.num_args(0..=1).require_equals(true).default_missing_value("true").value_parser(["true", "false"])
            }
        }
    }
}

impl Args for Foreign {
    fn augment_args(command: Command) -> Command {
        command.args(FOREIGN.iter().map(Meaning::arg))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Foreign {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given = Self::default();
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        let given = |meaning: &'static Meaning| Some((meaning, matches.get_one::<String>(meaning.name)?.clone()));
        self.0 = FOREIGN.iter().filter_map(given).collect();
        Ok(())
    }
}

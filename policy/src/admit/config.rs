//! An image's configs, as a rule is shown them: by platform, each read as every client reads it.

use std::collections::BTreeMap;

use bytes::Bytes;
use oci::{Addressed, json::fold_key};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    evidence::UntrustedConfigs,
    refusal::{Reason, told},
    verifier::Flaw,
};

/// What names an image's platform within its config.
#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
    #[serde(default, rename = "os.version")]
    os_version: String,
}

/// Configs by platform, `<os>/<arch>[/<variant>][:<osversion>]`.
///
/// No config hides another: two that differ under one platform are a flaw, as either may be run. Where they name none (`""`, `unknown`, as
/// attestations among the children of an index do), the last has the platform's name, as in the controller, and each before it
/// `<platform>@<digest>`.
pub(super) fn by_platform(untrusted: &UntrustedConfigs) -> Result<BTreeMap<String, Bytes>, Flaw> {
    let configs = match untrusted {
        UntrustedConfigs::Asked(configs) => configs,
        UntrustedConfigs::Unasked => {
            return Err(Flaw::new(Reason::RuleUndecided, "the image's config could not be asked for"));
        }
        UntrustedConfigs::Flawed(why) => {
            let why = format!("the image's config cannot be read: {}", told(why));
            return Err(Flaw::new(Reason::EvidenceUnreadable, why));
        }
    };
    let mut found: BTreeMap<String, &Addressed> = BTreeMap::new();
    for config in configs {
        let platform = platform(config)?;
        let Some(before) = found.insert(platform.clone(), config) else { continue };
        if before.digest() == config.digest() {
            continue;
        }
        if !platform.is_empty() && !platform.starts_with("unknown/") {
            let why =
                format!("two configs of platform {}: {} and {}", told(&platform), before.digest(), config.digest());
            return Err(Flaw::new(Reason::EvidenceUnreadable, why));
        }
        found.insert(format!("{platform}@{}", before.digest()), before);
    }
    Ok(found.into_iter().map(|(platform, config)| (platform, config.bytes().clone())).collect())
}

fn platform(config: &Addressed) -> Result<String, Flaw> {
    let unreadable = |why: &str| {
        let why = format!("the image's config {} cannot be read: {}", config.digest(), told(why));
        Flaw::new(Reason::EvidenceUnreadable, why)
    };
    let document: Value = serde_json::from_slice(config.bytes()).map_err(|error| unreadable(&error.to_string()))?;
    check(&document, &CONFIG).map_err(|why| unreadable(&why))?;
    let Platform { os, architecture, variant, os_version } =
        Platform::deserialize(&document).map_err(|error| unreadable(&error.to_string()))?;
    if os.is_empty() {
        return Ok(String::new());
    }
    // What is added to the platform's name below must not be written by anybody else.
    if [&os, &architecture, &variant, &os_version].into_iter().any(|part| part.contains('@')) {
        return Err(unreadable("its platform has an @"));
    }
    let variant = if variant.is_empty() { variant } else { format!("/{variant}") };
    let version = if os_version.is_empty() { os_version } else { format!(":{os_version}") };
    Ok(format!("{os}/{architecture}{variant}{version}"))
}

/// The names in one object of a config that clients read, and what is below them.
struct Names {
    known: &'static [&'static str],
    below: &'static [(&'static str, &'static Names)],
}

/// Of image-spec, and Docker's besides.
static CONFIG: Names = Names {
    known: &[
        "architecture",
        "author",
        "comment",
        "config",
        "container",
        "container_config",
        "created",
        "docker_version",
        "history",
        "id",
        "os",
        "os.features",
        "os.version",
        "parent",
        "rootfs",
        "variant",
    ],
    below: &[("config", &RUN), ("container_config", &RUN), ("history", &HISTORY), ("rootfs", &ROOTFS)],
};
static RUN: Names = Names {
    known: &[
        "ArgsEscaped",
        "AttachStderr",
        "AttachStdin",
        "AttachStdout",
        "Cmd",
        "Domainname",
        "Entrypoint",
        "Env",
        "ExposedPorts",
        "Healthcheck",
        "Hostname",
        "Image",
        "Labels",
        "MacAddress",
        "Memory",
        "MemorySwap",
        "CpuShares",
        "NetworkDisabled",
        "OnBuild",
        "OpenStdin",
        "Shell",
        "StdinOnce",
        "StopSignal",
        "StopTimeout",
        "Tty",
        "User",
        "Volumes",
        "WorkingDir",
    ],
    below: &[("Healthcheck", &HEALTH)],
};
static HEALTH: Names =
    Names { known: &["Interval", "Retries", "StartInterval", "StartPeriod", "Test", "Timeout"], below: &[] };
static HISTORY: Names = Names { known: &["author", "comment", "created", "created_by", "empty_layer"], below: &[] };
static ROOTFS: Names = Names { known: &["diff_ids", "type"], below: &[] };

/// Refuses keys that Go's decoder takes for another: clients are written in Go, where case does not tell keys apart and the last one
/// counts. Keys that are data (labels, volumes, ports) are not names.
fn check(value: &Value, names: &Names) -> Result<(), String> {
    match value {
        Value::Object(object) => check_object(object, names),
        Value::Array(list) => list.iter().try_for_each(|value| check(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn check_object(object: &Map<String, Value>, names: &Names) -> Result<(), String> {
    for (key, value) in object {
        let folded = fold_key(key);
        if let Some(meant) = names.known.iter().find(|known| fold_key(known) == folded && *known != key) {
            return Err(format!("key \"{}\" may be read as \"{meant}\"", key.escape_debug()));
        }
        if let Some((_, names)) = names.below.iter().find(|(name, _)| name == key) {
            check(value, names)?;
        }
    }
    Ok(())
}

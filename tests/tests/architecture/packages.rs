//! Cargo's view of the workspace.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// A member of the workspace.
pub struct Package {
    pub name: String,
    pub manifest: PathBuf,
    /// Name, and whether it is for tests only.
    pub dependencies: Vec<(String, bool)>,
    pub features: Vec<String>,
}

impl Package {
    /// Names of dependencies that are not for tests only.
    pub fn shipped(&self) -> impl Iterator<Item = &str> {
        self.dependencies.iter().filter(|(_, is_dev)| !is_dev).map(|(name, _)| name.as_str())
    }
}

/// The members of the workspace and their direct dependencies. Needs no network.
pub fn packages() -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(root().join("Cargo.toml"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().iter().map(package).collect()
}

fn package(from: &Value) -> Package {
    let dependency = |from: &Value| {
        (from["name"].as_str().unwrap().to_owned(), from["kind"].as_str().is_some_and(|kind| kind == "dev"))
    };
    Package {
        name: from["name"].as_str().unwrap().into(),
        manifest: from["manifest_path"].as_str().unwrap().into(),
        dependencies: from["dependencies"].as_array().unwrap().iter().map(dependency).collect(),
        features: from["features"].as_object().unwrap().keys().cloned().collect(),
    }
}

/// The workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// `sigstore-*` means every name that begins so, any other pattern itself.
pub fn is_meant(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

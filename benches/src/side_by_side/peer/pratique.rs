//! pratique: the built-in policy, which asks for a keyless signature, and default settings.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use super::Certificate;
use crate::side_by_side::{
    Failure,
    process::{Running, free_address},
    world::World,
};

/// `$PRATIQUE_BIN`, else what lies beside this program.
pub(super) fn program() -> Result<PathBuf, Failure> {
    let beside = || Ok(std::env::current_exe()?.with_file_name("pratique"));
    let program = std::env::var_os("PRATIQUE_BIN").map_or_else(beside, |path| Ok::<_, Failure>(PathBuf::from(path)))?;
    if program.is_file() { Ok(program) } else { Err("not built: cargo build --release -p proxy -p benches".into()) }
}

pub(super) fn start(
    directory: &Path,
    world: &World,
    upstream: SocketAddr,
    certificate: Option<&Certificate>,
) -> Result<(Running, SocketAddr), Failure> {
    let address = free_address()?;
    let tls = certificate.map_or_else(String::new, |files| {
        format!("[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n", files.chain.display(), files.key.display())
    });
    fs::write(directory.join("trusted_root.json"), &world.trusted_root)?;
    let config = directory.join("pratique.toml");
    fs::write(
        &config,
        format!(
            "listen = \"{address}\"\n{tls}[storage]\npath = \"store\"\n[policy]\ntrust_root = \"trusted_root.json\"\n\
             trust_root_warn_age = \"3650d\"\n[[upstreams]]\nname = \"cgr.dev\"\nurl = \"http://{upstream}\"\nprefix = \"\"\n"
        ),
    )?;
    let mut command = Command::new(program()?);
    command.arg("serve").arg("--config").arg(&config);
    let ours = std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("PRATIQUE_"));
    ours.for_each(|name| {
        command.env_remove(name);
    });
    Ok((Running::start(&mut command, &directory.join("log"), address)?, address))
}

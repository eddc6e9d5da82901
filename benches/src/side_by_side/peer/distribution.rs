//! docker-registry as a pull-through cache, without its access log.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use super::{Certificate, installed};
use crate::side_by_side::{
    Failure,
    process::{Running, free_address},
};

pub(super) fn start(
    directory: &Path,
    upstream: SocketAddr,
    certificate: Option<&Certificate>,
) -> Result<(Running, SocketAddr), Failure> {
    let address = free_address()?;
    let tls = certificate.map_or_else(String::new, |files| {
        format!("  tls:\n    certificate: {}\n    key: {}\n", files.chain.display(), files.key.display())
    });
    let config = directory.join("registry.yml");
    let store = directory.join("store");
    fs::write(
        &config,
        format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: \"{address}\"\n  secret: bench\n{tls}proxy:\n  remoteurl: \"http://{upstream}\"\n",
            store.display()
        ),
    )?;
    let mut command = Command::new(installed("docker-registry")?);
    command.arg("serve").arg(&config);
    Ok((Running::start(&mut command, &directory.join("log"), address)?, address))
}

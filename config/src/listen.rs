//! Where clients and operators connect.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use figment::value::magic::RelativePathBuf;
use serde::{
    Deserialize,
    de::{Deserializer, Error, Unexpected, Visitor},
};

use crate::{ConfigError, Upstream, notes::Notes, sources::Sources, text::is_world_readable};

/// `[tls]`: the listener speaks TLS, with HTTP/2 by ALPN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM: the certificate, then its chain.
    pub certificate: PathBuf,
    /// PEM: the private key.
    pub key: PathBuf,
}

/// `[tls]` as written. The two may come from different sources, so neither is required until all are merged.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrittenTls {
    certificate: Option<RelativePathBuf>,
    key: Option<RelativePathBuf>,
}

impl WrittenTls {
    pub(crate) fn check(self, sources: &Sources, notes: &mut Notes) -> Result<Tls, ConfigError> {
        let path = |key: &str, written: Option<RelativePathBuf>| {
            let path = written.ok_or_else(|| sources.missing(key, "a PEM file"))?.relative();
            existing_file(key, path, sources)
        };
        let certificate = path("tls.certificate", self.certificate)?;
        let key = path("tls.key", self.key)?;
        note_if_world_readable("tls.key", &key, notes);
        Ok(Tls { certificate, key })
    }
}

/// An IP address with a port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address(pub(crate) SocketAddr);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AddressVisitor)
    }
}

struct AddressVisitor;

impl Visitor<'_> for AddressVisitor {
    type Value = Address;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an IP address and a port such as \"127.0.0.1:5000\" or \"[::1]:5000\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Address, E> {
        text.parse().map(Address).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

/// Plain HTTP beyond loopback must have been asked for, and is told.
pub(crate) fn check_plain(
    key: &str,
    address: SocketAddr,
    insecure: bool,
    sources: &Sources,
    notes: &mut Notes,
) -> Result<(), ConfigError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    if !insecure {
        let problem = format!("{address} is reached from beyond this machine, over plain HTTP");
        let way_out = if key == "listen" { "configure [tls], listen on 127.0.0.1," } else { "listen on 127.0.0.1" };
        return Err(sources.conflict(key, problem, format!("{way_out} or set insecure = true")));
    }
    notes.weakened(format!(
        "{key}: plain HTTP on {address}, beyond loopback: what is asked and answered can be read and changed on the way"
    ));
    Ok(())
}

/// The path, if a file is there.
pub(crate) fn existing_file(key: &str, path: PathBuf, sources: &Sources) -> Result<PathBuf, ConfigError> {
    if path.is_file() {
        return Ok(path);
    }
    Err(sources.unexpected(key, "a file that exists", &path.to_string_lossy()))
}

/// A secret that anybody on this machine can read is worth a line.
pub(crate) fn note_if_world_readable(key: &str, path: &Path, notes: &mut Notes) {
    if is_world_readable(path) {
        notes.weakened(format!(
            "{key}: {} can be read by every user of this machine (chmod 0600 ends that)",
            path.display()
        ));
    }
}

/// Clients and operators need sockets of their own.
pub(crate) fn check_apart(listen: SocketAddr, admin: SocketAddr, sources: &Sources) -> Result<(), ConfigError> {
    if listen != admin || listen.port() == 0 {
        return Ok(());
    }
    Err(sources.conflict("admin_listen", format!("{admin} is also listen"), "give it a port of its own"))
}

/// pratique does not ask clients who they are: whoever reaches it pulls as the operator.
pub(crate) fn note_lent_credentials(listen: SocketAddr, upstreams: &[Upstream], notes: &mut Notes) {
    if listen.ip().is_loopback() {
        return;
    }
    let lent = |upstream: &&Upstream| upstream.credentials.is_some() || upstream.docker_config.is_some();
    for upstream in upstreams.iter().filter(lent) {
        let name = upstream.name.as_str();
        notes.weakened(format!(
            "listen: everyone who reaches {listen} pulls from {name} with the configured credentials"
        ));
    }
}

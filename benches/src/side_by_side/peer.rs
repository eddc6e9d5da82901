//! What is compared: three caches, each as its documentation says it is to be set up for this.

mod distribution;
pub mod nginx;
mod pratique;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use super::{Failure, process::Running, world::World};

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// This project's.
    Pratique,
    /// nginx with `proxy_cache`; verifies nothing.
    Nginx,
    /// docker-registry as a pull-through cache; verifies no signatures.
    Distribution,
}

impl Kind {
    /// All, in the order of the tables.
    pub const ALL: [Self; 3] = [Self::Pratique, Self::Nginx, Self::Distribution];

    /// What tables call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pratique => "pratique",
            Self::Nginx => "nginx",
            Self::Distribution => "distribution",
        }
    }

    /// Where its program is.
    ///
    /// # Errors
    /// When it is not there, with what to do about it.
    pub fn program(self) -> Result<PathBuf, Failure> {
        match self {
            Self::Pratique => pratique::program(),
            Self::Nginx => installed("nginx"),
            Self::Distribution => installed("docker-registry"),
        }
    }

    /// What its program says of its version, in one line.
    pub fn version(self) -> Option<String> {
        let flag = if self == Self::Nginx { "-v" } else { "--version" };
        let said = Command::new(self.program().ok()?).arg(flag).output().ok()?;
        let said = if said.stdout.is_empty() { said.stderr } else { said.stdout };
        String::from_utf8(said).ok()?.lines().next().map(str::to_owned)
    }
}

/// A running cache with an empty store of its own. Dropping it ends it and deletes its store.
pub struct Peer {
    /// Which one.
    pub kind: Kind,
    /// Where it listens on loopback.
    pub address: SocketAddr,
    /// Whether it speaks TLS there.
    pub tls: bool,
    /// The process. Named before the directory, so that it ends before its files go.
    pub running: Running,
    _directory: TempDir,
}

impl Peer {
    /// Starts one in front of `upstream`.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(kind: Kind, world: &World, upstream: SocketAddr, tls: bool) -> Result<Self, Failure> {
        let directory = tempfile::tempdir()?;
        let path = directory.path();
        let certificate = if tls { Some(Certificate::write(path, world)?) } else { None };
        let (running, address) = match kind {
            Kind::Pratique => pratique::start(path, world, upstream, certificate.as_ref()),
            Kind::Nginx => nginx::cache(path, upstream, certificate.as_ref()),
            Kind::Distribution => distribution::start(path, upstream, certificate.as_ref()),
        }
        .map_err(|error| format!("{} does not start: {error}", kind.name()))?;
        Ok(Self { kind, address, tls, running, _directory: directory })
    }
}

/// The two files of a TLS listener.
struct Certificate {
    chain: PathBuf,
    key: PathBuf,
}

impl Certificate {
    fn write(directory: &Path, world: &World) -> Result<Self, Failure> {
        let this = Self { chain: directory.join("tls.crt"), key: directory.join("tls.key") };
        std::fs::write(&this.chain, &world.certificate.0)?;
        std::fs::write(&this.key, &world.certificate.1)?;
        Ok(this)
    }
}

/// A program in the search path, or where distributions put servers.
fn installed(name: &str) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = places.find_map(|place| Some(place.join(name)).filter(|file| file.is_file()));
    found.ok_or_else(|| format!("{name} is not installed").into())
}

//! An [`Upstream`] against small servers on loopback that behave, and mostly misbehave, as told.

mod content;
mod frames;
mod helpers;
mod lists;
mod names;
mod outages;
mod proxies;
mod redirects;
mod secrets;
mod server;
mod silent;
mod tokens;

use std::{path::PathBuf, sync::Arc, time::Duration};

use config::{Credentials, HostPort, Limits, Proxies, Scheme, UpstreamUrl};
use oci::{Digest, Reference, RepositoryPath};

use self::server::Server;
use super::{Fetched, Network, System, Upstream, UpstreamError};

/// An upstream's configuration; credentials live as long as it does.
struct Setup {
    upstream: config::Upstream,
    limits: Limits,
    proxies: Proxies,
    network: Arc<dyn Network>,
    files: tempfile::TempDir,
}

impl Setup {
    fn at(scheme: Scheme, host: &str, port: u16) -> Self {
        let upstream = config::Upstream {
            name: "cgr.dev".parse().unwrap(),
            url: UpstreamUrl { scheme, host: host.into(), port },
            prefix: String::new(),
            credentials: None,
            docker_config: None,
            password_expires: None,
            credentials_warn_age: Duration::ZERO,
            ca_file: None,
            realms: Vec::new(),
            redirects: Vec::new(),
        };
        Self {
            upstream,
            limits: Limits::default(),
            proxies: Proxies::default(),
            network: Arc::new(System::default()),
            files: tempfile::tempdir().unwrap(),
        }
    }

    fn of(server: &Server) -> Self {
        Self::named(server, "127.0.0.1", server.port())
    }

    /// Where `server` is known by another name.
    fn named(server: &Server, host: &str, port: u16) -> Self {
        let scheme = if server.is_tls() { Scheme::Https } else { Scheme::Http };
        let mut setup = Self::at(scheme, host, port);
        if let Some(pem) = server.ca_pem() {
            setup.upstream.ca_file = Some(setup.file("ca.pem", pem));
        }
        setup
    }

    #[expect(clippy::disallowed_methods, reason = "the operator's own files, which the product only reads")]
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn credentials(mut self, username: &str, password: &str) -> Self {
        let password_file = self.file("password", &format!("{password}\n"));
        self.upstream.credentials = Some(Credentials { username: username.into(), password_file });
        self
    }

    fn realm(mut self, server: &Server) -> Self {
        self.upstream.realms.push(listed(server));
        self
    }

    fn redirect(mut self, server: &Server) -> Self {
        self.upstream.redirects.push(listed(server));
        self
    }

    fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.limits);
        self
    }

    fn build(&self) -> Upstream {
        Upstream::within(&self.upstream, &self.limits, &self.proxies, &self.network).unwrap()
    }

    /// By a reload, in place of `former`.
    fn build_after(&self, former: &Upstream) -> Upstream {
        Upstream::after(Some(former), &self.upstream, &self.limits, &self.proxies, &self.network).unwrap()
    }
}

fn listed(server: &Server) -> HostPort {
    HostPort { host: "127.0.0.1".into(), port: Some(server.port()) }
}

fn repository() -> RepositoryPath {
    "chainguard/nginx".parse().unwrap()
}

fn latest() -> Reference {
    "latest".parse().unwrap()
}

fn digest() -> Digest {
    Digest::sha256(b"blob")
}

const SOON: Duration = Duration::from_millis(50);

async fn manifest(upstream: &Upstream) -> Result<Fetched, UpstreamError> {
    upstream.manifest(&repository(), &latest()).await
}

/// Start and bytes of a blob read to its end.
async fn blob(upstream: &Upstream, offset: u64) -> Result<(u64, Vec<u8>), UpstreamError> {
    let mut stream = upstream.blob(&repository(), &digest(), offset).await?;
    let mut bytes = Vec::new();
    while let Some(more) = stream.next().await? {
        bytes.extend_from_slice(&more);
    }
    Ok((stream.start(), bytes))
}

//! Which registry is to be started.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::listen::{Running, Shared};
use super::tls::{Certificate, TestCa};
use super::token::TokenAuth;
use super::{Place, Registry};

/// How the registry answers for referrers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Referrers {
    /// 404, as registries before the specification 1.1 do: clients turn to the referrers tag.
    Missing,
    /// The API, everything in one page.
    Api,
    /// The API, with at most so many descriptors in a page and a `Link` to the next.
    Paged(usize),
}

/// Settings of a [`Registry`] to be.
#[derive(Debug)]
pub struct Builder {
    ca: Option<TestCa>,
    options: Options,
}

/// What decides how the running registry answers.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own, and no two exclude each other")]
pub(super) struct Options {
    pub(super) https: bool,
    pub(super) http1_only: bool,
    pub(super) plain: BTreeSet<Place>,
    pub(super) certificates: BTreeMap<Place, Certificate>,
    pub(super) hosts: BTreeMap<Place, String>,
    pub(super) ports: BTreeMap<Place, u16>,
    pub(super) token_auth: Option<TokenAuth>,
    pub(super) redirect_blobs: bool,
    pub(super) ignore_ranges: bool,
    pub(super) referrers: Referrers,
    pub(super) tags_page_max: usize,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            ca: None,
            options: Options {
                https: false,
                http1_only: false,
                plain: BTreeSet::new(),
                certificates: BTreeMap::new(),
                hosts: BTreeMap::new(),
                ports: BTreeMap::new(),
                token_auth: None,
                redirect_blobs: false,
                ignore_ranges: false,
                referrers: Referrers::Api,
                tags_page_max: 1000,
            },
        }
    }
}

impl Builder {
    /// All places speak TLS, HTTP/2 and HTTP/1.1 by ALPN, with certificates of a CA made on the spot.
    #[must_use]
    pub fn https(mut self) -> Self {
        self.options.https = true;
        self
    }

    /// Certificates come from this CA, so that several registries can share one.
    #[must_use]
    pub fn ca(mut self, ca: &TestCa) -> Self {
        self.ca = Some(ca.clone());
        self
    }

    /// This place shows another certificate than a good one.
    #[must_use]
    pub fn certificate(mut self, place: Place, certificate: Certificate) -> Self {
        self.options.certificates.insert(place, certificate);
        self
    }

    /// This place speaks plain HTTP although the others speak TLS.
    #[must_use]
    pub fn plain(mut self, place: Place) -> Self {
        self.options.plain.insert(place);
        self
    }

    /// No HTTP/2.
    #[must_use]
    pub fn http1_only(mut self) -> Self {
        self.options.http1_only = true;
        self
    }

    /// Under which name this place is told to others (`localhost`, or `NAME.cloud.example` behind a forward proxy; else `127.0.0.1`). Good
    /// certificates are valid for all of them.
    #[must_use]
    pub fn host(mut self, place: Place, host: &str) -> Self {
        self.options.hosts.insert(place, host.to_owned());
        self
    }

    /// This place listens on this port instead of one that the operating system picks.
    #[must_use]
    pub fn port(mut self, place: Place, port: u16) -> Self {
        self.options.ports.insert(place, port);
        self
    }

    /// Everything under `/v2/` wants a bearer token, or the account itself.
    #[must_use]
    pub fn token_auth(mut self, token_auth: TokenAuth) -> Self {
        self.options.token_auth = Some(token_auth);
        self
    }

    /// GET and HEAD of a blob are answered by a 307 to a presigned URL at [`Place::Storage`].
    #[must_use]
    pub fn redirect_blobs(mut self) -> Self {
        self.options.redirect_blobs = true;
        self
    }

    /// Answers every Range with the whole blob.
    #[must_use]
    pub fn ignore_ranges(mut self) -> Self {
        self.options.ignore_ranges = true;
        self
    }

    /// How it answers for referrers; without this, [`Referrers::Api`].
    #[must_use]
    pub fn referrers(mut self, referrers: Referrers) -> Self {
        self.options.referrers = referrers;
        self
    }

    /// No page of tags is longer than this, whatever `n` asks for; without this, 1000.
    #[must_use]
    pub fn tags_page_max(mut self, tags: usize) -> Self {
        self.options.tags_page_max = tags;
        self
    }

    /// Listens nowhere: connections are made by [`Registry::line`]. Plain HTTP at every place, each of which has the port that it was given
    /// by [`port`](Self::port), and 0 without.
    ///
    /// # Errors
    ///
    /// When no key could be made.
    pub fn in_memory(self) -> io::Result<Registry> {
        let ca = match self.ca {
            Some(ca) => ca,
            None => TestCa::new().map_err(io::Error::other)?,
        };
        let ports = self.options.ports.clone();
        let shared = Arc::new(Shared::new(self.options, ca));
        shared.set_ports(ports);
        Ok(Registry { shared, running: None, closed: None })
    }

    /// Listens and serves, within the tokio runtime it is called in.
    ///
    /// # Errors
    ///
    /// When a port is taken, or no key or certificate could be made.
    pub async fn start(self) -> io::Result<Registry> {
        let ca = match self.ca {
            Some(ca) => ca,
            None => TestCa::new().map_err(io::Error::other)?,
        };
        let shared = Arc::new(Shared::new(self.options, ca));
        let running = Running::start(&shared).await?;
        Ok(Registry { shared, running: Some(running), closed: None })
    }
}

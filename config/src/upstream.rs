//! The registries behind pratique.

mod address;

use std::{path::PathBuf, time::Duration};

use figment::value::magic::RelativePathBuf;
use oci::{RepositoryPath, UnixTime, UpstreamName};
use serde::Deserialize;

pub use address::{HostPort, Scheme, UpstreamUrl};

use crate::{
    ConfigError, Secret,
    listen::{existing_file, note_if_world_readable},
    notes::Notes,
    sources::Sources,
    text::read_text,
    units,
};

/// One `[[upstreams]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The name that policies and `?ns=` use.
    pub name: UpstreamName,
    /// Where it is asked. Default `https://<name>`; Docker Hub's is `https://registry-1.docker.io`.
    pub url: UpstreamUrl,
    /// The path prefix on this side, whole path segments; `""` is the default upstream. Default: `""` for an only upstream, else the name.
    pub prefix: String,
    /// Who pratique is there; nobody where absent.
    pub credentials: Option<Credentials>,
    /// Docker's configuration file, from which credentials are taken instead, or from the helper that it names.
    pub docker_config: Option<PathBuf>,
    /// When the password ends, where it does not say so itself as pull tokens do.
    pub password_expires: Option<UnixTime>,
    /// So long before its end a password is told. Default 14d.
    pub credentials_warn_age: Duration,
    /// PEM certificates trusted for this upstream besides the CA roots compiled in.
    pub ca_file: Option<PathBuf>,
    /// Further hosts that may receive these credentials. Docker Hub brings `auth.docker.io`.
    pub realms: Vec<HostPort>,
    /// Further hosts, private ones too, that a redirect may lead to; they get no credentials.
    pub redirects: Vec<HostPort>,
}

/// Who pratique is at an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// Holds the password, read at start and at each reload.
    pub password_file: PathBuf,
}

impl Credentials {
    /// The password: the file's text without the newline at its end.
    ///
    /// # Errors
    ///
    /// The file cannot be read or holds nothing.
    pub fn read_password(&self) -> Result<Secret<String>, ConfigError> {
        const BYTES_MAX: u64 = 64 << 10;
        let text = read_text(&self.password_file, BYTES_MAX)?;
        let password = text.trim_end_matches(['\r', '\n']);
        if password.is_empty() {
            return Err(ConfigError::Empty { path: self.password_file.clone(), expected: "a password" });
        }
        Ok(Secret::new(password.to_owned()))
    }
}

/// How long before its end a password is told, where nothing is written.
const WARN_AGE: Duration = Duration::from_secs(14 * 86_400);

/// A duration that may be left out.
#[derive(Deserialize)]
struct WarnAge(#[serde(deserialize_with = "units::duration")] Duration);

/// One `[[upstreams]]` as written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WrittenUpstream {
    name: Option<String>,
    url: Option<String>,
    prefix: Option<String>,
    username: Option<String>,
    password_file: Option<RelativePathBuf>,
    docker_config: Option<RelativePathBuf>,
    password_expires: Option<String>,
    credentials_warn_age: Option<WarnAge>,
    ca_file: Option<RelativePathBuf>,
    realms: Vec<String>,
    redirects: Vec<String>,
}

/// All of them. Nothing written is cgr.dev.
pub(crate) fn check(
    written: Option<Vec<WrittenUpstream>>,
    sources: &Sources,
    notes: &mut Notes,
) -> Result<Vec<Upstream>, ConfigError> {
    let written = written.unwrap_or_else(|| {
        notes.told("upstreams is not set: serving cgr.dev");
        vec![WrittenUpstream { name: Some("cgr.dev".into()), ..WrittenUpstream::default() }]
    });
    if written.is_empty() {
        return Err(ConfigError::Unexpected {
            place: sources.place("upstreams"),
            expected: "at least one upstream".into(),
            written: "an empty list".into(),
            hint: Some("without the key, cgr.dev is served".into()),
        });
    }
    let only = written.len() == 1;
    let mut upstreams: Vec<Upstream> = Vec::with_capacity(written.len());
    for (index, one) in written.into_iter().enumerate() {
        let upstream = Section { index, sources }.check(one, only, notes)?;
        distinct(index, &upstream, &upstreams, sources)?;
        upstreams.push(upstream);
    }
    if upstreams.iter().all(|upstream| !upstream.prefix.is_empty()) {
        notes.told("no upstream has prefix = \"\": a pull that names neither a prefix nor ?ns= finds nothing");
    }
    Ok(upstreams)
}

/// Two that clients or policies could not tell apart are an error.
fn distinct(index: usize, upstream: &Upstream, earlier: &[Upstream], sources: &Sources) -> Result<(), ConfigError> {
    for (other_index, other) in earlier.iter().enumerate() {
        if other.name.canonical() == upstream.name.canonical() {
            let problem = format!(
                "\"{}\" names the same registry as upstreams[{other_index}] (\"{}\")",
                upstream.name.as_str(),
                other.name.as_str()
            );
            return Err(sources.conflict(&format!("upstreams[{index}].name"), problem, "give each registry once"));
        }
        if other.prefix == upstream.prefix {
            let problem = format!("\"{}\" is also the prefix of upstreams[{other_index}]", upstream.prefix);
            return Err(sources.conflict(
                &format!("upstreams[{index}].prefix"),
                problem,
                "give each upstream a prefix of its own",
            ));
        }
    }
    Ok(())
}

/// One element of the list, and how to speak of its keys.
struct Section<'a> {
    index: usize,
    sources: &'a Sources,
}

impl Section<'_> {
    fn key(&self, name: &str) -> String {
        format!("upstreams[{}].{name}", self.index)
    }

    fn check(&self, written: WrittenUpstream, only: bool, notes: &mut Notes) -> Result<Upstream, ConfigError> {
        let name = self.name(written.name)?;
        let url = self.url(written.url, &name)?;
        let prefix = self.prefix(written.prefix, &name, only)?;
        let has_password = written.username.is_some() || written.password_file.is_some();
        let docker_config = written.docker_config.map(|path| self.docker_config(&path, has_password, &url, notes));
        let docker_config = docker_config.transpose()?;
        let credentials = self.credentials(written.username, written.password_file, &url, notes)?;
        let password_expires = written.password_expires.map(|text| self.time("password_expires", &text)).transpose()?;
        let credentials_warn_age = written.credentials_warn_age.map_or(WARN_AGE, |WarnAge(age)| age);
        let ca_file = written
            .ca_file
            .map(|path| existing_file(&self.key("ca_file"), path.relative(), self.sources))
            .transpose()?;
        let mut realms = self.hosts("realms", &written.realms)?;
        if name.is_docker_hub() && url.host == DOCKER_HUB_HOST {
            realms.push(HostPort { host: "auth.docker.io".into(), port: None });
        }
        let redirects = self.hosts("redirects", &written.redirects)?;
        if url.scheme == Scheme::Http {
            if ca_file.is_some() {
                let problem = format!("no certificate is looked at for {url}");
                return Err(self.sources.conflict(
                    &self.key("ca_file"),
                    problem,
                    "write https:// in url, or leave ca_file out",
                ));
            }
            if !url.is_loopback() {
                notes.weakened(format!(
                    "{}: plain HTTP to {url}: what is asked, and where a tag points, can be read and changed on the way",
                    self.key("url")
                ));
            }
        }
        Ok(Upstream {
            name,
            url,
            prefix,
            credentials,
            docker_config,
            password_expires,
            credentials_warn_age,
            ca_file,
            realms,
            redirects,
        })
    }

    fn time(&self, name: &str, text: &str) -> Result<UnixTime, ConfigError> {
        const EXPECTED: &str = "a date such as \"2026-12-31\", or a time such as \"2026-12-31T12:00:00Z\"";
        text.parse().map_err(|_| self.sources.unexpected(&self.key(name), EXPECTED, text))
    }

    /// Docker's file, where it is named: it is never looked for.
    fn docker_config(
        &self,
        path: &RelativePathBuf,
        has_password: bool,
        url: &UpstreamUrl,
        notes: &mut Notes,
    ) -> Result<PathBuf, ConfigError> {
        let key = self.key("docker_config");
        if has_password {
            let problem = "username and password_file say who pratique is there".to_owned();
            return Err(self.sources.conflict(&key, problem, "leave out the one or the other"));
        }
        if url.scheme == Scheme::Http && !url.is_loopback() {
            let problem = format!("these credentials would travel unencrypted to {url}");
            return Err(self.sources.conflict(&key, problem, "write https:// in url, or leave the credentials out"));
        }
        let path = existing_file(&key, path.relative(), self.sources)?;
        note_if_world_readable(&key, &path, notes);
        Ok(path)
    }

    fn name(&self, written: Option<String>) -> Result<UpstreamName, ConfigError> {
        const EXPECTED: &str = "a registry's lower-case host, with its port where it has one, such as \"cgr.dev\"";
        let key = self.key("name");
        let text = written.ok_or_else(|| self.sources.missing(&key, EXPECTED))?;
        text.parse().map_err(|_| self.sources.unexpected(&key, EXPECTED, &without_user(&text)))
    }

    fn url(&self, written: Option<String>, name: &UpstreamName) -> Result<UpstreamUrl, ConfigError> {
        let text = written.unwrap_or_else(|| {
            let host = if name.is_docker_hub() { DOCKER_HUB_HOST } else { name.as_str() };
            format!("https://{host}")
        });
        text.parse().map_err(|expected: &str| self.sources.unexpected(&self.key("url"), expected, &without_user(&text)))
    }

    fn prefix(&self, written: Option<String>, name: &UpstreamName, only: bool) -> Result<String, ConfigError> {
        let key = self.key("prefix");
        let is_path = |text: &str| text.is_empty() || text.parse::<RepositoryPath>().is_ok();
        match written {
            Some(prefix) if is_path(&prefix) => Ok(prefix),
            Some(prefix) => {
                let expected = "\"\", or lower-case path segments without a slash at either end, such as \"hub\"";
                Err(self.sources.unexpected(&key, expected, &prefix))
            }
            None if only => Ok(String::new()),
            None if is_path(name.as_str()) => Ok(name.as_str().into()),
            None => {
                Err(self.sources.missing(&key, format!("a prefix, as the name \"{}\" cannot be one", name.as_str())))
            }
        }
    }

    fn credentials(
        &self,
        username: Option<String>,
        password_file: Option<RelativePathBuf>,
        url: &UpstreamUrl,
        notes: &mut Notes,
    ) -> Result<Option<Credentials>, ConfigError> {
        let (username, password_file) = match (username, password_file) {
            (None, None) => return Ok(None),
            (Some(username), Some(password_file)) => (username, password_file.relative()),
            (Some(_), None) => {
                return Err(self.sources.missing(&self.key("password_file"), "a file, as username is set"));
            }
            (None, Some(_)) => {
                return Err(self.sources.missing(&self.key("username"), "a user, as password_file is set"));
            }
        };
        if username.is_empty() || username.contains(|c: char| c == ':' || c.is_control()) {
            let expected = "a user without colon or control characters";
            return Err(self.sources.unexpected(&self.key("username"), expected, &username));
        }
        if url.scheme == Scheme::Http && !url.is_loopback() {
            let problem = format!("these credentials would travel unencrypted to {url}");
            return Err(self.sources.conflict(
                &self.key("username"),
                problem,
                "write https:// in url, or leave the credentials out",
            ));
        }
        let credentials = Credentials { username, password_file };
        credentials.read_password()?;
        note_if_world_readable(&self.key("password_file"), &credentials.password_file, notes);
        Ok(Some(credentials))
    }

    fn hosts(&self, name: &str, written: &[String]) -> Result<Vec<HostPort>, ConfigError> {
        let parse = |(index, text): (usize, &String)| {
            let key = format!("{}[{index}]", self.key(name));
            text.parse().map_err(|expected: &str| self.sources.unexpected(&key, expected, &without_user(text)))
        };
        written.iter().enumerate().map(parse).collect()
    }
}

/// Where Docker Hub answers; its name is not a registry.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// The text for an error message, with all before an `@` hidden: there a password may stand.
pub(crate) fn without_user(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, host)) => format!("[secret]@{host}"),
        None => text.into(),
    }
}

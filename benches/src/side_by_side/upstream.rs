//! The upstream of all peers: nginx over files, whose access log says what was asked for.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{
    Failure,
    peer::nginx::{self, Nginx},
    process::Running,
    tree::Tree,
};

/// A running upstream.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    log: PathBuf,
    _running: Running,
}

impl Upstream {
    /// Serves `tree` out of `directory`.
    ///
    /// # Errors
    /// When nginx is missing or does not start.
    pub fn start(directory: &Path, tree: &Tree) -> Result<Self, Failure> {
        let log = directory.join("access.log");
        let (root, tags) = (tree.root.display(), &tree.tags);
        let http = format!(
            "log_format asked '$request_method $uri';
             access_log {log} asked;
             etag off;
             map_hash_bucket_size 512;
             map $uri $tagged {{ default \"\"; {tags} }}
             server {{
               listen {{address}};
               root {root};
               types {{ }}
               location = /v2/ {{ default_type application/json; return 200 \"{{ }}\"; }}
               location ~ \"/manifests/(?<named>sha256:[0-9a-f]+)$\" {{
                 default_type application/vnd.oci.image.manifest.v1+json;
                 add_header Docker-Content-Digest $named;
               }}
               location ~ /manifests/ {{
                 default_type application/vnd.oci.image.manifest.v1+json;
                 add_header Docker-Content-Digest $tagged;
               }}
               location ~ \"/blobs/(?<named>sha256:[0-9a-f]+)$\" {{
                 default_type application/octet-stream;
                 add_header Docker-Content-Digest $named;
               }}
             }}",
            log = log.display(),
        );
        let Nginx { running, address } = nginx::serve(directory, &http)?;
        Ok(Self { address, log, _running: running })
    }

    /// How often `path` was asked for with GET so far. What upstream has just answered may not have been written down yet: this
    /// waits until nothing more comes.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn gets(&self, path: &str) -> Result<usize, Failure> {
        let wanted = format!("GET {path}");
        let mut before = None;
        loop {
            let log = fs::read_to_string(&self.log)?;
            if before == Some(log.len()) {
                return Ok(log.lines().filter(|line| *line == wanted).count());
            }
            before = Some(log.len());
            thread::sleep(Duration::from_millis(200));
        }
    }
}

//! nginx: as a cache, and as the web server that is everybody's upstream.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use super::{Certificate, installed};
use crate::side_by_side::{
    Failure,
    process::{Running, free_address},
};

/// A running nginx.
pub struct Nginx {
    /// Its master; the workers are its children.
    pub running: Running,
    /// Where it listens.
    pub address: SocketAddr,
}

/// nginx with this `http` section, in which `{address}` stands for where it is to listen; everything it writes lies in `directory`.
///
/// # Errors
/// When it is not installed, or does not start.
pub fn serve(directory: &Path, http: &str) -> Result<Nginx, Failure> {
    let address = free_address()?;
    let config = directory.join("nginx.conf");
    // As root, workers would become a user who cannot read a directory that is ours alone.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};", directory.join(name).display()))
        .concat();
    let [log, pid] = ["error.log", "nginx.pid"].map(|name| directory.join(name).display().to_string());
    let http = http.replace("{address}", &address.to_string());
    fs::write(
        &config,
        format!(
            "{user} daemon off; worker_processes auto; worker_rlimit_nofile 65536; pid {pid}; error_log {log};
             events {{ worker_connections 8192; }}
             http {{
               {places}
               sendfile on; tcp_nopush on; keepalive_requests 100000000;
               {http}
             }}"
        ),
    )?;
    let mut command = Command::new(installed("nginx")?);
    command.arg("-p").arg(directory).arg("-e").arg(&log).arg("-c").arg(&config);
    Ok(Nginx { running: Running::start(&mut command, &directory.join("log"), address)?, address })
}

/// nginx with `proxy_cache`: one download for all who wait, everything kept for a day, no access log.
pub(super) fn cache(
    directory: &Path,
    upstream: SocketAddr,
    certificate: Option<&Certificate>,
) -> Result<(Running, SocketAddr), Failure> {
    let (listen, tls) = match certificate {
        None => ("listen {address};", String::new()),
        Some(Certificate { chain, key }) => (
            "listen {address} ssl;",
            format!(
                "ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.3;",
                chain.display(),
                key.display()
            ),
        ),
    };
    let http = format!(
        "access_log off;
         proxy_cache_path {cache} levels=1:2 keys_zone=kept:16m max_size=100g inactive=1d use_temp_path=off;
         upstream origin {{ server {upstream}; keepalive 64; }}
         server {{
           {listen} {tls}
           location / {{
             proxy_pass http://origin;
             proxy_http_version 1.1;
             proxy_set_header Connection \"\";
             proxy_cache kept;
             proxy_cache_key $uri;
             proxy_cache_valid 200 1d;
             proxy_cache_lock on;
             proxy_cache_lock_timeout 1h;
             proxy_cache_lock_age 1h;
           }}
         }}",
        cache = directory.join("cache").display(),
    );
    let Nginx { running, address } = serve(directory, &http)?;
    Ok((running, address))
}

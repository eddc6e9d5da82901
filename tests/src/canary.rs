//! Secrets that are looked for wherever they do not belong: one for each place that takes one, each unlike anything else.

use std::{collections::BTreeSet, fs, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The account at the upstream.
pub const USER: &str = "robot";
/// Its password.
pub const PASSWORD: &str = "canary-password-7c41";
/// Of the account at the forward proxy, which has the same name.
pub const PROXY_PASSWORD: &str = "canary-proxy-password-5f18";
/// Another one, which upstream does not take.
pub const WRONG_PASSWORD: &str = "canary-wrong-password-93d0";
/// What a client sends in headers of its own.
pub const CLIENT: &str = "canary-client-e25b";
/// What a client sends in its query.
pub const QUERY: &str = "canary-query-06af";
/// What a signed address of a storage carries.
pub const SIGNED: &str = "canary-signed-b8d2";

/// Each of them as it is and as it travels, and what else a test has found out to be secret.
#[must_use]
pub fn spellings(others: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let plain = [PASSWORD, PROXY_PASSWORD, WRONG_PASSWORD, CLIENT, QUERY, SIGNED].map(str::to_owned);
    let pairs =
        [PASSWORD, PROXY_PASSWORD, WRONG_PASSWORD, CLIENT].map(|secret| STANDARD.encode(format!("{USER}:{secret}")));
    let alone = [PASSWORD, PROXY_PASSWORD, WRONG_PASSWORD, CLIENT].map(|secret| STANDARD.encode(secret));
    plain.into_iter().chain(pairs).chain(alone).chain(others).collect()
}

/// Those of `secrets` that are in `bytes`.
pub fn within<'a>(secrets: &'a BTreeSet<String>, bytes: &[u8]) -> Vec<&'a str> {
    let is_in = |secret: &&String| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    secrets.iter().filter(is_in).map(String::as_str).collect()
}

/// The files below `directory`, by their path in it, that have one of `secrets` within them.
///
/// # Panics
/// When one cannot be read.
#[must_use]
pub fn files_with(secrets: &BTreeSet<String>, directory: &Path) -> BTreeSet<String> {
    let (mut found, mut folders) = (BTreeSet::new(), vec![directory.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder that can be read") {
            let path = entry.expect("an entry").path();
            let kind = fs::symlink_metadata(&path).expect("its kind").file_type();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && !within(secrets, &fs::read(&path).expect("a file that can be read")).is_empty()
            {
                found.insert(path.strip_prefix(directory).expect("below").display().to_string());
            }
        }
    }
    found
}

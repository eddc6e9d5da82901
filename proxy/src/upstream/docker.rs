//! Credentials out of docker's configuration file, or from the helper that it names: only where the operator has named the file.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use config::Secret;
use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{Pid, Signal, kill_process_group},
};
use serde::Deserialize;

const FILE_BYTES_MAX: u64 = 1 << 20;
const ANSWER_BYTES_MAX: usize = 64 << 10;
const JSON_DEPTH_MAX: usize = 16;
/// A helper may have to unlock something, but nobody is there to be asked for a password.
const HELPER_MAX: Duration = Duration::from_secs(10);
/// Between two looks whether it has said more, or has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A user and a password.
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: Secret<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Document {
    auths: BTreeMap<String, Entry>,
    #[serde(rename = "credHelpers")]
    cred_helpers: BTreeMap<String, String>,
    #[serde(rename = "credsStore")]
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
}

/// A program that hands out credentials, and the server for which it is asked.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Helper {
    pub(super) program: String,
    pub(super) server: String,
}

/// What a helper answers.
#[derive(Deserialize)]
struct Helped {
    #[serde(rename = "Username")]
    username: String,
    #[serde(rename = "Secret")]
    secret: String,
}

/// Where the credentials for an upstream are.
pub(super) enum Place {
    Here(Login),
    Helper(Helper),
}

/// Where the file at `path` has the credentials for `upstream`.
///
/// The error says why there are none, and holds no part of any secret.
pub(super) fn place(upstream: &config::Upstream, path: &Path) -> Result<Place, String> {
    let text = config::read_text(path, FILE_BYTES_MAX).map_err(|error| error.to_string())?;
    let document: Document =
        oci::json::parse(text.as_bytes(), JSON_DEPTH_MAX).map_err(|_| "it is not docker's configuration".to_owned())?;
    let names = names(upstream);
    if let Some((name, helper)) = names.iter().find_map(|name| document.cred_helpers.get_key_value(name)) {
        return Helper::named(helper, name).map(Place::Helper);
    }
    let entry = names.iter().find_map(|name| document.auths.get_key_value(name));
    if let Some(helper) = &document.creds_store {
        // Docker writes an empty entry for what the store keeps, under the name by which the store has it.
        let name = entry.map(|(name, _)| name).or(names.first()).ok_or("it has no name")?;
        return Helper::named(helper, name).map(Place::Helper);
    }
    let Some((name, entry)) = entry else {
        // Somebody may have written a user and more before the host.
        let host = |name: &'_ String| name.rsplit('@').next().unwrap_or_default().to_owned();
        let there: Vec<_> = document.auths.keys().chain(document.cred_helpers.keys()).map(host).collect();
        let there = if there.is_empty() { "nobody".to_owned() } else { there.join(", ") };
        return Err(format!("it has credentials for {}, not for {}", shown(&there), names.join(" or ")));
    };
    if entry.identitytoken.as_ref().is_some_and(|token| !token.is_empty()) {
        return Err(format!("{name} has an identity token, which is not supported: use a pull token"));
    }
    let login = entry.auth.as_deref().and_then(decoded);
    login.map(Place::Here).ok_or_else(|| format!("the entry of {name} holds no user and password"))
}

/// What docker may call the server that `upstream` is asked at, the likeliest name first. What the operator calls it here counts for
/// nothing: a mirror of Docker Hub is no place to send Docker Hub's password to.
fn names(upstream: &config::Upstream) -> Vec<String> {
    const HUB: &str = "registry-1.docker.io";
    let (host, port) = (upstream.url.host.as_str(), upstream.url.port);
    let is_usual = port == 443;
    let mut names = Vec::new();
    if host == HUB && is_usual {
        names.extend(["https://index.docker.io/v1/", "index.docker.io", "docker.io"].map(str::to_owned));
    }
    // Without a port docker means 443.
    for host in is_usual.then(|| host.to_owned()).into_iter().chain([format!("{host}:{port}")]) {
        names.extend([format!("https://{host}"), format!("https://{host}/v1/"), format!("https://{host}/v2/")]);
        names.insert(names.len() - 3, host);
    }
    names
}

fn decoded(auth: &str) -> Option<Login> {
    let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
    // Docker pads what it encodes with zero bytes, in some versions.
    let (username, password) = text.trim_end_matches('\0').split_once(':')?;
    let is_whole = !username.is_empty() && !password.is_empty();
    is_whole.then(|| Login { username: username.to_owned(), password: Secret::new(password.to_owned()) })
}

impl Helper {
    /// `docker-credential-<helper>`.
    fn named(helper: &str, server: &str) -> Result<Self, String> {
        // It becomes the name of a program: no path, and nothing that a shell would read.
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if helper.is_empty() || !helper.bytes().all(is_name) {
            return Err(format!("\"{}\" is not the name of a credential helper", shown(helper)));
        }
        Ok(Self { program: format!("docker-credential-{helper}"), server: server.to_owned() })
    }

    /// What it hands out now. Blocks, for as long as a helper may take.
    pub(super) fn ask(&self) -> Result<Login, String> {
        run(&self.program, &self.server, HELPER_MAX)
    }
}

fn run(program: &str, server: &str, within: Duration) -> Result<Login, String> {
    let mut child = Command::new(program)
        .arg("get")
        .env_clear()
        .envs(config::helper_environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // With all that it starts, so that all of that can be ended.
        .process_group(0)
        .spawn()
        .map_err(|error| format!("{program} cannot be started: {}", error.kind()))?;
    // A helper that does not want the question may answer all the same. A pipe takes more than any name at once, and nobody need read it.
    let _ = child.stdin.take().map(|mut input| input.write_all(server.as_bytes()));
    let answer = hear(&mut child, within);
    // Its number is nobody else's for as long as its end has not been taken note of.
    if answer.is_err() && matches!(child.try_wait(), Ok(None)) {
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    }
    // It has said what it has to say, or has had its time.
    let _ = child.kill();
    let _ = child.wait();
    let answer = answer.map_err(|why| format!("{program} {why}"))?;
    let helped: Option<Helped> = oci::json::parse(&answer, JSON_DEPTH_MAX).ok();
    match helped {
        Some(Helped { username, .. }) if username == "<token>" => {
            Err(format!("{program} has an identity token for {server}, which is not supported: use a pull token"))
        }
        Some(Helped { username, secret }) if !username.is_empty() && !secret.is_empty() => {
            Ok(Login { username, password: Secret::new(secret) })
        }
        Some(_) | None => Err(format!("{program} has nothing for {server}")),
    }
}

/// What a helper says until it says no more or has ended: what it leaves behind may keep its output open for as long as it likes.
fn hear(child: &mut Child, within: Duration) -> Result<Vec<u8>, String> {
    let lost = |error: &io::Error| format!("cannot be listened to: {}", error.kind());
    let mut output = child.stdout.take().ok_or("has no output")?;
    // No read waits: whether a look is worth while is for the helper's end to say, and for the time.
    fcntl_setfl(&output, OFlags::NONBLOCK).map_err(|error| lost(&error.into()))?;
    let (mut answer, mut left) = (Vec::new(), within);
    loop {
        // Before the pipe is looked at: all that it said itself is in there by then.
        let has_ended = child.try_wait().map_err(|error| lost(&error))?.is_some();
        let is_whole = take(&mut output, &mut answer).map_err(|error| lost(&error))?;
        if answer.len() > ANSWER_BYTES_MAX {
            return Err(format!("answers with more than {ANSWER_BYTES_MAX} bytes"));
        }
        if is_whole || has_ended {
            return Ok(answer);
        }
        if left.is_zero() {
            return Err(format!("did not answer within {} s", within.as_secs_f32()));
        }
        sleep(LOOK_EVERY.min(left));
        left = left.saturating_sub(LOOK_EVERY);
    }
}

/// Adds what there is, up to a byte too much. Whether there will be no more.
fn take(output: &mut ChildStdout, answer: &mut Vec<u8>) -> io::Result<bool> {
    let room = (ANSWER_BYTES_MAX + 1).saturating_sub(answer.len());
    match output.take(room as u64).read_to_end(answer) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// Text of the file as it may stand in a line of the log.
fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_default).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the operator's own files and programs")]
mod tests {
    use super::*;

    fn upstream(name: &str, url: &str) -> config::Upstream {
        let text = format!("[[upstreams]]\nname = \"{name}\"\nurl = \"{url}\"\n");
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pratique.toml");
        std::fs::write(&file, text).unwrap();
        let overrides =
            config::Overrides { config: Some(file), storage: Some("store".into()), ..config::Overrides::default() };
        config::load_without_environment(&overrides).unwrap().settings.upstreams.remove(0)
    }

    fn login_of(name: &str, document: &str) -> Result<(String, String), String> {
        login_at(
            name,
            &format!("https://{}", if name == "docker.io" { "registry-1.docker.io" } else { name }),
            document,
        )
    }

    fn login_at(name: &str, url: &str, document: &str) -> Result<(String, String), String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.json");
        std::fs::write(&file, document).unwrap();
        let login = match place(&upstream(name, url), &file)? {
            Place::Here(login) => login,
            Place::Helper(helper) => helper.ask()?,
        };
        Ok((login.username, login.password.expose().clone()))
    }

    fn auths(name: &str) -> String {
        format!(
            r#"{{"auths":{{"{name}":{{"auth":"{}"}},"other.example":{{"auth":"eDp5"}}}}}}"#,
            STANDARD.encode("me:hunter2:x")
        )
    }

    #[test]
    fn an_entry_is_found_by_each_name_that_docker_gives_it() {
        let wanted = Ok(("me".to_owned(), "hunter2:x".to_owned()));
        for name in ["cgr.dev", "https://cgr.dev", "https://cgr.dev/v1/", "https://cgr.dev/v2/", "cgr.dev:443"] {
            assert_eq!(login_of("cgr.dev", &auths(name)), wanted, "{name}");
        }
        for name in ["https://index.docker.io/v1/", "docker.io", "registry-1.docker.io"] {
            assert_eq!(login_of("docker.io", &auths(name)), wanted, "{name}");
        }
    }

    #[test]
    fn a_password_is_for_the_server_that_is_asked_and_for_no_namesake_of_it() {
        for (name, url, entry) in [
            ("docker.io", "https://mirror.example", "https://index.docker.io/v1/"),
            ("cgr.dev", "https://mirror.example", "cgr.dev"),
            ("registry.example", "https://registry.example:8443", "registry.example"),
            ("docker.io", "https://registry-1.docker.io:8443", "docker.io"),
        ] {
            let error = login_at(name, url, &auths(entry)).unwrap_err();
            assert!(error.starts_with("it has credentials for ") && error.contains(entry), "{error}");
        }
        let wanted = Ok(("me".to_owned(), "hunter2:x".to_owned()));
        assert_eq!(login_at("cgr.dev", "https://mirror.example:8443", &auths("mirror.example:8443")), wanted);
        let error = login_of("cgr.dev", &auths("me:hunter2@cgr.example")).unwrap_err();
        assert!(error.contains("it has credentials for cgr.example, other.example"), "{error}");
    }

    #[test]
    fn what_is_not_there_is_told_without_a_secret() {
        for (document, says) in [
            (auths("cgr.example"), "it has credentials for cgr.example, other.example, not for cgr.dev"),
            ("{}".to_owned(), "it has credentials for nobody"),
            ("[hunter2".to_owned(), "it is not docker's configuration"),
            (r#"{"auths":{"cgr.dev":{"auth":"hunter2"}}}"#.to_owned(), "holds no user and password"),
            (r#"{"auths":{"cgr.dev":{"auth":""}}}"#.to_owned(), "holds no user and password"),
            (r#"{"auths":{"cgr.dev":{"auth":"eDp5","identitytoken":"hunter2"}}}"#.to_owned(), "use a pull token"),
            (
                r#"{"credHelpers":{"cgr.dev":"../evil"}}"#.to_owned(),
                "\"../evil\" is not the name of a credential helper",
            ),
            (r#"{"credsStore":"no-such-helper-anywhere"}"#.to_owned(), "cannot be started"),
        ] {
            let error = login_of("cgr.dev", &document).unwrap_err();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    /// What a program says that does `script`, where helpers are looked for by its whole name.
    fn asked(script: &str, within: Duration) -> Result<(String, String), String> {
        let directory = tempfile::tempdir().unwrap();
        let (text, program) = (directory.path().join("text"), directory.path().join("docker-credential-test"));
        std::fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
        // By another process: what this one has open for writing, all that its other tests start have open for a moment too, and nobody can
        // run it meanwhile.
        let installed = Command::new("install").args(["-m", "700"]).args([&text, &program]).status().unwrap();
        assert!(installed.success());
        let login = run(program.to_str().unwrap(), "cgr.dev", within);
        login.map(|login| (login.username, login.password.expose().clone()))
    }

    #[test]
    fn a_helper_is_asked_for_this_server_and_told_nothing_else() {
        let script = r#"read server; echo "{\"ServerURL\":\"$server\",\"Username\":\"$1 $server\",\"Secret\":\"s${CARGO_PKG_NAME}\"}""#;
        assert_eq!(asked(script, HELPER_MAX), Ok(("get cgr.dev".to_owned(), "s".to_owned())));
    }

    #[test]
    fn a_helper_that_has_nothing_hangs_or_babbles_is_not_believed() {
        let soon = Duration::from_secs(3);
        for (script, says) in [
            ("echo 'credentials not found in native keychain'; exit 1", "has nothing for cgr.dev"),
            ("exec sleep 1000", "did not answer within 3 s"),
            ("exec cat /dev/zero", "answers with more than 65536 bytes"),
            (r#"echo '{"Username":"<token>","Secret":"hunter2"}'"#, "use a pull token"),
            (r#"echo '{"Username":"","Secret":"hunter2"}'"#, "has nothing for cgr.dev"),
        ] {
            let error = asked(script, soon).unwrap_err();
            assert!(error.contains(says), "{script}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    /// Keeps the helper's output open for as long as its file is there.
    const LEFT_BEHIND: &str = r#"(while [ -e "$0" ]; do sleep 0.05; done) &"#;

    #[test]
    fn a_helper_is_listened_to_until_its_end_and_what_it_leaves_behind_is_not() {
        let soon = Duration::from_secs(2);
        let answer = r#"echo '{"Username":"me","Secret":"hunter2"}'"#;
        for script in [format!("{LEFT_BEHIND} {answer}"), format!("{answer}; {LEFT_BEHIND}")] {
            assert_eq!(asked(&script, soon), Ok(("me".to_owned(), "hunter2".to_owned())), "{script}");
        }
        for (script, says) in [
            (LEFT_BEHIND.to_owned(), "has nothing for cgr.dev"),
            // Whether it answers later is nothing to us: a helper that sent its work away has ended without an answer.
            (format!("(sleep 0.5; {answer}) &"), "has nothing for cgr.dev"),
            ("cat /dev/zero & sleep 0.2".to_owned(), "docker-credential-test answers with more than 65536 bytes"),
            (format!("{LEFT_BEHIND} echo hunter2; exit 1"), "has nothing for cgr.dev"),
        ] {
            let error = asked(&script, soon).unwrap_err();
            assert!(error.contains(says) && !error.contains("did not answer"), "{script}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_helper_that_takes_too_long_is_ended_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let noted = directory.path().join("started");
        let script = format!("sleep 1000 & echo $! > '{}'; wait", noted.display());
        let error = asked(&script, Duration::from_secs(3)).unwrap_err();
        assert!(error.contains("docker-credential-test did not answer within 3 s"), "{error}");
        let started = std::fs::read_to_string(&noted).unwrap();
        // Until somebody takes note of its end it is a zombie.
        let is_there = || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", started.trim()));
            state.is_ok_and(|state| !state.contains(") Z "))
        };
        for _ in 0..100 {
            if !is_there() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("process {started} goes on");
    }
}

//! A secret in every place that takes one, a server that tells everything it can, and a look at all that it leaves behind.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use support::{
    canary,
    client::{Answer, Client},
    image::{self, Image},
    process::{self, Process},
    upstream::{Call, Certificate, Fault, Place, Registry, TestCa, TokenAuth, noise},
    world::{Setup, World},
};
use tokio::process::Command;

use crate::{REPOSITORY, admin_url, administered, get};

/// What the TLS key is known by: the lines of its PEM text.
fn lines_of(key: &str) -> Vec<String> {
    key.lines().filter(|line| line.len() > 20 && !line.starts_with('-')).map(str::to_owned).collect()
}

/// Where the account at the upstream stands.
#[derive(Clone, Copy)]
enum Account {
    PasswordFile,
    DockerConfig,
    Helper,
}

impl Account {
    fn file(self) -> &'static str {
        match self {
            // From there the helper has it.
            Self::PasswordFile | Self::Helper => "password",
            Self::DockerConfig => "docker.json",
        }
    }

    /// What that file says.
    fn text(self, world: &World, password: &str) -> String {
        match self {
            Self::PasswordFile | Self::Helper => password.to_owned(),
            Self::DockerConfig => {
                let auth = STANDARD.encode(format!("{}:{password}", canary::USER));
                format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{auth}\"}}}}}}", world.registry.host_port())
            }
        }
    }

    /// How the configuration names it.
    fn lines(self) -> String {
        match self {
            Self::PasswordFile => format!("username = \"{}\"\npassword_file = \"password\"", canary::USER),
            Self::DockerConfig | Self::Helper => "docker_config = \"docker.json\"".to_owned(),
        }
    }
}

/// What the upstream wants to see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wants {
    Tokens,
    Basic,
}

/// A credential helper for the upstream, and what names it.
fn write_helper(world: &World) {
    let (directory, bin) = (world.directory.path(), bin(world));
    fs::create_dir(&bin).unwrap();
    let (program, user) = (bin.join("docker-credential-canary"), canary::USER);
    let script = format!(
        "#!/bin/sh\nsecret=$(cat \"${{0%/*}}/../password\") || exit 1\necho \"{{\\\"Username\\\":\\\"{user}\\\",\\\"Secret\\\":\\\"$secret\\\"}}\"\n"
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let document = format!("{{\"credHelpers\":{{\"{}\":\"canary\"}}}}", world.registry.host_port());
    fs::write(directory.join("docker.json"), document).unwrap();
}

fn bin(world: &World) -> PathBuf {
    world.directory.path().join("bin")
}

fn path(world: &World) -> String {
    format!("{}:/usr/bin:/bin", bin(world).display())
}

fn setup(world: &World, account: Account) -> Setup {
    let upstream = format!(
        "{}\nrealms = [\"{}\"]\nredirects = [\"{}\"]",
        account.lines(),
        world.registry.host_port_of(Place::Auth),
        world.registry.host_port_of(Place::Storage),
    );
    let sections =
        "[tags]\nttl = \"1ms\"\n[log]\nfilter = \"trace\"\n[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n";
    Setup { upstream, ..administered() }.sections(sections)
}

/// All that was heard, so that it can be looked through.
#[derive(Default)]
struct Heard(Vec<u8>);

impl Heard {
    fn answer(&mut self, answer: &Answer) -> u16 {
        for (name, value) in &answer.headers {
            self.0.extend_from_slice(name.as_str().as_bytes());
            self.0.extend_from_slice(value.as_bytes());
            self.0.push(b'\n');
        }
        self.0.extend_from_slice(answer.received());
        answer.status.as_u16()
    }

    async fn command(&mut self, arguments: &[&str], config: &Path, path: &str) {
        let mut command = Command::new(process::binary().await.unwrap());
        command.args(arguments).arg("--config").arg(config).env_clear().env("PATH", path).kill_on_drop(true);
        let output = tokio::time::timeout(std::time::Duration::from_secs(60), command.output());
        let output = output.await.expect("it ends by itself").unwrap();
        assert!(!output.stdout.is_empty() || !output.stderr.is_empty(), "{arguments:?} says something");
        self.0.extend_from_slice(&output.stdout);
        self.0.extend_from_slice(&output.stderr);
    }
}

/// A world with a secret in every place, and a server in front of it.
struct Stage {
    world: World,
    account: Account,
    index: Image,
    /// The private key of the listener.
    key: String,
    config: PathBuf,
    process: Process,
    client: Client,
    heard: Heard,
}

impl Stage {
    async fn new(account: Account, wants: Wants) -> Self {
        let auth = match wants {
            Wants::Tokens => TokenAuth::account(canary::USER, canary::PASSWORD).realm_at(Place::Auth),
            Wants::Basic => TokenAuth::basic(canary::USER, canary::PASSWORD),
        };
        let world = World::with(Registry::builder().https().redirect_blobs().token_auth(auth)).await;
        let index = image::index([image::single("linux/amd64", [noise(200_000, 1)])]);
        world.push_signed(REPOSITORY, "latest", &index);
        image::single("linux/amd64", [noise(10, 9)]).push(&world.registry, REPOSITORY, Some("unsigned"));
        let ca = TestCa::new().unwrap();
        let (certificate, key) = ca.server_pem(Certificate::Good).unwrap();
        fs::write(world.directory.path().join("tls.crt"), certificate).unwrap();
        fs::write(world.directory.path().join("tls.key"), &key).unwrap();
        write_helper(&world);
        fs::write(world.directory.path().join(account.file()), account.text(&world, canary::PASSWORD)).unwrap();
        let config = world.write(&setup(&world, account));
        let process = Process::serve_among(&[("PATH", &path(&world))], &config).await.unwrap();
        let client = Client::trusting(&ca.pem()).unwrap();
        Self { world, account, index, key, config, process, client, heard: Heard::default() }
    }

    fn write_password(&self, password: &str) {
        fs::write(self.account_file(), self.account.text(&self.world, password)).unwrap();
    }

    fn account_file(&self) -> PathBuf {
        self.world.directory.path().join(self.account.file())
    }

    /// Asks with all the secrets that a client can bring along.
    async fn ask(&mut self, path: &str) -> u16 {
        let url = format!("https://{}/v2/{path}?token={}", self.process.address, canary::QUERY);
        let (bearer, session) = (format!("Bearer {}", canary::CLIENT), format!("session={}", canary::CLIENT));
        let own = [("authorization", bearer.as_str()), ("cookie", &session), ("x-registry-auth", canary::CLIENT)];
        let answer = self.client.get(&url, &own).await.unwrap();
        self.heard.answer(&answer)
    }

    async fn what_upstream_answers_well(&mut self) {
        let child = self.index.children[0].clone();
        let (manifests, layer) = (format!("{REPOSITORY}/manifests"), child.layers()[0].0.clone());
        for (path, status) in [
            (String::new(), 200),
            (format!("{manifests}/latest"), 200),
            (format!("{manifests}/{}", child.digest), 200),
            (format!("{REPOSITORY}/blobs/{layer}"), 200),
            (format!("{manifests}/unsigned"), 403),
            (format!("{manifests}/missing"), 404),
            (format!("{manifests}/%0alatest"), 400),
            (format!("{REPOSITORY}/tags/list"), 200),
            (format!("{REPOSITORY}/referrers/{}", self.index.digest), 200),
        ] {
            assert_eq!(self.ask(&path).await, status, "{path}");
        }
    }

    async fn what_upstream_answers_ill(&mut self) {
        let evil = format!("https://evil.example/x?X-Signature={}", canary::SIGNED);
        let document = format!("{{\"token\":7,\"x\":\"{}\"}}", canary::SIGNED);
        for fault in [
            Fault::status(500),
            Fault::status(401),
            Fault::Redirect(evil.clone()),
            Fault::Redirect(format!("https://user:{}@169.254.169.254/", canary::SIGNED)),
            Fault::realm(&evil, "x", "y"),
            Fault::Disconnect,
        ] {
            self.world.registry.fault(|call| call.is_manifest() || call.is_blob(), fault);
            for tag in ["latest", "unsigned"] {
                self.ask(&format!("{REPOSITORY}/manifests/{tag}")).await;
            }
            self.world.registry.clear_faults();
        }
        self.world.registry.fault(Call::is_token, Fault::instead("application/json", document));
        self.world.registry.revoke_tokens();
        self.ask(&format!("{REPOSITORY}/manifests/missing")).await;
        self.world.registry.clear_faults();
        self.write_password(canary::WRONG_PASSWORD);
        self.process.reload().await.unwrap();
        self.ask(&format!("{REPOSITORY}/manifests/missing")).await;
        fs::remove_file(self.account_file()).unwrap();
        // What a helper handed out before stays where it hands out nothing now.
        let stays = matches!(self.account, Account::Helper);
        assert_eq!(self.process.reload().await.is_ok(), stays);
        self.write_password(canary::PASSWORD);
        self.process.reload().await.unwrap();
    }

    async fn what_operators_ask(&mut self) {
        let admin = admin_url(&self.process);
        for path in ["/metrics", "/readyz", "/healthz"] {
            self.heard.answer(&get(&format!("{admin}{path}")).await);
        }
        let named = format!("cgr.dev/{REPOSITORY}:latest");
        for command in [
            &["explain", &named][..],
            &["verify", &named],
            &["cache", "ls"],
            &["cache", "stats"],
            &["trust-root", "show"],
            &["check"],
        ] {
            self.heard.command(command, &self.config, &path(&self.world)).await;
        }
    }
}

/// The tokens and signatures that were made on the way, after a look at who got which.
fn travelled(calls: &[Call], wants: Wants) -> Vec<String> {
    for call in calls {
        let has = |text: &str| call.authorization().is_some_and(|value| value.starts_with(text));
        let belongs = match (call.place, wants) {
            (Place::Registry, Wants::Tokens) => !has("Basic "),
            (Place::Registry, Wants::Basic) | (Place::Auth, Wants::Tokens) => !has("Bearer "),
            (Place::Storage | Place::Foreign, _) | (Place::Auth, Wants::Basic) => !call.has_authorization(),
        };
        assert!(belongs && !call.mentions(canary::CLIENT) && !call.mentions(canary::QUERY), "{call:?}");
    }
    let tokens = calls.iter().filter_map(|call| call.authorization()?.strip_prefix("Bearer "));
    let signatures = calls.iter().filter_map(|call| call.query.strip_prefix("X-Signature="));
    let accounts = calls.iter().filter(|call| call.authorization().is_some_and(|value| value.starts_with("Basic ")));
    assert!(signatures.clone().count() > 0 && accounts.count() > 0, "both were used");
    assert_eq!(tokens.clone().count() > 0, wants == Wants::Tokens);
    tokens.chain(signatures).map(str::to_owned).collect()
}

#[tokio::test]
async fn no_secret_is_found_in_any_log_answer_metric_command_or_file_of_the_store() {
    for (account, wants) in [
        (Account::PasswordFile, Wants::Tokens),
        (Account::DockerConfig, Wants::Tokens),
        (Account::Helper, Wants::Tokens),
        (Account::PasswordFile, Wants::Basic),
    ] {
        Box::pin(leaves_no_secret_behind(account, wants)).await;
    }
}

async fn leaves_no_secret_behind(account: Account, wants: Wants) {
    let mut stage = Stage::new(account, wants).await;
    stage.what_upstream_answers_well().await;
    stage.what_upstream_answers_ill().await;
    stage.what_operators_ask().await;
    let Stage { world, key, process, heard, .. } = stage;
    let log = process.terminate().await.unwrap().log.join("\n");
    let secrets = canary::spellings(travelled(&world.registry.calls(), wants).into_iter().chain(lines_of(&key)));
    assert_eq!(canary::within(&secrets, &heard.0), Vec::<&str>::new(), "in what it answered");
    assert!(log.len() > 10_000, "a log that tells everything");
    let told: Vec<_> = log.lines().filter(|line| !canary::within(&secrets, line.as_bytes()).is_empty()).collect();
    assert!(told.is_empty(), "in the log: {:#?}", &told[..told.len().min(5)]);
    // Where they are found at all is where we have put them.
    let found = canary::files_with(&secrets, world.directory.path());
    assert_eq!(found, BTreeSet::from([account.file().to_owned(), "tls.key".to_owned()]));
}

//! Behind a forward proxy, as `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say.

use std::{collections::BTreeSet, fs};

use serde_json::Value;
use support::{
    canary,
    client::{Answer, Client},
    forward::Forward,
    image,
    process::{self, Process},
    upstream::{Call, Fault, Place, Registry, TokenAuth, noise},
    world::{Setup, World},
};
use tokio::process::Command;

use crate::{REPOSITORY, admin_url, administered, get, serve_in_vain_among};

const WEAKENED: &str = "weakened: upstreams are asked through forward proxy ";

/// A signed image, and a tag without one, in a registry that only a proxy can find.
async fn hidden() -> World {
    let account = TokenAuth::account(canary::USER, canary::PASSWORD).realm_at(Place::Auth);
    let registry = Registry::builder().https().redirect_blobs().token_auth(account);
    let registry = registry
        .host(Place::Registry, "registry.cloud.example")
        .host(Place::Auth, "auth.cloud.example")
        .host(Place::Storage, "storage.cloud.example");
    let world = World::with(registry).await;
    let index = image::index([image::single("linux/amd64", [noise(200_000, 1)])]);
    world.push_signed(REPOSITORY, "latest", &index);
    fs::write(world.directory.path().join("password"), canary::PASSWORD).unwrap();
    world
}

fn setup(world: &World) -> Setup {
    let upstream = format!(
        "username = \"{}\"\npassword_file = \"password\"\nrealms = [\"{}\"]",
        canary::USER,
        world.registry.host_port_of(Place::Auth),
    );
    Setup { upstream, ..administered() }.sections("[tags]\nttl = \"1ms\"\n[log]\nfilter = \"trace\"\n")
}

/// The lines about forward proxies.
fn told(process: &Process) -> Vec<String> {
    let lines = process.log().into_iter().filter_map(|entry| entry["message"].as_str().map(str::to_owned));
    lines.filter(|line| line.contains("forward proxy") && !line.contains("answered")).collect()
}

#[tokio::test]
async fn a_pull_goes_through_the_proxy_and_its_password_is_found_nowhere() {
    let world = hidden().await;
    let forward = Forward::start().await.unwrap();
    let variable = format!("http://{}:{}@{}", canary::USER, canary::PROXY_PASSWORD, forward.host_port());
    let config = world.write(&setup(&world));
    let process = Process::serve_among(&[("https_proxy", &variable)], &config).await.unwrap();
    let who = format!("{WEAKENED}{} for https (https_proxy), ", forward.host_port());
    let lines = told(&process);
    assert!(lines.len() == 1 && lines[0].starts_with(&who), "{lines:?}");

    let mut heard = Vec::new();
    let mut hear = |answer: &Answer| heard.extend_from_slice(answer.received());
    let base = format!("http://{}/v2/{REPOSITORY}", process.address);
    let latest = get(&format!("{base}/manifests/latest")).await;
    assert_eq!(latest.status, 200, "{}", latest.text());
    let index: Value = serde_json::from_str(&latest.text()).unwrap();
    let child = get(&format!("{base}/manifests/{}", index["manifests"][0]["digest"].as_str().unwrap())).await;
    let manifest: Value = serde_json::from_str(&child.text()).unwrap();
    let blob = get(&format!("{base}/blobs/{}", manifest["layers"][0]["digest"].as_str().unwrap())).await;
    assert!(blob.status == 200 && blob.received().len() == 200_000, "{}", blob.status);
    for place in [Place::Registry, Place::Auth, Place::Storage] {
        let host_port = world.registry.host_port_of(place);
        assert!(forward.was_asked_for(&host_port), "{host_port}: {:?}", forward.asked());
        assert!(world.registry.connections(place) > 0);
    }
    let secrets = canary::spellings([]);
    for head in forward.asked() {
        let has_own = !canary::within(&secrets, head.as_bytes()).is_empty();
        assert!(has_own && !head.to_ascii_lowercase().contains("\r\nauthorization:"), "{head}");
    }
    for call in world.registry.calls() {
        assert!(!call.mentions("proxy") && !call.mentions(canary::PROXY_PASSWORD), "{call:?}");
    }

    for status in [407, 403, 502] {
        forward.answer(status);
        world.registry.drop_connections();
        let refused = get(&format!("{base}/manifests/other")).await;
        assert_eq!(refused.status, 503);
        let why =
            if status == 407 { "does not let us in, status 407" } else { "does not connect to upstream, status " };
        assert!(refused.text().contains("forward proxy: it") && refused.text().contains(why), "{}", refused.text());
        hear(&refused);
    }
    let (admin, named) = (admin_url(&process), format!("cgr.dev/{REPOSITORY}:other"));
    for path in ["/metrics", "/readyz"] {
        hear(&get(&format!("{admin}{path}")).await);
    }
    for arguments in [&["check"][..], &["verify", &named], &["explain", &named]] {
        let mut command = Command::new(process::binary().await.unwrap());
        command.args(arguments).arg("--config").arg(&config).env_clear().env("HTTPS_PROXY", &variable);
        let output = command.output().await.unwrap();
        heard.extend_from_slice(&[output.stdout, output.stderr].concat());
    }
    let log = process.terminate().await.unwrap().log.join("\n");
    assert!(log.len() > 10_000, "a log that tells everything");
    assert_eq!(canary::within(&secrets, &heard), Vec::<&str>::new(), "in what it answered");
    assert_eq!(canary::within(&secrets, log.as_bytes()), Vec::<&str>::new(), "in the log");
    let found = canary::files_with(&secrets, world.directory.path());
    assert_eq!(found, BTreeSet::from(["password".to_owned()]));
}

#[tokio::test]
async fn a_proxy_that_is_down_is_told_and_what_was_pulled_is_served_without_it() {
    let world = hidden().await;
    let forward = Forward::start().await.unwrap();
    let variable = format!("http://{}", forward.host_port());
    let process = Process::serve_among(&[("HTTPS_PROXY", &variable)], &world.write(&setup(&world))).await.unwrap();
    let base = format!("http://{}/v2/{REPOSITORY}/manifests", process.address);
    let pulled = get(&format!("{base}/latest")).await;
    assert_eq!(pulled.status, 200, "{}", pulled.text());
    drop(forward);
    let down = get(&format!("{base}/other")).await;
    assert_eq!(down.status, 503);
    assert!(down.text().contains("forward proxy: connection to it refused"), "{}", down.text());
    let again = get(&format!("{base}/latest")).await;
    assert!(again.status == 200 && again.received() == pulled.received());
}

#[tokio::test]
async fn who_is_excluded_and_this_machine_are_asked_past_the_proxy() {
    // An address of this machine that is not loopback.
    for (host, no, is_past) in [
        ("0.0.0.0", "10.0.0.0/8, registry.example", false),
        ("0.0.0.0", "registry.example, 0.0.0.0/8", true),
        ("127.0.0.1", "", true),
    ] {
        let world = World::with(Registry::builder().host(Place::Registry, host)).await;
        world.push_signed(REPOSITORY, "latest", &image::single("linux/amd64", [noise(10, 1)]));
        let forward = Forward::start().await.unwrap();
        let variables = [("HTTP_PROXY", forward.host_port()), ("NO_PROXY", no.to_owned())];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        let process = Process::serve_among(&variables, &world.write(&Setup::default())).await.unwrap();
        let url = format!("http://{}/v2/{REPOSITORY}/manifests/latest", process.address);
        let answer = get(&url).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(forward.asked().is_empty(), is_past, "{host} beside {no:?}: {:?}", forward.asked());
        assert!(forward.was_asked_for(&world.registry.host_port()) != is_past);
    }
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_not_handed_to_the_proxy() {
    let world = hidden().await;
    let forward = Forward::start().await.unwrap();
    let variable = format!("http://{}", forward.host_port());
    let process = Process::serve_among(&[("HTTPS_PROXY", &variable)], &world.write(&setup(&world))).await.unwrap();
    for host in ["169.254.169.254", "10.0.0.1:8443", "127.0.0.1", "[fd00:ec2::254]"] {
        world.registry.fault(Call::is_manifest, Fault::Redirect(format!("https://{host}/secret")));
        let url = format!("http://{}/v2/{REPOSITORY}/manifests/latest", process.address);
        let answer = Client::plain().get(&url, &[]).await.unwrap();
        assert_eq!(answer.status, 502, "{host}: {}", answer.text());
        world.registry.clear_faults();
        let asked = forward.asked();
        assert!(asked.iter().all(|head| head.contains(".cloud.example:")), "{host}: {asked:?}");
    }
}

#[tokio::test]
async fn it_does_not_start_with_a_proxy_of_another_kind_and_does_not_tell_its_password() {
    let world = World::new().await;
    let config = world.write(&Setup::default());
    for kind in ["socks5", "https"] {
        let variable = format!("{kind}://{}:{}@127.0.0.1:1080", canary::USER, canary::PROXY_PASSWORD);
        let refused = serve_in_vain_among(&[("HTTPS_PROXY", &variable)], &config, &[]).await;
        assert_eq!(refused.code, Some(1), "{}", refused.said);
        let wanted = "HTTPS_PROXY: want a forward proxy that is spoken to over plain HTTP";
        assert!(refused.said.contains(wanted) && refused.said.contains(kind), "{}", refused.said);
        assert!(!refused.said.contains("canary") && !refused.said.contains(canary::USER), "{}", refused.said);
    }
}

//! `pratique trust-root`, alone and beside a running server.

use std::path::Path;

use serde_json::Value;
use support::{
    process::{self, Process},
    sigstore::VirtualSigstore,
    tuf::{Mirror, Repository},
    world::{Setup, World},
};
use tokio::process::Command;

use crate::{REPOSITORY, get, signed};

/// How a command ended, and what it said.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

/// `pratique trust-root <arguments> --config <config>`, with nothing in its environment.
async fn trust_root(config: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(process::binary().await.unwrap());
    command.arg("trust-root").args(arguments).arg("--config").arg(config).env_clear().kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(60), command.output());
    let output = output.await.expect("it ends by itself").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn json(said: &Said) -> Value {
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out))
}

async fn refreshed(world: &World) -> (Repository, Mirror, Setup) {
    let repository = Repository::new(&world.sigstore.trusted_root_json());
    let mirror = Mirror::start(repository.files()).await.unwrap();
    std::fs::write(world.directory.path().join("root.json"), repository.initial()).unwrap();
    let policy = format!(
        "trust_root_mirror = \"{}\"\ntrust_root_initial = \"root.json\"\ntrust_root_refresh = \"never\"",
        mirror.url()
    );
    (repository, mirror, Setup { policy, ..Setup::default() })
}

#[tokio::test]
async fn it_shows_refreshes_and_imports_without_a_server() {
    let world = World::new().await;
    let (mut repository, mirror, setup) = refreshed(&world).await;
    let config = world.write(&setup);
    let shown = trust_root(&config, &["show"]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    for wanted in [
        "in force    ",
        "trusted_root.json",
        "(just now)",
        "only by `pratique trust-root update`, from http://127.0.0.1:",
        "\ncertificate authorities\n  https://fulcio.sigstore.test ",
        "\ntransparency logs\n  https://rekor.sigstore.test ",
        "\ncertificate logs\n  https://ctfe.sigstore.test/2022 ",
        "to open                 in use    ",
    ] {
        assert!(shown.out.contains(wanted), "{wanted:?} is not in:\n{}", shown.out);
    }
    assert!(!world.directory.path().join("store").exists(), "looking makes nothing");

    let same = trust_root(&config, &["update"]).await;
    assert_eq!(same.code, Some(0), "{}", same.err);
    assert!(same.out.contains("(TUF root 1, timestamp 1, snapshot 1, targets 1)"), "{}", same.out);
    assert!(same.out.ends_with("unchanged: nothing is judged again\n"), "{}", same.out);

    let others = VirtualSigstore::new().trusted_root_json();
    repository.publish(&others);
    mirror.publish(repository.files());
    let updated = json(&trust_root(&config, &["update", "--output", "json"]).await);
    assert_eq!((&updated["changed"], &updated["tuf"]["timestamp"]), (&Value::Bool(true), &Value::from(2)));
    let shown = json(&trust_root(&config, &["show", "--output", "json"]).await);
    assert_eq!(shown["sha256"], updated["sha256"]);
    assert_eq!(shown["origin"], format!("kept in the store, refreshed from {}", mirror.url()));
    assert_eq!(shown["anchors"].as_array().unwrap().len(), 5);
    assert!(shown["age_seconds"].as_u64().unwrap() < 60, "{shown}");

    drop(mirror);
    let failed = trust_root(&config, &["update"]).await;
    assert_eq!((failed.code, failed.out.as_str()), (Some(3), ""));
    assert!(
        failed.err.contains("cannot fetch 2.root.json") && failed.err.contains("connection refused"),
        "{}",
        failed.err
    );
    assert!(failed.err.contains("\nhint: what was in force stays"), "{}", failed.err);

    // What is trusted now is not in the file, so it looks older; the operator can insist.
    let carried = world.directory.path().join("carried.json");
    std::fs::write(&carried, world.sigstore.trusted_root_json()).unwrap();
    let carried = carried.to_string_lossy();
    let refused = trust_root(&config, &["import", &carried]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("looks older than the trust root in force: - "), "{}", refused.err);
    assert!(refused.err.contains("--danger-allow-older"), "{}", refused.err);
    let imported = trust_root(&config, &["import", "--danger-allow-older", &carried]).await;
    assert_eq!(imported.code, Some(0), "{}", imported.err);
    assert!(imported.out.contains("\n  + ") && imported.out.contains("\n  - "), "{}", imported.out);
    let shown = json(&trust_root(&config, &["show", "--output", "json"]).await);
    assert_eq!(shown["origin"], format!("kept in the store, imported from {carried}"));
}

#[tokio::test]
async fn beside_a_running_server_what_it_keeps_is_in_force_after_sighup() {
    let (world, _) = signed(1000).await;
    let (mut repository, mirror, setup) = refreshed(&world).await;
    let config = world.write(&setup);
    let process = Process::serve(&config).await.unwrap();
    let url = format!("http://{}/v2/{REPOSITORY}/manifests/latest", process.address);
    assert_eq!(get(&url).await.status, 200);
    repository.publish(&VirtualSigstore::new().trusted_root_json());
    mirror.publish(repository.files());
    let updated = trust_root(&config, &["update"]).await;
    assert_eq!(updated.code, Some(0), "{}", updated.err);
    let promise = "a running server takes it up within a minute, or at once on SIGHUP\n";
    assert!(updated.out.ends_with(promise), "{}", updated.out);
    process.reload().await.unwrap();
    assert_eq!(get(&url).await.status, 403, "signed by somebody whom the new trust root does not name");
    let process = process.restart().await.unwrap();
    let url = format!("http://{}/v2/{REPOSITORY}/manifests/latest", process.address);
    assert_eq!(get(&url).await.status, 403, "and so it is after a restart");
}

#[tokio::test]
async fn without_configuration_it_shows_what_is_compiled_in() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(process::binary().await.unwrap());
    command.args(["trust-root", "show", "--storage"]).arg(directory.path().join("store")).env_clear();
    let output = command.output().await.unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    for wanted in [
        "in force    public-good Sigstore, compiled in\n",
        "as of       2026-08-21T00:00:00Z (",
        "refreshed   every 24 hours from https://tuf-repo-cdn.sigstore.dev\n",
        "https://rekor.sigstore.dev ",
        "timestamp authorities\n",
    ] {
        assert!(shown.contains(wanted), "{wanted:?} is not in:\n{shown}");
    }
}

//! Starts that are refused: exit code 1, and a reason that a stranger can act on.

use support::{
    needs,
    process::Process,
    sigstore::Signer,
    world::{Setup, World},
};

use crate::{REPOSITORY, get, policy_for, serve_in_vain, signed, unreadable_policy};

#[tokio::test]
async fn it_does_not_start_with_a_policy_that_is_empty_or_does_not_parse_and_says_where() {
    let world = World::new().await;
    let good = policy_for("good", &Signer::chainguard());
    for (text, wanted) in [
        (String::new(), "policy.yaml"),
        ("# nothing but words\n".to_owned(), "policy.yaml"),
        ("---\n---\n".to_owned(), "policy.yaml"),
        (unreadable_policy(), "policy.yaml:13"),
        (good.replace("  images:", "  images: ["), "policy.yaml:"),
        (good.replace("    keyless:", "    keylss:"), "policy.yaml:10"),
        (format!("{good}---\n{good}"), "policy.yaml:"),
    ] {
        let config = world.write(&Setup::with_policy(&text));
        let refused = serve_in_vain(&config, &[]).await;
        assert_eq!(refused.code, Some(1), "{text}\n{}", refused.said);
        assert!(refused.said.contains(wanted), "{wanted} is not in: {}", refused.said);
        assert!(!refused.said.contains("panicked"), "{}", refused.said);
    }
    let config = world.write(&Setup { policy: "files = [\"none-*.yaml\"]".to_owned(), ..Setup::default() });
    let refused = serve_in_vain(&config, &[]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    assert!(refused.said.contains("none-*.yaml"), "{}", refused.said);
    assert!(!world.directory.path().join("store").exists(), "nothing was made for what did not start");
}

#[tokio::test]
async fn it_does_not_start_with_a_trust_root_that_trusts_nobody() {
    let world = World::new().await;
    let config = world.write(&Setup::default());
    for text in ["", "{}", "{\"mediaType\":"] {
        std::fs::write(world.directory.path().join("trusted_root.json"), text).unwrap();
        let refused = serve_in_vain(&config, &[]).await;
        assert_eq!(refused.code, Some(1), "{}", refused.said);
        assert!(refused.said.contains("trusted_root.json"), "{}", refused.said);
    }
}

#[tokio::test]
async fn a_second_process_on_the_same_store_is_refused_and_the_first_goes_on() {
    let (world, _) = signed(1000).await;
    let config = world.write(&Setup::default());
    let first = Process::serve(&config).await.unwrap();
    let second = serve_in_vain(&config, &[]).await;
    assert_eq!(second.code, Some(1), "{}", second.said);
    let store = world.directory.path().join("store").canonicalize().unwrap();
    assert!(second.said.contains(&store.display().to_string()), "{}", second.said);
    assert!(second.said.contains("another process"), "{}", second.said);
    let url = format!("http://{}/v2/{REPOSITORY}/manifests/latest", first.address);
    assert_eq!(get(&url).await.status, 200);
    // Another store is another matter.
    let other = world.directory.path().join("other");
    Process::serve_with(&config, &["--storage", &other.to_string_lossy()]).await.unwrap();
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let (world, _) = signed(1000).await;
    let first = Process::serve(&world.write(&Setup::default())).await.unwrap();
    let other = world.directory.path().join("other");
    let config = world.directory.path().join("pratique.toml");
    let flags = ["--storage", &other.to_string_lossy(), "--listen", &first.host_port()];
    let refused = serve_in_vain(&config, &flags).await;
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    assert!(refused.said.contains(&first.host_port()), "{}", refused.said);
}

/// A read-only file system where the store will be, until it is dropped.
struct ReadOnly(std::path::PathBuf);

impl ReadOnly {
    /// `None` where this machine lets nobody mount, and the test is skipped.
    fn below(world: &World) -> Option<Self> {
        let at = world.directory.path().join("store");
        std::fs::create_dir(&at).unwrap();
        let mut mount = std::process::Command::new("mount");
        needs::does(mount.args(["-t", "tmpfs", "-o", "ro,mode=0700", "tmpfs"]).arg(&at)).then(|| Self(at))
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").arg("-l").arg(&self.0).output());
    }
}

#[tokio::test]
async fn it_does_not_start_on_a_read_only_file_system_and_says_where() {
    let world = World::new().await;
    let config = world.write(&Setup::default());
    let Some(disk) = ReadOnly::below(&world) else { return };
    let refused = serve_in_vain(&config, &[]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    let path = disk.0.display().to_string();
    assert!(refused.said.contains(&path) && refused.said.contains("Read-only file system"), "{}", refused.said);
    assert!(!refused.said.contains("panicked"), "{}", refused.said);
}

//! Bytes that rot on disk under a running or resting pratique, in both modes of `storage.verify_reads`.

use std::{
    fs::{File, Permissions},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use http::Method;
use oci::Digest;
use support::{
    client::{Answer, Client, NoAnswer},
    image::Image,
    needs,
    process::{Process, Signal},
    pull::pull,
    upstream::{Certificate, TestCa, ends_with},
    world::{Setup, World},
};

use crate::{REPOSITORY, admin_url, administered, get, signed};

const MODES: [&str; 2] = ["scrub", "always"];

fn verifying(mode: &str) -> Setup {
    Setup { storage: format!("verify_reads = \"{mode}\""), ..Setup::default() }
}

fn stored(world: &World, digest: &Digest) -> PathBuf {
    world.directory.path().join("store/blobs/sha256").join(digest.hex())
}

/// Flips one bit of a stored blob, where it lies.
fn rot(world: &World, digest: &Digest, at: usize) {
    let path = stored(world, digest);
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let (mut byte, at) = ([0], at as u64);
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

fn completes(answer: &Result<Answer, NoAnswer>) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.status.is_success() && !answer.is_broken())
}

#[tokio::test]
async fn a_rotten_manifest_is_served_in_neither_mode() {
    for mode in MODES {
        let (mut world, index) = signed(1000).await;
        let config = world.write(&verifying(mode));
        let process = Process::serve(&config).await.unwrap();
        pull(&Client::plain(), &format!("http://{}", process.address), REPOSITORY, "latest").await.unwrap();
        let child = &index.children[0];
        let asked =
            [("latest".to_owned(), &index), (index.digest.to_string(), &index), (child.digest.to_string(), child)];
        let address = |process: &Process, reference: &str| {
            format!("http://{}/v2/{REPOSITORY}/manifests/{reference}", process.address)
        };
        let rotted = || [&index.digest, &child.digest].map(|digest| rot(&world, digest, 20));
        rotted();
        // While what was served before is in memory, and when it is not.
        let mut process = process;
        for _ in 0..2 {
            for (reference, image) in &asked {
                let answer = get(&address(&process, reference)).await;
                assert_eq!((answer.status.as_u16(), answer.received()), (200, &image.manifest), "{mode}: {reference}");
                let head = Client::plain().head(&address(&process, reference), &[]).await.unwrap();
                assert_eq!(head.header("content-length"), Some(&*image.manifest.len().to_string()), "{mode}");
            }
            process = process.restart().await.unwrap();
        }
        // The second round read them from disk: they were set aside and fetched again.
        for digest in [&index.digest, &child.digest] {
            assert_eq!(&Digest::sha256(&std::fs::read(stored(&world, digest)).unwrap()), digest, "{mode}");
            let aside = world.directory.path().join(format!("store/quarantine/sha256-{}", digest.hex()));
            assert!(aside.exists(), "{mode}: {}", aside.display());
        }
        process.terminate().await.unwrap();
        rotted();
        world.registry.stop().await;
        let process = Process::serve(&config).await.unwrap();
        for (reference, _) in &asked {
            let answer = get(&address(&process, reference)).await;
            assert_eq!(answer.status, 503, "{mode}: {reference}: {}", answer.text());
            assert!(answer.text().contains("\"errors\""), "{mode}: {}", answer.text());
        }
        process.terminate().await.unwrap();
    }
}

#[tokio::test]
async fn a_rotten_config_or_signature_completes_in_neither_mode() {
    for mode in MODES {
        let (world, index) = signed(1000).await;
        let process = Process::serve(&world.write(&verifying(mode))).await.unwrap();
        let (client, url) = (Client::plain(), format!("http://{}", process.address));
        pull(&client, &url, REPOSITORY, "latest").await.unwrap();
        let tag = support::image::cosign_tag(&index.digest, "sig");
        let manifest = get(&format!("{url}/v2/{REPOSITORY}/manifests/{tag}")).await;
        let signature: serde_json::Value = serde_json::from_str(&manifest.text()).unwrap();
        let signature: Digest = signature["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
        for digest in [&index.children[0].config().unwrap().0, &signature] {
            let address = format!("{url}/v2/{REPOSITORY}/blobs/{digest}");
            for range in [None, Some("0-0"), Some("0-0,5-")] {
                assert_eq!(get(&address).await.status, 200, "{mode}: sound, and stored now");
                rot(&world, digest, 3);
                let headers: Vec<_> = range.iter().map(|range| ("range", format!("bytes={range}"))).collect();
                let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let answer = client.get(&address, &headers).await;
                assert!(!completes(&answer), "{mode}: {digest} {range:?}: {answer:?}");
            }
            let again = get(&address).await;
            assert_eq!((again.status.as_u16(), &Digest::sha256(again.received())), (200, digest), "{mode}");
        }
        process.terminate().await.unwrap();
    }
}

/// A pratique that verifies every read, and who asks it: over plain HTTP/1.1, or over TLS with HTTP/1.1 and HTTP/2.
async fn always(world: &World, tls: bool) -> (Process, String, Vec<(&'static str, Client)>) {
    if !tls {
        let process = Process::serve(&world.write(&verifying("always"))).await.unwrap();
        let url = format!("http://{}", process.address);
        return (process, url, vec![("plain", Client::plain())]);
    }
    let ca = TestCa::new().unwrap();
    let (certificate, key) = ca.server_pem(Certificate::Good).unwrap();
    for (name, text) in [("tls.crt", certificate), ("tls.key", key)] {
        std::fs::write(world.directory.path().join(name), text).unwrap();
    }
    let setup = verifying("always").sections("[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n");
    let process = Process::serve(&world.write(&setup)).await.unwrap();
    let url = format!("https://{}", process.address);
    let clients =
        vec![("TLS", Client::trusting_http1(&ca.pem()).unwrap()), ("HTTP/2", Client::trusting(&ca.pem()).unwrap())];
    (process, url, clients)
}

#[tokio::test]
async fn a_rotten_layer_completes_at_no_client_where_every_read_is_verified() {
    let (world, index) = signed(3_000_000).await;
    let (digest, bytes) = index.children[0].layers()[0].clone();
    for tls in [false, true] {
        let (process, url, clients) = always(&world, tls).await;
        pull(&clients[0].1, &url, REPOSITORY, "latest").await.unwrap();
        let address = format!("{url}/v2/{REPOSITORY}/blobs/{digest}");
        for (name, client) in &clients {
            for range in [None, Some("0-9"), Some("1000000-1999999"), Some("0-0,7-1000000,2000000-")] {
                for at in [0, 1_500_000, bytes.len() - 1] {
                    rot(&world, &digest, at);
                    let answer = match range {
                        None => client.get(&address, &[]).await,
                        Some(range) => client.get_range(&address, range).await,
                    };
                    assert!(!completes(&answer), "{name}: {range:?} completed, byte {at} being rotten");
                    // Set aside and fetched again.
                    let again = client.get(&address, &[]).await.unwrap();
                    let right = again.status == 200 && again.received() == &bytes;
                    assert!(right, "{name}: {range:?} {at}: {}", again.status);
                }
            }
        }
        process.terminate().await.unwrap();
    }
}

#[tokio::test]
async fn a_layer_that_rots_while_it_is_sent_does_not_complete_where_every_read_is_verified() {
    // More than sockets and windows hold: most of it is read after the head has come.
    let (world, index) = signed(32 << 20).await;
    let (digest, bytes) = index.children[0].layers()[0].clone();
    for tls in [false, true] {
        let (process, url, clients) = always(&world, tls).await;
        pull(&clients[0].1, &url, REPOSITORY, "latest").await.unwrap();
        let address = format!("{url}/v2/{REPOSITORY}/blobs/{digest}");
        for (name, client) in &clients {
            for (range, status) in [("bytes=0-", 206), ("bytes=0-0,2-", 206), ("lines=0-", 200)] {
                let open = client.open(Method::GET, &address, &[("range", range)]).await.unwrap();
                assert_eq!(open.status, status, "{name} {range}: sound so far");
                rot(&world, &digest, bytes.len() - 1);
                assert!(!open.drain().await.complete, "{name} {range}");
                assert_eq!(client.get(&address, &[]).await.unwrap().received(), &bytes, "{name} {range}");
            }
        }
        process.terminate().await.unwrap();
    }
}

#[tokio::test]
async fn a_stored_layer_of_another_length_is_fetched_again_in_either_mode() {
    for mode in MODES {
        let (world, index) = signed(100_000).await;
        let (digest, bytes) = index.children[0].layers()[0].clone();
        let process = Process::serve(&world.write(&verifying(mode))).await.unwrap();
        let url = format!("http://{}", process.address);
        pull(&Client::plain(), &url, REPOSITORY, "latest").await.unwrap();
        for length in [0, 99_999, 100_001] {
            std::fs::set_permissions(stored(&world, &digest), Permissions::from_mode(0o600)).unwrap();
            File::options().write(true).open(stored(&world, &digest)).unwrap().set_len(length).unwrap();
            let answer = get(&format!("{url}/v2/{REPOSITORY}/blobs/{digest}")).await;
            assert_eq!((answer.status.as_u16(), answer.received()), (200, &bytes), "{mode}: {length}");
        }
        process.terminate().await.unwrap();
    }
}

/// How a blob is read: into our own memory, and by the kernel for who is sent it.
const READS: &str = "pread64,preadv,preadv2,read,readv,sendfile";

/// Takes who traces it, which is what fails its reads, away from it.
async fn untraced(process: &Process) {
    let status = format!("/proc/{}/status", process.id().unwrap());
    let tracer = || {
        let status = std::fs::read_to_string(&status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        line.and_then(|id| id.trim().parse::<i32>().ok()).unwrap()
    };
    let strace = rustix::process::Pid::from_raw(tracer()).expect("it is traced");
    rustix::process::kill_process(strace, Signal::TERM).unwrap();
    let gone = async {
        while tracer() != 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("strace lets go of it");
}

/// Asks for all that lies on bad sectors, and tells of each whether it was complete. What is complete is right, and what is not is told
/// as a fault of ours or breaks off.
async fn read_all(base: &str, index: &Image) -> Vec<bool> {
    let (client, child) = (Client::plain(), &index.children[0]);
    let (layer, bytes) = &child.layers()[0];
    let manifest = |reference: String, image: &Image| (format!("manifests/{reference}"), None, image.manifest.clone());
    let blob = |range, content| (format!("blobs/{layer}"), range, content);
    let asked = [
        manifest(index.digest.to_string(), index),
        manifest(child.digest.to_string(), child),
        manifest("latest".to_owned(), index),
        blob(None, bytes.clone()),
        blob(Some("0-9"), bytes.slice(..10)),
        blob(Some("1000000-1999999"), bytes.slice(1_000_000..2_000_000)),
        blob(Some("-5"), bytes.slice(bytes.len() - 5..)),
    ];
    let mut complete = Vec::new();
    for (path, range, content) in asked {
        let url = format!("{base}/{path}");
        let answer = match range {
            None => client.get(&url, &[]).await,
            Some(range) => client.get_range(&url, range).await,
        };
        // Broken off before its head had left.
        let Ok(answer) = answer else {
            complete.push(false);
            continue;
        };
        let (status, broken) = (answer.status.as_u16(), answer.is_broken());
        let is_whole = !broken && status == if range.is_some() { 206 } else { 200 };
        assert!(is_whole || broken || status == 500, "{path} {range:?}: {status} {}", answer.text());
        assert!(!is_whole || answer.received() == &content, "{path} {range:?}: whole and wrong");
        complete.push(is_whole);
    }
    complete
}

#[tokio::test]
async fn what_the_disk_cannot_read_is_never_complete_and_is_served_when_it_can() {
    let tampers = ["-f", "-qq", "-o", "/dev/null", "-e", "inject=pread64:error=EIO:when=65535", "true"];
    if !needs::does(Command::new("strace").args(tampers)) {
        return;
    }
    // From the first read of a thread on, and from a later one: after the head of an answer.
    for (mode, from) in [("scrub", 1), ("always", 1), ("scrub", 4), ("always", 4)] {
        let (world, index) = signed(3_000_000).await;
        let config = world.write(&Setup { storage: verifying(mode).storage, ..administered() });
        let process = Process::serve(&config).await.unwrap();
        pull(&Client::plain(), &format!("http://{}", process.address), REPOSITORY, "latest").await.unwrap();
        process.terminate().await.unwrap();
        world.registry.clear_calls();
        let (child, other) = (&index.children[0], &index.children[1]);
        let layer = &child.layers()[0].0;
        let unreadable = [&index.digest, &child.digest, layer].map(|digest| stored(&world, digest));
        let (trace, inject) = (format!("trace={READS}"), format!("inject={READS}:error=EIO:when={from}+"));
        // It lets go where it is told to.
        let mut strace = vec!["strace", "-D", "-I", "1", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        strace.extend(unreadable.iter().flat_map(|path| ["-P", path.to_str().unwrap()]));
        let process = Process::serve_under(&strace, &config, &[]).await.unwrap();
        let base = format!("http://{}/v2/{REPOSITORY}", process.address);
        let told = [read_all(&base, &index).await, read_all(&base, &index).await].concat();
        if from == 1 {
            assert!(!told.contains(&true), "{mode}: {told:?}");
        } else {
            assert!(told.contains(&false), "{mode}: {told:?}");
        }
        // Nobody else is harmed.
        for path in [format!("manifests/{}", other.digest), format!("blobs/{}", other.layers()[0].0)] {
            assert_eq!(get(&format!("{base}/{path}")).await.status, 200, "{mode} {from}: {path}");
        }
        assert_eq!(get(&format!("{}/healthz", admin_url(&process))).await.status, 200);
        untraced(&process).await;
        let told = read_all(&base, &index).await;
        assert!(!told.contains(&false), "{mode} {from}: {told:?}");
        // What could not be read is no miss and not rotten: nobody fetched it again, and it lies where it lay.
        for digest in [&index.digest, &child.digest, layer] {
            assert_eq!(world.registry.count(|call| call.is_get() && ends_with(digest)(call)), 0, "{mode} {from}");
        }
        assert_eq!(std::fs::read_dir(world.directory.path().join("store/quarantine")).map_or(0, Iterator::count), 0);
        process.terminate().await.unwrap();
    }
}

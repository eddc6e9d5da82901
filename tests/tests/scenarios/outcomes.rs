//! What clients are told of an upstream that misbehaves, answer by answer, and that nothing of it stays.

use oci::{Digest, MediaType};
use support::{
    client::{Answer, Client},
    image::Image,
    upstream::{Call, Certificate, Fault, TestCa},
    world::{Pratique, Setup, World},
};

use crate::{chainguard_policy, get, sized};

const REPOSITORY: &str = "chainguard/nginx";
/// For an upstream that keeps us waiting until the time is over; every other one has the usual time, on a busy machine too.
fn times(fault: &Fault) -> &'static str {
    if matches!(fault, Fault::Hang | Fault::Stall(_)) {
        "[limits]\nupstream_response_timeout = \"1s\"\nupstream_stall_timeout = \"1s\"\n"
    } else {
        ""
    }
}

fn manifest(pratique: &Pratique, reference: &impl std::fmt::Display) -> String {
    format!("{}/v2/{REPOSITORY}/manifests/{reference}", pratique.url())
}

/// Asks for the manifest itself, by tag or digest; not for the signature beside it.
fn names(image: &Image) -> impl Fn(&Call) -> bool + Send + Sync + 'static + use<> {
    let digest = image.digest.to_string();
    move |call| call.is_manifest() && (call.path.ends_with("/latest") || call.path.ends_with(&digest))
}

async fn is_stored(pratique: &Pratique, digest: &Digest) -> bool {
    pratique.server.app.store.blobs().open(digest).await.unwrap().is_some()
}

/// An error document with this code, of the length that it tells, which says nothing of its own about types.
fn is_document(answer: &Answer, code: &str) -> bool {
    let text = answer.text();
    text.contains(&format!("\"code\":\"{code}\""))
        && answer.header("content-length") == Some(&text.len().to_string())
        && answer.header("content-type") == Some("application/json")
        && answer.header("x-content-type-options") == Some("nosniff")
}

#[tokio::test]
async fn a_manifest_that_is_not_what_it_should_be_is_told_by_its_status_and_not_stored() {
    let image = sized(1000, 1);
    let length = image.manifest.len() as u64;
    let (wrong, out) = ((502, "MANIFEST_INVALID"), (503, "UNAVAILABLE"));
    for (fault, (status, code)) in [
        (Fault::content_type("text/plain"), wrong),
        (Fault::content_type(MediaType::OCI_INDEX), wrong),
        (Fault::Corrupt(7), wrong),
        (Fault::Length(length - 1), wrong),
        (Fault::Endless, wrong),
        (Fault::Gzip, wrong),
        (Fault::Redirect("https://169.254.169.254/latest/meta-data".to_owned()), wrong),
        (Fault::Redirect("http://10.0.0.1/".to_owned()), wrong),
        (Fault::Redirect("http://example.com/".to_owned()), wrong),
        (Fault::Redirect("http://[::ffff:127.0.0.1]:1/".to_owned()), wrong),
        (Fault::Redirect("file:///etc/passwd".to_owned()), wrong),
        (Fault::realm("http://evil.example/token", "x", "y"), wrong),
        (Fault::Length(length + 1), out),
        (Fault::Truncate(100), out),
        (Fault::Stall(100), out),
        (Fault::Hang, out),
        (Fault::Disconnect, out),
        (Fault::status(500), out),
        (Fault::status(503), out),
        (Fault::status(401), out),
        (Fault::status(403), out),
        (Fault::too_many_requests(7), (429, "TOOMANYREQUESTS")),
    ] {
        let world = World::new().await;
        world.push_signed(REPOSITORY, "latest", &image);
        let is_get = names(&image);
        world.registry.fault(move |call| call.is_get() && is_get(call), fault.clone());
        let pratique = world.pratique(&Setup::default().sections(times(&fault))).await;
        for reference in ["latest".to_owned(), image.digest.to_string()] {
            let answer = get(&manifest(&pratique, &reference)).await;
            let what = format!("{fault:?} on {reference}: {} {}", answer.status, answer.text());
            assert_eq!(answer.status.as_u16(), status, "{what}");
            assert!(is_document(&answer, code), "{what}");
            let waits = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
            match status {
                429 => assert!(waits.is_some_and(|seconds| (1..=7).contains(&seconds)), "{what}"),
                503 => assert!(waits.is_some_and(|seconds| seconds > 0), "{what}"),
                _ => assert_eq!(waits, None, "{what}"),
            }
            for secret in ["evil", "169.254", "10.0.0.1", "example.com", "passwd"] {
                assert!(!answer.text().contains(secret), "{what}");
            }
        }
        assert!(!is_stored(&pratique, &image.digest).await, "{fault:?}");
        world.registry.clear_faults();
        // What upstream asks us to wait for is waited for; everything else is over with the fault.
        if status != 429 {
            assert_eq!(get(&manifest(&pratique, &"latest")).await.status, 200, "after {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_redirect_that_leads_back_to_itself_is_502() {
    let world = World::new().await;
    let image = sized(1000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let circle = format!("{}/v2/{REPOSITORY}/manifests/{}", world.registry.url(), image.digest);
    let fault = world.registry.fault(names(&image), Fault::Redirect(circle));
    let pratique = world.pratique(&Setup::default()).await;
    let answer = get(&manifest(&pratique, &image.digest)).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(fault.hits() <= 6, "{} requests", fault.hits());
}

#[tokio::test]
async fn a_manifest_that_two_clients_could_read_differently_is_502_by_tag_and_digest_and_not_stored() {
    let world = World::new().await;
    let good = sized(1000, 1);
    let text = String::from_utf8(good.manifest.to_vec()).unwrap();
    let (index, oci) = (MediaType::OCI_INDEX, MediaType::OCI_MANIFEST);
    let with = |more: &str| text.replacen('{', &format!("{{{more},"), 1).into_bytes();
    let utf16 = text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let cases = [
        ("both", oci, with("\"manifests\":[]")),
        ("twice", oci, with("\"layers\":[]")),
        ("escaped", oci, with("\"l\\u0061yers\":[]")),
        ("another", index, text.clone().into_bytes()),
        ("bom", oci, [b"\xef\xbb\xbf", text.as_bytes()].concat()),
        ("utf16", oci, utf16),
        ("deep", oci, with(&format!("\"x\":{}{}", "[".repeat(100_000), "]".repeat(100_000)))),
        ("nan", oci, with("\"x\":NaN")),
        ("after", oci, [text.as_bytes(), b"{}"].concat()),
        ("none", oci, Vec::new()),
        ("list", oci, b"[]".to_vec()),
    ];
    let pratique = world.pratique(&Setup::default()).await;
    for (tag, media_type, bytes) in cases {
        let digest = world.registry.put_manifest(REPOSITORY, Some(tag), media_type, bytes);
        for reference in [tag.to_owned(), digest.to_string()] {
            let answer = get(&manifest(&pratique, &reference)).await;
            assert_eq!(answer.status, 502, "{tag}: {}", answer.text());
            assert!(is_document(&answer, "MANIFEST_INVALID"), "{tag}: {}", answer.text());
        }
        assert!(!is_stored(&pratique, &digest).await, "{tag}");
    }
}

#[tokio::test]
async fn a_blob_that_is_not_what_its_manifest_says_is_told_by_its_status_and_not_stored() {
    for (fault, status, code) in [
        (Fault::Length(999), 502, "SIZE_INVALID"),
        (Fault::Gzip, 502, "DIGEST_INVALID"),
        (Fault::Redirect("https://169.254.169.254/".to_owned()), 502, "DIGEST_INVALID"),
        (Fault::status(404), 404, "BLOB_UNKNOWN"),
    ] {
        let world = World::new().await;
        let image = sized(1000, 1);
        world.push_signed(REPOSITORY, "latest", &image);
        let pratique = world.pratique(&Setup::default()).await;
        assert_eq!(get(&manifest(&pratique, &"latest")).await.status, 200);
        let layer = image.layers()[0].0.clone();
        world.registry.fault(Call::is_blob, fault.clone());
        let url = format!("{}/v2/{REPOSITORY}/blobs/{layer}", pratique.url());
        let answer = get(&url).await;
        assert_eq!(answer.status.as_u16(), status, "{fault:?}: {}", answer.text());
        assert!(is_document(&answer, code), "{fault:?}: {}", answer.text());
        assert!(!is_stored(&pratique, &layer).await, "{fault:?}");
        world.registry.clear_faults();
        assert_eq!(get(&url).await.status, 200, "after {fault:?}");
    }
}

#[tokio::test]
async fn a_known_tag_is_stale_and_an_unknown_one_is_503_while_upstream_is_out() {
    for fault in [Fault::status(500), Fault::status(503), Fault::Disconnect, Fault::Hang] {
        let world = World::new().await;
        for tag in ["latest", "other"] {
            world.push_signed(REPOSITORY, tag, &sized(1000, 1));
        }
        // Looked up for nobody else: who joins a look that began before the fault is told what was so then.
        let tags = "[tags]\nttl = \"1ms\"\nrefresh = \"never\"\n";
        let setup = Setup::default().sections(times(&fault)).sections(tags);
        let setup = Setup { top: format!("{}\nadmin_listen = \"127.0.0.1:0\"", setup.top), ..setup };
        let pratique = world.pratique(&setup).await;
        assert_eq!(get(&manifest(&pratique, &"latest")).await.status, 200);
        world.registry.fault(|_| true, fault.clone());
        let stale = get(&manifest(&pratique, &"latest")).await;
        assert_eq!(stale.status, 200, "{fault:?}");
        assert!(stale.header("warning").is_some_and(|told| told.starts_with("299 - \"tag as of")), "{fault:?}");
        assert_eq!(get(&manifest(&pratique, &"other")).await.status, 503, "{fault:?}");
        let metrics = get(&format!("http://{}/metrics", pratique.server.admin_address.unwrap())).await.text();
        assert!(metrics.contains("pratique_tag_lookups_total{outcome=\"stale\"}"), "{metrics}");
        world.registry.clear_faults();
    }
}

#[tokio::test]
async fn a_trust_root_file_that_is_damaged_or_gone_at_a_reload_leaves_the_last_good_one() {
    let world = World::new().await;
    world.push_signed(REPOSITORY, "latest", &sized(1000, 1));
    let setup = || Setup::with_policy(&chainguard_policy("one", "cgr.dev/**"));
    let pratique = world.pratique(&setup()).await;
    let path = world.directory.path().join("trusted_root.json");
    let whole = std::fs::read_to_string(&path).unwrap();
    for damaged in [Some(""), Some("{}"), Some(&whole[..whole.len() / 2]), None] {
        let loaded = world.load(&setup());
        match damaged {
            Some(text) => std::fs::write(&path, text).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let error = pratique.server.reload(loaded).await.unwrap_err();
        assert!(error.to_string().contains("trusted_root.json"), "{error}");
        assert_eq!(pratique.server.app.in_force().generation, 0);
        assert_eq!(get(&manifest(&pratique, &"latest")).await.status, 200);
    }
}

#[tokio::test]
async fn a_new_certificate_is_shown_after_a_reload_and_a_bad_one_is_not() {
    let world = World::new().await;
    let write = |name: &str, text: &str| std::fs::write(world.directory.path().join(name), text).unwrap();
    let authorities = [TestCa::new().unwrap(), TestCa::new().unwrap()];
    let install = |ca: &TestCa| {
        let (certificate, key) = ca.server_pem(Certificate::Good).unwrap();
        write("tls.crt", &certificate);
        write("tls.key", &key);
    };
    install(&authorities[0]);
    let setup = || Setup::default().sections("[tls]\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n");
    let pratique = world.pratique(&setup()).await;
    let base = format!("{}/v2/", pratique.url());
    let reaches = async |ca: &TestCa| Client::trusting(&ca.pem()).unwrap().get(&base, &[]).await.is_ok();
    assert!(reaches(&authorities[0]).await && !reaches(&authorities[1]).await);
    install(&authorities[1]);
    pratique.reload(&world, &setup()).await.unwrap();
    assert!(reaches(&authorities[1]).await && !reaches(&authorities[0]).await);
    write("tls.key", "none");
    assert!(pratique.reload(&world, &setup()).await.is_err());
    assert!(reaches(&authorities[1]).await, "what was shown is shown");
}

#[tokio::test]
async fn foreign_layers_are_not_fetched_from_where_they_say() {
    let world = World::new().await;
    let good = sized(1000, 1);
    let digest = Digest::sha256(b"a foreign layer");
    let url = format!("{}/foreign", world.registry.url_of(support::upstream::Place::Foreign));
    let foreign = format!(
        r#"{{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"{digest}","size":15,"urls":["{url}"]}},"#
    );
    let text = String::from_utf8(good.manifest.to_vec()).unwrap().replacen(
        "\"layers\":[",
        &format!("\"layers\":[{foreign}"),
        1,
    );
    assert!(text.contains(&url));
    for (digest, bytes) in &good.blobs {
        world.registry.put_blob_as(REPOSITORY, digest, bytes.clone());
    }
    let image = world.registry.put_manifest(REPOSITORY, Some("latest"), MediaType::OCI_MANIFEST, text);
    let policy = crate::static_policy("all", "cgr.dev/**", "pass");
    let pratique = world.pratique(&Setup::with_policy(&policy)).await;
    assert_eq!(get(&manifest(&pratique, &image)).await.status, 200);
    let answer = get(&format!("{}/v2/{REPOSITORY}/blobs/{digest}", pratique.url())).await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(world.registry.count(|call| call.place == support::upstream::Place::Foreign), 0);
}

//! What is weaker than it could be is refused, or told.

use super::*;

#[test]
fn plain_http_beyond_loopback_must_be_asked_for_and_is_told() {
    refused(&[
        (
            "listen = \"0.0.0.0:5000\"",
            "listen: 0.0.0.0:5000 is reached from beyond this machine, over plain HTTP\nhint: configure [tls], listen on 127.0.0.1, or set insecure = true",
        ),
        (
            "admin_listen = \"[::]:5001\"",
            "admin_listen: [::]:5001 is reached from beyond this machine, over plain HTTP\nhint: listen on 127.0.0.1 or set insecure = true",
        ),
        (
            "admin_listen = \"127.0.0.1:5000\"",
            "admin_listen: 127.0.0.1:5000 is also listen\nhint: give it a port of its own",
        ),
    ]);
    let asked = Case::of("listen = \"0.0.0.0:5000\"\ninsecure = true");
    assert_eq!(
        asked.weakened(),
        [
            "weakened: listen: plain HTTP on 0.0.0.0:5000, beyond loopback: what is asked and answered can be read and changed on the way"
        ]
    );
    let tls =
        Case::of("listen = \"0.0.0.0:5000\"\n[tls]\ncertificate = \"c\"\nkey = \"k\"").file("c", "x").file("k", "x");
    assert_eq!(tls.weakened(), Vec::<String>::new());
    assert_eq!(Case::of("insecure = true").weakened(), Vec::<String>::new(), "allowed, but nothing is open");
}

#[test]
fn each_weakening_in_force_is_one_line() {
    let case = Case::of(
        "listen = \"10.0.0.1:5000\"\ninsecure = true\nadmin_listen = \"10.0.0.1:5001\"\n\
         [policy]\nno_match = \"allow\"\n[evidence]\nmedia_types = [\"application/spdx+json\", \"application/x-own+json\"]\n\
         [[upstreams]]\nname = \"a.b\"\nurl = \"http://a.b\"\nprefix = \"\"\n\
         [[upstreams]]\nname = \"c.d\"\nusername = \"u\"\npassword_file = \"pw\"\n",
    )
    .file("pw", "hunter2");
    std::fs::set_permissions(case.path("pw"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let plain = "can be read and changed on the way";
    assert_eq!(
        case.weakened(),
        [
            format!(
                "weakened: upstreams[0].url: plain HTTP to http://a.b: what is asked, and where a tag points, {plain}"
            ),
            "weakened: upstreams[1].password_file: pw can be read by every user of this machine (chmod 0600 ends that)"
                .into(),
            "weakened: policy.no_match = \"allow\": images that no policy matches are served unverified".into(),
            format!(
                "weakened: listen: plain HTTP on 10.0.0.1:5000, beyond loopback: what is asked and answered {plain}"
            ),
            format!(
                "weakened: admin_listen: plain HTTP on 10.0.0.1:5001, beyond loopback: what is asked and answered {plain}"
            ),
            "weakened: listen: everyone who reaches 10.0.0.1:5000 pulls from c.d with the configured credentials"
                .into(),
            "weakened: evidence.media_types: layers of type application/x-own+json are served beside admitted images"
                .into(),
        ]
    );
    let warn = Case::of("[policy]\nno_match = \"warn\"");
    assert_eq!(
        warn.weakened(),
        ["weakened: policy.no_match = \"warn\": images that no policy matches are served unverified, with a warning"]
    );
}

#[test]
fn a_store_that_syncs_less_is_told_and_never_serves_half_a_blob() {
    let content = Case::of("[storage]\nfsync = \"content\"");
    assert_eq!(
        content.weakened(),
        [
            "weakened: storage.fsync = \"content\": a power cut loses what was stored in the seconds before it, tag history for good"
        ]
    );
    let never = Case::of("[storage]\nfsync = \"never\"\nverify_reads = \"always\"");
    assert_eq!(
        never.weakened(),
        [
            "weakened: storage.fsync = \"never\": a power cut can leave half blobs, found when they are read, and can lose all facts"
        ]
    );
    assert_eq!(Case::of("[storage]\nfsync = \"always\"").weakened(), Vec::<String>::new());
    refused(&[(
        "[storage]\nfsync = \"never\"",
        "storage.fsync: \"never\" can leave half a blob under its name, and verify_reads = \"scrub\" would serve it\nhint: set storage.verify_reads = \"always\", or fsync = \"content\"",
    )]);
}

#[test]
fn what_could_run_is_never_evidence() {
    for media_type in [
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.container.image.v1+json",
    ] {
        refused(&[(
            &format!("[evidence]\nmedia_types = [\"{media_type}\"]"),
            &format!(
                "evidence.media_types[0]: want a media type of signatures, attestations or SBOMs, never of image layers, got \"{media_type}\""
            ),
        )]);
    }
    for media_type in ["", "json", "Application/VND.oci.image.layer.v1.tar", "application/spdx+json; a=b", "*/*"] {
        let error = Case::of(&format!("[evidence]\nmedia_types = [\"{media_type}\"]")).error();
        assert!(error.contains("want a lower-case media type"), "{error}");
    }
}

#[test]
fn a_budget_that_containerd_would_not_wait_for_is_told() {
    let told = |text: &str, line: &str| Case::of(text).notes().iter().any(|note| note.starts_with(line));
    assert!(told("[limits]\ndecision_timeout = \"29s\"", "limits.decision_timeout is 29s or more"));
    let both = "limits.queue_timeout and limits.decision_timeout are 29s or more together";
    assert!(told("[limits]\ndecision_timeout = \"25s\"\nqueue_timeout = \"4s\"", both));
    assert!(!told("[limits]\ndecision_timeout = \"25s\"\nqueue_timeout = \"3s\"", both));
}

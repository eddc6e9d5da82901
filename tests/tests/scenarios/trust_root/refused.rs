//! What a mirror can try. Each is refused in its own words, and what was in force stays.

use proxy::{
    clock::Clock,
    error::chain,
    trust::{self, TrustError},
};
use support::tuf::{Delegation, Files, MirrorFault, Role};

use super::{IMPATIENT, Stage, with_another_log};

/// After a first refresh, the mirror is changed by `attack`; the next refresh must fail with this outcome and these words, and
/// leave the first in force. Then the honest repository is taken again.
async fn refused(attack: impl FnOnce(&mut Stage) -> Option<Files>, outcome: &str, words: &str) {
    let mut stage = Stage::new().await;
    stage.update().await.unwrap();
    let good = stage.in_force();
    if let Some(files) = attack(&mut stage) {
        stage.mirror.publish(files);
    }
    let error = stage.update().await.expect_err(words);
    let told = chain(&error);
    assert!(told.contains(words), "want {words:?}, got {told:?}");
    assert_eq!(error.as_str(), outcome, "{told}");
    let in_force = stage.in_force();
    assert_eq!((in_force.root.text(), in_force.as_of), (good.root.text(), good.as_of));
}

/// The files of `stage` as they are after `change`.
fn after(change: impl FnOnce(&mut Stage)) -> impl FnOnce(&mut Stage) -> Option<Files> {
    move |stage| {
        change(stage);
        Some(stage.repository.files())
    }
}

/// The files of a repository that has published twice, changed by `change`.
fn tampered(change: impl FnOnce(&mut Files)) -> impl FnOnce(&mut Stage) -> Option<Files> {
    move |stage| {
        stage.repository.publish(&with_another_log(&stage.first));
        let mut files = stage.repository.files();
        change(&mut files);
        Some(files)
    }
}

#[tokio::test]
async fn metadata_that_have_ended() {
    for (role, words) in [
        (Role::Timestamp, "timestamp metadata expired at 2020-01-01T00:00:00Z"),
        (Role::Snapshot, "snapshot metadata expired at 2020-01-01T00:00:00Z"),
        (Role::Targets, "targets metadata expired at 2020-01-01T00:00:00Z"),
    ] {
        let attack = after(move |stage| {
            stage.repository.set_expires(role, "2020-01-01T00:00:00Z");
            stage.repository.publish(&with_another_log(&stage.first));
        });
        refused(attack, "refused", words).await;
    }
    let attack = after(|stage| {
        stage.repository.set_expires(Role::Root, "2020-01-01T00:00:00Z");
        stage.repository.rotate(Role::Root);
    });
    refused(attack, "refused", "root metadata expired at 2020-01-01T00:00:00Z").await;
}

#[tokio::test]
async fn metadata_signed_by_others() {
    for (role, words) in [
        (Role::Timestamp, "signature threshold not met for role timestamp: 0/1"),
        (Role::Snapshot, "signature threshold not met for role snapshot: 0/1"),
        (Role::Targets, "signature threshold not met for role targets: 0/1"),
    ] {
        let attack = after(move |stage| {
            stage.repository.forge(role);
            stage.repository.publish(&with_another_log(&stage.first));
        });
        refused(attack, "refused", words).await;
    }
    let attack = after(|stage| stage.repository.usurp());
    refused(attack, "refused", "signature threshold not met for role root: 0/1").await;
}

#[tokio::test]
async fn going_back_also_after_a_restart() {
    let mut stage = Stage::new().await;
    let old = stage.repository.files();
    let second = with_another_log(&stage.first);
    stage.repository.publish(&second);
    stage.publish();
    stage.update().await.unwrap();
    stage.mirror.publish(old);
    // Nothing but the store remembers: each refresh begins from there.
    for _ in 0..2 {
        let error = stage.update().await.unwrap_err();
        let told = chain(&error);
        assert!(told.contains("rollback detected for timestamp: trusted version 2 > new version 1"), "{told}");
        assert_eq!(stage.in_force().root.text(), second);
    }
    stage.repository.set_version(Role::Snapshot, 1);
    stage.repository.advance(Role::Timestamp);
    stage.publish();
    let told = chain(&stage.update().await.unwrap_err());
    assert!(
        told.contains("rollback detected for snapshot (via timestamp): trusted version 2 > new version 1"),
        "{told}"
    );
    stage.repository.set_version(Role::Snapshot, 3);
    stage.repository.set_version(Role::Targets, 1);
    stage.repository.advance(Role::Timestamp);
    stage.publish();
    let told = chain(&stage.update().await.unwrap_err());
    assert!(
        told.contains("rollback detected for targets.json (via snapshot): trusted version 2 > new version 1"),
        "{told}"
    );
    assert_eq!(stage.in_force().root.text(), second);
}

#[tokio::test]
async fn files_that_do_not_belong_together() {
    let snapshot = |files: &mut Files| {
        let other = files["2.targets.json"].clone();
        files.insert("2.snapshot.json".to_owned(), other);
    };
    refused(tampered(snapshot), "refused", "integrity check failed: snapshot.json").await;
    let targets = |files: &mut Files| {
        let mut other = files["2.targets.json"].clone();
        let at = other.len() - 2;
        other[at] = b' ';
        files.insert("2.targets.json".to_owned(), other);
    };
    refused(tampered(targets), "refused", "integrity check failed: targets.json: sha256 mismatch").await;
}

#[tokio::test]
async fn a_trusted_root_that_is_not_the_one_signed_for() {
    let other = |files: &mut Files| {
        let target = files.keys().find(|name| name.starts_with("targets/")).unwrap().clone();
        let bytes = files.get_mut(&target).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    };
    refused(tampered(other), "refused", "integrity check failed: trusted_root.json: sha256 mismatch").await;
    let longer = |files: &mut Files| {
        let target = files.keys().find(|name| name.starts_with("targets/")).unwrap().clone();
        files.get_mut(&target).unwrap().push(b' ');
    };
    refused(tampered(longer), "unreachable", "body is larger than").await;
}

#[tokio::test]
async fn a_trusted_root_that_nobody_can_read_or_that_is_not_listed() {
    let empty = after(|stage| stage.repository.publish("{}"));
    refused(empty, "unusable", "trusted_root.json cannot be used").await;
    let elsewhere = after(|stage| stage.repository.rename_target("other.json"));
    refused(elsewhere, "refused", "target \"trusted_root.json\" is not listed by any trusted targets role").await;
}

#[tokio::test]
async fn files_that_do_not_come() {
    for (name, fault, words) in [
        ("timestamp.json", MirrorFault::Status(404), "cannot fetch timestamp.json from http://127.0.0.1:"),
        ("timestamp.json", MirrorFault::Status(403), "it is not there"),
        ("2.snapshot.json", MirrorFault::Status(404), "cannot fetch 2.snapshot.json from"),
        ("2.root.json", MirrorFault::Status(503), "fails with status 503"),
        ("timestamp.json", MirrorFault::Status(429), "limits our rate"),
        ("timestamp.json", MirrorFault::Endless, "body is larger than 16384 bytes"),
        ("2.root.json", MirrorFault::Endless, "body is larger than 512000 bytes"),
        ("2.targets.json", MirrorFault::Stall, "body stalled for 2 s"),
        (
            "timestamp.json",
            MirrorFault::Redirect("https://evil.example/timestamp.json".to_owned()),
            "redirect leads to host \"evil.example\", which is given where no redirect belongs",
        ),
    ] {
        let attack = move |stage: &mut Stage| {
            stage.repository.publish(&with_another_log(&stage.first));
            stage.publish();
            if matches!(fault, MirrorFault::Stall) {
                stage.limits = IMPATIENT;
            }
            stage.mirror.fault(name, fault);
            None
        };
        refused(attack, "unreachable", words).await;
    }
}

#[tokio::test]
async fn what_was_verified_before_a_failure_is_not_gone_back_behind() {
    let mut stage = Stage::new().await;
    let old = stage.repository.files();
    stage.repository.publish(&with_another_log(&stage.first));
    let new = stage.repository.files();
    stage.mirror.publish(new.clone());
    stage.mirror.fault("2.targets.json", MirrorFault::Status(503));
    stage.update().await.unwrap_err();
    stage.mirror.publish(old);
    let told = chain(&stage.update().await.unwrap_err());
    assert!(told.contains("rollback detected for timestamp"), "{told}");
    stage.mirror.publish(new);
    stage.update().await.unwrap();
}

#[tokio::test]
async fn an_initial_root_that_is_none() {
    let stage = Stage::new().await;
    for text in ["", "{}", stage.first.as_str()] {
        stage.write("root.json", text);
        let error = stage.update().await.unwrap_err();
        assert!(matches!(error, TrustError::Initial { .. }), "{}", chain(&error));
        assert!(error.to_string().contains("root.json"), "{error}");
    }
    assert_eq!(stage.mirror.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn a_second_refresh_while_one_is_under_way() {
    let stage = Stage { limits: IMPATIENT, ..Stage::new().await };
    stage.mirror.fault("timestamp.json", MirrorFault::Stall);
    let settings = stage.settings();
    let clock = Clock::system();
    let (first, second) = tokio::join!(trust::update(&settings, &clock), async {
        while stage.mirror.calls().is_empty() {
            tokio::task::yield_now().await;
        }
        trust::update(&settings, &clock).await
    });
    assert_eq!(first.unwrap_err().as_str(), "unreachable");
    assert!(matches!(second, Err(TrustError::Busy)));
}

#[tokio::test]
async fn what_is_no_metadata_at_all() {
    let deep = format!("{{\"signed\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for text in ["", "{", "[]", "null", "{\"signed\":{}}", "{\"signatures\":null,\"signed\":null}", &deep] {
        for name in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
            let mut stage = Stage::new().await;
            stage.update().await.unwrap();
            let good = stage.in_force();
            stage.repository.publish(&with_another_log(&stage.first));
            let honest = stage.repository.files();
            let mut files = honest.clone();
            assert!(files.insert(name.to_owned(), text.as_bytes().to_vec()).is_some(), "{name}");
            stage.mirror.publish(files);
            assert!(stage.update().await.is_err(), "{name}: {text:.20}");
            let in_force = stage.in_force();
            assert_eq!((in_force.root.text(), in_force.as_of), (good.root.text(), good.as_of), "{name}");
            // Nothing is stuck: what is honest is taken.
            stage.mirror.publish(honest);
            stage.update().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_delegation_that_the_targets_role_or_the_snapshot_does_not_vouch_for() {
    let nobody = "target \"trusted_root.json\" is not listed by any trusted targets role";
    let good = Delegation::to("others");
    for (delegation, words) in [
        (Delegation { pinned: false, ..good.clone() }, nobody),
        (Delegation { paths: vec!["*.yaml".to_owned(), "*/*.json".to_owned()], ..good.clone() }, nobody),
        (Delegation { forged: true, ..good.clone() }, "signature threshold not met for role others: 0/1"),
        // The names of the four are theirs: the file of one would stand for the other.
        (Delegation::to("snapshot"), nobody),
        (Delegation::to("root"), nobody),
    ] {
        let attack = after(move |stage| {
            stage.repository.delegate(delegation);
            stage.repository.publish(&with_another_log(&stage.first));
        });
        refused(attack, "refused", words).await;
    }
    // As TUF has it, one that is vouched for counts: nothing else was wrong with those.
    let mut stage = Stage::new().await;
    let second = with_another_log(&stage.first);
    stage.repository.delegate(good);
    stage.repository.publish(&second);
    stage.publish();
    stage.update().await.unwrap();
    assert_eq!(stage.in_force().root.text(), second);
}

#[tokio::test]
async fn the_name_of_a_delegated_role_leads_nowhere_else() {
    let (long, huge) = ("x".repeat(300), "x".repeat(70_000));
    for name in
        ["..", "../../../etc/passwd", "/etc/passwd", "%2e%2e", "%2e%2e/x", "..%2f..", "a\\b", "a\0b", &long, &huge]
    {
        let mut stage = Stage::new().await;
        stage.update().await.unwrap();
        let second = with_another_log(&stage.first);
        let delegation = Delegation::to(name);
        let file = delegation.file();
        stage.repository.delegate(delegation);
        stage.repository.publish(&second);
        stage.publish();
        let outcome = stage.update().await;
        // Escaped it is the name of one file below the mirror's own path, where its calls have no slash in front.
        let calls = stage.mirror.calls();
        let strange: Vec<_> =
            calls.iter().filter(|call| call.starts_with('/') || call.contains("..") && **call != file).collect();
        assert!(strange.is_empty(), "{name:.30}: {strange:?}");
        let asked = calls.contains(&file);
        assert!(asked || name.len() > 60_000, "{name:.30}: {calls:?}");
        let want = if asked { &second } else { &stage.first };
        assert_eq!((outcome.is_ok(), stage.in_force().root.text()), (asked, want.as_str()), "{name:.30}");
        // And of no file of ours.
        let kept = files_below(stage.directory.path());
        assert!(
            kept.iter().all(|path| !path.contains("passwd") && !path.contains("xxx") && !path.contains('%')),
            "{kept:?}"
        );
    }
}

fn files_below(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let below =
        entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path.display().to_string()] });
    below.collect()
}

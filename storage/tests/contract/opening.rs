use std::{
    error::Error as _,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
};

use oci::Digest;
use storage::{Change, FactsState, Loss, Store, StoreError};

use crate::{HISTORY_MAX, Place, addressed, at, noise, repository, tag};

/// A child that another test is starting shares every lock for an instant.
fn refused(place: &Place) -> StoreError {
    let open = || Store::open(&place.path(), HISTORY_MAX).unwrap_err();
    let locked = |error: &StoreError| matches!(error, StoreError::Locked { .. });
    (0..500).map(|_| open()).find(|error| !locked(error)).unwrap_or_else(open)
}

#[test]
fn a_new_store_is_for_its_owner_only() {
    let place = super::place();
    let store = place.open();
    assert_eq!(*store.facts_state(), FactsState::New);
    let mode = |name: &str| {
        let path = place.path().join(name);
        path.symlink_metadata().unwrap().permissions().mode() & 0o777
    };
    for name in ["", "blobs", "blobs/sha256", "blobs/sha512", "ingest", "quarantine"] {
        assert_eq!(mode(name), 0o700, "{name}");
    }
    for name in ["lock", "format", "facts.redb"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    drop(store);
    assert_eq!(*place.open().facts_state(), FactsState::Intact);
}

#[test]
fn missing_directories_above_the_store_are_made() {
    let place = super::place();
    let deep = place.path().join("a/b/c");
    drop(Store::open(&deep, HISTORY_MAX).unwrap());
    assert!(deep.join("format").is_file());
}

#[test]
fn a_directory_that_others_can_write_to_is_refused() {
    let place = super::place();
    drop(place.open());
    for (name, mode) in [
        ("", 0o720),
        ("", 0o702),
        ("", 0o777),
        ("", 0o1777),
        ("blobs", 0o770),
        ("blobs/sha256", 0o722),
        ("ingest", 0o777),
        ("quarantine", 0o702),
    ] {
        let path = place.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = refused(&place);
        assert!(matches!(&error, StoreError::Exposed { mode: got, .. } if *got == mode), "{name} {mode:o}: {error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place.open();
}

#[test]
fn a_second_owner_is_refused_by_name_until_the_first_is_gone() {
    let place = super::place();
    let store = place.open();
    let message = refused(&place).to_string();
    assert!(message.contains(place.path().to_str().unwrap()), "{message}");
    assert!(message.ends_with("is in use by another process"), "{message}");
    // A handle is enough to keep it.
    let (blobs, facts) = (store.blobs().clone(), store.facts().clone());
    drop(store);
    assert!(matches!(refused(&place), StoreError::Locked { .. }));
    drop(blobs);
    let snapshot = facts.read().unwrap();
    drop(facts);
    assert!(matches!(refused(&place), StoreError::Locked { .. }));
    drop(snapshot);
    place.open();
}

#[test]
fn another_format_is_refused_and_left_alone() {
    let place = super::place();
    drop(place.open());
    let format = place.path().join("format");
    let ours = fs::read_to_string(&format).unwrap();
    for other in ["pratique store 2\n", "pratique store 11", "", "\u{fffd}", "something else entirely"] {
        fs::write(&format, other).unwrap();
        let error = refused(&place);
        assert!(matches!(&error, StoreError::OtherFormat { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(&format!("{:?}", other.trim_end())), "{message}");
        assert!(message.contains("\"pratique store 1\""), "{message}");
        assert_eq!(fs::read_to_string(&format).unwrap(), other);
    }
    fs::write(&format, ours).unwrap();
    place.open();
}

#[test]
fn content_without_a_format_is_not_taken_for_a_new_store() {
    for name in ["blobs", "ingest", "quarantine"] {
        let place = super::place();
        fs::create_dir_all(place.path().join(name)).unwrap();
        let error = refused(&place);
        assert!(matches!(&error, StoreError::OtherFormat { .. }), "{error}");
    }
    // A volume's own directories are no content.
    let place = super::place();
    fs::create_dir_all(place.path().join("lost+found")).unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place.open();
}

#[tokio::test]
async fn what_a_killed_process_was_writing_is_removed_at_start() {
    let place = super::place();
    drop(place.open());
    let ingest = place.path().join("ingest");
    fs::write(ingest.join("sha256-abc.0"), noise(1, 1000)).unwrap();
    let kept = place.directory.path().join("kept");
    fs::write(&kept, "not ours").unwrap();
    symlink(&kept, ingest.join("sha256-abc.1")).unwrap();
    fs::write(place.path().join("format.new"), "torn").unwrap();
    fs::write(place.path().join("facts.new"), "torn").unwrap();
    let store = place.open();
    assert!(place.names("ingest").is_empty());
    assert_eq!(fs::read_to_string(&kept).unwrap(), "not ours");
    assert_eq!(*store.facts_state(), FactsState::Intact);
    store.blobs().put(&addressed("works")).await.unwrap();
}

#[test]
fn a_first_start_that_was_killed_is_taken_up_again() {
    let place = super::place();
    drop(place.open());
    // What is still missing after each step: half a `format` lies there; it is whole; the directories are there, and half the facts.
    let steps: [&[&str]; 3] = [
        &["format", "facts.redb", "blobs", "ingest", "quarantine"],
        &["facts.redb", "blobs", "ingest", "quarantine"],
        &["facts.redb"],
    ];
    for (step, missing) in steps.iter().enumerate() {
        for name in *missing {
            let path = place.path().join(name);
            drop(fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path)));
        }
        fs::write(place.path().join("format.new"), "prati").unwrap();
        fs::write(place.path().join("facts.new"), "").unwrap();
        assert_eq!(*place.open().facts_state(), FactsState::New, "step {step}");
    }
}

#[test]
fn links_and_strangers_in_the_place_of_our_files_are_refused() {
    for name in ["blobs", "blobs/sha256", "ingest", "quarantine"] {
        let place = super::place();
        drop(place.open());
        let path = place.path().join(name);
        let moved = place.directory.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        let error = refused(&place);
        assert!(matches!(&error, StoreError::Unexpected { .. }), "{name}: {error}");
    }
    for name in ["lock", "format", "facts.redb"] {
        let place = super::place();
        drop(place.open());
        let path = place.path().join(name);
        let moved = place.directory.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        assert!(refused(&place).to_string().contains(name));
    }
}

#[test]
fn a_path_that_is_no_directory_or_not_ours_is_named() {
    let place = super::place();
    fs::write(place.path(), "a file").unwrap();
    let error = refused(&place);
    assert!(error.to_string().contains(place.path().to_str().unwrap()), "{error}");
    assert!(error.source().is_some());
}

#[tokio::test]
async fn a_damaged_facts_file_is_set_aside_and_told_and_blobs_stay() {
    let place = super::place();
    let facts = place.path().join("facts.redb");
    let content = addressed("a blob");
    let damages: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.clear(),
        |bytes| bytes.truncate(5000),
        |bytes| bytes.splice(..9, *b"not redb!").for_each(drop),
        |bytes| bytes.fill(0xaa),
    ];
    for (number, damage) in (1..).zip(damages) {
        let store = place.open();
        store.blobs().put(&content).await.unwrap();
        store.facts().apply(vec![a_tag()]).await.unwrap();
        drop(store);
        let mut bytes = fs::read(&facts).unwrap();
        damage(&mut bytes);
        fs::write(&facts, &bytes).unwrap();

        let store = place.open();
        let FactsState::SetAside { moved_to, reason } = store.facts_state() else {
            panic!("damage {number} was not noticed: {:?}", store.facts_state());
        };
        assert_eq!(fs::read(moved_to).unwrap(), bytes);
        assert!(!reason.is_empty());
        let snapshot = store.facts().read().unwrap();
        assert_eq!(snapshot.tag(&repository("cgr.dev/a/b"), &tag("latest")).unwrap(), None);
        assert_eq!(snapshot.loss().unwrap(), Some(Loss { noticed_at: None }));
        assert!(store.blobs().verify(content.digest()).await.unwrap());
        drop(snapshot);
        drop(store);
        assert_eq!(*place.open().facts_state(), FactsState::Intact);
    }
    let aside = place.names("").into_iter().filter(|name| name.contains("damaged"));
    assert_eq!(aside.count(), 4);
}

#[tokio::test]
async fn facts_that_are_gone_beside_blobs_are_lost_and_not_new() {
    let place = super::place();
    let store = place.open();
    assert_eq!(store.facts().read().unwrap().loss().unwrap(), None);
    let content = addressed("a blob");
    store.blobs().put(&content).await.unwrap();
    drop(store);
    fs::remove_file(place.path().join("facts.redb")).unwrap();
    let store = place.open();
    assert_eq!(*store.facts_state(), FactsState::Lost);
    assert!(store.blobs().verify(content.digest()).await.unwrap());
    let loss = |store: &Store| store.facts().read().unwrap().loss().unwrap();
    assert_eq!(loss(&store), Some(Loss { noticed_at: None }));
    let noticed = Some(Loss { noticed_at: Some(at(7)) });
    store.facts().apply(vec![Change::Loss(noticed)]).await.unwrap();
    drop(store);
    let store = place.open();
    assert_eq!((store.facts_state(), loss(&store)), (&FactsState::Intact, noticed), "known until it is over");
    store.facts().apply(vec![Change::Loss(None)]).await.unwrap();
    assert_eq!(loss(&store), None);
}

#[test]
fn facts_without_the_blobs_they_speak_of_are_refused_and_no_empty_store_is_made() {
    let place = super::place();
    drop(place.open());
    let blobs = place.path().join("blobs");
    fs::remove_dir_all(&blobs).unwrap();
    assert!(matches!(refused(&place), StoreError::NoBlobs { .. }));
    assert!(!blobs.exists());
    // A place to mount a volume on is there without it.
    fs::create_dir(&blobs).unwrap();
    let error = refused(&place);
    assert!(error.to_string().contains("blobs/sha256"), "{error}");
    fs::create_dir(blobs.join("sha256")).unwrap();
    assert_eq!(*place.open().facts_state(), FactsState::Intact);
}

#[tokio::test]
async fn a_directory_that_went_away_is_an_error_and_no_miss() {
    let place = super::place();
    let store = place.open();
    let absent = Digest::sha256(b"absent");
    assert!(store.blobs().open(&absent).await.unwrap().is_none());
    fs::remove_dir_all(place.path().join("blobs/sha256")).unwrap();
    let error = store.blobs().open(&absent).await.unwrap_err();
    assert!(matches!(&error, StoreError::Io { .. }), "{error}");
    assert!(error.to_string().contains("blobs/sha256"), "{error}");
}

#[tokio::test]
async fn a_bit_flipped_among_the_facts_is_an_error_and_checked_for_at_the_next_start() {
    let place = super::place();
    let (repository, name) = (repository("cgr.dev/a/b"), tag("latest"));
    let store = place.open();
    let needle = b"a verdict that must not change by itself";
    let digest = Digest::sha256(b"manifest");
    let verdict = Change::Verdict {
        repository: repository.clone(),
        digest: digest.clone(),
        fingerprint: [7; 32],
        bytes: needle.to_vec(),
    };
    store.facts().apply(vec![a_tag(), verdict]).await.unwrap();
    drop(store);

    let facts = place.path().join("facts.redb");
    let mut bytes = fs::read(&facts).unwrap();
    let found: Vec<usize> =
        bytes.windows(needle.len()).enumerate().filter(|(_, window)| window == needle).map(|(at, _)| at).collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at] ^= 0x20;
    }
    fs::write(&facts, &bytes).unwrap();

    let store = place.open();
    assert_eq!(*store.facts_state(), FactsState::Intact);
    let snapshot = store.facts().read().unwrap();
    let error = snapshot.verdict(&repository, &digest, &[7; 32]).unwrap_err();
    assert!(matches!(error, StoreError::FactUnreadable { .. }), "{error}");
    assert!(snapshot.tag(&repository, &name).unwrap().is_some());
    drop(snapshot);
    drop(store);
    let store = place.open();
    assert!(matches!(store.facts_state(), FactsState::SetAside { .. }), "{:?}", store.facts_state());
    drop(store);
    assert_eq!(*place.open().facts_state(), FactsState::Intact);
}

fn a_tag() -> Change {
    Change::Tag {
        repository: repository("cgr.dev/a/b"),
        tag: tag("latest"),
        digest: Digest::sha256(b"manifest"),
        at: at(1),
    }
}

#[tokio::test]
async fn facts_of_the_first_format_are_taken_over() {
    let place = super::place();
    drop(place.open());
    // Written by the last build of that format, and killed right after this one commit.
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/stores/facts-1.redb"), place.path().join("facts.redb"))
        .unwrap();
    for _ in 0..2 {
        let store = place.open();
        assert_eq!(*store.facts_state(), FactsState::Intact);
        let (repository, digest) = (repository("cgr.dev/chainguard/nginx"), Digest::sha256(&0_u64.to_be_bytes()));
        let snapshot = store.facts().read().unwrap();
        let known = snapshot.tag(&repository, &tag("t0")).unwrap().unwrap();
        assert_eq!(known.digest, digest);
        assert_eq!(snapshot.tag_history(&repository, &tag("t0")).unwrap().len(), 1);
        assert_eq!(snapshot.verdict(&repository, &digest, &[1; 32]).unwrap().unwrap(), noise(0, 1000));
        assert_eq!(snapshot.children(&repository, &digest, None, 100).unwrap().found.len(), 15);
        drop(snapshot);
        store.facts().apply(vec![a_tag()]).await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_record_of_what_a_tag_served_is_an_error_and_never_nothing() {
    let place = super::place();
    let store = place.open();
    let (repository, name, needle) = (repository("cgr.dev/a/b"), tag("latest"), Digest::sha256(b"served"));
    let look = storage::TagLook { at: at(2), served: true, signed_at: Some(at(1)), evidence: Vec::new(), told: String::new() };
    let looked =
        Change::TagLooked { repository: repository.clone(), tag: name.clone(), digest: needle.clone(), look };
    store.facts().apply(vec![looked.clone()]).await.unwrap();
    drop(store);
    let facts = place.path().join("facts.redb");
    let mut bytes = fs::read(&facts).unwrap();
    let raw: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&needle.hex()[2 * at..2 * at + 2], 16).unwrap()).collect();
    let found: Vec<usize> = bytes.windows(32).enumerate().filter(|(_, window)| *window == raw).map(|(at, _)| at).collect();
    assert!(!found.is_empty());
    for at in found {
        bytes[at] ^= 0x20;
    }
    fs::write(&facts, &bytes).unwrap();
    let store = place.open();
    let error = store.facts().read().unwrap().tag_served(&repository, &name).unwrap_err();
    assert!(matches!(error, StoreError::FactUnreadable { .. }), "{error}");
    // Nor is it replaced by one that knows of nothing newer; but it can be taken out.
    let error = store.facts().apply(vec![looked.clone()]).await.unwrap_err();
    assert!(matches!(error, StoreError::FactUnreadable { .. }), "{error}");
    let gone = Change::TagNewestGone { repository: repository.clone(), tag: name.clone() };
    store.facts().apply(vec![gone]).await.unwrap();
    assert_eq!(store.facts().read().unwrap().tag_served(&repository, &name).unwrap(), None);
    store.facts().apply(vec![looked]).await.unwrap();
    assert!(store.facts().read().unwrap().tag_served(&repository, &name).unwrap().is_some());
}

/// What a store of format 2 is: today's without what tags served.
#[tokio::test]
async fn facts_of_the_second_format_are_taken_over() {
    let place = super::place();
    drop(place.open());
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/stores/facts-2.redb"), place.path().join("facts.redb"))
        .unwrap();
    for turn in 0..2 {
        let store = place.open();
        assert_eq!(*store.facts_state(), FactsState::Intact);
        let (repository, name) = (repository("cgr.dev/chainguard/nginx"), tag("t0"));
        let snapshot = store.facts().read().unwrap();
        let event = snapshot.tag_history(&repository, &name).unwrap().pop().unwrap();
        assert_eq!((event.digest, event.look.is_some()), (Digest::sha256(&0_u64.to_be_bytes()), turn == 1));
        assert_eq!(snapshot.tag_served(&repository, &name).unwrap().is_some(), turn == 1);
        let digest = Digest::sha256(&0_u64.to_be_bytes());
        assert_eq!(snapshot.children(&repository, &digest, None, 100).unwrap().found.len(), 15);
        drop(snapshot);
        let look = storage::TagLook { at: at(2), served: true, signed_at: None, evidence: Vec::new(), told: String::new() };
        store.facts().apply(vec![Change::TagLooked { repository, tag: name, digest, look }]).await.unwrap();
    }
}

//! What becomes of blobs that somebody damages behind the store's back: asked where they are files.

use std::{fs, os::unix::fs::symlink, time::Duration};

use oci::Digest;
use storage::{IngestError, StoreError};

use crate::{addressed, noise, written};

#[tokio::test]
async fn a_rotten_blob_is_quarantined_told_once_and_can_be_stored_again() {
    let place = super::place();
    let content = addressed(noise(8, 10_000));
    let digest = content.digest();
    let mut flipped = content.bytes().to_vec();
    flipped[5000] ^= 1;
    let damages = [flipped, content.bytes()[..9999].to_vec(), Vec::new()];
    let store = place.open();
    let quarantined = place.path().join("quarantine").join(format!("sha256-{}", digest.hex()));
    for damage in damages {
        store.blobs().put(&content).await.unwrap();
        fs::write(place.blob(digest), &damage).unwrap();
        let error = store.blobs().read(digest, 10_000).await.unwrap_err();
        let StoreError::Corrupt { want, got, bytes } = error else {
            panic!("{error}");
        };
        assert_eq!((&want, got), (digest, Digest::sha256(&damage)));
        assert_eq!(bytes, damage.len() as u64);
        assert!(store.blobs().read(digest, 10_000).await.unwrap().is_none());
        assert_eq!(fs::read(&quarantined).unwrap(), damage);

        store.blobs().put(&content).await.unwrap();
        fs::write(place.blob(digest), &damage).unwrap();
        let error = store.blobs().open_verified(digest).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(store.blobs().open_verified(digest).await.unwrap().is_none());
    }
    store.blobs().put(&content).await.unwrap();
    assert!(store.blobs().verify(digest).await.unwrap());
}

#[tokio::test]
async fn storing_a_blob_again_replaces_rot_that_nobody_has_seen_yet() {
    let place = super::place();
    let store = place.open();
    let bytes = noise(9, 10_000);
    let digest = Digest::sha256(&bytes);
    for again in [false, true] {
        written(&store, &digest, &bytes, 1000).await.commit().await.unwrap();
        fs::write(place.blob(&digest), "rot").unwrap();
        if again {
            store.blobs().put(&addressed(bytes.clone())).await.unwrap();
        } else {
            written(&store, &digest, &bytes, 1000).await.commit().await.unwrap();
        }
        assert!(store.blobs().verify(&digest).await.unwrap());
    }
}

#[tokio::test]
async fn several_who_find_the_same_rot_do_not_set_aside_what_has_healed_it() {
    let place = super::place();
    let store = place.open();
    let content = addressed(noise(9, 200_000));
    let (digest, rot) = (content.digest(), noise(10, 200_000));
    let quarantined = place.path().join("quarantine").join(format!("sha256-{}", digest.hex()));
    for _ in 0..50 {
        store.blobs().put(&content).await.unwrap();
        fs::write(place.blob(digest), &rot).unwrap();
        let reader = || async {
            match store.blobs().read(digest, 200_000).await {
                Ok(Some(_)) => {}
                Ok(None) | Err(StoreError::Corrupt { .. }) => store.blobs().put(&content).await.unwrap(),
                Err(error) => panic!("{error}"),
            }
        };
        tokio::join!(reader(), reader(), reader(), reader());
        assert_eq!(fs::read(&quarantined).unwrap(), rot);
    }
}

#[tokio::test]
async fn ranges_are_hashed_apart_from_the_whole_which_has_to_be_right() {
    let place = super::place();
    let store = place.open();
    let content = addressed(noise(9, 1_000_000));
    let digest = content.digest();
    store.blobs().put(&content).await.unwrap();
    let blob = store.blobs().open(digest).await.unwrap().unwrap();
    // Over the edges of what is read at a time, and at both ends.
    let ranges = vec![0..1, 262_143..262_145, 300_000..900_000, 999_999..1_000_000];
    let within: Vec<u8> = ranges
        .iter()
        .flat_map(|range| {
            content.bytes().slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
        })
        .collect();
    assert_eq!(store.blobs().hash_ranges(&blob, ranges.clone()).await.unwrap(), Some(Digest::sha256(&within)));
    // One byte outside of all of them.
    let mut rotten = content.bytes().to_vec();
    rotten[200_000] ^= 1;
    fs::write(place.blob(digest), rotten).unwrap();
    assert_eq!(store.blobs().hash_ranges(&blob, ranges).await.unwrap(), None);
    assert!(store.blobs().open(digest).await.unwrap().is_none());
    assert_eq!(store.ledger().take_rotten(), std::slice::from_ref(digest));
}

#[tokio::test]
async fn a_hash_that_nobody_waits_for_any_more_makes_room_for_the_next() {
    let place = super::place();
    let store = place.open();
    let (large, small) = (addressed("large"), addressed("small"));
    for content in [&large, &small] {
        store.blobs().put(content).await.unwrap();
    }
    // Nothing on disk, and minutes of hashing.
    fs::OpenOptions::new().write(true).open(place.blob(large.digest())).unwrap().set_len(64 << 30).unwrap();
    let blob = store.blobs().open(large.digest()).await.unwrap().unwrap();
    let first_byte = || std::iter::once(0..1).collect();
    for _ in 0..10 {
        let hashes = async {
            tokio::join!(
                store.blobs().hash_ranges(&blob, first_byte()),
                store.blobs().hash_ranges(&blob, first_byte()),
                store.blobs().verify(large.digest()),
                store.blobs().verify(large.digest()),
            )
        };
        tokio::select! {
            biased;
            _ = hashes => panic!("that was quick"),
            () = tokio::task::yield_now() => {}
        }
    }
    let verified = tokio::time::timeout(Duration::from_secs(20), store.blobs().verify(small.digest()));
    assert!(verified.await.expect("those who left are done with").unwrap());
}

#[tokio::test]
async fn a_blob_cut_short_under_its_reader_is_an_error_and_never_a_short_answer() {
    let place = super::place();
    let store = place.open();
    let content = addressed(noise(12, 5000));
    store.blobs().put(&content).await.unwrap();
    let blob = store.blobs().open(content.digest()).await.unwrap().unwrap();
    let file = fs::OpenOptions::new().write(true).open(place.blob(content.digest())).unwrap();
    file.set_len(4000).unwrap();
    assert_eq!(blob.read_at(0, 4000).await.unwrap().len(), 4000);
    let error = blob.read_at(3000, 2000).await.unwrap_err();
    assert!(matches!(error, StoreError::Truncated { want: 5000, got: 4000, .. }), "{error}");
}

#[tokio::test]
async fn whatever_is_no_regular_file_is_refused_without_following_or_waiting() {
    let place = super::place();
    let store = place.open();
    let content = addressed("planted");
    let digest = content.digest();
    let elsewhere = place.directory.path().join("elsewhere");
    fs::write(&elsewhere, content.bytes()).unwrap();
    let path = place.blob(digest);

    symlink(&elsewhere, &path).unwrap();
    refused(&store, digest).await;
    fs::remove_file(&path).unwrap();
    symlink("nowhere", &path).unwrap();
    refused(&store, digest).await;
    // Storing the blob replaces the link itself, and never what it points at.
    store.blobs().put(&content).await.unwrap();
    assert!(path.symlink_metadata().unwrap().is_file());
    assert!(!path.with_file_name("nowhere").exists());

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused(&store, digest).await;
    fs::remove_dir(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let opened = tokio::time::timeout(Duration::from_secs(10), refused(&store, digest));
    opened.await.expect("opening a pipe does not wait for its other end");
}

async fn refused(store: &storage::Store, digest: &Digest) {
    let error = store.blobs().open(digest).await.unwrap_err();
    assert!(matches!(error, StoreError::Unexpected { .. }), "{error}");
    let error = store.blobs().read(digest, 100).await.unwrap_err();
    assert!(matches!(error, StoreError::Unexpected { .. }), "{error}");
    let error = store.blobs().verify(digest).await.unwrap_err();
    assert!(matches!(error, StoreError::Unexpected { .. }), "{error}");
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_an_error_and_no_miss() {
    let place = super::place();
    let store = place.open();
    let content = addressed("there");
    store.blobs().put(&content).await.unwrap();
    let blobs = place.path().join("blobs/sha256");
    fs::rename(&blobs, place.path().join("blobs/away")).unwrap();
    fs::write(&blobs, "a file where a directory was").unwrap();
    let digest = content.digest();
    assert!(matches!(store.blobs().open(digest).await, Err(StoreError::Io { .. })));
    assert!(matches!(store.blobs().verify(digest).await, Err(StoreError::Io { .. })));
    assert!(matches!(store.blobs().list_page(None, 10).await, Err(StoreError::Io { .. })));
    assert!(matches!(store.blobs().put(&content).await, Err(StoreError::Io { .. })));
    let bytes = content.bytes().clone();
    let ingest = written(&store, digest, &bytes, 2).await;
    let growing = ingest.growing();
    assert!(matches!(ingest.commit().await, Err(IngestError::Store(StoreError::Io { .. }))));
    assert_eq!(growing.advance(0).await, storage::Progress::Failed);
    assert!(place.names("ingest").is_empty());
}

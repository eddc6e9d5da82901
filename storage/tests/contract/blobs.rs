use std::{fs, os::unix::fs::symlink, time::Duration};

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest};
use storage::{IngestError, StoreError};

use crate::{Place, addressed, noise, whole, written};

#[tokio::test]
async fn what_was_put_is_read_back_after_a_restart() {
    let place = Place::new();
    let contents = [addressed(Bytes::new()), addressed("small"), Addressed::hash(Algorithm::Sha512, noise(1, 100_000))];
    let store = place.open();
    for content in &contents {
        store.blobs().put(content).await.unwrap();
    }
    drop(store);
    let store = place.open();
    for content in &contents {
        let read = store.blobs().read(content.digest(), 100_000).await.unwrap();
        assert_eq!(read.as_ref(), Some(content));
        let blob = store.blobs().open(content.digest()).await.unwrap().unwrap();
        assert_eq!(blob.digest(), content.digest());
        assert_eq!(&whole(&blob).await, content.bytes());
    }
    assert!(place.names("ingest").is_empty());
}

#[tokio::test]
async fn a_blob_that_is_not_there_is_a_miss_and_no_error() {
    let store = Place::new();
    let store = store.open();
    let digest = Digest::sha256(b"never stored");
    assert!(store.blobs().open(&digest).await.unwrap().is_none());
    assert!(store.blobs().read(&digest, 10).await.unwrap().is_none());
    assert!(store.blobs().open_verified(&digest).await.unwrap().is_none());
    assert!(!store.blobs().verify(&digest).await.unwrap());
    store.blobs().quarantine(&digest).await.unwrap();
}

#[tokio::test]
async fn parts_of_a_blob_are_clipped_at_its_end() {
    let place = Place::new();
    let store = place.open();
    let content = addressed("0123456789");
    store.blobs().put(&content).await.unwrap();
    let blob = store.blobs().open(content.digest()).await.unwrap().unwrap();
    for (offset, length, want) in
        [(0, 3, "012"), (3, 4, "3456"), (8, 100, "89"), (10, 1, ""), (u64::MAX, usize::MAX, "")]
    {
        assert_eq!(blob.read_at(offset, length).await.unwrap(), want);
    }
}

#[tokio::test]
async fn an_ingest_is_invisible_until_it_is_committed() {
    let place = Place::new();
    let store = place.open();
    let bytes = noise(2, 3_000_000);
    let digest = Digest::sha256(&bytes);
    let ingest = written(&store, &digest, &bytes, 70_000).await;
    assert_eq!(ingest.written(), 3_000_000);
    assert!(store.blobs().open(&digest).await.unwrap().is_none());
    let blob = ingest.commit().await.unwrap();
    assert_eq!(whole(&blob).await, bytes);
    assert!(store.blobs().verify(&digest).await.unwrap());
    assert!(place.names("ingest").is_empty());
}

#[tokio::test]
async fn content_of_another_digest_is_not_stored() {
    let place = Place::new();
    let store = place.open();
    let bytes = noise(3, 50_000);
    for want in [Digest::sha256(b"something else"), Digest::of(Algorithm::Sha512, b"something else")] {
        let ingest = written(&store, &want, &bytes, 10_000).await;
        let error = ingest.commit().await.unwrap_err();
        let IngestError::Mismatch(mismatch) = error else {
            panic!("{error}");
        };
        assert_eq!(mismatch.want, want);
        assert_eq!(mismatch.got, Digest::of(want.algorithm(), &bytes));
        assert_eq!(mismatch.bytes, 50_000);
        assert!(store.blobs().open(&want).await.unwrap().is_none());
    }
    assert!(place.names("ingest").is_empty());
    assert!(place.names("blobs/sha256").is_empty());
}

#[tokio::test]
async fn content_that_ends_early_is_not_stored() {
    let place = Place::new();
    let store = place.open();
    let digest = Digest::sha256(b"0123456789");
    let mut ingest = store.blobs().ingest(digest.clone(), 10).await.unwrap();
    ingest.write(Bytes::from_static(b"01234567")).await.unwrap();
    let error = ingest.commit().await.unwrap_err();
    assert!(matches!(error, IngestError::Short { want: 10, got: 8, .. }), "{error}");
    assert!(store.blobs().open(&digest).await.unwrap().is_none());
    assert!(place.names("ingest").is_empty());
}

#[tokio::test]
async fn content_that_goes_on_past_its_end_is_not_stored() {
    let place = Place::new();
    let store = place.open();
    let digest = Digest::sha256(b"0123");
    let mut ingest = store.blobs().ingest(digest.clone(), 4).await.unwrap();
    ingest.write(Bytes::from_static(b"0123")).await.unwrap();
    let error = ingest.write(Bytes::from_static(b"4")).await.unwrap_err();
    assert!(matches!(error, IngestError::Long { want: 4, got: 5, .. }), "{error}");
    // Although its first four bytes are right: a writer that does not stop there is not to be believed.
    let error = ingest.commit().await.unwrap_err();
    assert!(matches!(error, IngestError::Ended { .. }), "{error}");
    assert!(store.blobs().open(&digest).await.unwrap().is_none());
}

#[tokio::test]
async fn an_abandoned_ingest_leaves_nothing_behind() {
    let place = Place::new();
    let store = place.open();
    let bytes = noise(4, 500_000);
    let digest = Digest::sha256(&bytes);
    drop(written(&store, &digest, &bytes, 1000).await);
    assert!(store.blobs().open(&digest).await.unwrap().is_none());
    assert!(place.names("ingest").is_empty());
}

#[tokio::test]
async fn two_ingests_of_one_digest_do_not_disturb_each_other() {
    let place = Place::new();
    let store = place.open();
    let (bytes, wrong) = (noise(5, 200_000), noise(6, 200_000));
    let digest = Digest::sha256(&bytes);
    let bad = written(&store, &digest, &wrong, 1000).await;
    let good = written(&store, &digest, &bytes, 3000).await;
    let again = written(&store, &digest, &bytes, 7000).await;
    assert!(bad.commit().await.is_err());
    good.commit().await.unwrap();
    again.commit().await.unwrap();
    let read = store.blobs().read(&digest, 200_000).await.unwrap().unwrap();
    assert_eq!(read.bytes(), &bytes);
}

#[tokio::test]
async fn a_blob_larger_than_its_reader_wants_is_an_error_and_no_miss() {
    let place = Place::new();
    let store = place.open();
    let content = addressed(noise(7, 1001));
    store.blobs().put(&content).await.unwrap();
    let error = store.blobs().read(content.digest(), 1000).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { want_max: 1000, got: 1001, .. }), "{error}");
    assert!(store.blobs().read(content.digest(), 1001).await.is_ok());
}

#[tokio::test]
async fn a_rotten_blob_is_quarantined_told_once_and_can_be_stored_again() {
    let place = Place::new();
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
    let place = Place::new();
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
async fn a_blob_quarantined_or_unlinked_stays_readable_for_who_has_it_open() {
    let place = Place::new();
    let store = place.open();
    let (one, two) = (addressed(noise(10, 5000)), addressed(noise(11, 5000)));
    store.blobs().put(&one).await.unwrap();
    store.blobs().put(&two).await.unwrap();
    let first = store.blobs().open(one.digest()).await.unwrap().unwrap();
    let second = store.blobs().open(two.digest()).await.unwrap().unwrap();
    store.blobs().quarantine(one.digest()).await.unwrap();
    fs::remove_file(place.blob(two.digest())).unwrap();
    assert!(store.blobs().open(one.digest()).await.unwrap().is_none());
    assert_eq!(&whole(&first).await, one.bytes());
    assert_eq!(&whole(&second).await, two.bytes());
}

#[tokio::test]
async fn a_blob_cut_short_under_its_reader_is_an_error_and_never_a_short_answer() {
    let place = Place::new();
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
    let place = Place::new();
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
    let place = Place::new();
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

#[tokio::test]
async fn blobs_are_listed_in_pages_without_gaps_or_repeats() {
    let place = Place::new();
    let store = place.open();
    let mut want = Vec::new();
    for seed in 0_u64..23 {
        let algorithm = if seed % 3 == 0 { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let content = Addressed::hash(algorithm, noise(seed, 10));
        store.blobs().put(&content).await.unwrap();
        want.push(content.digest().to_string());
    }
    fs::write(place.path().join("blobs/sha256/README"), "no blob").unwrap();
    want.sort();
    for limit in [1, 4, 23, 100] {
        let mut got = Vec::new();
        loop {
            let page = store.blobs().list_page(got.last(), limit).await.unwrap();
            assert!(page.len() <= limit);
            let full = page.len() == limit;
            got.extend(page);
            if !full {
                break;
            }
        }
        let got: Vec<String> = got.iter().map(Digest::to_string).collect();
        assert_eq!(got, want);
    }
}

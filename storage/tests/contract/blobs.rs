//! Bytes by digest, asked of every implementation.

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest};
use storage::{IngestError, StoreError};

use crate::{addressed, noise, whole, written};

#[tokio::test]
async fn a_blob_that_is_not_there_is_a_miss_and_no_error() {
    let store = super::place();
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
    let place = super::place();
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
    let place = super::place();
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
    let place = super::place();
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
    assert!(store.blobs().list_page(None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn content_that_ends_early_is_not_stored() {
    let place = super::place();
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
    let place = super::place();
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
    let place = super::place();
    let store = place.open();
    let bytes = noise(4, 500_000);
    let digest = Digest::sha256(&bytes);
    drop(written(&store, &digest, &bytes, 1000).await);
    assert!(store.blobs().open(&digest).await.unwrap().is_none());
    assert!(place.names("ingest").is_empty());
}

#[tokio::test]
async fn two_ingests_of_one_digest_do_not_disturb_each_other() {
    let place = super::place();
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
    let place = super::place();
    let store = place.open();
    let content = addressed(noise(7, 1001));
    store.blobs().put(&content).await.unwrap();
    let error = store.blobs().read(content.digest(), 1000).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { want_max: 1000, got: 1001, .. }), "{error}");
    assert!(store.blobs().read(content.digest(), 1001).await.is_ok());
}

#[tokio::test]
async fn a_blob_quarantined_or_removed_stays_readable_for_who_has_it_open() {
    let place = super::place();
    let store = place.open();
    let (one, two) = (addressed(noise(10, 5000)), addressed(noise(11, 5000)));
    store.blobs().put(&one).await.unwrap();
    store.blobs().put(&two).await.unwrap();
    let first = store.blobs().open(one.digest()).await.unwrap().unwrap();
    let second = store.blobs().open(two.digest()).await.unwrap().unwrap();
    store.blobs().quarantine(one.digest()).await.unwrap();
    store.blobs().remove(two.digest()).await.unwrap();
    for gone in [&one, &two] {
        assert!(store.blobs().open(gone.digest()).await.unwrap().is_none());
        // A second time is fine, and what was there can be stored again.
        store.blobs().remove(gone.digest()).await.unwrap();
        store.blobs().quarantine(gone.digest()).await.unwrap();
        store.blobs().put(gone).await.unwrap();
        assert!(store.blobs().verify(gone.digest()).await.unwrap());
    }
    assert_eq!(&whole(&first).await, one.bytes());
    assert_eq!(&whole(&second).await, two.bytes());
}

#[tokio::test]
async fn blobs_are_listed_in_pages_without_gaps_or_repeats() {
    let place = super::place();
    let store = place.open();
    let mut want = Vec::new();
    for seed in 0_u64..23 {
        let algorithm = if seed % 3 == 0 { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let content = Addressed::hash(algorithm, noise(seed, 10));
        store.blobs().put(&content).await.unwrap();
        want.push(content.digest().to_string());
    }
    if place.is_on_disk() {
        std::fs::write(place.path().join("blobs/sha256/README"), "no blob").unwrap();
    }
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

#[tokio::test]
async fn a_file_is_told_of_where_there_is_one_and_holds_the_bytes() {
    let place = super::place();
    let store = place.open();
    let bytes = noise(13, 5000);
    let digest = Digest::sha256(&bytes);
    let ingest = written(&store, &digest, &bytes, 1000).await;
    let growing = ingest.growing();
    assert_eq!(growing.advance(4999).await, storage::Progress::Written(5000));
    let committed = ingest.commit().await.unwrap();
    let opened = store.blobs().open(&digest).await.unwrap().unwrap();
    for file in [growing.file(), committed.file(), opened.file()] {
        assert_eq!(file.is_some(), place.is_on_disk());
        if let Some(file) = file {
            let mut got = vec![0; 5000];
            std::os::unix::fs::FileExt::read_exact_at(&**file, &mut got, 0).unwrap();
            assert_eq!(bytes, got);
        }
    }
}

#[tokio::test]
async fn a_scrub_walks_over_every_blob() {
    let place = super::place();
    let store = place.open();
    for seed in 0..5 {
        store.blobs().put(&addressed(noise(seed, 1000))).await.unwrap();
    }
    let mut scrub = storage::Scrub::new(store.blobs().clone());
    let pass = loop {
        if let storage::Step::PassEnded(pass) = scrub.step(300).await.unwrap() {
            break pass;
        }
    };
    assert_eq!((pass.sound, pass.quarantined, pass.bytes), (5, 0, 5000));
}

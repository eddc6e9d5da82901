use bytes::{Bytes, BytesMut};
use oci::Digest;
use storage::{Growing, Progress};
use tokio::task::JoinSet;

use crate::{noise, shared, written};

/// Reads all it can in pieces of `piece` bytes, as a client's connection would, and says how it ended.
async fn follow(growing: Growing, piece: usize) -> (Bytes, Progress) {
    let mut got = BytesMut::new();
    loop {
        let end = match growing.advance(got.len() as u64).await {
            Progress::Written(written) => {
                assert!(written > got.len() as u64);
                None
            }
            end @ (Progress::Committed | Progress::Failed) => Some(end),
        };
        loop {
            let bytes = growing.read_at(got.len() as u64, piece).await.unwrap();
            if bytes.is_empty() {
                break;
            }
            got.extend_from_slice(&bytes);
        }
        if let Some(end) = end {
            return (got.freeze(), end);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_followers_get_the_bytes_of_many_writers() {
    let place = super::place();
    let store = shared(&place);
    let mut writers = JoinSet::new();
    let mut followers = JoinSet::new();
    for seed in 0_u64..8 {
        let bytes = noise(seed, 400_000 + usize::try_from(seed).unwrap() * 31_337);
        let digest = Digest::sha256(&bytes);
        let size = bytes.len() as u64;
        let mut ingest = store.blobs().ingest(digest.clone(), size).await.unwrap();
        for number in 0..8 {
            let (growing, want) = (ingest.growing(), bytes.clone());
            followers.spawn(async move {
                let (got, end) = follow(growing, 1000 + number * 17_000).await;
                assert_eq!(end, Progress::Committed);
                assert!(got == want);
            });
        }
        writers.spawn(async move {
            for (number, chunk) in bytes.chunks(9_999).enumerate() {
                ingest.write(bytes.slice_ref(chunk)).await.unwrap();
                if number % 5 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            // One who comes late reads from the beginning, too.
            let late = ingest.growing();
            ingest.commit().await.unwrap();
            assert!(follow(late, 100_000).await.0 == bytes);
            digest
        });
    }
    while let Some(done) = followers.join_next().await {
        done.unwrap();
    }
    while let Some(digest) = writers.join_next().await {
        assert!(store.blobs().verify(&digest.unwrap()).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_mismatch_fails_every_follower_and_stores_nothing() {
    let place = super::place();
    let store = shared(&place);
    let bytes = noise(1, 600_000);
    let digest = Digest::sha256(b"what was asked for");
    let mut ingest = store.blobs().ingest(digest.clone(), 600_000).await.unwrap();
    let mut followers = JoinSet::new();
    for piece in [1_000, 50_000, 1_000_000] {
        followers.spawn(follow(ingest.growing(), piece));
    }
    for chunk in bytes.chunks(5_000) {
        ingest.write(bytes.slice_ref(chunk)).await.unwrap();
    }
    assert!(ingest.commit().await.is_err());
    while let Some(done) = followers.join_next().await {
        assert_eq!(done.unwrap().1, Progress::Failed);
    }
    assert!(store.blobs().open(&digest).await.unwrap().is_none());
    assert!(place.names("ingest").is_empty());
}

#[tokio::test]
async fn followers_of_an_abandoned_ingest_fail() {
    let place = super::place();
    let store = place.open();
    let bytes = noise(2, 10_000);
    let mut ingest = store.blobs().ingest(Digest::sha256(&bytes), 10_000).await.unwrap();
    ingest.write(bytes.slice(..4_000)).await.unwrap();
    let growing = ingest.growing();
    let waiting = tokio::spawn(follow(growing.clone(), 100));
    assert_eq!(growing.advance(3_999).await, Progress::Written(4_000));
    drop(ingest);
    let (got, end) = waiting.await.unwrap();
    assert_eq!(end, Progress::Failed);
    assert!(bytes.starts_with(&got));
    // A failure is not forgotten, wherever one asks from.
    assert_eq!(growing.advance(0).await, Progress::Failed);
}

#[tokio::test]
async fn every_byte_accepted_reaches_followers_without_a_further_write() {
    let place = super::place();
    let store = place.open();
    let mut ingest = store.blobs().ingest(Digest::sha256(b"?"), 1 << 20).await.unwrap();
    let growing = ingest.growing();
    for round in 1..=200 {
        ingest.write(noise(round, 3)).await.unwrap();
        ingest.write(noise(round, 4)).await.unwrap();
        assert_eq!(growing.advance(round * 7 - 1).await, Progress::Written(round * 7));
    }
}

#[tokio::test]
async fn all_bytes_written_is_not_yet_committed() {
    let place = super::place();
    let store = place.open();
    let bytes = noise(3, 1_000);
    let ingest = written(&store, &Digest::sha256(&bytes), &bytes, 100).await;
    let growing = ingest.growing();
    assert_eq!((growing.size(), growing.digest()), (1_000, ingest.digest()));
    assert_eq!(growing.advance(999).await, Progress::Written(1_000));
    let end = tokio::spawn({
        let growing = growing.clone();
        async move { growing.advance(1_000).await }
    });
    tokio::task::yield_now().await;
    assert!(!end.is_finished());
    ingest.commit().await.unwrap();
    assert_eq!(end.await.unwrap(), Progress::Committed);
}

#[tokio::test]
async fn nothing_is_read_beyond_what_is_written() {
    let place = super::place();
    let store = place.open();
    let bytes = noise(4, 1_000);
    let mut ingest = store.blobs().ingest(Digest::sha256(&bytes), 1_000).await.unwrap();
    let growing = ingest.growing();
    assert_eq!(growing.read_at(0, 1_000).await.unwrap().len(), 0);
    ingest.write(bytes.slice(..300)).await.unwrap();
    growing.advance(299).await;
    assert_eq!(growing.read_at(0, 1_000).await.unwrap(), bytes.slice(..300));
    assert_eq!(growing.read_at(299, 1_000).await.unwrap(), bytes.slice(299..300));
    assert_eq!(growing.read_at(300, 1_000).await.unwrap().len(), 0);
    assert_eq!(growing.read_at(u64::MAX, usize::MAX).await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_still_ends_for_its_followers() {
    let place = super::place();
    let store = place.open();
    let bytes = noise(5, 100_000);
    let digest = Digest::sha256(&bytes);
    for polls in 0..4 {
        let ingest = written(&store, &digest, &bytes, 10_000).await;
        let growing = ingest.growing();
        let mut commit = Box::pin(ingest.commit());
        for _ in 0..polls {
            tokio::select! {
                biased;
                _ = &mut commit => {}
                () = tokio::task::yield_now() => continue,
            }
            break;
        }
        drop(commit);
        let end = growing.advance(u64::MAX).await;
        assert_ne!(end, Progress::Written(100_000));
        if end == Progress::Committed {
            assert!(store.blobs().verify(&digest).await.unwrap());
        }
    }
}

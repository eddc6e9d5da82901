//! Content that is interrupted on its way in and taken up again.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::PathBuf,
    process::Command,
};

use bytes::Bytes;
use oci::{Digest, UnixTime, UpstreamName};
use storage::{Ingest, IngestError, Progress, Store};

use super::place;
use crate::{Place, noise};

const SIZE: usize = 3_000_000;
const THERE: usize = 1_234_567;

fn upstream() -> UpstreamName {
    "cgr.dev".parse().unwrap()
}

/// Where the one that was interrupted lies.
fn part(place: &Place) -> PathBuf {
    let [name] = place.names("ingest").try_into().unwrap();
    place.path().join("ingest").join(name)
}

/// A store in which this much of `bytes` was written before it was closed, and nobody said that it was over.
async fn interrupted(place: &Place, bytes: &Bytes, there: usize) {
    let store = place.open();
    let mut ingest = store.blobs().resume(Digest::sha256(bytes), bytes.len() as u64, upstream()).await.unwrap();
    // Whoever was interrupted before may have left a part.
    let left = usize::try_from(ingest.taken_up()).unwrap().min(there);
    feed(&mut ingest, &bytes.slice(left..there)).await;
    let growing = ingest.growing();
    drop(ingest);
    assert_eq!(growing.advance(u64::MAX).await, Progress::Failed);
    drop((growing, store));
    // Until those who hash and write have let go of it, too: they cut it to its length when they do.
    drop(place.open());
}

async fn feed(ingest: &mut Ingest, bytes: &Bytes) {
    for chunk in bytes.chunks(100_000) {
        ingest.write(bytes.slice_ref(chunk)).await.unwrap();
    }
    let all = ingest.written().saturating_sub(1);
    assert!(bytes.is_empty() || matches!(ingest.growing().advance(all).await, Progress::Written(_)));
}

async fn resumed(store: &Store, bytes: &Bytes) -> Ingest {
    store.blobs().resume(Digest::sha256(bytes), bytes.len() as u64, upstream()).await.unwrap()
}

#[tokio::test]
async fn an_interrupted_ingest_goes_on_where_it_was_and_is_not_visible_before() {
    let (place, bytes) = (place(), noise(1, SIZE));
    let digest = Digest::sha256(&bytes);
    interrupted(&place, &bytes, THERE).await;
    let store = place.open();
    assert!(store.blobs().open(&digest).await.unwrap().is_none());
    assert!(store.blobs().list_page(None, 10).await.unwrap().is_empty());
    let mut ingest = resumed(&store, &bytes).await;
    assert_eq!((ingest.taken_up(), ingest.written()), (THERE as u64, THERE as u64));
    let growing = ingest.growing();
    assert_eq!(growing.advance(0).await, Progress::Written(THERE as u64), "followers need not wait");
    assert_eq!(growing.read_at(0, 1000).await.unwrap(), bytes.slice(..1000));
    feed(&mut ingest, &bytes.slice(THERE..)).await;
    ingest.commit().await.unwrap();
    assert_eq!(growing.advance(u64::MAX).await, Progress::Committed);
    assert!(store.blobs().verify(&digest).await.unwrap());
    assert!(place.names("ingest").is_empty());
}

#[tokio::test]
async fn one_of_which_everything_was_there_only_has_to_be_hashed() {
    let (place, bytes) = (place(), noise(1, SIZE));
    interrupted(&place, &bytes, SIZE).await;
    let store = place.open();
    let ingest = resumed(&store, &bytes).await;
    assert_eq!(ingest.written(), SIZE as u64);
    ingest.commit().await.unwrap();
    assert!(store.blobs().verify(&Digest::sha256(&bytes)).await.unwrap());
}

#[tokio::test]
async fn what_has_rotted_meanwhile_is_found_and_not_kept_a_second_time() {
    let (place, bytes) = (place(), noise(1, SIZE));
    let digest = Digest::sha256(&bytes);
    interrupted(&place, &bytes, THERE).await;
    let file = part(&place);
    let mut there = fs::read(&file).unwrap();
    // Zeros, as some file systems leave them behind after a power cut.
    there[500_000..600_000].fill(0);
    fs::write(&file, there).unwrap();
    let store = place.open();
    let mut ingest = resumed(&store, &bytes).await;
    feed(&mut ingest, &bytes.slice(THERE..)).await;
    assert_eq!(ingest.taken_up(), THERE as u64);
    let outcome = ingest.commit().await;
    assert!(matches!(outcome, Err(IngestError::Mismatch(_))), "{outcome:?}");
    assert!(store.blobs().open(&digest).await.unwrap().is_none());
    assert_eq!(resumed(&store, &bytes).await.written(), 0);
}

#[tokio::test]
async fn what_is_kept_goes_with_its_last_reader_where_another_download_has_stored_the_blob() {
    let (place, bytes) = (place(), noise(1, SIZE));
    let store = place.open();
    let mut ingest = resumed(&store, &bytes).await;
    feed(&mut ingest, &bytes.slice(..THERE)).await;
    let reader = ingest.growing();
    drop(ingest);
    assert_eq!(reader.advance(u64::MAX).await, Progress::Failed);
    // While it is still read its name is nobody else's.
    let mut other = resumed(&store, &bytes).await;
    assert_eq!(other.taken_up(), 0);
    feed(&mut other, &bytes).await;
    other.commit().await.unwrap();
    assert_eq!(place.names("ingest").len(), 1);
    drop(reader);
    // Until those who hash and write have let go of it, too.
    drop(store);
    drop(place.open());
    assert!(place.names("ingest").is_empty());
}

#[tokio::test]
async fn what_is_discarded_or_never_began_is_not_kept() {
    let (place, bytes) = (place(), noise(1, SIZE));
    let store = place.open();
    drop(resumed(&store, &bytes).await);
    assert!(place.names("ingest").is_empty());
    let mut ingest = resumed(&store, &bytes).await;
    feed(&mut ingest, &bytes.slice(..THERE)).await;
    ingest.discard();
    assert!(place.names("ingest").is_empty());
    let mut plain = store.blobs().ingest(Digest::sha256(&bytes), SIZE as u64).await.unwrap();
    feed(&mut plain, &bytes.slice(..THERE)).await;
    drop(plain);
    assert!(place.names("ingest").is_empty());
}

#[tokio::test]
async fn two_at_a_time_do_not_write_into_one_file() {
    let (place, bytes) = (place(), noise(1, SIZE));
    let store = place.open();
    let mut first = resumed(&store, &bytes).await;
    feed(&mut first, &bytes.slice(..THERE)).await;
    let mut second = resumed(&store, &bytes).await;
    assert_eq!(second.written(), 0);
    feed(&mut second, &bytes).await;
    second.commit().await.unwrap();
    // As long as somebody reads what the first has left, its name is nobody else's.
    let follower = first.growing();
    drop(first);
    assert_eq!(resumed(&store, &bytes).await.written(), 0);
    assert_eq!(follower.read_at(0, 1000).await.unwrap(), bytes.slice(..1000));
}

#[tokio::test]
async fn what_one_upstream_has_sent_is_not_the_beginning_of_what_another_sends() {
    let (place, bytes) = (place(), noise(1, SIZE));
    interrupted(&place, &bytes, THERE).await;
    let store = place.open();
    let other = || store.blobs().resume(Digest::sha256(&bytes), SIZE as u64, "other.example".parse().unwrap());
    let mut from_other = other().await.unwrap();
    assert_eq!(from_other.written(), 0);
    feed(&mut from_other, &bytes.slice(..1000)).await;
    // Nor does one keep the other from being taken up.
    assert_eq!(resumed(&store, &bytes).await.written(), THERE as u64);
    drop(from_other);
    assert_eq!(other().await.unwrap().written(), 1000);
}

#[tokio::test]
async fn what_was_kept_without_its_upstream_is_removed_at_start() {
    let (place, bytes) = (place(), noise(1, SIZE));
    drop(place.open());
    let file = place.path().join("ingest").join(format!("sha256-{}.{SIZE}.part", Digest::sha256(&bytes).hex()));
    fs::write(&file, bytes.slice(..THERE)).unwrap();
    let store = place.open();
    assert!(place.names("ingest").is_empty());
    assert_eq!(resumed(&store, &bytes).await.written(), 0);
}

#[tokio::test]
async fn what_cannot_be_the_beginning_of_the_blob_is_removed() {
    let (place, bytes) = (place(), noise(1, SIZE));
    let elsewhere = place.directory.path().join("elsewhere");
    fs::write(&elsewhere, "not ours").unwrap();
    interrupted(&place, &bytes, THERE).await;
    let file = part(&place);
    fs::remove_file(&file).unwrap();
    let lay: [&dyn Fn(); 2] =
        [&|| fs::write(&file, noise(2, SIZE + 1)).unwrap(), &|| symlink(&elsewhere, &file).unwrap()];
    for lay in lay {
        drop(place.open());
        lay();
        let store = place.open();
        let mut ingest = resumed(&store, &bytes).await;
        assert_eq!(ingest.written(), 0);
        feed(&mut ingest, &bytes.slice(..THERE)).await;
        ingest.discard();
    }
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "not ours");
}

#[tokio::test]
async fn what_is_kept_takes_no_room_for_what_has_not_come() {
    let (place, bytes) = (place(), noise(1, SIZE));
    let taken = || fs::metadata(part(&place)).unwrap().blocks() * 512;
    interrupted(&place, &bytes, THERE).await;
    // Whoever wrote it has let go of it once the store can be opened again.
    drop(place.open());
    assert!(taken() < THERE as u64 + 100_000, "{}", taken());
    // As a killed process leaves it.
    let all = fs::OpenOptions::new().write(true).open(part(&place)).unwrap();
    rustix::fs::fallocate(&all, rustix::fs::FallocateFlags::KEEP_SIZE, 0, SIZE as u64).unwrap();
    assert!(taken() > SIZE as u64 - 100_000, "{}", taken());
    let store = place.open();
    let swept = store.blobs().sweep_interrupted(UnixTime::from_millis(0), THERE as u64 + 100_000).await.unwrap();
    assert_eq!((swept, taken() < THERE as u64 + 100_000), (0, true));
    assert_eq!(resumed(&store, &bytes).await.written(), THERE as u64);
}

#[tokio::test]
async fn a_declared_size_takes_no_room_before_it_comes() {
    let place = place();
    let store = place.open();
    let (size, step) = (1 << 30, 64 << 20);
    let mut ingest = store.blobs().resume(Digest::sha256(b"?"), size, upstream()).await.unwrap();
    let taken = || fs::metadata(part(&place)).unwrap().blocks() * 512;
    assert!(taken() <= step + 100_000, "{}", taken());
    // Further room is taken a step ahead of what comes.
    let piece = Bytes::from(vec![7; 1 << 20]);
    for _ in 0..65 {
        ingest.write(piece.clone()).await.unwrap();
    }
    ingest.growing().advance((65 << 20) - 1).await;
    let range = 65 << 20..=(65 << 20) + step + 100_000;
    assert!(range.contains(&taken()), "{}", taken());
    ingest.discard();
}

#[tokio::test]
async fn what_cannot_be_opened_now_stays_for_another_time() {
    let (place, bytes) = (place(), noise(1, SIZE));
    interrupted(&place, &bytes, THERE).await;
    // The system opens no file for writing that is being run.
    assert!(Command::new("cp").arg("/bin/sleep").arg(part(&place)).status().unwrap().success());
    fs::set_permissions(part(&place), fs::Permissions::from_mode(0o700)).unwrap();
    let mut running = loop {
        match Command::new(part(&place)).arg("60").spawn() {
            // Another test starts a process, which holds what was just being written for a moment.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => tokio::task::yield_now().await,
            started => break started.unwrap(),
        }
    };
    let store = place.open();
    let refused = store.blobs().resume(Digest::sha256(&bytes), SIZE as u64, upstream()).await;
    assert!(matches!(refused, Err(storage::StoreError::Io { .. })), "{refused:?}");
    assert_eq!(place.names("ingest").len(), 1);
    running.kill().unwrap();
    running.wait().unwrap();
}

#[tokio::test]
async fn what_is_kept_is_bounded_in_bytes_and_age_and_goes_once_the_blob_is_there() {
    let place = place();
    let all: Vec<Bytes> = (1..=3).map(|seed| noise(seed, SIZE)).collect();
    let (long_ago, ever) = (UnixTime::from_millis(0), u64::MAX);
    let laid = || async {
        for bytes in &all {
            interrupted(&place, bytes, THERE).await;
        }
        place.open()
    };
    let later = UnixTime::from_millis(u64::MAX);
    let store = laid().await;
    assert_eq!(store.blobs().sweep_interrupted(long_ago, ever).await.unwrap(), 0);
    let at_it = resumed(&store, &all[0]).await;
    assert_eq!(store.blobs().sweep_interrupted(later, ever).await.unwrap(), 2, "one of them is being written");
    drop((at_it, store));
    let store = laid().await;
    // Each takes what has come of it, and no room for the rest.
    assert_eq!(store.blobs().sweep_interrupted(long_ago, 2 * THERE as u64 + 100_000).await.unwrap(), 1);
    drop(store);
    let store = laid().await;
    let mut other = store.blobs().ingest(Digest::sha256(&all[1]), SIZE as u64).await.unwrap();
    feed(&mut other, &all[1]).await;
    other.commit().await.unwrap();
    assert_eq!(store.blobs().sweep_interrupted(long_ago, ever).await.unwrap(), 1);
    assert_eq!(place.names("ingest").len(), 2);
}

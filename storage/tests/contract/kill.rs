//! kill -9 while facts are committed and blobs stored: what was acknowledged is there, what was not is there whole or not at all.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use bytes::Bytes;
use oci::{Digest, Repository};
use storage::{Change, EdgeKind, FactsState, ManifestFact, Store};
use tokio::runtime::Runtime;

use crate::{Place, addressed, at, edge, noise, repository, tag};

const ROUNDS: u64 = 20;
const EDGES: u64 = 15;
/// So that no two rounds write the same thing.
const NUMBERS_PER_ROUND: u64 = 100_000;

#[test]
fn kill_dash_nine_loses_nothing_acknowledged_and_shows_nothing_half_done() {
    let place = super::place();
    let mut acknowledged = BTreeSet::new();
    for round in 0..ROUNDS {
        let before = acknowledged.len();
        run_and_kill(&place, round, &mut acknowledged);
        // The first rounds die while the store is opened, for the first time or after a kill.
        assert!(round < 6 || acknowledged.len() > before, "round {round} did nothing");
        check(&place, round, &acknowledged);
    }
    for kind in ["fact", "ingest", "put"] {
        let count = acknowledged.iter().filter(|(of, _)| of == kind).count();
        assert!(count > 10, "only {count} of {kind}");
    }
}

/// Starts a writer, lets it acknowledge a few things, kills it, and notes all that it had acknowledged by then.
fn run_and_kill(place: &Place, round: u64, acknowledged: &mut BTreeSet<(String, u64)>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", &this_module("the_writer_that_is_killed"), "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{}\n{round}", place.path().display()).unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut lines = stdout.lines().map(Result::unwrap).filter_map(|line| parse(&line));

    let wanted = if round < 6 { 1 } else { 1 + round * 7 % 31 };
    acknowledged.extend(lines.by_ref().take(usize::try_from(wanted).unwrap()));
    // Not always right behind an answer.
    for _ in 0..round * 61 % 400 {
        thread::yield_now();
    }
    child.kill().unwrap();
    // What was on its way to us had been acknowledged.
    acknowledged.extend(lines);
    let status = child.wait().unwrap();
    assert!(status.code().is_none(), "the writer ended by itself: {status}");
}

/// How the test harness calls a test of this module.
fn this_module(test: &str) -> String {
    let path = module_path!();
    let (_, within) = path.split_once("::").unwrap();
    format!("{within}::{test}")
}

fn parse(line: &str) -> Option<(String, u64)> {
    let (kind, number) = line.strip_prefix("ack ")?.split_once(' ')?;
    Some((kind.to_owned(), number.parse().ok()?))
}

fn check(place: &Place, round: u64, acknowledged: &BTreeSet<(String, u64)>) {
    let runtime = Runtime::new().unwrap();
    let store = place.open();
    assert!(place.names("ingest").is_empty());
    assert!(place.names("quarantine").is_empty());
    let facts_before = acknowledged.iter().any(|(kind, _)| kind != "opening" && kind != "ingest");
    // A writer that died before it had made a file of facts had acknowledged none.
    let state = store.facts_state();
    assert!(*state == FactsState::Intact || *state == FactsState::New && !facts_before);
    runtime.block_on(async {
        let first = round * NUMBERS_PER_ROUND;
        for number in first.. {
            if !all_or_nothing(&store, number) {
                break;
            }
        }
        for (kind, number) in acknowledged {
            match kind.as_str() {
                "fact" => assert!(all_or_nothing(&store, *number), "fact {number}"),
                "ingest" => assert!(stored(&store, &large(*number)).await, "ingest {number}"),
                "put" => assert!(put_and_noted(&store, *number).await, "put {number}"),
                _ => {}
            }
        }
        for digest in store.blobs().list_page(None, usize::MAX).await.unwrap() {
            assert!(store.blobs().verify(&digest).await.unwrap(), "{digest}");
        }
    });
}

/// Whether a set of facts is there; it is an error if part of it is.
fn all_or_nothing(store: &Store, number: u64) -> bool {
    let snapshot = store.facts().read().unwrap();
    let (repository, digest) = (nginx(), digest(number));
    let tag = snapshot.tag(&repository, &tag(&format!("t{number}"))).unwrap();
    let verdict = snapshot.verdict(&repository, &digest, &[1; 32]).unwrap();
    let children = snapshot.children(&repository, &digest, None, 100).unwrap().found;
    let parents = snapshot.parents(&repository, &child(number, 0), None, 100).unwrap().found;
    let Some(tag) = tag else {
        assert!(verdict.is_none() && children.is_empty() && parents.is_empty());
        return false;
    };
    assert_eq!(tag.digest, digest);
    assert_eq!(verdict.map(Bytes::from), Some(noise(number, 1000)));
    assert_eq!((children.len() as u64, parents.len()), (EDGES, 1));
    true
}

async fn stored(store: &Store, bytes: &Bytes) -> bool {
    let read = store.blobs().read(&Digest::sha256(bytes), 1 << 20).await.unwrap();
    read.is_some_and(|read| read.bytes() == bytes)
}

/// Whether a manifest is noted, which it is only after its bytes are stored.
async fn put_and_noted(store: &Store, number: u64) -> bool {
    let bytes = small(number);
    let snapshot = store.facts().read().unwrap();
    let noted = snapshot.manifest(&nginx(), &Digest::sha256(&bytes)).unwrap().is_some();
    noted && stored(store, &bytes).await
}

fn nginx() -> Repository {
    repository("cgr.dev/chainguard/nginx")
}

fn digest(number: u64) -> Digest {
    Digest::sha256(&number.to_be_bytes())
}

fn child(number: u64, edge: u64) -> Digest {
    digest(u64::MAX - number * EDGES - edge)
}

fn large(number: u64) -> Bytes {
    noise(number, 20_000 + usize::try_from(number * 7919 % 150_000).unwrap())
}

fn small(number: u64) -> Bytes {
    noise(u64::MAX - number, 2_000)
}

/// Not a test by itself: the other side of the one above, which says over standard input where to write.
#[test]
#[ignore = "started, and killed, by the test above"]
fn the_writer_that_is_killed() {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return;
    }
    let mut lines = stdin.lock().lines();
    let (Some(Ok(path)), Some(Ok(round))) = (lines.next(), lines.next()) else {
        return;
    };
    let path = PathBuf::from(path);
    assert!(path.parent().is_some_and(|parent| fs::exists(parent).unwrap()));
    let first = round.parse::<u64>().unwrap() * NUMBERS_PER_ROUND;
    acknowledge("opening", first);
    let store = Store::open_with(&path, &super::place().options()).unwrap();
    Runtime::new().unwrap().block_on(async {
        let writers = [
            tokio::spawn(write_facts(store.clone(), first)),
            tokio::spawn(ingest_blobs(store.clone(), first)),
            tokio::spawn(put_blobs(store, first)),
        ];
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

fn acknowledge(kind: &str, number: u64) {
    // One write, so that a line arrives whole or not at all.
    let line = format!("\nack {kind} {number}\n");
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes()).unwrap();
    stdout.flush().unwrap();
}

async fn write_facts(store: Store, first: u64) {
    for number in first..first + NUMBERS_PER_ROUND {
        let mut changes = vec![
            Change::Tag {
                repository: nginx(),
                tag: tag(&format!("t{number}")),
                digest: digest(number),
                at: at(number),
            },
            Change::Verdict {
                repository: nginx(),
                digest: digest(number),
                fingerprint: [1; 32],
                bytes: noise(number, 1000).to_vec(),
            },
        ];
        changes.extend((0..EDGES).map(|it| Change::Edge {
            repository: nginx(),
            edge: edge(EdgeKind::Layer, &digest(number), &child(number, it)),
        }));
        store.facts().apply(changes).await.unwrap();
        acknowledge("fact", number);
    }
}

async fn ingest_blobs(store: Store, first: u64) {
    for number in first..first + NUMBERS_PER_ROUND {
        let bytes = large(number);
        let digest = Digest::sha256(&bytes);
        let ingest = crate::written(&store, &digest, &bytes, 16_000).await;
        ingest.commit().await.unwrap();
        acknowledge("ingest", number);
    }
}

async fn put_blobs(store: Store, first: u64) {
    for number in first..first + NUMBERS_PER_ROUND {
        let content = addressed(small(number));
        store.blobs().put(&content).await.unwrap();
        let noted = Change::Manifest {
            repository: nginx(),
            digest: content.digest().clone(),
            fact: ManifestFact {
                media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
                size: 2_000,
                first_seen: at(number),
            },
        };
        store.facts().apply(vec![noted]).await.unwrap();
        acknowledge("put", number);
    }
}

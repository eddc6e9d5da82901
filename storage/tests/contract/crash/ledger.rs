//! What a writer acknowledges, and what must then be found in its store.
//!
//! The writer is a process of its own: it reads an [`Order`] from standard input, works, and says `ack <kind> <number>` for each
//! thing that the store acknowledged.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest, Repository, Tag, UnixTime};
use storage::{Change, Edge, EdgeKind, FactsIn, FactsState, IngestError, ManifestFact, Options, Store, StoreError};
use tokio::runtime::Runtime;

const EDGES: u64 = 15;
/// So that no two rounds write the same thing.
pub const NUMBERS_PER_ROUND: u64 = 100_000;

/// What a writer is told to do.
#[derive(Debug, Clone)]
pub struct Order {
    /// The store's directory.
    pub store: PathBuf,
    /// What keeps its facts.
    pub facts: FactsIn,
    /// What it writes differs from what other rounds wrote.
    pub round: u64,
    /// How many things of each kind, one after the other; without end, and of all kinds at once, where it is none.
    pub count: Option<u64>,
}

impl Order {
    /// How it is spelled on standard input.
    fn line(&self) -> String {
        let facts = if self.facts == FactsIn::Sled { "sled" } else { "redb" };
        format!("{facts} {} {} {}", self.round, self.count.unwrap_or(0), self.store.display())
    }

    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.splitn(4, ' ');
        let facts = if parts.next()? == "sled" { FactsIn::Sled } else { FactsIn::Redb };
        let (round, count) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { store: parts.next()?.into(), facts, round, count: Some(count).filter(|count| *count > 0) })
    }

    /// The store it is about.
    pub fn open(&self) -> Result<Store, StoreError> {
        Store::open_with(&self.store, &Options { facts: self.facts, ..Options::new(5) })
    }
}

/// What was acknowledged: kind and number.
pub type Acknowledged = BTreeSet<(String, u64)>;

/// A writer at work.
pub struct Writer {
    child: Child,
    lines: io::Lines<BufReader<ChildStdout>>,
}

impl Writer {
    /// Starts `command`, which must end up in [`obey`].
    pub fn start(mut command: Command, order: &Order) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{}", order.line()).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for so many more acknowledgements.
    pub fn wait_for(&mut self, wanted: u64, acknowledged: &mut Acknowledged) {
        let wanted = usize::try_from(wanted).unwrap();
        acknowledged.extend(self.lines.by_ref().map_while(Result::ok).filter_map(|line| parse(&line)).take(wanted));
    }

    /// Kills it; what was on its way to us had been acknowledged. It must not have ended by itself.
    pub fn kill(mut self, acknowledged: &mut Acknowledged) -> Result<(), String> {
        self.child.kill().unwrap();
        let status = self.end(acknowledged);
        if status.code().is_none() { Ok(()) } else { Err(format!("the writer ended by itself: {status}")) }
    }

    /// Waits for its end.
    pub fn end(mut self, acknowledged: &mut Acknowledged) -> std::process::ExitStatus {
        acknowledged.extend(self.lines.map_while(Result::ok).filter_map(|line| parse(&line)));
        self.child.wait().unwrap()
    }
}

fn parse(line: &str) -> Option<(String, u64)> {
    let (kind, number) = line.strip_prefix("ack ")?.split_once(' ')?;
    Some((kind.to_owned(), number.parse().ok()?))
}

/// Opens the store and looks whether all that was acknowledged is there, and nothing is half there.
pub fn check(order: &Order, acknowledged: &Acknowledged) -> Result<(), String> {
    let facts_before = acknowledged.iter().any(|(kind, _)| kind != "opening" && kind != "ingest");
    let store = order
        .open()
        .map_err(|error| format!("the store does not open: {error}: {:?}", std::error::Error::source(&error)))?;
    // A writer that died before it had made its facts had acknowledged none.
    let state = store.facts_state();
    if *state != FactsState::Intact && (*state != FactsState::New || facts_before) {
        return Err(format!("the facts are {state:?}"));
    }
    for directory in ["ingest", "quarantine"] {
        let left = std::fs::read_dir(order.store.join(directory)).unwrap().count();
        if left > 0 {
            return Err(format!("{left} files in {directory}"));
        }
    }
    Runtime::new().unwrap().block_on(async {
        for number in order.round * NUMBERS_PER_ROUND.. {
            if !all_or_nothing(&store, number)? {
                break;
            }
        }
        for (kind, number) in acknowledged {
            let is_there = match kind.as_str() {
                "fact" => all_or_nothing(&store, *number)?,
                "ingest" => stored(&store, &large(*number)).await?,
                "put" => put_and_noted(&store, *number).await?,
                _ => true,
            };
            if !is_there {
                return Err(format!("acknowledged, and lost: {kind} {number}"));
            }
        }
        for digest in store.blobs().list_page(None, usize::MAX).await.map_err(told)? {
            if !store.blobs().verify(&digest).await.map_err(told)? {
                return Err(format!("visible, and not what its name says: {digest}"));
            }
        }
        Ok(())
    })
}

fn told(error: impl std::error::Error) -> String {
    error.to_string()
}

/// Whether a set of facts is there; it is an error if part of it is.
fn all_or_nothing(store: &Store, number: u64) -> Result<bool, String> {
    let snapshot = store.facts().read().map_err(told)?;
    let (repository, digest) = (nginx(), digest(number));
    let tag = snapshot.tag(&repository, &tag(number)).map_err(told)?;
    let verdict = snapshot.verdict(&repository, &digest, &[1; 32]).map_err(told)?;
    let children = snapshot.children(&repository, &digest, None, 100).map_err(told)?.found.len() as u64;
    let parents = snapshot.parents(&repository, &child(number, 0), None, 100).map_err(told)?.found.len();
    let is_whole = tag.as_ref().is_some_and(|tag| tag.digest == digest)
        && verdict.as_deref() == Some(&noise(number, 1000)[..])
        && (children, parents) == (EDGES, 1);
    let is_absent = tag.is_none() && verdict.is_none() && (children, parents) == (0, 0);
    if is_whole || is_absent {
        return Ok(is_whole);
    }
    Err(format!("half a commit: {number}: tag {tag:?}, {children} children, {parents} parents"))
}

async fn stored(store: &Store, bytes: &Bytes) -> Result<bool, String> {
    let read = store.blobs().read(&Digest::sha256(bytes), 1 << 20).await.map_err(told)?;
    Ok(read.is_some_and(|read| read.bytes() == bytes))
}

/// Whether a manifest is noted, which it is only after its bytes are stored.
async fn put_and_noted(store: &Store, number: u64) -> Result<bool, String> {
    let bytes = small(number);
    let snapshot = store.facts().read().map_err(told)?;
    let noted = snapshot.manifest(&nginx(), &Digest::sha256(&bytes)).map_err(told)?.is_some();
    drop(snapshot);
    Ok(noted && stored(store, &bytes).await?)
}

fn nginx() -> Repository {
    "cgr.dev/chainguard/nginx".parse().unwrap()
}

fn tag(number: u64) -> Tag {
    format!("t{number}").parse().unwrap()
}

/// Bytes that look like nothing and are different for every `seed`.
fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(byte).take(length).collect()
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

/// The other side: reads an order and carries it out. Errors of the store are said, and are no reason to fail.
pub fn obey() {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).unwrap();
    let Some(order) = Order::parse(line.trim_end()) else {
        return;
    };
    let first = order.round * NUMBERS_PER_ROUND;
    say("ack", "opening", first);
    let store = match order.open() {
        Ok(store) => store,
        Err(error) => return say("err", &error.to_string(), first),
    };
    Runtime::new().unwrap().block_on(async {
        if let Some(count) = order.count {
            for number in first..first + count {
                acknowledge("ingest", number, ingest_blob(&store, number).await);
                acknowledge("put", number, put_blob(&store, number).await);
                acknowledge("fact", number, write_fact(&store, number).await);
            }
            return;
        }
        let numbers = move || first..first + NUMBERS_PER_ROUND;
        let (one, two, three) = (store.clone(), store.clone(), store);
        let writers = [
            tokio::spawn(async move {
                for number in numbers() {
                    acknowledge("fact", number, write_fact(&one, number).await);
                }
            }),
            tokio::spawn(async move {
                for number in numbers() {
                    acknowledge("ingest", number, ingest_blob(&two, number).await);
                }
            }),
            tokio::spawn(async move {
                for number in numbers() {
                    acknowledge("put", number, put_blob(&three, number).await);
                }
            }),
        ];
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

fn acknowledge(kind: &str, number: u64, done: Result<(), IngestError>) {
    match done {
        Ok(()) => say("ack", kind, number),
        Err(error) => say("err", &format!("{kind}: {error}"), number),
    }
}

fn say(what: &str, of: &str, number: u64) {
    // One write, so that a line arrives whole or not at all.
    let line = format!("\n{what} {of} {number}\n");
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).unwrap();
}

async fn write_fact(store: &Store, number: u64) -> Result<(), IngestError> {
    let at = UnixTime::from_millis(number);
    let verdict = noise(number, 1000).to_vec();
    let mut changes = vec![
        Change::Tag { repository: nginx(), tag: tag(number), digest: digest(number), at },
        Change::Verdict { repository: nginx(), digest: digest(number), fingerprint: [1; 32], bytes: verdict },
    ];
    changes.extend((0..EDGES).map(|edge| Change::Edge {
        repository: nginx(),
        edge: Edge {
            kind: EdgeKind::Layer,
            parent: digest(number),
            child: child(number, edge),
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
            size: 1234,
        },
    }));
    Ok(store.facts().apply(changes).await?)
}

async fn ingest_blob(store: &Store, number: u64) -> Result<(), IngestError> {
    let bytes = large(number);
    let begun = store.blobs().ingest(Digest::sha256(&bytes), bytes.len() as u64);
    let mut ingest = begun.await?;
    for chunk in bytes.chunks(16_000) {
        ingest.write(bytes.slice_ref(chunk)).await?;
    }
    ingest.commit().await.map(drop)
}

async fn put_blob(store: &Store, number: u64) -> Result<(), IngestError> {
    let content = Addressed::hash(Algorithm::Sha256, small(number));
    store.blobs().put(&content).await?;
    let noted = Change::Manifest {
        repository: nginx(),
        digest: content.digest().clone(),
        fact: ManifestFact {
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            size: 2_000,
            first_seen: UnixTime::from_millis(number),
        },
    };
    Ok(store.facts().apply(vec![noted]).await?)
}

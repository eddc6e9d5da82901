//! Who may fill, and what followers are told; upstream is a listener that answers when the test says so.

use config::{Scheme, UpstreamUrl};
use storage::{Blobs, Store};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use super::*;

const SOON: Duration = Duration::from_millis(50);

/// Knows nowhere else, or a new repository every time.
struct Rumours(bool);

impl Elsewhere for Rumours {
    fn another<'a>(&'a self, _: &'a FillKey, known: &'a [RepositoryPath]) -> BoxFuture<'a, Option<RepositoryPath>> {
        let path = || format!("chainguard/other-{}", known.len()).parse().unwrap();
        Box::pin(std::future::ready(self.0.then(path)))
    }
}

struct Scene {
    directory: tempfile::TempDir,
    store: Store,
    blobs: Blobs,
    fills: Fills,
    upstream: Arc<Upstream>,
    listener: TcpListener,
    limits: Arc<Limits>,
}

impl Scene {
    /// One fill at a time.
    async fn new(decision_timeout: Duration) -> Self {
        Self::with(decision_timeout, Rumours(false)).await
    }

    async fn with(decision_timeout: Duration, elsewhere: Rumours) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), 1).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = config::Upstream {
            name: "cgr.dev".parse().unwrap(),
            url: UpstreamUrl { scheme: Scheme::Http, host: "127.0.0.1".to_owned(), port },
            prefix: String::new(),
            credentials: None,
            docker_config: None,
            password_expires: None,
            credentials_warn_age: std::time::Duration::ZERO,
            ca_file: None,
            realms: Vec::new(),
            redirects: Vec::new(),
        };
        let limits = Arc::new(Limits { fills_max: 1, decision_timeout, ..Limits::default() });
        let upstream = Arc::new(Upstream::new(&upstream, &limits).unwrap());
        let blobs = store.blobs().clone();
        let fills = Fills::new(store.clone(), Clock::system(), Arc::new(elsewhere), Arc::clone(&limits));
        Self { directory, store, blobs, fills, upstream, listener, limits }
    }

    async fn ask(&self, blob: &str) -> Result<Content, ApiError> {
        let path = "chainguard/nginx".parse().unwrap();
        self.fills.content(key(blob), &self.upstream, &path, Patience::from_now(&self.limits)).await
    }

    /// How many files the store has open for content that is not there yet.
    #[expect(clippy::disallowed_methods, reason = "the test looks at the store from outside")]
    fn begun(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("store").join("ingest")).unwrap().count()
    }

    /// Upstream answers the next request in full.
    async fn answer(&self, text: &str) {
        let (mut socket, _) = self.listener.accept().await.unwrap();
        socket.write_all(text.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
    }
}

const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn key(blob: &str) -> FillKey {
    let (digest, size) = (Digest::sha256(blob.as_bytes()), blob.len() as u64);
    FillKey { upstream: "cgr.dev".parse().unwrap(), digest, size, class: ContentClass::Layer }
}

fn filling(content: Result<Content, ApiError>) -> Arc<Fill> {
    match content {
        Ok(Content::Filling(fill)) => fill,
        Ok(Content::Stored(_)) => panic!("it is stored"),
        Ok(Content::Passing(_)) => panic!("it is not kept"),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_fill_without_a_slot_opens_nothing_and_is_not_waited_for_long() {
    let scene = Scene::new(SOON).await;
    let first = filling(scene.ask("first").await);
    assert_eq!(scene.begun(), 1);
    let Err(error) = scene.ask("second").await else { panic!("one too many") };
    assert!(matches!(error, ApiError::Undecided { .. }) && error.to_string().contains("limits.fills_max"), "{error}");
    assert_eq!(scene.begun(), 1);
    let follower = filling(scene.ask("first").await);
    assert!(Arc::ptr_eq(&first, &follower), "to follow takes no slot");
}

#[tokio::test]
async fn who_waits_for_a_slot_follows_whoever_got_one_for_the_same_blob() {
    let scene = Scene::new(Duration::from_secs(60)).await;
    let first = filling(scene.ask("first").await);
    // Neither of the two ends here: the second of them has no slot to wait for but the one that the other holds.
    let both = async { tokio::join!(scene.ask("second"), scene.ask("second")) };
    let ((one, other), ()) = tokio::join!(both, scene.answer(NOT_FOUND));
    assert!(Arc::ptr_eq(&filling(one), &filling(other)));
    assert!(matches!(first.started().await, Err(ApiError::Unknown { .. })));
}

#[tokio::test]
async fn a_fill_that_ended_leaves_its_slot_and_is_not_followed_any_more() {
    let scene = Scene::new(Duration::from_secs(60)).await;
    let failed = filling(scene.ask("blob").await);
    scene.answer(NOT_FOUND).await;
    assert!(matches!(failed.committed().await, Err(ApiError::Unknown { .. })));
    // The slot is free only once the failed fill is forgotten.
    let other = filling(scene.ask("other").await);
    assert_eq!(scene.begun(), 1);
    scene.answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nother").await;
    other.committed().await.unwrap();
    let again = filling(scene.ask("blob").await);
    assert!(!Arc::ptr_eq(&failed, &again));
    assert!(matches!(scene.ask("other").await, Ok(Content::Stored(_))));
}

#[tokio::test]
async fn content_with_another_digest_is_told_as_such_to_who_waits_for_all_of_it() {
    let scene = Scene::new(SOON).await;
    let fill = filling(scene.ask("blob").await);
    let answer = scene.answer("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nBLOB");
    let (outcome, ()) = tokio::join!(fill.committed(), answer);
    assert!(matches!(outcome, Err(ApiError::Wrong { .. })), "{outcome:?}");
}

/// A blob that came through a fill, and where it lies.
async fn stored(scene: &Scene, blob: &str) -> std::path::PathBuf {
    let mut ingest = scene.blobs.ingest(key(blob).digest, blob.len() as u64).await.unwrap();
    ingest.write(blob.to_owned().into()).await.unwrap();
    ingest.commit().await.unwrap();
    scene.directory.path().join("store/blobs/sha256").join(key(blob).digest.hex())
}

async fn ask_for_one_byte_more(scene: &Scene, blob: &str) -> Result<Content, ApiError> {
    let key = FillKey { size: blob.len() as u64 + 1, ..key(blob) };
    let path = "chainguard/nginx".parse().unwrap();
    scene.fills.content(key, &scene.upstream, &path, Patience::from_now(&scene.limits)).await
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test damages the store behind its back")]
async fn a_manifest_with_a_wrong_size_for_a_stored_blob_costs_a_hash_once() {
    let scene = Scene::new(SOON).await;
    let file = stored(&scene, "blob").await;
    for _ in 0..3 {
        let answer = ask_for_one_byte_more(&scene, "blob").await;
        assert!(matches!(answer, Err(ApiError::Wrong { .. })));
        assert!(scene.blobs.open(&key("blob").digest).await.unwrap().is_some());
        // Whoever hashed it again would find this.
        std::fs::write(&file, "rot!").unwrap();
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test damages the store behind its back")]
async fn half_a_blob_is_not_right_because_its_length_was_written_down() {
    let scene = Scene::new(SOON).await;
    let file = stored(&scene, "blob").await;
    std::fs::write(file, "bl").unwrap();
    let found = storage::Change::Stored { digest: key("blob").digest, size: 2, class: None };
    scene.store.facts().apply(vec![found]).await.unwrap();
    filling(scene.ask("blob").await);
    assert!(scene.blobs.open(&key("blob").digest).await.unwrap().is_none());
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test damages the store behind its back")]
async fn a_stored_blob_that_has_become_longer_is_set_aside_and_fetched_again() {
    let scene = Scene::new(SOON).await;
    let file = stored(&scene, "blob").await;
    std::fs::write(file, "blob!").unwrap();
    filling(scene.ask("blob").await);
    assert!(scene.blobs.open(&key("blob").digest).await.unwrap().is_none());
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test damages the store behind its back")]
async fn many_who_are_told_a_wrong_size_cost_one_hash() {
    let scene = Scene::new(SOON).await;
    stored(&scene, "small").await;
    let file = stored(&scene, "large").await;
    // Nothing on disk, minutes of hashing, and not the size that is written down.
    std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(64 << 30).unwrap();
    let asking = futures_util::future::join_all((0..10).map(|_| ask_for_one_byte_more(&scene, "large")));
    let small = key("small").digest;
    let other = timeout(Duration::from_secs(20), scene.blobs.verify(&small));
    tokio::select! {
        biased;
        _ = asking => panic!("that was quick"),
        verified = other => assert!(verified.expect("others are hashed meanwhile").unwrap()),
    }
}

#[tokio::test]
async fn the_reason_is_waited_for_where_the_file_fails_first() {
    let scene = Scene::new(SOON).await;
    let ingest = scene.blobs.ingest(Digest::sha256(b"blob"), 4).await.unwrap();
    let fill = Fill::new(&ingest, Vec::new());
    drop(ingest);
    let late = async {
        tokio::task::yield_now().await;
        fill.ended(&Err(ApiError::undecided("the reason").into()));
        fill.ended(&Err(ApiError::undecided("another").into()));
    };
    let (started, committed, ()) = tokio::join!(fill.started(), fill.committed(), late);
    for outcome in [started, committed] {
        assert!(outcome.unwrap_err().to_string().starts_with("the reason"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_failed_without_a_reason_is_a_fault_and_not_waited_for_for_ever() {
    let scene = Scene::new(SOON).await;
    let ingest = scene.blobs.ingest(Digest::sha256(b"blob"), 4).await.unwrap();
    let fill = Fill::new(&ingest, Vec::new());
    drop(ingest);
    assert!(matches!(fill.started().await, Err(ApiError::Fault { .. })));
}

#[tokio::test]
async fn a_blob_that_nobody_has_is_not_asked_for_everywhere() {
    let scene = Scene::with(SOON, Rumours(true)).await;
    let fill = filling(scene.ask("blob").await);
    let mut asked = 0;
    let refusing = async {
        loop {
            scene.answer(NOT_FOUND).await;
            asked += 1;
        }
    };
    tokio::select! {
        outcome = fill.committed() => assert!(matches!(outcome, Err(ApiError::Unknown { .. })), "{outcome:?}"),
        () = refusing => {}
    }
    assert_eq!(asked, 9, "the one that was asked for it, and eight more");
}

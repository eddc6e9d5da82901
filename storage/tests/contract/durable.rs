//! What a restart leaves: asked of every implementation that keeps anything.

use bytes::Bytes;
use oci::{Addressed, Algorithm, Digest};
use storage::{Change, Fsync, Options, Scrub, Step, Store, StoreError, TagLook};

use crate::{addressed, at, noise, repository, tag, whole};

#[tokio::test]
async fn what_was_put_is_read_back_after_a_restart() {
    let place = super::place();
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
async fn a_lower_limit_of_tag_history_holds_from_the_next_event_on() {
    let place = super::place();
    let store = place.open();
    for number in 0..6 {
        store.facts().apply(vec![latest(number)]).await.unwrap();
    }
    drop(store);
    let store = Store::open_with(&place.path(), &Options { tag_history_max: 2, ..place.options() }).unwrap();
    store.facts().apply(vec![latest(6)]).await.unwrap();
    let history = store.facts().read().unwrap().tag_history(&repository("cgr.dev/a"), &tag("latest")).unwrap();
    assert_eq!(history.into_iter().map(|event| event.at.as_millis()).collect::<Vec<_>>(), [6, 5]);
}

#[tokio::test]
async fn beyond_so_many_tags_those_that_are_known_go_on_and_others_are_not_written_down() {
    let place = super::place();
    let store = Store::open_with(&place.path(), &Options { tags_max: 3, ..place.options() }).unwrap();
    let means = |label: &str, number: u64| Change::Tag {
        repository: repository("cgr.dev/a"),
        tag: tag(label),
        digest: digest(number),
        at: at(number),
    };
    let looked = |label: &str, number: u64| Change::TagLooked {
        repository: repository("cgr.dev/a"),
        tag: tag(label),
        digest: digest(number),
        look: TagLook { at: at(number), served: true, signed_at: None, evidence: Vec::new(), told: String::new() },
    };
    // The third takes the last place in the middle of a commit.
    store.facts().apply(vec![means("a", 1)]).await.unwrap();
    store.facts().apply(vec![means("b", 2), means("b", 3), means("c", 4), means("d", 5)]).await.unwrap();
    store.facts().apply(vec![means("e", 6), looked("e", 6), means("a", 7), looked("a", 7)]).await.unwrap();
    let facts = store.facts().read().unwrap();
    let known = facts.tags(&repository("cgr.dev/a"), 10).unwrap();
    let known: Vec<_> = known.into_iter().map(|(tag, fact)| (tag.to_string(), fact.digest)).collect();
    assert_eq!(known, [("a".to_owned(), digest(7)), ("b".to_owned(), digest(3)), ("c".to_owned(), digest(4))]);
    let served = |label: &str| facts.tag_served(&repository("cgr.dev/a"), &tag(label)).unwrap();
    assert_eq!((served("e"), facts.tag_history(&repository("cgr.dev/a"), &tag("e")).unwrap()), (None, Vec::new()));
    assert_eq!(served("a").map(|served| served.targets.len()), Some(1));
}

#[tokio::test]
async fn whatever_is_synced_an_orderly_end_keeps_everything() {
    for fsync in [Fsync::Always, Fsync::Content, Fsync::Never] {
        let place = super::place();
        let open = || Store::open_with(&place.path(), &Options { fsync, ..place.options() });
        let store = open().unwrap();
        let content = addressed(noise(1, 100_000));
        store.blobs().put(&content).await.unwrap();
        store.facts().apply(vec![latest(1)]).await.unwrap();
        drop(store);
        let store = open().unwrap();
        assert!(store.blobs().verify(content.digest()).await.unwrap(), "{fsync:?}");
        let known = store.facts().read().unwrap().tag(&repository("cgr.dev/a"), &tag("latest")).unwrap();
        assert_eq!(known.map(|fact| fact.digest), Some(digest(1)), "{fsync:?}");
    }
}

#[tokio::test]
async fn what_was_written_without_syncs_is_to_be_hashed_until_a_scrub_has_seen_all_of_it() {
    let place = super::place();
    let open = |fsync| Store::open_with(&place.path(), &Options { fsync, ..place.options() }).unwrap();
    let content = addressed(noise(1, 1000));
    let scrubbed = async |store: &Store| {
        let mut scrub = Scrub::new(store.blobs().clone());
        while !matches!(scrub.step(1000).await, Ok(Step::PassEnded(_))) {}
        store.blobs().may_be_half()
    };
    let store = open(Fsync::Content);
    store.blobs().put(&content).await.unwrap();
    assert!(!store.blobs().may_be_half());
    drop(store);
    let store = open(Fsync::Never);
    // It may be so again at once.
    assert!(scrubbed(&store).await);
    drop(store);
    for fsync in [Fsync::Always, Fsync::Content, Fsync::Always] {
        assert!(open(fsync).blobs().may_be_half(), "who had it before has not synced");
    }
    let store = open(Fsync::Always);
    let mut begun = Scrub::new(store.blobs().clone());
    assert_eq!(begun.step(1000).await.unwrap(), Step::Read(0));
    assert!(matches!(begun.step(1000).await.unwrap(), Step::Sound(_)));
    assert!(store.blobs().may_be_half(), "the walk is not at its end");
    // What could not be read may be anything.
    let unreadable = place.blob(&digest(1));
    std::fs::create_dir(&unreadable).unwrap();
    assert!(scrubbed(&store).await);
    std::fs::remove_dir(&unreadable).unwrap();
    assert!(!scrubbed(&store).await);
    drop((begun, store));
    assert!(!open(Fsync::Always).blobs().may_be_half());
}

#[test]
fn facts_of_another_kind_are_refused_and_not_forgotten() {
    let place = super::place();
    drop(place.open());
    let facts = super::OTHER;
    let error = Store::open_with(&place.path(), &Options { facts, ..place.options() }).unwrap_err();
    assert!(matches!(error, StoreError::OtherFacts { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("facts.redb") && message.contains("facts.sled"), "{message}");
    assert_eq!(*place.open().facts_state(), storage::FactsState::Intact);
}

fn digest(number: u64) -> Digest {
    Digest::sha256(&number.to_be_bytes())
}

fn latest(number: u64) -> Change {
    Change::Tag { repository: repository("cgr.dev/a"), tag: tag("latest"), digest: digest(number), at: at(number) }
}

//! Referrers and tags: all pages, bounded, of this repository on this host.

use oci::Digest;

use super::{
    super::{
        Referrers,
        error::{Flaw, Forbidden, Kind, Outage, Pointer, UpstreamError},
    },
    Setup, digest, repository,
    server::{Reply, Server, Step},
};

const WHAT: Kind = Kind::Referrers;

fn entry(content: &str) -> String {
    let digest = Digest::sha256(content.as_bytes());
    format!(
        r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":7,"artifactType":"a/b"}}"#
    )
}

fn page(entries: &[String]) -> Reply {
    Reply::ok(format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")))
}

async fn referrers(setup: &Setup) -> Result<Option<Referrers>, UpstreamError> {
    setup.build().referrers(&repository(), &digest()).await
}

fn cut(referrers: Result<Option<Referrers>, UpstreamError>) -> (usize, Option<UpstreamError>) {
    let found = referrers.unwrap().unwrap();
    (found.descriptors.len(), found.cut)
}

/// Endless pages of one entry each, `?page=1` after the first.
fn endless(path: &str) -> Reply {
    let number: usize = path.split_once("page=").map_or(0, |(_, number)| number.parse().unwrap());
    page(&[entry(&number.to_string())]).header("link", format!(r#"<?page={}>; rel="next""#, number + 1))
}

#[tokio::test]
async fn all_pages_of_referrers_are_read() {
    let server = Server::start(|seen| match seen.path.split_once("last=") {
        None => page(&[entry("a"), entry("b")]).header("link", "<?last=b>; rel=\"next\""),
        Some(_) => page(&[entry("c")]),
    })
    .await;
    let found = referrers(&Setup::of(&server)).await.unwrap().unwrap();
    let want = ["a", "b", "c"].map(|content| Digest::sha256(content.as_bytes()));
    assert_eq!(
        found.descriptors.iter().map(|found| &found.digest).collect::<Vec<_>>(),
        want.iter().collect::<Vec<_>>()
    );
    assert_eq!((found.skipped, found.cut), (0, None));
    assert_eq!(server.seen()[0].path, format!("/v2/chainguard/nginx/referrers/{}", digest()));
}

#[tokio::test]
async fn an_upstream_without_the_api_is_not_one_without_referrers() {
    let server = Server::start(|_| Reply::status(404)).await;
    assert_eq!(referrers(&Setup::of(&server)).await.unwrap(), None);
    let server = Server::start(|_| page(&[])).await;
    assert_eq!(referrers(&Setup::of(&server)).await.unwrap().unwrap().descriptors, []);
    let server = Server::start(|_| Reply::ok(r#"{"manifests":null}"#)).await;
    assert_eq!(referrers(&Setup::of(&server)).await.unwrap().unwrap().descriptors, []);
}

#[tokio::test]
async fn what_is_no_list_is_not_an_empty_one() {
    for body in [
        "{}",
        "",
        "[]",
        "null",
        "<html>",
        r#"{"manifests":{}}"#,
        r#"{"manifests":[],"manifests":[]}"#,
        r#"{"errors":[]}"#,
    ] {
        let server = Server::start(move |_| Reply::ok(body)).await;
        let want = UpstreamError::Malformed { what: WHAT, why: Flaw::Json };
        assert_eq!(referrers(&Setup::of(&server)).await.unwrap_err(), want, "{body}");
    }
    let nested = format!(r#"{{"manifests":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let server = Server::start(move |_| Reply::ok(nested.clone())).await;
    assert!(referrers(&Setup::of(&server)).await.is_err());
    for status in [403, 429, 500] {
        let server = Server::start(move |_| Reply::status(status)).await;
        assert!(referrers(&Setup::of(&server)).await.is_err(), "{status}");
    }
}

#[tokio::test]
async fn a_bad_entry_hides_no_other() {
    let server = Server::start(|_| {
        page(&[
            r#"{"mediaType":"a/b","digest":"md5:00","size":1}"#.into(),
            "7".into(),
            entry("good"),
            r#"{"size":-1}"#.into(),
        ])
    })
    .await;
    let found = referrers(&Setup::of(&server)).await.unwrap().unwrap();
    assert_eq!((found.descriptors.len(), found.skipped), (1, 3));
}

#[tokio::test]
async fn a_next_page_elsewhere_is_not_asked_for_and_told() {
    let elsewhere = Server::start(|_| page(&[entry("evil")])).await;
    let link = elsewhere.url(&format!("/v2/chainguard/nginx/referrers/{}?page=2", digest()));
    let server = Server::start(move |_| page(&[entry("a")]).header("link", format!("<{link}>; rel=\"next\""))).await;
    let (count, why) = cut(referrers(&Setup::of(&server)).await);
    assert_eq!(count, 1);
    let host = "127.0.0.1".into();
    assert_eq!(why, Some(UpstreamError::Misdirected { what: Pointer::NextPage, host, why: Forbidden::OtherHost }));
    assert_eq!(elsewhere.seen().len(), 0);
}

#[tokio::test]
async fn pages_in_a_circle_end() {
    let server = Server::start(|_| page(&[entry("a")]).header("link", "<?page=2>; rel=\"next\"")).await;
    let (count, why) = cut(referrers(&Setup::of(&server)).await);
    assert_eq!((count, why), (1, Some(UpstreamError::Malformed { what: WHAT, why: Flaw::PageLoop })));
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn pages_and_entries_are_bounded() {
    let server = Server::start(|seen| endless(&seen.path)).await;
    let (count, why) = cut(referrers(&Setup::of(&server).limits(|limits| limits.referrers_pages_max = 5)).await);
    assert_eq!((count, why), (5, Some(UpstreamError::Malformed { what: WHAT, why: Flaw::TooManyPages(5) })));
    assert_eq!(server.seen().len(), 5);
    let (count, why) = cut(referrers(&Setup::of(&server).limits(|limits| limits.referrers_count_max = 3)).await);
    assert_eq!((count, why), (3, Some(UpstreamError::Malformed { what: WHAT, why: Flaw::TooManyEntries(3) })));
    let server = Server::start(|_| Reply::status(200).then(Step::Flood)).await;
    let error = referrers(&Setup::of(&server).limits(|limits| limits.manifest_bytes_max = 9000)).await.unwrap_err();
    assert_eq!(error, UpstreamError::Malformed { what: WHAT, why: Flaw::TooLarge(9000) });
}

#[tokio::test]
async fn a_later_page_that_fails_is_told_beside_what_came_before() {
    for (status, want) in [
        (503, UpstreamError::Unavailable { what: WHAT, why: Outage::Status(503) }),
        (404, UpstreamError::NotFound { what: WHAT }),
    ] {
        let server =
            Server::start(
                move |seen| if seen.path.contains("page=1") { Reply::status(status) } else { endless(&seen.path) },
            )
            .await;
        assert_eq!(cut(referrers(&Setup::of(&server)).await), (1, Some(want)));
    }
}

#[tokio::test]
async fn tags_are_asked_for_as_the_client_asked_us() {
    let server =
        Server::start(|_| Reply::ok(r#"{"name":"x","tags":["a","b"]}"#).header("link", "<?n=2&last=b>; rel=\"next\""))
            .await;
    let upstream = Setup::of(&server).build();
    let page = upstream.tags(&repository(), Some(2), Some("1.0&n=9 #")).await.unwrap();
    assert_eq!(page.tags.iter().map(oci::Tag::as_str).collect::<Vec<_>>(), ["a", "b"]);
    assert!(page.more);
    let seen = server.seen();
    assert!(seen[0].path.starts_with("/v2/chainguard/nginx/tags/list?"), "{}", seen[0].path);
    assert_eq!(seen[0].query(), [("n".into(), "2".into()), ("last".into(), "1.0&n=9 #".into())]);
    upstream.tags(&repository(), None, None).await.unwrap();
    assert_eq!(server.seen()[1].path, "/v2/chainguard/nginx/tags/list");
}

#[tokio::test]
async fn what_is_no_tag_is_left_out_and_counted() {
    let server = Server::start(|_| {
        Reply::ok(r#"{"tags":["ok","","a/b","<script>",7,null,"../x"]}"#)
            .header("link", "<https://evil.example/>; rel=next")
    })
    .await;
    let page = Setup::of(&server).build().tags(&repository(), None, None).await.unwrap();
    assert_eq!((page.tags.len(), page.skipped, page.more), (1, 6, false));
    let server = Server::start(|_| Reply::ok(r#"{"tags":null}"#)).await;
    assert_eq!(Setup::of(&server).build().tags(&repository(), None, None).await.unwrap().tags, []);
}

#[tokio::test]
async fn a_list_of_tags_is_bounded() {
    let server = Server::start(|_| Reply::status(200).then(Step::Flood)).await;
    let upstream = Setup::of(&server).limits(|limits| limits.tags_list_bytes_max = 9000).build();
    let error = upstream.tags(&repository(), None, None).await.unwrap_err();
    assert_eq!(error, UpstreamError::Malformed { what: Kind::Tags, why: Flaw::TooLarge(9000) });
    let server = Server::start(|_| Reply::status(404)).await;
    let error = Setup::of(&server).build().tags(&repository(), None, None).await.unwrap_err();
    assert_eq!(error, UpstreamError::NotFound { what: Kind::Tags });
}

//! Referrers and tags: all pages, bounded, of this repository on this host.

use oci::Digest;

use super::{
    super::{
        Referrers, Upstream,
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
    assert_eq!((page.tags.len(), page.skipped, page.more), (1, 6, true));
    let server = Server::start(|_| Reply::ok(r#"{"tags":null}"#)).await;
    assert_eq!(Setup::of(&server).build().tags(&repository(), None, None).await.unwrap().tags, []);
}

/// What a client gets who asks for `n` tags at a time, and goes on after the last of them for as long as there is more.
async fn paged(upstream: &Upstream, n: u64) -> Result<Vec<String>, UpstreamError> {
    let (mut tags, mut last) = (Vec::new(), None::<String>);
    loop {
        let page = upstream.tags(&repository(), Some(n), last.as_deref()).await?;
        assert!(page.tags.len() <= usize::try_from(n).unwrap(), "{page:?}");
        tags.extend(page.tags.iter().map(ToString::to_string));
        assert!(tags.len() < 100, "in a circle: {tags:?}");
        last = page.tags.last().map(ToString::to_string).filter(|_| page.more);
        if last.is_none() {
            assert!(!page.more, "there is more, and no way on");
            return Ok(tags);
        }
    }
}

/// `entries` one at a time, from that of `?page=` or the one after `last`; `link` leads on, with the next one's number for `{}`.
async fn one_at_a_time(entries: &'static [&'static str], link: &'static str) -> Server {
    Server::start(move |seen| {
        let query = seen.query();
        let value = |wanted: &str| query.iter().find(|(key, _)| key == wanted).map(|(_, value)| value.as_str());
        let after = |last: &str| entries.iter().position(|entry| entry.trim_matches('"') == last).unwrap() + 1;
        let at = value("page").map_or_else(|| value("last").map_or(0, after), |page| page.parse().unwrap());
        let page = Reply::ok(format!(r#"{{"tags":[{}]}}"#, entries[at]));
        if at + 1 < entries.len() { page.header("link", link.replace("{}", &(at + 1).to_string())) } else { page }
    })
    .await
}

#[tokio::test]
async fn a_next_page_that_is_not_followed_is_no_end_of_a_list_of_tags() {
    for link in [
        r#"<https://evil.example/v2/chainguard/nginx/tags/list?last=a>; rel="next""#,
        r#"<http://user@127.0.0.1/v2/chainguard/nginx/tags/list?last=a>; rel="next""#,
        "</v2/other/nginx/tags/list?last=a>; rel=next",
        "</v2/chainguard/nginx/tags/list?last=a",
        "nonsense",
        "<?page={}>; rel=next",
    ] {
        let server = one_at_a_time(&[r#""a""#, r#""<script>""#, r#""../x""#, r#""b""#, r#""c""#], link).await;
        let tags = paged(&Setup::of(&server).build(), 1).await.unwrap();
        assert_eq!(tags, ["a", "b", "c"], "{link}");
    }
    for link in ["<https://evil.example/>; rel=prev", "</v2/other/nginx/tags/list>"] {
        let server = one_at_a_time(&[r#""a""#, r#""b""#], link).await;
        let page = Setup::of(&server).build().tags(&repository(), None, None).await.unwrap();
        assert!(!page.more, "{link}");
    }
}

#[tokio::test]
async fn what_is_no_tag_does_not_bar_the_way_to_those_after_it() {
    let entries = &["7", r#""a""#, "null", r#""<script>""#, "{}", r#""b""#, r#""""#];
    let server = one_at_a_time(entries, "<?page={}>; rel=next").await;
    assert_eq!(paged(&Setup::of(&server).build(), 1).await.unwrap(), ["a", "b"]);
}

#[tokio::test]
async fn of_more_than_was_asked_for_the_client_gets_as_many_as_it_wants_at_a_time() {
    let server = Server::start(|_| Reply::ok(r#"{"tags":["a",7,"b","c"]}"#)).await;
    let upstream = Setup::of(&server).build();
    for n in 1..6 {
        assert_eq!(paged(&upstream, n).await.unwrap(), ["a", "b", "c"], "{n} at a time");
    }
    let all = upstream.tags(&repository(), None, None).await.unwrap();
    assert_eq!((all.tags.len(), all.skipped, all.more), (3, 1, false));
}

#[tokio::test]
async fn a_list_of_tags_that_leads_nowhere_is_an_error_and_no_end() {
    const ELSEWHERE: &str = "<https://evil.example/>; rel=next";
    let malformed = |why| UpstreamError::Malformed { what: Kind::Tags, why };
    let elsewhere =
        UpstreamError::Misdirected { what: Pointer::NextPage, host: "evil.example".into(), why: Forbidden::OtherHost };
    for (tags, link, want) in [
        ("7", ELSEWHERE, elsewhere.clone()),
        ("", ELSEWHERE, elsewhere),
        ("", "nonsense", malformed(Flaw::Header("link"))),
        // It heeds no `last`, and says that there is more than it shows.
        (r#""a""#, ELSEWHERE, malformed(Flaw::PageLoop)),
        (r#""<script>""#, ELSEWHERE, malformed(Flaw::PageLoop)),
        ("7", "<?n=1>; rel=next", malformed(Flaw::PageLoop)),
    ] {
        let server = Server::start(move |_| Reply::ok(format!(r#"{{"tags":[{tags}]}}"#)).header("link", link)).await;
        assert_eq!(paged(&Setup::of(&server).build(), 1).await.unwrap_err(), want, "{tags} {link}");
    }
    let server = one_at_a_time(&["7"; 100], "<?page={}>; rel=next").await;
    let error = paged(&Setup::of(&server).build(), 1).await.unwrap_err();
    assert_eq!(error, malformed(Flaw::TooManyPages(16)));
    assert_eq!(server.seen().len(), 16);
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

//! Conditional requests: what the client holds already is not sent again, and what it may not have is refused all the same.

use http::Method;
use support::{
    client::{Answer, Client},
    world::{Setup, World},
};

use crate::{get, sized, static_policy};

const REPOSITORY: &str = "chainguard/nginx";

async fn ask(method: Method, url: &str, name: &str, value: &str) -> Answer {
    Client::plain().open(method, url, &[(name, value)]).await.unwrap().whole().await
}

#[tokio::test]
async fn what_the_client_holds_is_told_to_be_current_and_not_sent() {
    let world = World::new().await;
    let image = sized(3000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let pratique = world.pratique(&Setup::default()).await;
    let blob = &image.layers()[0].0;
    let addresses = [
        (format!("manifests/{}", image.digest), &image.digest),
        ("manifests/latest".to_owned(), &image.digest),
        (format!("blobs/{blob}"), blob),
    ];
    for (rest, digest) in addresses {
        let url = format!("{}/v2/{REPOSITORY}/{rest}", pratique.url());
        let whole = get(&url).await;
        let etag = format!("\"{digest}\"");
        assert_eq!((whole.status.as_u16(), whole.header("etag")), (200, Some(etag.as_str())), "{rest}");
        for method in [Method::GET, Method::HEAD] {
            for value in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
                let held = ask(method.clone(), &url, "if-none-match", &value).await;
                assert_eq!((held.status.as_u16(), held.received().len()), (304, 0), "{method} {rest} {value}");
                for name in ["etag", "cache-control", "docker-content-digest"] {
                    assert_eq!(held.header(name), whole.header(name), "{method} {rest}: {name}");
                }
            }
            let other = ask(method.clone(), &url, "if-none-match", "\"other\", nonsense").await;
            assert_eq!((other.status.as_u16(), other.header("content-length")), (200, whole.header("content-length")));
        }
        assert_eq!(whole.header("cache-control"), Some("private, no-cache"));
    }
}

#[tokio::test]
async fn what_may_not_be_served_is_refused_whatever_the_client_holds() {
    let world = World::new().await;
    let (signed, unsigned) = (sized(3000, 1), sized(3000, 2));
    world.push_signed(REPOSITORY, "latest", &signed);
    unsigned.push(&world.registry, REPOSITORY, Some("unsigned"));
    let pratique = world.pratique(&Setup::default()).await;
    let url = |rest: &str| format!("{}/v2/{REPOSITORY}/{rest}", pratique.url());
    let status = async |rest: &str, value: &str| {
        let answer = ask(Method::GET, &url(rest), "if-none-match", value).await;
        assert!(answer.header("etag").is_none() || answer.status.as_u16() == 304, "{rest}");
        answer.status.as_u16()
    };
    let (manifest, blob) = (format!("manifests/{}", signed.digest), format!("blobs/{}", signed.layers()[0].0));
    let blob_etag = format!("\"{}\"", signed.layers()[0].0);
    assert_eq!(status("manifests/unsigned", "*").await, 403);
    assert_eq!(status("manifests/unsigned", &format!("\"{}\"", unsigned.digest)).await, 403);
    assert_eq!(status("manifests/missing", "*").await, 404);
    assert_eq!(status(&blob, &blob_etag).await, 404, "nothing that is admitted reaches it yet");
    assert_eq!(status(&manifest, "*").await, 304);
    assert_eq!(status(&blob, &blob_etag).await, 304);
    // What was held and allowed is not any more once the policy says so.
    let denied = Setup::with_policy(&static_policy("deny", "cgr.dev/**", "fail"));
    pratique.reload(&world, &denied).await.unwrap();
    assert_eq!(status(&manifest, "*").await, 403);
    assert_eq!(status(&blob, &blob_etag).await, 403);
}

#[tokio::test]
async fn a_part_is_continued_only_where_it_is_a_part_of_the_same() {
    let world = World::new().await;
    let image = sized(3000, 1);
    world.push_signed(REPOSITORY, "latest", &image);
    let pratique = world.pratique(&Setup::default()).await;
    assert_eq!(get(&format!("{}/v2/{REPOSITORY}/manifests/latest", pratique.url())).await.status, 200);
    let (digest, bytes) = &image.layers()[0];
    let url = format!("{}/v2/{REPOSITORY}/blobs/{digest}", pratique.url());
    for (held, status, length) in [
        (format!("\"{digest}\""), 206, 1000),
        (format!("W/\"{digest}\""), 200, 3000),
        ("\"other\"".to_owned(), 200, 3000),
        ("Sat, 29 Oct 1994 19:43:31 GMT".to_owned(), 200, 3000),
    ] {
        let headers = [("range", "bytes=2000-"), ("if-range", held.as_str())];
        let answer = Client::plain().get(&url, &headers).await.unwrap();
        assert_eq!(answer.status, status, "{held}");
        assert_eq!(answer.received(), &bytes.slice(3000 - length..), "{held}");
    }
}

//! Tokens, and where they must not go.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{IMAGE, MANIFEST};
use crate::client::{Answer, Client};
use crate::upstream::{Call, Place, Registry, TokenAuth, noise};

#[tokio::test]
async fn a_challenge_leads_to_a_token_that_opens_the_repository_it_names() {
    let registry = guarded(TokenAuth::anonymous().realm_at(Place::Auth)).await;
    let refused = pull(&registry, "team/app", None).await;
    assert_eq!(refused.status, 401);
    let realm = registry.url_of(Place::Auth);
    let service = registry.host_port();
    let want = format!(r#"Bearer realm="{realm}/token",service="{service}",scope="repository:team/app:pull""#);
    assert_eq!(refused.header("www-authenticate"), Some(want.as_str()));

    let token = token(&registry, Place::Auth, "team/app", None).await;
    let passed = pull(&registry, "team/app", Some(&bearer(&token))).await;
    assert_eq!(passed.status, 200);
    let other = pull(&registry, "team/secret", Some(&bearer(&token))).await;
    assert_eq!(other.status, 401);
    assert!(challenge(&other).contains("insufficient_scope"));
    assert_eq!(registry.count(|call| call.is_token() && call.place == Place::Auth), 1);
    assert_eq!(registry.count(Call::has_authorization), 2);
}

#[tokio::test]
async fn without_the_password_there_is_no_token_and_without_a_token_no_ping() {
    let registry = guarded(TokenAuth::account("robot", "p:w")).await;
    let ping = send(&format!("{}/v2/", registry.url()), None).await;
    assert_eq!(ping.status, 401);
    for given in [None, Some(basic("robot", "wrong")), Some("Basic ???".to_owned())] {
        let answer = ask_token(&registry, Place::Registry, "team/app", given.as_deref()).await;
        assert_eq!(answer.status, 401, "{given:?}");
    }
    let given = basic("robot", "p:w");
    let token = token(&registry, Place::Registry, "team/app", Some(&given)).await;
    let passed = pull(&registry, "team/app", Some(&bearer(&token))).await;
    assert_eq!(passed.status, 200);
    let basic = pull(&registry, "team/app", Some(&given)).await;
    assert_eq!(basic.status, 401, "the registry itself takes no password");
}

#[tokio::test]
async fn an_anonymous_token_does_not_open_a_private_repository() {
    let auth = TokenAuth::account("robot", "pw").and_anonymous().private("team/secret");
    let registry = guarded(auth).await;
    let anonymous = token(&registry, Place::Registry, "team/secret", None).await;
    let refused = pull(&registry, "team/secret", Some(&bearer(&anonymous))).await;
    assert_eq!(refused.status, 401);
    let given = basic("robot", "pw");
    let known = token(&registry, Place::Registry, "team/secret", Some(&given)).await;
    let passed = pull(&registry, "team/secret", Some(&bearer(&known))).await;
    assert_eq!(passed.status, 200);
}

#[tokio::test]
async fn revoked_tokens_are_invalid_and_new_ones_work() {
    let registry = guarded(TokenAuth::anonymous().expires_in(Some(60))).await;
    let first = token(&registry, Place::Registry, "team/app", None).await;
    registry.revoke_tokens();
    let refused = pull(&registry, "team/app", Some(&bearer(&first))).await;
    assert_eq!(refused.status, 401);
    assert!(challenge(&refused).contains("invalid_token"));
    let second = token(&registry, Place::Registry, "team/app", None).await;
    assert_ne!(first, second);
    let passed = pull(&registry, "team/app", Some(&bearer(&second))).await;
    assert_eq!(passed.status, 200);
}

#[tokio::test]
async fn a_token_is_refused_for_another_service_and_its_lifetime_is_told() {
    let registry = guarded(TokenAuth::anonymous().expires_in(Some(-1))).await;
    let url = format!("{}/token?service=elsewhere", registry.url());
    let refused = Client::plain().get(&url, &[]).await.unwrap();
    assert_eq!(refused.status, 400);
    let granted = ask_token(&registry, Place::Registry, "team/app", None).await;
    assert!(granted.text().contains(r#""expires_in":-1"#));
}

#[tokio::test]
async fn blob_storage_wants_its_own_signature_and_no_authorization() {
    let registry = Registry::builder().redirect_blobs().start().await.unwrap();
    let blob = noise(1000, 2);
    let digest = registry.put_blob("team/app", blob.clone());
    let url = format!("{}/v2/team/app/blobs/{digest}", registry.url());
    let client = Client::plain();
    let redirect = client.get(&url, &[]).await.unwrap();
    assert_eq!(redirect.status, 307);
    let location = redirect.header("location").unwrap().to_owned();
    assert!(location.starts_with(&registry.url_of(Place::Storage)));

    let whole = client.get(&location, &[]).await.unwrap();
    assert_eq!(whole.body.unwrap(), blob);
    let part = client.get_range(&location, "-10").await.unwrap();
    assert_eq!(part.status, 206);
    assert_eq!(part.body.unwrap(), blob.slice(990..));

    let header = [("authorization", "Bearer canary")];
    let leaked = client.get(&location, &header).await.unwrap();
    assert_eq!(leaked.status, 400);
    let leaks = |call: &Call| call.is_storage() && call.has_authorization();
    assert_eq!(registry.count(leaks), 1);
    assert_eq!(registry.count(|call| call.mentions("canary")), 1);
    let unsigned = location.split_once('?').unwrap().0;
    assert_eq!(client.get(unsigned, &[]).await.unwrap().status, 403);
}

#[tokio::test]
async fn a_stranger_gives_tokens_and_blobs_to_everybody_and_writes_it_down() {
    let registry = guarded(TokenAuth::anonymous()).await;
    let digest = registry.put_blob("team/app", "blob");
    let base = registry.url_of(Place::Foreign);
    let client = Client::plain();
    let header = [("authorization", "Basic canary")];
    let token = client.get(&format!("{base}/token"), &header).await.unwrap();
    assert_eq!(token.status, 200);
    let blob = client.get(&format!("{base}/any/{digest}"), &[]).await.unwrap();
    assert_eq!(blob.text(), "blob");
    let foreign = |call: &Call| call.place == Place::Foreign;
    assert_eq!(registry.count(foreign), 2);
    assert_eq!(registry.count(|call| foreign(call) && call.has_authorization()), 1);
}

async fn guarded(auth: TokenAuth) -> Registry {
    let registry = Registry::builder().token_auth(auth).start().await.unwrap();
    registry.put_manifest("team/app", Some("one"), IMAGE, MANIFEST);
    registry.put_manifest("team/secret", Some("one"), IMAGE, MANIFEST);
    registry
}

async fn pull(registry: &Registry, repository: &str, authorization: Option<&str>) -> Answer {
    let url = format!("{}/v2/{repository}/manifests/one", registry.url());
    send(&url, authorization).await
}

async fn ask_token(registry: &Registry, place: Place, repository: &str, authorization: Option<&str>) -> Answer {
    let url =
        format!("{}/token?service={}&scope=repository:{repository}:pull", registry.url_of(place), registry.host_port());
    send(&url, authorization).await
}

async fn token(registry: &Registry, place: Place, repository: &str, authorization: Option<&str>) -> String {
    let answer = ask_token(registry, place, repository, authorization).await;
    assert_eq!(answer.status, 200);
    let document: serde_json::Value = serde_json::from_slice(answer.received()).unwrap();
    document["token"].as_str().unwrap().to_owned()
}

async fn send(url: &str, authorization: Option<&str>) -> Answer {
    let headers: Vec<_> = authorization.map(|value| ("authorization", value)).into_iter().collect();
    Client::plain().get(url, &headers).await.unwrap()
}

fn challenge(answer: &Answer) -> &str {
    answer.header("www-authenticate").unwrap()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

use http::StatusCode;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::respond;

/// A connection to a server that answers each request after `work`.
fn connection(work: Duration) -> DuplexStream {
    saying("done", work)
}

/// The same with another answer.
fn saying(text: &'static str, work: Duration) -> DuplexStream {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let limits = Arc::new(Limits::default());
    let service = tower::service_fn(move |arrived: Arrived| async move {
        tokio::time::sleep(work).await;
        let mut answer = respond::admin(StatusCode::OK, "text/plain", text.to_owned());
        answer.body_mut().keep(arrived.busy);
        Ok::<_, BoxError>(answer)
    });
    let client = Client::alone([192, 0, 2, 1].into(), 9);
    let (builder, drain) = (Arc::new(builder(&limits)), watch::Sender::new(false));
    spawned(Talk { service, builder, client, drain: drain.subscribe(), limits }, near, drain);
    far
}

fn spawned<S>(talk: Talk<S>, near: DuplexStream, drain: watch::Sender<bool>)
where
    S: tower::Service<Arrived, Response = Answer, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    tokio::spawn(async move {
        talk.over(near).await;
        drop(drain);
    });
}

/// Somebody far away: a kilobyte and a half a second comes from `far`, what is sent there goes at once.
fn slowly(far: DuplexStream) -> DuplexStream {
    let (near, client) = tokio::io::duplex(64 * 1024);
    let ((mut from, mut to), (mut up, mut down)) = (tokio::io::split(far), tokio::io::split(near));
    tokio::spawn(async move { tokio::io::copy(&mut up, &mut to).await });
    tokio::spawn(async move {
        let mut piece = [0; 1536];
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            tokio::time::sleep(Duration::from_secs(1)).await;
            down.write_all(&piece[..length]).await.unwrap();
        }
    });
    client
}

/// Sends one request and reads its answer.
async fn ask(far: &mut DuplexStream) {
    far.write_all(b"GET / HTTP/1.1\r\nhost: pratique\r\n\r\n").await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"done") {
        heard.push(far.read_u8().await.expect("an answer"));
    }
}

/// Seconds until the connection ends.
async fn open_for(far: &mut DuplexStream) -> u64 {
    let began = Instant::now();
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty(), "{rest:?}");
    began.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn an_http1_connection_without_a_request_is_closed_after_the_idle_timeout() {
    let mut far = connection(Duration::ZERO);
    ask(&mut far).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    ask(&mut far).await;
    assert_eq!(open_for(&mut far).await, 60);
}

#[tokio::test(start_paused = true)]
async fn an_http1_connection_whose_answer_takes_long_is_not_idle() {
    let mut far = connection(Duration::from_secs(300));
    ask(&mut far).await;
    assert_eq!(open_for(&mut far).await, 60);
}

#[tokio::test(start_paused = true)]
async fn a_second_head_that_does_not_end_is_given_up() {
    let mut far = connection(Duration::ZERO);
    ask(&mut far).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    far.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    assert_eq!(open_for(&mut far).await, 10);
}

#[tokio::test(start_paused = true)]
async fn an_http2_connection_that_answers_pings_and_asks_nothing_is_closed_after_the_idle_timeout() {
    let far = connection(Duration::from_secs(100));
    let (mut sender, talk) =
        conn::http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(far)).await.unwrap();
    let ended = tokio::spawn(talk);
    let request = || Request::get("http://pratique/").body(Empty::<bytes::Bytes>::new()).unwrap();
    let began = Instant::now();
    let answer = sender.send_request(request()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "done");
    ended.await.unwrap().unwrap();
    assert_eq!(began.elapsed().as_secs(), 160);
}

/// What is on its way to the client takes longer than anything may stand still: its answer to a ping would too.
#[tokio::test(start_paused = true)]
async fn an_http2_client_with_large_windows_and_a_slow_line_gets_all_of_its_answer() {
    let text = "x".repeat(400 * 1024).leak();
    let far = slowly(saying(text, Duration::ZERO));
    let (mut sender, talk) = conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(8 << 20)
        .handshake(TokioIo::new(far))
        .await
        .unwrap();
    tokio::spawn(talk);
    let request = Request::get("http://pratique/").body(Empty::<bytes::Bytes>::new()).unwrap();
    let (began, answer) = (Instant::now(), sender.send_request(request).await.unwrap());
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), text.as_bytes());
    assert!(began.elapsed().as_secs() >= 200);
}

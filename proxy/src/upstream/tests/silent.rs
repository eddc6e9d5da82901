//! HTTP/1.1 connections at whose other end nobody is any more, and nothing says so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
};

use super::{
    super::error::{Kind, Outage, UpstreamError},
    Setup, manifest,
    server::Server,
};

/// Long enough for a loaded machine to answer in half of it.
const WITHIN: Duration = Duration::from_secs(3);

/// A server whose first connection answers so many requests, and every other so many, and then is silent. The first goes on when another
/// one was asked for something that it does not answer. And how many connections there were.
async fn answering(first: usize, others: usize) -> (Server, Arc<AtomicUsize>) {
    let (connections, asked_elsewhere) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let counted = Arc::clone(&connections);
    let server = Server::start_raw(move |stream| {
        let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        serve(stream, if is_first { first } else { others }, is_first, Arc::clone(&asked_elsewhere))
    })
    .await;
    (server, connections)
}

async fn serve(mut stream: TcpStream, answers: usize, is_first: bool, asked_elsewhere: Arc<Notify>) {
    let mut answered = 0;
    while is_asked(&mut stream).await {
        if answered >= answers && is_first {
            asked_elsewhere.notified().await;
        } else if answered >= answers {
            asked_elsewhere.notify_one();
            std::future::pending::<()>().await;
        }
        answered += 1;
        // A client that has its answer from elsewhere is gone.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    }
}

/// Whether there was another request before the end.
async fn is_asked(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return false };
        head.push(byte);
    }
    true
}

fn late() -> UpstreamError {
    UpstreamError::Unavailable { what: Kind::Manifest, why: Outage::AnswerTimedOut(WITHIN) }
}

/// The first connection brings one answer, and another one the next.
async fn is_asked_by_another((server, connections): (Server, Arc<AtomicUsize>)) {
    let upstream = Setup::of(&server).limits(|limits| limits.upstream_response_timeout = WITHIN).build();
    for connected in [1, 2] {
        assert_eq!(&manifest(&upstream).await.unwrap().bytes[..], b"{}");
        assert_eq!(connections.load(Ordering::SeqCst), connected);
    }
}

#[tokio::test]
async fn a_used_connection_that_is_silent_gives_way_to_a_new_one_in_time() {
    is_asked_by_another(answering(1, usize::MAX).await).await;
}

#[tokio::test]
async fn a_used_connection_that_is_slow_is_listened_to_all_the_same() {
    is_asked_by_another(answering(1, 0).await).await;
}

#[tokio::test]
async fn an_upstream_that_is_slow_by_a_new_connection_is_not_asked_by_another() {
    let (server, connections) = answering(0, usize::MAX).await;
    let upstream = Setup::of(&server).limits(|limits| limits.upstream_response_timeout = WITHIN).build();
    assert_eq!(manifest(&upstream).await.unwrap_err(), late());
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_second_connection_beside_a_silent_one_counts_against_the_bound() {
    let (server, connections) = answering(1, usize::MAX).await;
    let upstream = Setup::of(&server)
        .limits(|limits| {
            limits.upstream_response_timeout = WITHIN;
            limits.upstream_connections_max = 1;
        })
        .build();
    manifest(&upstream).await.unwrap();
    assert_eq!(manifest(&upstream).await.unwrap_err(), late());
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

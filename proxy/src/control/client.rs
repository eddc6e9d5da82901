//! Asking the server.

use std::{io, path::Path, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::{ANSWER_BYTES_MAX, Line, PATH, VERSION, VERSION_HEADER, patience};
use crate::command::{Answer, Progress, Request};

/// Longest reason for which a request is not taken.
const WORDS_BYTES_MAX: usize = 64 * 1024;

/// Why the server gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody listens.
    #[error("nobody listens on the control socket")]
    NobodyThere(#[source] io::Error),
    /// It broke off.
    #[error("the server broke off on the control socket")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Not in time.
    #[error("the server did not answer on the control socket within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// It refuses to do what is asked.
    #[error("the server (version {version}) does not take this command from version {VERSION}: {why}")]
    NotTaken {
        /// Of the server.
        version: String,
        /// Its words.
        why: String,
    },
}

/// Asks the server that listens on `socket`; `tell` hears how far it has come.
///
/// # Errors
/// When nobody is there, or what comes is no answer.
pub async fn ask(socket: &Path, request: &Request, tell: &mut impl FnMut(&Progress)) -> Result<Answer, AskError> {
    let stream = UnixStream::connect(socket).await.map_err(AskError::NobodyThere)?;
    let asked = tokio::time::timeout(patience(request), converse(stream, request, tell));
    asked.await.map_err(|_| AskError::TimedOut(patience(request)))?
}

async fn converse(stream: UnixStream, request: &Request, tell: &mut impl FnMut(&Progress)) -> Result<Answer, AskError> {
    let body = serde_json::to_vec(request).map_err(|error| AskError::Broken(error.into()))?;
    let request = http::Request::builder()
        .method(Method::POST)
        .uri(PATH)
        .header(header::HOST, "pratique")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| AskError::Broken(error.into()))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| AskError::Broken(error.into()))?;
    let connection = tokio::spawn(connection);
    let answered = sender.send_request(request).await.map_err(|error| AskError::Broken(error.into()))?;
    let (head, body) = answered.into_parts();
    let outcome = if head.status == StatusCode::OK {
        listen(body, tell).await
    } else {
        let version = head.headers.get(VERSION_HEADER).and_then(|it| it.to_str().ok()).unwrap_or("unknown").to_owned();
        let body = Limited::new(body, WORDS_BYTES_MAX).collect().await.map_err(AskError::Broken)?.to_bytes();
        Err(AskError::NotTaken { version, why: String::from_utf8_lossy(&body).trim().to_owned() })
    };
    drop(sender);
    let _ = connection.await;
    outcome
}

/// Line by line to the end; what comes after the answer is not looked at.
async fn listen(mut body: Incoming, tell: &mut impl FnMut(&Progress)) -> Result<Answer, AskError> {
    let (mut begun, mut answer) = (BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| AskError::Broken(error.into()))?;
        let Ok(mut data) = frame.into_data() else { continue };
        while let Some(end) = data.iter().position(|byte| *byte == b'\n').filter(|_| answer.is_none()) {
            begun.extend_from_slice(&data.split_to(end + 1));
            let line: Line = serde_json::from_slice(&begun.split()).map_err(|error| AskError::Broken(error.into()))?;
            match line {
                Line::Progress(progress) => tell(&progress),
                Line::Answer(last) => answer = Some(*last),
            }
        }
        if begun.len() + data.len() > ANSWER_BYTES_MAX {
            return Err(AskError::Broken(format!("a line of more than {ANSWER_BYTES_MAX} bytes").into()));
        }
        begun.extend_from_slice(&data);
    }
    answer.ok_or_else(|| AskError::Broken("it ended without an answer".into()))
}

//! A client that believes nothing but the lengths: several requests in one piece, and the answers cut by what they tell of themselves.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// One answer as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAnswer {
    /// Of the status line.
    pub status: u16,
    /// Status line and header lines, in lower case.
    pub head: String,
    /// As many bytes as it told, none after HEAD and with 304.
    pub content: Vec<u8>,
}

impl RawAnswer {
    /// The value of a header, its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(told, _)| *told == name)
            .map(|(_, value)| value)
    }
}

/// A request in HTTP/1.1; `headers` are lines without their end.
#[must_use]
pub fn request(method: &str, path: &str, headers: &[&str]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: pratique\r\n");
    for line in headers {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text
}

/// Sends `requests` in one piece over one connection, and reads until it ends. The last of them should ask for that.
///
/// # Errors
/// When a connection cannot be had or breaks, when an answer has no length, ends before it, or when something comes that belongs to none.
pub async fn converse(address: SocketAddr, requests: &[String]) -> Result<Vec<RawAnswer>, String> {
    let told = |error: std::io::Error| error.to_string();
    let mut client = TcpStream::connect(address).await.map_err(told)?;
    client.write_all(requests.concat().as_bytes()).await.map_err(told)?;
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.map_err(told)?;
    let mut rest = bytes.as_slice();
    let answers =
        requests.iter().map(|request| next(&mut rest, request.starts_with("HEAD "))).collect::<Result<_, _>>()?;
    if rest.is_empty() { Ok(answers) } else { Err(format!("{} bytes belong to no answer", rest.len())) }
}

/// Cuts one answer off the front.
fn next(rest: &mut &[u8], is_head: bool) -> Result<RawAnswer, String> {
    let end = rest.windows(4).position(|window| window == b"\r\n\r\n").ok_or("no head where one should begin")? + 4;
    let (head, after) = rest.split_at_checked(end).ok_or("a head that ends beyond its end")?;
    let head = std::str::from_utf8(head).map_err(|_| "a head that is no text")?.to_lowercase();
    let status = head.strip_prefix("http/1.1 ").and_then(|line| line.get(..3)?.parse().ok());
    let mut answer = RawAnswer { status: status.ok_or("no status line")?, head, content: Vec::new() };
    let length = match answer.header("content-length") {
        _ if is_head || answer.status == 304 => 0,
        Some(length) => length.parse().map_err(|_| "a length that is no number")?,
        None => return Err(format!("no length: {}", answer.head)),
    };
    let (content, after) = after.split_at_checked(length).ok_or("an answer shorter than it tells")?;
    answer.content = content.to_vec();
    *rest = after;
    Ok(answer)
}

//! The control socket itself: for its owner only, gone at the end, replaced where a killed server left it.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

use support::{process::Process, sigstore::Layout};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::Stage;

const IMAGE: &str = "cgr.dev/chainguard/nginx";

#[tokio::test]
async fn it_is_for_its_owner_only_and_goes_with_the_server() {
    let stage = Stage::public(Layout::Legacy).await;
    let server = Process::serve(&stage.config).await.unwrap();
    let socket = stage.world.directory.path().join("store/control.sock");
    let metadata = std::fs::symlink_metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(server.terminate().await.unwrap().status.code(), Some(0));
    assert!(!socket.exists());
}

#[tokio::test]
async fn what_a_killed_server_left_is_neither_believed_nor_in_the_way() {
    let stage = Stage::public(Layout::Legacy).await;
    let server = Process::serve(&stage.config).await.unwrap();
    server.kill().await.unwrap();
    assert!(stage.world.directory.path().join("store/control.sock").exists());
    let said = stage.run(&["verify", IMAGE]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let server = Process::serve(&stage.config).await.unwrap();
    let said = stage.run(&["verify", IMAGE]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    server.terminate().await.unwrap();
}

#[tokio::test]
async fn it_answers_commands_and_nothing_else_and_survives_what_is_none() {
    let stage = Stage::public(Layout::Legacy).await;
    let server = Process::serve(&stage.config).await.unwrap();
    let socket = stage.world.directory.path().join("store/control.sock");
    let request = |method: &str, path: &str, body: &str| {
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    for (text, wanted) in [
        (request("GET", "/v1/command", ""), "405"),
        (request("POST", "/v2/", ""), "404"),
        (request("POST", "/v1/command", "{}"), "400"),
        (request("POST", "/v1/command", "{\"serve\":{}}"), "400"),
        (request("POST", "/v1/command", "{\"explain\":{\"image\":\"x\",\"more\":1}}"), "400"),
        (
            "POST /v1/command HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n".to_owned() + &"x".repeat(100),
            "413",
        ),
        ("nonsense\r\n\r\n".to_owned(), "400"),
    ] {
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(std::time::Duration::from_secs(30), read).await.expect("an end");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {wanted}")), "{text}\n{answer}");
    }
    let said = stage.run(&["verify", IMAGE]).await;
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    server.terminate().await.unwrap();
}

#[tokio::test]
async fn a_directory_that_others_can_write_to_is_not_believed() {
    let stage = Stage::public(Layout::Legacy).await;
    let server = Process::serve(&stage.config).await.unwrap();
    let store = stage.world.directory.path().join("store");
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o777)).unwrap();
    let said = stage.run(&["verify", IMAGE]).await;
    assert_eq!((said.code, said.stdout.as_str()), (Some(3), ""), "{}", said.stderr);
    assert!(said.stderr.contains("can be written to by others"), "{}", said.stderr);
    std::fs::set_permissions(&store, std::fs::Permissions::from_mode(0o700)).unwrap();
    server.terminate().await.unwrap();
}

//! Secrets appear in no output, at any level, of any library.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use tracing_subscriber::fmt::MakeWriter;

use config::{ForwardProxy, Proxies, Secret};

use super::{
    Setup, blob, manifest,
    proxies::Forward,
    server::{GOOD, Reply, Server},
};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

const PASSWORD: &str = "canary-password";
/// `user:canary-password`
const ENCODED: &str = "dXNlcjpjYW5hcnktcGFzc3dvcmQ=";
const TOKEN: &str = "canary-token";
const SIGNATURE: &str = "canary-signature";

/// Refuses, hands out a token, serves a manifest, and redirects a blob to a place that does not exist.
fn answer(seen: &super::server::Seen, origin: &str) -> Reply {
    let authorization = seen.header("authorization").unwrap_or_default();
    if seen.is_token() {
        assert_eq!(authorization, format!("Basic {ENCODED}"));
        Reply::token(TOKEN)
    } else if authorization != format!("Bearer {TOKEN}") {
        Reply::bearer(format!("{origin}/token"))
    } else if seen.path.contains("/blobs/") {
        Reply::redirect(format!("https://127.0.0.1:1/blob?X-Signature={SIGNATURE}"))
    } else {
        Reply::ok("{}")
    }
}

#[tokio::test]
async fn no_secret_is_in_any_log_line_or_debug_output() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    // While there is but one subscriber, tracing asks whichever thread comes first whether a line is wanted, and remembers its no.
    // Other tests run on threads that want none, so there are two.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let guard = tracing::subscriber::set_default(subscriber);
    let mut told = Vec::new();
    let plain = Server::start(|seen| answer(seen, &format!("http://{}", seen.header("host").unwrap()))).await;
    let port = Arc::new(std::sync::OnceLock::new());
    let own = Arc::clone(&port);
    let tls =
        Server::start_tls(GOOD, move |seen| answer(seen, &format!("https://127.0.0.1:{}", own.get().unwrap()))).await;
    port.set(tls.port()).unwrap();
    for server in [&plain, &tls] {
        let setup = Setup::of(server).credentials("user", PASSWORD);
        let upstream = setup.build();
        let fetched = manifest(&upstream).await.unwrap();
        let error = blob(&upstream, 0).await.unwrap_err();
        told.push(format!("{:?} {fetched:?} {upstream:?} {upstream:#?} {error} {error:?}", setup.upstream));
        assert_eq!(server.seen().len(), 4);
    }
    let answers = ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 407 No\r\n\r\n", "HTTP/1.1 502 No\r\n\r\n", "canary\r\n\r\n"];
    for answer in answers {
        let forward = Forward::saying(answer, Some(tls.port())).await;
        let credentials = Some(Secret::new(format!("user:{PASSWORD}")));
        let proxy = ForwardProxy { host: "127.0.0.1".into(), port: forward.port(), credentials };
        let proxies = Proxies::through(proxy);
        let setup = Setup { proxies, ..Setup::named(&tls, "registry.example", 443) };
        let upstream = setup.build();
        let error = manifest(&upstream).await.unwrap_err();
        told.push(format!("{:?} {:?} {upstream:?} {error} {error:?}", setup.upstream, setup.proxies));
        assert!(forward.asked().contains(&format!("Basic {ENCODED}")), "{}", forward.asked());
    }
    drop(guard);
    let told = told.join("\n");
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("127.0.0.1"), "the log was not taken at all: {log}");
    for secret in [PASSWORD, ENCODED, TOKEN, SIGNATURE, "canary"] {
        assert!(!log.contains(secret), "{secret} is in the log");
        assert!(!told.contains(secret), "{secret} is in {told}");
    }
}

//! A way through a forward proxy: CONNECT (RFC 9110 §9.3.6), for plain HTTP too.
//!
//! So whatever goes wrong is known to be the proxy's or upstream's, its credentials are in one request that only it sees, and it can
//! neither keep answers nor make up some for an upstream over TLS.

use std::pin::pin;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use config::ForwardProxy;
use futures_util::future::{Either, select};
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;

use super::{error::ProxyFault, network::Line, origin::Origin, request::USER_AGENT};

/// The head of the proxy's answer, bytes; nothing belongs behind it.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Asks `proxy`, at the other end of `line`, to connect to `target`, who is at the other end from then on. Takes as long as the proxy does.
pub(super) async fn open(line: Line, proxy: &ForwardProxy, target: &Origin) -> Result<Line, ProxyFault> {
    let request = request(proxy, target)?;
    let connected = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(line).await;
    let (mut sender, connection) = connected.map_err(|error| fault(&error))?;
    let asking = pin!(async move {
        let answer = sender.send_request(request).await.map_err(|error| fault(&error))?;
        match answer.status() {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(ProxyFault::Unauthorized),
            status if !status.is_success() => Err(ProxyFault::Status(status.as_u16())),
            _ => hyper::upgrade::on(answer).await.map_err(|_| ProxyFault::Http),
        }
    });
    let opened = match select(asking, pin!(connection.with_upgrades())).await {
        Either::Left((opened, _)) => opened?,
        // It ends when it has handed over the answer, or when there will be none.
        Either::Right((_, asking)) => asking.await?,
    };
    let parts = opened.downcast::<Line>().map_err(|_| ProxyFault::Http)?;
    // Nobody behind it speaks before we do.
    if parts.read_buf.is_empty() { Ok(parts.io) } else { Err(ProxyFault::Http) }
}

fn request(proxy: &ForwardProxy, target: &Origin) -> Result<Request<Empty<Bytes>>, ProxyFault> {
    let authority = format!("{}:{}", target.host, target.port);
    let mut request = Request::connect(&authority)
        .header(header::HOST, &authority)
        .header(header::USER_AGENT, HeaderValue::from_static(USER_AGENT))
        .body(Empty::new())
        .map_err(|_| ProxyFault::Http)?;
    if let Some(credentials) = &proxy.credentials {
        let encoded = STANDARD.encode(credentials.expose());
        let mut basic = HeaderValue::try_from(format!("Basic {encoded}")).expect("Base64 is a header value");
        basic.set_sensitive(true);
        request.headers_mut().insert(header::PROXY_AUTHORIZATION, basic);
    }
    Ok(request)
}

fn fault(error: &hyper::Error) -> ProxyFault {
    if error.is_parse() { ProxyFault::Http } else { ProxyFault::ConnectFailed }
}

//! A TLS client that reads a body without decrypting it.

use std::{
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use rustix::net::{RecvFlags, recv};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use super::{Failure, request};

/// A connection after its handshake.
///
/// # Errors
/// When nobody listens, or the handshake fails.
pub(super) fn connect(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
) -> Result<StreamOwned<ClientConnection, TcpStream>, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut connection = ClientConnection::new(Arc::clone(tls), ServerName::try_from("localhost")?)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// Asks for `path` as the last thing on a new connection, and drops the records that come: at least `length` bytes, since each
/// record is longer than what is in it.
pub(super) fn drain(address: SocketAddr, tls: &Arc<ClientConfig>, path: &str, length: u64) -> Result<(), Failure> {
    let mut stream = connect(address, tls)?;
    std::io::Write::write_all(&mut stream, &request(path, true))?;
    let (mut nowhere, mut came) = (vec![0; 4 << 20], 0);
    loop {
        let (_, dropped) = recv(&stream.sock, nowhere.as_mut_slice(), RecvFlags::TRUNC)?;
        if dropped == 0 {
            break;
        }
        came += dropped as u64;
    }
    if came < length {
        Err(format!("{path}: {came} bytes of records instead of {length} and more").into())
    } else {
        Ok(())
    }
}

//! TCP between servers. Everything above works on any stream, so that TLS has its place here.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::PeerAddress;

/// A connection to another server.
pub(super) type Stream = TcpStream;

/// A host that no longer answers is given up after this long: unacknowledged bytes, or silence on an idle
/// connection. (Whether it still leads is decided sooner, by the heartbeats.)
const DEAD_AFTER: Duration = Duration::from_secs(5);
/// The same, where the other end may take nothing for a while.
const PATIENT: Duration = Duration::from_secs(60);
/// Looking up a name may take this long; it holds up only the one server.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens at `address`.
pub(super) fn listen(address: SocketAddr) -> io::Result<StdListener> {
    let listener = StdListener::bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen at {address}: {error}")))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Waits for the next connection.
pub(super) async fn accept(listener: &TcpListener) -> io::Result<(Stream, SocketAddr)> {
    loop {
        let (stream, address) = listener.accept().await?;
        // What cannot be tuned is closed already.
        if tune(&stream).is_ok() {
            return Ok((stream, address));
        }
    }
}

/// Connects to `address` within `limit`.
pub(super) async fn connect(address: SocketAddr, limit: Duration) -> io::Result<Stream> {
    let stream = match timeout(limit, TcpStream::connect(address)).await {
        Ok(connected) => connected?,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    if stream.local_addr()? == stream.peer_addr()? {
        // Nobody listens there, but the port that the kernel chose for us happened to be that one, and TCP allows
        // a connection to itself.
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    tune(&stream)?;
    Ok(stream)
}

/// The addresses that a name stands for now.
pub(super) async fn look_up(address: &PeerAddress) -> io::Result<Vec<SocketAddr>> {
    match timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((address.host.as_str(), address.port))).await {
        Ok(found) => Ok(found?.collect()),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "looking up the name took too long")),
    }
}

/// For a connection whose other end may be busy with its disk for long.
pub(super) fn be_patient(stream: &Stream) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    SockRef::from(stream).set_tcp_user_timeout(Some(PATIENT))?;
    Ok(())
}

fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(DEAD_AFTER / 2).with_interval(Duration::from_secs(1));
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(DEAD_AFTER))?;
    Ok(())
}

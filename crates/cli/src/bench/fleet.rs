//! Many sessions on non-blocking sockets, driven by one thread.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use ostler_types::{SessionId, Xid, Zxid};
use ostler_wire::frame::{Scan, scan};
use ostler_wire::{ConnectRequest, ConnectResponse, Request};

use super::{BenchError, Result};

/// Handshakes under way at a time: below the listen backlog of any server (Apache ZooKeeper's is 50).
const HANDSHAKES: usize = 32;
/// Bytes read at once. Whole frames are used in place; only a partial one is kept with its socket, so that an
/// idle session costs no buffer.
const SCRATCH: usize = 256 << 10;
/// How long to wait for the last replies.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What to do with the frames of open sessions.
pub(super) trait Handler {
    /// Replies of session `index` are about to be handed over.
    fn on_batch(&mut self, index: usize);
    /// One reply; what is appended to `out` is sent after the batch.
    fn on_reply(&mut self, index: usize, payload: &[u8], out: &mut Vec<u8>) -> Result<()>;
}

/// Sessions and their sockets.
pub(super) struct Fleet {
    poll: Poll,
    events: Events,
    sockets: Vec<Socket>,
    scratch: Vec<u8>,
    /// Each session takes the next.
    addresses: Vec<SocketAddr>,
    session_timeout_ms: i32,
    opened: usize,
    /// Open sessions in the order of their next heartbeat.
    pings: VecDeque<(Instant, usize)>,
    ping_interval: Duration,
    ping: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    Open,
    Closing,
    Closed,
}

struct Socket {
    stream: mio::net::TcpStream,
    phase: Phase,
    /// The beginning of a frame.
    partial: Vec<u8>,
    out: Vec<u8>,
    /// How much of `out` is sent.
    sent: usize,
}

impl Fleet {
    pub(super) fn new(server: &str, session_timeout_ms: i32) -> Result<Self> {
        let connect_error = |source| BenchError::Connect { address: server.into(), source };
        let first_of = |server: &str| {
            let mut found = server.to_socket_addrs().map_err(connect_error)?;
            found.next().ok_or_else(|| connect_error(io::ErrorKind::NotFound.into()))
        };
        let addresses = server.split(',').map(first_of).collect::<Result<_>>()?;
        let mut ping = Vec::new();
        Request::Ping.encode(Xid::PING, &mut ping);
        Ok(Fleet {
            poll: Poll::new().map_err(BenchError::Poll)?,
            events: Events::with_capacity(1024),
            sockets: Vec::new(),
            scratch: vec![0; SCRATCH],
            addresses,
            session_timeout_ms,
            opened: 0,
            pings: VecDeque::new(),
            ping_interval: Duration::MAX,
            ping,
        })
    }

    /// Opens sessions until there are `count`; those already open are kept alive meanwhile.
    pub(super) fn open(&mut self, count: usize) -> Result<()> {
        while self.opened < count {
            while self.sockets.len() < count && self.sockets.len() - self.opened < HANDSHAKES {
                self.connect()?;
            }
            self.keep_alive()?;
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<()> {
        let index = self.sockets.len();
        let address = self.addresses[index % self.addresses.len()];
        let attempt = || {
            let stream = std::net::TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, Token(index), interest)?;
            Ok(stream)
        };
        let stream =
            attempt().map_err(|source| BenchError::Connect { address: address.to_string(), source })?;
        let mut out = Vec::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: self.session_timeout_ms,
            session: SessionId::NONE,
            password: Some(&[0; ostler_wire::connect::PASSWORD_BYTES]),
            read_only: Some(false),
        }
        .encode(&mut out);
        let mut socket = Socket { stream, phase: Phase::Handshake, partial: Vec::new(), out, sent: 0 };
        socket.flush(index)?;
        self.sockets.push(socket);
        Ok(())
    }

    /// Appends to the output of session `index` and sends it.
    pub(super) fn send(&mut self, index: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let socket = &mut self.sockets[index];
        write(&mut socket.out);
        socket.flush(index)
    }

    /// Waits up to `timeout` for something to happen and deals with all of it.
    pub(super) fn turn(&mut self, timeout: Duration, handler: &mut impl Handler) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other.map_err(BenchError::Poll)?,
        }
        for event in &self.events {
            let index = event.token().0;
            let socket = &mut self.sockets[index];
            if event.is_readable() {
                let ends = event.is_read_closed();
                if let Some(granted_ms) = socket.read(index, ends, &mut self.scratch, handler)? {
                    self.opened += 1;
                    self.ping_interval = Duration::from_millis(granted_ms.unsigned_abs().into()) / 3;
                    self.pings.push_back((Instant::now() + self.ping_interval, index));
                }
            }
            if socket.phase != Phase::Closed && !socket.out.is_empty() {
                socket.flush(index)?;
            }
        }
        Ok(())
    }

    /// One turn in which only heartbeats are sent.
    pub(super) fn keep_alive(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(&(due, index)) = self.pings.front()
            && due <= now
        {
            self.pings.rotate_left(1);
            if let Some(last) = self.pings.back_mut() {
                last.0 = now + self.ping_interval;
            }
            let socket = &mut self.sockets[index];
            socket.out.extend_from_slice(&self.ping);
            socket.flush(index)?;
        }
        let until_next = self.pings.front().map_or(PATIENCE, |&(due, _)| due - now);
        self.turn(until_next.min(Duration::from_millis(100)), &mut OnlyPings)
    }

    /// Ends every session and waits until the server has closed the connections.
    pub(super) fn close(mut self) -> Result<()> {
        let mut close = Vec::new();
        Request::CloseSession.encode(Xid(i32::MAX), &mut close);
        for (index, socket) in self.sockets.iter_mut().enumerate() {
            socket.phase = Phase::Closing;
            socket.out.extend_from_slice(&close);
            socket.flush(index)?;
        }
        let deadline = Instant::now() + PATIENCE;
        let open = |fleet: &Fleet| fleet.sockets.iter().filter(|s| s.phase != Phase::Closed).count();
        while open(&self) > 0 {
            if Instant::now() > deadline {
                return Err(BenchError::Unanswered { unanswered: open(&self), waited_s: PATIENCE.as_secs() });
            }
            self.turn(Duration::from_millis(100), &mut OnlyPings)?;
        }
        Ok(())
    }
}

/// For sessions without requests.
struct OnlyPings;

impl Handler for OnlyPings {
    fn on_batch(&mut self, _index: usize) {}

    fn on_reply(&mut self, index: usize, payload: &[u8], _out: &mut Vec<u8>) -> Result<()> {
        match payload.first_chunk() {
            Some(&xid) if i32::from_be_bytes(xid) == Xid::PING.0 => Ok(()),
            _ => Err(BenchError::Protocol { index }),
        }
    }
}

impl Socket {
    /// Reads all there is, up to the end of the stream if it `ends`. Returns the granted session timeout if that
    /// completed the handshake.
    fn read(
        &mut self,
        index: usize,
        ends: bool,
        scratch: &mut Vec<u8>,
        handler: &mut impl Handler,
    ) -> Result<Option<i32>> {
        let mut granted = None;
        loop {
            let kept = self.partial.len();
            if scratch.len() < kept + SCRATCH / 2 {
                scratch.resize(kept + SCRATCH, 0);
            }
            scratch[..kept].copy_from_slice(&self.partial);
            let read = match self.stream.read(&mut scratch[kept..]) {
                Ok(0) => 0,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(granted),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                Err(source) => return Err(BenchError::Socket { index, source }),
            };
            if read == 0 {
                return match self.phase {
                    Phase::Closing | Phase::Closed => {
                        self.phase = Phase::Closed;
                        Ok(granted)
                    }
                    Phase::Handshake => Err(BenchError::NoSession { index }),
                    Phase::Open => Err(BenchError::ClosedByServer { index }),
                };
            }
            let full = kept + read == scratch.len();
            let used = self.take_frames(index, &scratch[..kept + read], handler, &mut granted)?;
            self.partial.clear();
            if used < kept + read {
                self.partial.extend_from_slice(&scratch[used..kept + read]);
            }
            // A short read has emptied the socket; what comes later wakes the poll again. Not so an end of the
            // stream that the poll has already told of.
            if !full && !ends {
                return Ok(granted);
            }
        }
    }

    fn take_frames(
        &mut self,
        index: usize,
        bytes: &[u8],
        handler: &mut impl Handler,
        granted: &mut Option<i32>,
    ) -> Result<usize> {
        let mut used = 0;
        if self.phase == Phase::Open {
            handler.on_batch(index);
        }
        loop {
            let payload = match scan(&bytes[used..], usize::MAX) {
                Scan::Frame(range) => &bytes[used..][range],
                Scan::NeedMore(_) => return Ok(used),
                Scan::Negative(_) | Scan::TooLong { .. } => return Err(BenchError::Protocol { index }),
            };
            used += ostler_wire::frame::LENGTH_BYTES + payload.len();
            match self.phase {
                Phase::Handshake => {
                    let response = ConnectResponse::decode(payload);
                    let Some(response) = response.ok().filter(|response| !response.is_expired()) else {
                        return Err(BenchError::NoSession { index });
                    };
                    *granted = Some(response.timeout_ms);
                    self.phase = Phase::Open;
                    self.out = Vec::new();
                }
                Phase::Open => handler.on_reply(index, payload, &mut self.out)?,
                // The reply to closeSession, and heartbeats before it.
                Phase::Closing | Phase::Closed => {}
            }
        }
    }

    /// Sends as much as the socket takes; the poll says when it takes more.
    fn flush(&mut self, index: usize) -> Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(BenchError::Socket { index, source }),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::fake_server::{FakeServer, Fault};

    #[test]
    fn sessions_are_opened_kept_alive_and_closed() {
        let server = FakeServer::start(Fault::Nothing);
        let mut fleet = Fleet::new(&server.address, 60).unwrap();
        let sessions = 2 * HANDSHAKES + 3;
        fleet.open(5).unwrap();
        fleet.open(sessions).unwrap();
        assert_eq!(server.sessions_open(), sessions);
        while server.pings() < 3 * sessions {
            fleet.keep_alive().unwrap();
        }
        fleet.close().unwrap();
        assert_eq!(server.sessions_open(), 0);
    }

    #[test]
    fn nobody_there() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let outcome = Fleet::new(&address, 1000).unwrap().open(1);
        assert!(matches!(outcome, Err(BenchError::Connect { .. })), "{outcome:?}");
    }
}

//! A server inside this process, and sockets that send anything.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ostler_server::Server;
use ostler_server::config::{self, Overrides};
use ostler_types::{SessionId, Xid, Zxid};
use ostler_wire::{
    AclEntry, ConnectRequest, ConnectResponse, Create, CreateForm, OpCode, ReplyHeader, Request, frame,
};
use tempfile::TempDir;

/// How long a test waits for something that must happen. Only a bug makes it wait that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server on a port and in a directory of its own.
pub struct TestServer {
    server: Option<Server>,
    dir: TempDir,
    settings: String,
    pub address: SocketAddr,
}

impl TestServer {
    pub fn start() -> TestServer {
        TestServer::with("")
    }

    /// With more lines for its configuration.
    pub fn with(settings: &str) -> TestServer {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings.to_owned();
        let server = serve(&dir, &settings);
        TestServer { address: server.address(), server: Some(server), dir, settings }
    }

    /// Stops it and starts another on the same data: everything in the log is applied again.
    pub fn restart(&mut self) {
        self.server.take().unwrap().stop();
        let server = serve(&self.dir, &self.settings);
        self.address = server.address();
        self.server = Some(server);
    }

    /// A client that was never seen before can do everything.
    pub fn assert_serves(&self) {
        let mut wire = Wire::with_session(self.address);
        let path = format!("/serves-{:x}", wire.session.0);
        assert_eq!(wire.call(&create(&path, 1)).0.err, 0);
        assert_eq!(wire.call(&Request::Exists { path: path.into(), watch: false }).0.err, 0);
        assert_eq!(wire.call(&Request::CloseSession).0.err, 0);
        assert_eq!(wire.frame(), None);
    }

    /// The answer to a four-letter word.
    pub fn word(&self, word: &str) -> String {
        let mut wire = Wire::open(self.address);
        wire.send(word.as_bytes());
        let mut text = String::new();
        wire.stream.read_to_string(&mut text).unwrap();
        text
    }

    /// A number of `mntr`.
    pub fn monitored(&self, key: &str) -> i64 {
        let text = self.word("mntr");
        let line = text.lines().find(|line| line.split('\t').next() == Some(key));
        line.and_then(|line| line.split('\t').nth(1)?.parse().ok())
            .unwrap_or_else(|| panic!("{key} in {text}"))
    }

    /// Waits until nobody is connected but the one who asks.
    pub fn wait_for_no_connections(&self) {
        wait_for("all connections to be gone", || self.monitored("zk_num_alive_connections") <= 1);
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

fn serve(dir: &TempDir, settings: &str) -> Server {
    let text = format!(
        "dataDir={}\nclientPortAddress=127.0.0.1\nclientPort=0\npreAllocSize=4096\nmaxClientCnxns=0\n\
         4lw.commands.whitelist=*\nextendedTypesEnabled=true\n{settings}\n",
        dir.path().display()
    );
    let loaded = config::parse("test.cfg", text.as_bytes(), &Overrides::default()).unwrap();
    Server::start(loaded.config).unwrap()
}

pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited for {what}");
        std::thread::yield_now();
    }
}

/// A socket.
pub struct Wire {
    pub stream: TcpStream,
    input: Vec<u8>,
    pub session: SessionId,
    pub password: Vec<u8>,
    pub timeout_ms: i32,
}

impl Wire {
    pub fn open(address: SocketAddr) -> Wire {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Wire { stream, input: vec![], session: SessionId::NONE, password: vec![0; 16], timeout_ms: 0 }
    }

    pub fn with_session(address: SocketAddr) -> Wire {
        let mut wire = Wire::open(address);
        assert!(wire.handshake(30_000), "a new session is granted");
        wire
    }

    /// The session of `other` on a new socket.
    pub fn resume(address: SocketAddr, other: &Wire) -> Wire {
        let mut wire = Wire::open(address);
        (wire.session, wire.password) = (other.session, other.password.clone());
        wire
    }

    /// Asks for the session, or a new one; whether it was granted.
    pub fn handshake(&mut self, timeout_ms: i32) -> bool {
        self.send(&connect_request(timeout_ms, self.session, &self.password));
        self.read_handshake()
    }

    pub fn read_handshake(&mut self) -> bool {
        let Some(payload) = self.frame() else { return false };
        let answer = ConnectResponse::decode(&payload).unwrap();
        self.timeout_ms = answer.timeout_ms;
        if answer.is_expired() {
            return false;
        }
        (self.session, self.password) = (answer.session, answer.password.unwrap().to_vec());
        true
    }

    /// Sends bytes. That the server has closed meanwhile is for the reader to find out.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            let gone = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
            assert!(gone, "{error}");
        }
    }

    pub fn send_frame(&mut self, xid: i32, op: i32, body: &[u8]) {
        let length = (8 + body.len()) as i32;
        let parts = [&length.to_be_bytes()[..], &xid.to_be_bytes(), &op.to_be_bytes(), body];
        self.send(&parts.concat());
    }

    pub fn end_writing(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The payload of the next frame; nothing if the server has closed the connection.
    pub fn frame(&mut self) -> Option<Vec<u8>> {
        loop {
            if let frame::Scan::Frame(range) = frame::scan(&self.input, usize::MAX) {
                let payload = self.input[range.clone()].to_vec();
                self.input.drain(..range.end);
                return Some(payload);
            }
            let mut chunk = [0; 64 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("waiting for a frame or the end: {error}"),
            }
        }
    }

    pub fn reply(&mut self) -> Option<(ReplyHeader, Vec<u8>)> {
        let payload = self.frame()?;
        let (header, body) = ReplyHeader::decode(&payload).unwrap();
        Some((header, body.to_vec()))
    }

    /// Sends a request and reads the one reply.
    pub fn call(&mut self, request: &Request<'_>) -> (ReplyHeader, Vec<u8>) {
        let mut bytes = vec![];
        request.encode(Xid(4711), &mut bytes);
        self.send(&bytes);
        let (header, body) = self.reply().unwrap_or_else(|| panic!("{request:?} ended the connection"));
        let expected = if *request == Request::Ping { Xid::PING } else { Xid(4711) };
        assert_eq!(header.xid, expected);
        (header, body)
    }

    /// Sends a frame of any kind and reads the one reply's error.
    pub fn call_raw(&mut self, op: i32, body: &[u8]) -> Option<i32> {
        self.send_frame(4712, op, body);
        let (header, _) = self.reply()?;
        let expected = if op == OpCode::Ping.code() { Xid::PING } else { Xid(4712) };
        assert_eq!(header.xid, expected, "opcode {op}");
        Some(header.err)
    }

    /// Asserts that this connection is served.
    pub fn assert_alive(&mut self) {
        assert_eq!(self.call(&Request::Exists { path: "/".into(), watch: false }).0.err, 0);
    }

    /// Reads to the end, which must come.
    pub fn assert_closed(&mut self) {
        while self.frame().is_some() {}
    }
}

pub fn connect_request(timeout_ms: i32, session: SessionId, password: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms,
        session,
        password: Some(password),
        read_only: Some(false),
    }
    .encode(&mut bytes);
    bytes
}

pub fn open_acl() -> Vec<AclEntry<'static>> {
    let perms = ostler_types::Perms::ALL;
    vec![AclEntry { perms, scheme: Some("world".into()), id: Some("anyone".into()) }]
}

pub fn create(path: &str, flags: i32) -> Request<'_> {
    create_with(path, b"data", flags)
}

pub fn create_with<'a>(path: &'a str, data: &'a [u8], flags: i32) -> Request<'a> {
    let (form, data) = (CreateForm::Create, Some(data));
    Request::Create(Create { form, path: path.into(), data, acl: Some(open_acl()), flags })
}

/// The body of a request: its frame without length and header.
pub fn body_of(request: &Request<'_>) -> Vec<u8> {
    let mut bytes = vec![];
    request.encode(Xid(0), &mut bytes);
    bytes.split_off(12)
}

/// Numbers that are the same in every run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 11) as usize % limit
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 24) as u8).collect()
    }
}

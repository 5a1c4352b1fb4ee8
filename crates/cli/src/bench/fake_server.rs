//! A server for tests: znodes keep the data of their create, one thread per connection, replies in order.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use ostler_types::{ErrorCode, SessionId, Stat, Zxid};
use ostler_wire::frame::{LENGTH_BYTES, Scan, scan};
use ostler_wire::{ConnectRequest, ConnectResponse, Limits, OpCode, ReplyWriter, Request, RequestHeader};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Nothing,
    /// Every setData is refused.
    RefuseSets,
    /// A connection that sends a setData is closed.
    CloseOnSet,
}

pub(super) struct FakeServer {
    pub(super) address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    znodes: Mutex<BTreeMap<String, Vec<u8>>>,
    pings: AtomicUsize,
    sessions_open: AtomicUsize,
}

impl FakeServer {
    /// Serves until the test's process ends.
    pub(super) fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::<Shared>::default();
        let server = FakeServer { address, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream.unwrap(), fault, &shared));
            }
        });
        server
    }

    /// All paths there are.
    pub(super) fn znodes(&self) -> Vec<String> {
        self.shared.znodes.lock().unwrap().keys().cloned().collect()
    }

    /// Puts a znode there.
    pub(super) fn insert(&self, path: &str, data: &[u8]) {
        self.shared.znodes.lock().unwrap().insert(path.into(), data.into());
    }

    /// How many heartbeats have been answered.
    pub(super) fn pings(&self) -> usize {
        self.shared.pings.load(Ordering::SeqCst)
    }

    /// How many sessions have been granted and not closed by their clients.
    pub(super) fn sessions_open(&self) -> usize {
        self.shared.sessions_open.load(Ordering::SeqCst)
    }
}

fn serve(mut stream: TcpStream, fault: Fault, shared: &Shared) {
    let (mut input, mut out) = (Vec::new(), Vec::new());
    stream.set_nodelay(true).unwrap();
    let mut connected = false;
    let mut chunk = [0; 4096];
    loop {
        let mut used = 0;
        while let Scan::Frame(range) = scan(&input[used..], 1 << 20) {
            let payload = &input[used..][range];
            if !connected {
                connected = true;
                shared.sessions_open.fetch_add(1, Ordering::SeqCst);
                ConnectResponse {
                    protocol_version: 0,
                    timeout_ms: ConnectRequest::decode(payload).unwrap().timeout_ms,
                    session: SessionId(1),
                    password: Some(&[1; 16]),
                    read_only: Some(false),
                }
                .encode(&mut out);
            } else if !answer(payload, fault, shared, &mut out) {
                // What was answered before still goes out; the client may be gone.
                let _ = stream.write_all(&out);
                return;
            }
            used += LENGTH_BYTES + payload.len();
        }
        input.drain(..used);
        // A client that goes away ends this, one way or the other.
        if stream.write_all(&out).is_err() {
            return;
        }
        out.clear();
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(read) => input.extend_from_slice(&chunk[..read]),
        }
    }
}

/// Answers one request; false ends the connection.
fn answer(payload: &[u8], fault: Fault, shared: &Shared, out: &mut Vec<u8>) -> bool {
    let (header, body_bytes) = RequestHeader::decode(payload).unwrap();
    let op = OpCode::from_code(header.op).unwrap();
    let mut znodes = shared.znodes.lock().unwrap();
    let mut body: Box<dyn FnOnce(&mut ReplyWriter<'_>)> = Box::new(|_| {});
    let mut error = None;
    let mut goes_on = true;
    match Request::decode(op, body_bytes, Limits::default()).unwrap() {
        Request::Create(create) if !znodes.contains_key(&*create.path) => {
            znodes.insert(create.path.to_string(), create.data.unwrap_or_default().to_vec());
            body = Box::new(move |reply| reply.path(&create.path));
        }
        Request::Create(_) => error = Some(ErrorCode::NodeExists),
        Request::Delete { path, .. } if znodes.remove(&*path).is_some() => {}
        Request::SetData { .. } if fault == Fault::CloseOnSet => return false,
        Request::SetData { .. } if fault == Fault::RefuseSets => error = Some(ErrorCode::NoAuth),
        Request::GetData { path, .. } if znodes.contains_key(&*path) => {
            let data = znodes[&*path].clone();
            body = Box::new(move |reply| reply.data_and_stat(Some(&data), &Stat::default()));
        }
        Request::SetData { path, .. } if znodes.contains_key(&*path) => {
            body = Box::new(|reply| reply.stat(&Stat::default()));
        }
        Request::GetChildren { path, .. } if znodes.contains_key(&*path) => {
            let prefix = format!("{path}/");
            let below = znodes.keys().filter_map(|path| path.strip_prefix(&prefix));
            let names: Vec<_> = below.filter(|name| !name.contains('/')).map(str::to_owned).collect();
            body = Box::new(move |reply| reply.strings(names));
        }
        Request::Delete { .. }
        | Request::GetData { .. }
        | Request::SetData { .. }
        | Request::GetChildren { .. } => error = Some(ErrorCode::NoNode),
        Request::Ping => drop(shared.pings.fetch_add(1, Ordering::SeqCst)),
        Request::CloseSession => {
            shared.sessions_open.fetch_sub(1, Ordering::SeqCst);
            goes_on = false;
        }
        other => panic!("the benchmark does not send {other:?}"),
    }
    body(&mut ReplyWriter::begin(out, header.xid, Zxid(1), error));
    goes_on
}

//! ZooKeeper's client protocol: bytes to values and back, for both ends, without I/O and without any rule of
//! the server's.
//!
//! The protocol is described in `docs/protocol.md`; the modules follow it: [`jute`] primitives, [`frame`]s,
//! the [`connect`] handshake, [`RequestHeader`] and [`ReplyHeader`], [`Request`] bodies, [`multi`], replies
//! ([`ReplyWriter`] writes them, [`Response`] reads them) and watch [`event`]s.
//!
//! Decoding borrows from the frame wherever it can. It never panics, whatever the bytes, and never allocates
//! by a number the peer sent: a vector grows only as its elements are found.
//!
//! ```
//! use ostler_types::{Stat, Xid, Zxid};
//! use ostler_wire::{Limits, OpCode, ReplyWriter, Request, RequestHeader, frame};
//!
//! // A client asks for the data of "/a" ...
//! let mut bytes = Vec::new();
//! Request::GetData { path: "/a".into(), watch: false }.encode(Xid(1), &mut bytes);
//!
//! // ... a server finds the frame in what it has read so far, and decodes it ...
//! let frame::Scan::Frame(payload) = frame::scan(&bytes, frame::DEFAULT_MAX_BUFFER) else { panic!() };
//! let (header, body) = RequestHeader::decode(&bytes[payload]).unwrap();
//! let op = OpCode::from_code(header.op).unwrap();
//! let request = Request::decode(op, body, Limits::default()).unwrap();
//! assert_eq!(request, Request::GetData { path: "/a".into(), watch: false });
//!
//! // ... and appends its reply to the connection's output.
//! let mut out = Vec::new();
//! ReplyWriter::begin(&mut out, header.xid, Zxid(7), None).data_and_stat(Some(b"hello"), &Stat::default());
//! assert_eq!(out.len(), 4 + 16 + (4 + 5) + 68);
//! ```

pub mod connect;
pub mod event;
pub mod frame;
mod header;
pub mod jute;
pub mod multi;
mod opcode;
mod request;
mod response;

pub use connect::{ConnectRequest, ConnectResponse};
pub use event::WatchEvent;
pub use header::{ReplyHeader, RequestHeader};
pub use jute::{DecodeError, Limits};
pub use opcode::OpCode;
pub use request::{AclEntry, Create, CreateForm, Request, SetWatches};
pub use response::{ReplyWriter, Response};

//! The headers in front of every request and every reply (protocol, "Requests, replies, special xids").

use ostler_types::{Xid, Zxid};

use crate::jute::{Limits, Reader, Result, Writer};

/// In front of every request after the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Echoed in the reply.
    pub xid: Xid,
    /// Operation code as sent; see [`OpCode::from_code`](crate::OpCode::from_code).
    pub op: i32,
}

impl RequestHeader {
    /// Bytes of a header. Of a frame too long to keep these are what is needed to answer it.
    pub const BYTES: usize = 8;

    /// Splits a frame's payload into header and body.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`](crate::DecodeError::Truncated)
    pub fn decode(payload: &[u8]) -> Result<(RequestHeader, &[u8])> {
        let mut reader = Reader::new(payload, Limits::default());
        let header = RequestHeader { xid: Xid(reader.int()?), op: reader.int()? };
        Ok((header, reader.rest()))
    }

    pub(crate) fn write(self, writer: &mut Writer<'_>) {
        writer.int(self.xid.0);
        writer.int(self.op);
    }
}

/// In front of every reply and every watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHeader {
    /// The request's, or [`Xid::NOTIFICATION`] for a watch event.
    pub xid: Xid,
    /// Last transaction the server had applied; of an event the one that caused it. 0 or -1 in the cases that
    /// `docs/protocol.md` lists.
    pub zxid: Zxid,
    /// 0, or an error code; see [`ErrorCode::from_code`](ostler_types::ErrorCode::from_code).
    pub err: i32,
}

impl ReplyHeader {
    /// Bytes of a header.
    pub const BYTES: usize = 16;

    /// Splits a frame's payload into header and body.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`](crate::DecodeError::Truncated)
    pub fn decode(payload: &[u8]) -> Result<(ReplyHeader, &[u8])> {
        let mut reader = Reader::new(payload, Limits::default());
        let header = ReplyHeader { xid: Xid(reader.int()?), zxid: Zxid(reader.long()?), err: reader.int()? };
        Ok((header, reader.rest()))
    }

    pub(crate) fn write(self, writer: &mut Writer<'_>) {
        let mut bytes = [0; Self::BYTES];
        bytes[..4].copy_from_slice(&self.xid.0.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.zxid.0.to_be_bytes());
        bytes[12..].copy_from_slice(&self.err.to_be_bytes());
        writer.bytes(&bytes);
    }
}

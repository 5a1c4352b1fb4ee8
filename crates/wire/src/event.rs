//! Watch events, the only frames a server sends unasked (protocol, "Watches").

use std::borrow::Cow;

use ostler_types::{EventType, Xid, Zxid};

use crate::frame;
use crate::header::ReplyHeader;
use crate::jute::{DecodeError, Limits, Reader, Result};

/// The keeper state every event carries: `SyncConnected`.
const SYNC_CONNECTED: i32 = 3;

/// Something happened to a watched znode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent<'a> {
    /// What.
    pub kind: EventType,
    /// To which znode; for a recursive watch not necessarily the watched one.
    pub path: Cow<'a, str>,
}

impl<'a> WatchEvent<'a> {
    /// Decodes the body of a frame whose header has [`Xid::NOTIFICATION`].
    ///
    /// # Errors
    /// [`DecodeError`], also for an event type no server sends.
    pub fn decode(body: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(body, Limits::default());
        let kind = reader.int()?;
        let kind = EventType::from_code(kind)
            .ok_or(DecodeError::UnknownValue { field: "event type", value: kind })?;
        let _state = reader.int()?;
        Ok(WatchEvent { kind, path: reader.string()? })
    }
}

/// Appends the frame of an event caused by the transaction `zxid`; -1 for one found while serving setWatches.
pub fn encode(out: &mut Vec<u8>, zxid: Zxid, kind: EventType, path: &str) {
    frame::write(out, |writer| {
        ReplyHeader { xid: Xid::NOTIFICATION, zxid, err: 0 }.write(writer);
        writer.int(kind as i32);
        writer.int(SYNC_CONNECTED);
        writer.string(path);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_an_event() {
        let mut out = Vec::new();
        encode(&mut out, Zxid(0x1_0000_0007), EventType::NodeDataChanged, "/a");
        assert_eq!(
            out,
            [
                0, 0, 0, 30, // frame length
                0xff, 0xff, 0xff, 0xff, // xid -1
                0, 0, 0, 1, 0, 0, 0, 7, // zxid
                0, 0, 0, 0, // err
                0, 0, 0, 3, // NodeDataChanged
                0, 0, 0, 3, // SyncConnected
                0, 0, 0, 2, b'/', b'a',
            ]
        );
        let (header, body) = ReplyHeader::decode(&out[4..]).unwrap();
        assert_eq!(header, ReplyHeader { xid: Xid::NOTIFICATION, zxid: Zxid(0x1_0000_0007), err: 0 });
        let event = WatchEvent { kind: EventType::NodeDataChanged, path: "/a".into() };
        assert_eq!(WatchEvent::decode(body), Ok(event));
    }
}

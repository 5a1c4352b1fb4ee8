//! Which reply belongs to which request. Pure: frames in, pairs out.

use std::collections::VecDeque;

use ostler_types::{Xid, Zxid};
use ostler_wire::{DecodeError, OpCode, ReplyHeader, WatchEvent};

/// What a server must not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A frame of negative length.
    #[error("frame length {0} is negative")]
    NegativeLength(i32),
    /// A frame above the limit, in bytes.
    #[error("frame of {0} bytes is too long")]
    FrameTooLong(usize),
    /// A header, event or handshake that does not decode.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// A reply that nobody waits for, or not yet.
    #[error("reply with xid {got:?}, expected {expected:?}")]
    UnexpectedXid {
        /// The reply's.
        got: Xid,
        /// The oldest unanswered request's.
        expected: Option<Xid>,
    },
}

/// A frame from the server, understood.
#[derive(Debug)]
pub enum Incoming<'a, T> {
    /// The reply to the request sent with `tag`.
    Reply {
        /// What the caller gave to [`Exchange::send`].
        tag: T,
        /// What the request was.
        op: OpCode,
        /// The reply's header; `err` is not 0 if the request failed.
        header: ReplyHeader,
        /// To be decoded with [`Response::decode`](ostler_wire::Response::decode) unless the request failed.
        body: &'a [u8],
    },
    /// A watch fired.
    Event {
        /// The transaction that fired it, or -1 if it was found while serving setWatches.
        zxid: Zxid,
        /// What happened.
        event: WatchEvent<'a>,
    },
}

/// The requests of one connection that wait for their replies.
///
/// Replies come in request order, except those to auth, SASL and pings, which may overtake.
#[derive(Debug)]
pub struct Exchange<T> {
    next_xid: i32,
    in_order: VecDeque<Waiting<T>>,
    overtaking: VecDeque<Waiting<T>>,
    last_zxid_seen: Zxid,
}

#[derive(Debug)]
struct Waiting<T> {
    xid: Xid,
    op: OpCode,
    tag: T,
}

impl<T> Exchange<T> {
    /// No requests yet; the first is numbered `first_xid`.
    pub fn new(first_xid: i32, last_zxid_seen: Zxid) -> Self {
        Exchange {
            next_xid: first_xid,
            in_order: VecDeque::new(),
            overtaking: VecDeque::new(),
            last_zxid_seen,
        }
    }

    /// Records a request and returns the xid it must be sent with. Numbers wrap from 2^31-1 to 1, as in
    /// ZooKeeper's Java client.
    pub fn send(&mut self, op: OpCode, tag: T) -> Xid {
        let (queue, xid) = match op {
            OpCode::Ping => (&mut self.overtaking, Xid::PING),
            OpCode::Auth => (&mut self.overtaking, Xid::AUTH),
            OpCode::Sasl => (&mut self.overtaking, next(&mut self.next_xid)),
            _ => (&mut self.in_order, next(&mut self.next_xid)),
        };
        queue.push_back(Waiting { xid, op, tag });
        xid
    }

    /// Takes in a frame's payload.
    ///
    /// # Errors
    /// [`ProtocolError`]: the connection cannot go on.
    pub fn receive<'a>(&mut self, payload: &'a [u8]) -> Result<Incoming<'a, T>, ProtocolError> {
        let (header, body) = ReplyHeader::decode(payload)?;
        if header.xid == Xid::NOTIFICATION {
            return Ok(Incoming::Event { zxid: header.zxid, event: WatchEvent::decode(body)? });
        }
        let waiting = match self.in_order.front() {
            Some(first) if first.xid == header.xid => self.in_order.pop_front(),
            _ => {
                let at = self.overtaking.iter().position(|waiting| waiting.xid == header.xid);
                at.and_then(|at| self.overtaking.remove(at))
            }
        };
        let Some(Waiting { op, tag, .. }) = waiting else {
            let expected = self.in_order.front().map(|first| first.xid);
            return Err(ProtocolError::UnexpectedXid { got: header.xid, expected });
        };
        // Only ordinary replies count, as in ZooKeeper's Java client.
        if !matches!(op, OpCode::Ping | OpCode::Auth) && header.zxid > self.last_zxid_seen {
            self.last_zxid_seen = header.zxid;
        }
        Ok(Incoming::Reply { tag, op, header, body })
    }

    /// The newest transaction a reply has shown: what a client sends when it connects again.
    pub fn last_zxid_seen(&self) -> Zxid {
        self.last_zxid_seen
    }

    /// How many requests wait for a reply.
    pub fn waiting(&self) -> usize {
        self.in_order.len() + self.overtaking.len()
    }

    /// Gives up: the tags of all requests without a reply, oldest first, those that may overtake last.
    pub fn into_waiting(self) -> impl Iterator<Item = T> {
        self.in_order.into_iter().chain(self.overtaking).map(|waiting| waiting.tag)
    }
}

fn next(counter: &mut i32) -> Xid {
    let xid = *counter;
    *counter = if xid == i32::MAX { 1 } else { xid + 1 };
    Xid(xid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_types::EventType;
    use ostler_wire::{ReplyWriter, event};

    fn reply(xid: Xid, zxid: i64) -> Vec<u8> {
        let mut out = Vec::new();
        ReplyWriter::begin(&mut out, xid, Zxid(zxid), None);
        out.split_off(4)
    }

    fn tag(incoming: Result<Incoming<'_, char>, ProtocolError>) -> Result<char, ProtocolError> {
        match incoming? {
            Incoming::Reply { tag, .. } => Ok(tag),
            Incoming::Event { event, .. } => panic!("expected a reply, got {event:?}"),
        }
    }

    #[test]
    fn replies_come_in_order_except_for_auth_sasl_and_pings() {
        let mut exchange = Exchange::new(1, Zxid::ZERO);
        let sent = [
            (OpCode::Create, 'a'),
            (OpCode::Sasl, 'b'),
            (OpCode::Ping, 'c'),
            (OpCode::Delete, 'd'),
            (OpCode::Auth, 'e'),
        ]
        .map(|(op, tag)| exchange.send(op, tag));
        assert_eq!(sent, [Xid(1), Xid(2), Xid::PING, Xid(3), Xid::AUTH]);
        for (xid, expected) in [(Xid::AUTH, 'e'), (Xid(2), 'b'), (Xid(1), 'a'), (Xid::PING, 'c')] {
            assert_eq!(tag(exchange.receive(&reply(xid, 0))), Ok(expected));
        }
        assert_eq!(exchange.into_waiting().collect::<Vec<_>>(), ['d']);
    }

    #[test]
    fn a_reply_out_of_order_is_an_error() {
        let mut exchange = Exchange::new(1, Zxid::ZERO);
        exchange.send(OpCode::GetData, 'a');
        exchange.send(OpCode::GetData, 'b');
        let error = ProtocolError::UnexpectedXid { got: Xid(2), expected: Some(Xid(1)) };
        assert_eq!(tag(exchange.receive(&reply(Xid(2), 0))), Err(error));
        let error = ProtocolError::UnexpectedXid { got: Xid::PING, expected: Some(Xid(1)) };
        assert_eq!(tag(exchange.receive(&reply(Xid::PING, 0))), Err(error));
    }

    #[test]
    fn xids_wrap_to_one() {
        let mut exchange = Exchange::new(i32::MAX - 1, Zxid::ZERO);
        let xids = ['a', 'b', 'c'].map(|tag| exchange.send(OpCode::Exists, tag));
        assert_eq!(xids, [Xid(i32::MAX - 1), Xid(i32::MAX), Xid(1)]);
        for (xid, expected) in xids.into_iter().zip(['a', 'b', 'c']) {
            assert_eq!(tag(exchange.receive(&reply(xid, 0))), Ok(expected));
        }
    }

    #[test]
    fn the_newest_zxid_is_taken_from_ordinary_replies_only() {
        let mut exchange = Exchange::new(1, Zxid(5));
        for (op, zxid, expected) in
            [(OpCode::Create, 7, 7), (OpCode::Ping, 9, 7), (OpCode::Exists, -1, 7), (OpCode::Sync, 8, 8)]
        {
            let xid = exchange.send(op, 'x');
            tag(exchange.receive(&reply(xid, zxid))).unwrap();
            assert_eq!(exchange.last_zxid_seen(), Zxid(expected), "{op:?}");
        }
    }

    #[test]
    fn events_pass_through() {
        let mut exchange = Exchange::<()>::new(1, Zxid::ZERO);
        let mut out = Vec::new();
        event::encode(&mut out, Zxid(4), EventType::NodeCreated, "/a");
        let Ok(Incoming::Event { zxid, event }) = exchange.receive(&out[4..]) else { panic!() };
        assert_eq!((zxid, event.kind, &*event.path), (Zxid(4), EventType::NodeCreated, "/a"));
    }
}

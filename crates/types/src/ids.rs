//! Counters and identifiers. Each is its own type so that one cannot stand in for another.

use std::fmt;

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $repr:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $repr);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The value after this one. 64 bits do not run out: a million a second last 584,000 years.
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

hex_id! {
    /// ZooKeeper transaction id: epoch in the high 32 bits, counter in the low 32. Printed in hex, as
    /// ZooKeeper does. Assigned when a command is applied; see `docs/glossary.md` for how it differs from a
    /// log index.
    Zxid, i64
}

impl Zxid {
    /// The zxid of an empty tree.
    pub const ZERO: Zxid = Zxid(0);

    /// The next transaction's zxid. A full counter carries into the epoch: nothing rolls over.
    pub fn next(self) -> Zxid {
        Zxid(self.0 + 1)
    }

    /// The first zxid of the following epoch, which no transaction ever carries itself.
    pub fn next_epoch(self) -> Zxid {
        Zxid(((self.0 >> 32) + 1) << 32)
    }
}

hex_id! {
    /// 64-bit session id as clients see it in the handshake and in `Stat::ephemeral_owner`. 0 means "none".
    SessionId, i64
}

impl SessionId {
    /// "No session": what a client sends to ask for a new one.
    pub const NONE: SessionId = SessionId(0);
}

/// A client's request number, echoed in its reply. Opaque: any 32-bit value is legal and none ends a
/// connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Xid(pub i32);

impl Xid {
    /// A watch event pushed by the server.
    pub const NOTIFICATION: Xid = Xid(-1);
    /// Heartbeat and its answer.
    pub const PING: Xid = Xid(-2);
    /// Authentication packet.
    pub const AUTH: Xid = Xid(-4);
    /// setWatches, as the C client sends it.
    pub const SET_WATCHES: Xid = Xid(-8);
}

counter! {
    /// Raft term of a log entry.
    Term
}
counter! {
    /// Position of an entry in the replicated log, from 1.
    LogIndex
}
counter! {
    /// How often a session has been attached to a connection; the newest generation owns the session.
    Generation
}
counter! {
    /// Number of a write within one generation of its session, from 1.
    Sequence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_zxid_counter_carries_into_the_epoch() {
        assert_eq!(Zxid(0x1_ffff_ffff).next(), Zxid(0x2_0000_0000));
        assert_eq!(Zxid(0x1_ffff_ffff).next_epoch(), Zxid(0x2_0000_0000));
        assert_eq!(Zxid(5).next_epoch(), Zxid(0x1_0000_0000));
    }

    #[test]
    fn negative_session_ids_print_as_zookeeper_prints_them() {
        assert_eq!(SessionId(-1).to_string(), "0xffffffffffffffff");
    }
}

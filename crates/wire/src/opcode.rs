//! Operation codes (protocol, "Opcodes").

macro_rules! opcodes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// What a request asks for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum OpCode {
            $($(#[$doc])* $name = $code,)*
        }

        impl OpCode {
            /// Every operation.
            pub const ALL: &'static [OpCode] = &[$(OpCode::$name),*];

            /// The operation with this wire value. 0 (notification) and -1 (error) are no requests and not here.
            pub fn from_code(code: i32) -> Option<OpCode> {
                match code {
                    $($code => Some(OpCode::$name),)*
                    _ => None,
                }
            }

            /// ZooKeeper's name, as in its `ZooDefs.OpCode`.
            pub fn name(self) -> &'static str {
                match self {
                    $(OpCode::$name => $text,)*
                }
            }
        }
    };
}

opcodes! {
    /// Create a plain or ephemeral znode.
    Create = 1, "create";
    /// Delete a znode.
    Delete = 2, "delete";
    /// Stat of a znode, if it exists.
    Exists = 3, "exists";
    /// Data and Stat.
    GetData = 4, "getData";
    /// Replace the data.
    SetData = 5, "setData";
    /// ACL and Stat.
    GetAcl = 6, "getACL";
    /// Replace the ACL.
    SetAcl = 7, "setACL";
    /// Names of the children.
    GetChildren = 8, "getChildren";
    /// Catch up with the leader.
    Sync = 9, "sync";
    /// Heartbeat.
    Ping = 11, "ping";
    /// Names of the children, and Stat.
    GetChildren2 = 12, "getChildren2";
    /// Check a version; only inside a multi.
    Check = 13, "check";
    /// Several writes, all or none.
    Multi = 14, "multi";
    /// As create, answered with the Stat.
    Create2 = 15, "create2";
    /// Change the ensemble's membership.
    Reconfig = 16, "reconfig";
    /// Is there such a watch?
    CheckWatches = 17, "checkWatches";
    /// Remove watches.
    RemoveWatches = 18, "removeWatches";
    /// Create a container.
    CreateContainer = 19, "createContainer";
    /// Remove an empty container; servers only.
    DeleteContainer = 20, "deleteContainer";
    /// Create a znode with a time to live.
    CreateTtl = 21, "createTTL";
    /// Several reads.
    MultiRead = 22, "multiRead";
    /// Add an identity to the connection.
    Auth = 100, "auth";
    /// Re-register watches after a reconnect.
    SetWatches = 101, "setWatches";
    /// One step of a SASL exchange.
    Sasl = 102, "sasl";
    /// Ephemeral znodes of this session.
    GetEphemerals = 103, "getEphemerals";
    /// Number of all descendants.
    GetAllChildrenNumber = 104, "getAllChildrenNumber";
    /// As setWatches, with persistent watches.
    SetWatches2 = 105, "setWatches2";
    /// Set a persistent watch.
    AddWatch = 106, "addWatch";
    /// Identities of this connection.
    WhoAmI = 107, "whoAmI";
    /// Open a session; servers only.
    CreateSession = -10, "createSession";
    /// End the session.
    CloseSession = -11, "closeSession";
}

impl OpCode {
    /// The value on the wire.
    pub fn code(self) -> i32 {
        self as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_round_trips() {
        for &op in OpCode::ALL {
            assert_eq!(OpCode::from_code(op.code()), Some(op), "{}", op.name());
        }
        for code in [0, -1, 10, 23, 99, 108, i32::MIN, i32::MAX] {
            assert_eq!(OpCode::from_code(code), None);
        }
    }
}

//! ZooKeeper's error codes (protocol, "Error codes"). Client-side codes are absent: a server never sends them.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// An error a server answers with, in `ReplyHeader.err`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum ErrorCode {
            $($(#[$doc])* $name = $code,)*
        }

        impl ErrorCode {
            /// Every code, for tests and tables.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),*];

            /// The error with this wire value, if a server can send it.
            pub fn from_code(code: i32) -> Option<ErrorCode> {
                match code {
                    $($code => Some(ErrorCode::$name),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for ErrorCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = match self {
                    $(ErrorCode::$name => $text,)*
                };
                write!(f, "{text} ({})", self.code())
            }
        }
    };
}

codes! {
    /// Sub-operation of a multi that was not tried because another one failed.
    RuntimeInconsistency = -2, "operation skipped because another one of its multi failed";
    /// The request body could not be decoded.
    MarshallingError = -5, "request could not be decoded";
    /// Unknown opcode, or a feature that is switched off.
    Unimplemented = -6, "operation not implemented";
    /// Bad path, flags, TTL or an oversized request.
    BadArguments = -8, "invalid arguments";
    /// The session is unknown; internal to servers.
    UnknownSession = -12, "unknown session";
    /// A reconfiguration has no quorum in the new configuration.
    NewConfigNoQuorum = -13, "no quorum of the new configuration is connected";
    /// Another reconfiguration is outstanding.
    ReconfigInProgress = -14, "another reconfiguration is in progress";
    /// The znode does not exist.
    NoNode = -101, "znode does not exist";
    /// The ACL does not allow it.
    NoAuth = -102, "not authorised by the znode's ACL";
    /// The expected version differs from the actual one.
    BadVersion = -103, "version conflict";
    /// Ephemeral znodes cannot have children.
    NoChildrenForEphemerals = -108, "ephemeral znodes cannot have children";
    /// The znode exists already.
    NodeExists = -110, "znode exists already";
    /// The znode has children.
    NotEmpty = -111, "znode has children";
    /// The session has ended.
    SessionExpired = -112, "session expired";
    /// The ACL list is empty, malformed or names an unknown scheme.
    InvalidAcl = -114, "invalid ACL";
    /// Authentication failed.
    AuthFailed = -115, "authentication failed";
    /// The session has moved to another connection.
    SessionMoved = -118, "session moved to another connection";
    /// The server is in read-only mode.
    NotReadOnly = -119, "server is read-only";
    /// Ephemeral create on a local session.
    EphemeralOnLocalSession = -120, "ephemeral znodes need a global session";
    /// No such watch.
    NoWatcher = -121, "no such watch";
    /// `reconfigEnabled` is false.
    ReconfigDisabled = -123, "reconfiguration is disabled";
    /// An enforced authentication scheme is missing.
    SessionClosedRequireSaslAuth = -124, "a required authentication scheme is missing";
    /// A hard quota would be exceeded.
    QuotaExceeded = -125, "quota exceeded";
    /// Not executed; try again later.
    ThrottledOp = -127, "request throttled, not executed";
}

impl ErrorCode {
    /// The value on the wire.
    pub fn code(self) -> i32 {
        self as i32
    }
}

impl std::error::Error for ErrorCode {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_round_trips() {
        for &error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(error.code()), Some(error));
        }
        assert_eq!(ErrorCode::from_code(0), None);
    }
}

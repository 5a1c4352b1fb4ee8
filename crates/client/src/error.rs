//! What can go wrong, kept apart by what a caller may conclude from it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ostler_types::ErrorCode;
use ostler_wire::DecodeError;
use ostler_wire::multi::OpResult;

use crate::exchange::ProtocolError;

/// Why no connection with a session came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address does not resolve, nobody listens there, or the socket failed.
    #[error("cannot connect: {0}")]
    Io(#[from] io::Error),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The server hung up instead of answering: it is not serving, has not seen what this client has seen, or
    /// does not take this kind of client.
    #[error("server closed the connection instead of answering")]
    Refused,
    /// The session to resume does not exist any more, or the password is not its.
    #[error("session has expired")]
    SessionExpired,
    /// The answer is not a handshake.
    #[error("server's answer is not a handshake: {0}")]
    Protocol(#[from] ProtocolError),
}

/// Why a request did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The server refused: the request has not been carried out.
    #[error("{0}")]
    Server(ErrorCode),
    /// As [`Server`](Self::Server), with a code this crate does not know.
    #[error("unknown error code {0}")]
    ServerCode(i32),
    /// A multi failed at one operation and none was carried out.
    #[error("operation {index} of the multi failed with code {code}")]
    Multi {
        /// Which, from 0.
        index: usize,
        /// Why: an error code.
        code: i32,
        /// One result per operation, as received.
        results: Vec<OpResult>,
    },
    /// The connection ended before the reply came: **the request may or may not have been carried out.**
    #[error("connection lost, the request's outcome is unknown: {0}")]
    OutcomeUnknown(LossCause),
    /// The connection ended before any byte of the request was sent: it has not been carried out.
    #[error("connection lost before the request was sent: {0}")]
    NotSent(LossCause),
    /// The request was carried out but its reply makes no sense.
    #[error("reply could not be decoded: {0}")]
    Reply(DecodeError),
}

impl Error {
    /// The server's error code, if that is what this is.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Server(code) => Some(*code),
            Error::Multi { code, .. } => ErrorCode::from_code(*code),
            Error::ServerCode(_) | Error::OutcomeUnknown(_) | Error::NotSent(_) | Error::Reply(_) => None,
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LossCause {
    /// The server closed it.
    #[error("closed by the server")]
    ClosedByServer,
    /// This client closed it, or nobody holds a handle on it any more.
    #[error("closed by this client")]
    ClosedHere,
    /// The socket failed.
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// Nothing, not even the reply to a heartbeat, arrived for this long.
    #[error("nothing received for {0:?}")]
    Silence(Duration),
    /// The server sent what it must not.
    #[error("{0}")]
    Protocol(ProtocolError),
}

//! What happened to sessions and connections, as log lines with the same keys everywhere.

use ostler_node::{ClosedConnection, ConnectionEnd, SessionEnd};
use ostler_tree::EndCause;

/// One line for every session that ends: why, and what was known about it.
pub(crate) fn session_ended(end: &SessionEnd) {
    let SessionEnd { session, cause, zxid, timeout_ms, silent_ms, ephemerals } = end;
    let cause = match cause {
        EndCause::Closed => "closed by its client",
        EndCause::Expired => "expired: nothing heard for its timeout",
        EndCause::Killed => "ended by an operator",
    };
    tracing::info!(%session, cause, %zxid, timeout_ms, silent_ms, ephemerals, "session ended");
}

/// One line for a connection that ended for a reason an operator may be asked about; the ordinary ones are
/// debug output.
pub(crate) fn connection_closed(closed: &ClosedConnection) {
    let ClosedConnection { peer, session, end, silent_ms, oversized } = closed;
    let session = session.map(|s| s.to_string());
    let why = match end {
        ConnectionEnd::PeerClosed => "closed by the client",
        ConnectionEnd::SocketError => "socket error",
        ConnectionEnd::NoSession => "no session asked for in time",
        ConnectionEnd::BadHandshake => "first bytes are no ConnectRequest",
        ConnectionEnd::BadFrame => "malformed frame",
        ConnectionEnd::Throttled => {
            "not admitted: too many sessions opened at once (connection_throttle), or the disk of dataLogDir is full \
             and only sessions that return are taken"
        }
        ConnectionEnd::ClientAhead => "client has seen a newer zxid than this server",
        ConnectionEnd::SessionRefused => "session unknown or secret wrong, client told it expired",
        ConnectionEnd::AttachLost => "another connection attached the session first",
        ConnectionEnd::Moved => "session is served on a newer connection",
        ConnectionEnd::SessionEnded(_) => "session ended",
        ConnectionEnd::AuthFailed => "authentication failed",
        ConnectionEnd::NotReading => "client does not read what it is sent",
        ConnectionEnd::TextAnswered => "four-letter word answered",
        ConnectionEnd::Shutdown => "server is stopping",
    };
    match end {
        ConnectionEnd::BadHandshake
        | ConnectionEnd::BadFrame
        | ConnectionEnd::ClientAhead
        | ConnectionEnd::Throttled
        | ConnectionEnd::AuthFailed
        | ConnectionEnd::NotReading => {
            tracing::warn!(%peer, session, why, silent_ms, oversized, "connection closed");
        }
        _ => tracing::debug!(%peer, session, why, silent_ms, oversized, "connection closed"),
    }
}

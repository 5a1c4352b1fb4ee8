//! What happened to sessions and connections, as log lines with the same keys everywhere.

use std::collections::HashMap;

use ostler_node::{ClosedConnection, ConnectionEnd, Millis, News, SessionEnd};
use ostler_tree::{EndCause, QuotaExceeded};

/// One line for every session that ends: why, and what was known about it.
pub(crate) fn session_ended(end: &SessionEnd) {
    let SessionEnd { session, cause, zxid, owner, timeout_ms, silent_ms, stalled_ms, ephemerals } = end;
    let cause = match cause {
        EndCause::Closed => "closed by its client",
        EndCause::Expired => "expired: nothing heard for its timeout",
        EndCause::Killed => "ended by an operator",
    };
    tracing::info!(%session, cause, %zxid, owner, timeout_ms, silent_ms, stalled_ms, ephemerals, "session ended");
}

/// What the core has to say about the ensemble and itself.
pub(crate) fn news(news: &News) {
    match news {
        News::Leader { leader: Some(node), server, term } => {
            tracing::info!(server, node = format_args!("{node:016x}"), %term, "there is a leader");
        }
        News::Leader { leader: None, term, .. } => {
            tracing::warn!(%term, "there is no leader: writes wait for the next one");
        }
        News::SessionEnded(end) => session_ended(end),
        News::Stalled(gap_ms) => tracing::warn!(
            gap_ms,
            "this server stood still: the machine was suspended or is overloaded; sessions get the time back"
        ),
        News::ClockAlarm(ahead_ms) => tracing::error!(
            ahead_ms,
            "the wall clock runs ahead of elapsed time: TTL and unused container znodes are not removed until it \
             agrees again or the server is restarted"
        ),
        News::Diverged { index, .. } => {
            tracing::error!(%index, "this server's state differs from that of most servers");
        }
        News::PeerDiverged { node, index } => tracing::error!(
            node = format_args!("{node:016x}"),
            %index,
            "the state of another server differs from this one's; the one that most servers contradict stops serving"
        ),
        News::BadFrame { node, error } => tracing::warn!(
            node = format_args!("{node:016x}"),
            %error,
            "a server sent what cannot be read; it was dropped"
        ),
        News::Fetching { node, index } => tracing::info!(
            from = format_args!("{node:016x}"),
            %index,
            "this server is behind and fetches a snapshot from the leader"
        ),
        News::Installed { index } => tracing::info!(%index, "a snapshot is in place; its clients come again"),
        News::Removed => tracing::error!(
            "this server's disk has been removed from the ensemble: by reconfig, or because an empty disk with its number \
             took its place while it was away. It serves no clients. After a reconfig: add it again and it goes on with \
             the data it has, or stop it. After a replacement: see that no other server has its myid, empty its dataDir \
             and dataLogDir (myid stays) and start it again"
        ),
        News::DiskStuck { for_ms } => tracing::error!(
            for_ms,
            "the disk of dataLogDir does not answer, or is full, and this server leads: another one takes over. Check the disk"
        ),
        News::Membership(membership) => tracing::info!(
            voters = membership.voters.len(),
            learners = membership.learners.len(),
            "the nodes of the ensemble have changed"
        ),
    }
}

/// How often the same quota is spoken of, milliseconds.
const QUOTA_PAUSE_MS: Millis = 60_000;
/// Most quotas spoken of in that time.
const QUOTAS: usize = 1_000;

/// Writes beyond a quota: one line per path and minute, the first write that does it.
#[derive(Debug, Default)]
pub(crate) struct QuotaLog {
    /// When each path was last spoken of.
    told: HashMap<Box<str>, Millis>,
}

impl QuotaLog {
    pub(crate) fn exceeded(&mut self, all: &[QuotaExceeded], now: Millis) {
        for QuotaExceeded { path, resource, hard, limit, value } in all {
            if self.is_time_for(path, now) {
                tracing::warn!(%path, ?resource, hard, limit, value, "a write went over a quota");
            }
        }
    }

    fn is_time_for(&mut self, path: &str, now: Millis) -> bool {
        if let Some(&told) = self.told.get(path)
            && now.saturating_sub(told) < QUOTA_PAUSE_MS
        {
            return false;
        }
        if self.told.len() >= QUOTAS {
            self.told.retain(|_, &mut told| now.saturating_sub(told) < QUOTA_PAUSE_MS);
        }
        if self.told.len() >= QUOTAS {
            return false;
        }
        self.told.insert(path.into(), now);
        true
    }
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
        ConnectionEnd::LeaseOver => {
            "out of touch with a majority of servers for too long; the client may find one that is not"
        }
        ConnectionEnd::ReadOnlyOver => {
            "read-only, and there is a majority again: the client can have a real session"
        }
        ConnectionEnd::SnapshotInstalled => "a snapshot replaced this server's state; the client comes again",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_spoken_of_once_a_minute_and_a_flood_of_them_is_bounded() {
        let mut log = QuotaLog::default();
        let times = [0, 1, 59_999, 60_000, 60_001].map(|now| log.is_time_for("/a", now));
        assert_eq!(times, [true, false, false, true, false]);
        let told = (0..5_000).filter(|i| log.is_time_for(&format!("/n{i}"), 60_001)).count();
        assert_eq!(told, QUOTAS - 1);
        assert!(log.is_time_for("/b", 120_001));
    }
}

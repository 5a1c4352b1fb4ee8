//! A session is not ended before its timeout when its client was heard, and when a client is told that its session
//! has expired, it has. An ended session is not served any longer than the serving lease allows.

use std::collections::BTreeMap;

use ostler_node::SessionEnd;
use ostler_tree::EndCause;
use ostler_types::SessionId;

use crate::Micros;

/// Two clocks differ by this much in a second, at most, and a judge is a bit slower than a leader.
const SLACK_PERCENT: u64 = 1;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    /// When a client was heard last by a server that was in touch with the others after that.
    heard: BTreeMap<SessionId, Micros>,
    ended: BTreeMap<SessionId, (Micros, EndCause)>,
    pub(crate) expired: u64,
}

impl Sessions {
    pub(crate) fn heard(&mut self, session: SessionId, at: Micros) {
        let last = self.heard.entry(session).or_default();
        *last = at.max(*last);
    }

    /// A server has applied the end of a session.
    pub(crate) fn ended(&mut self, end: &SessionEnd, now: Micros) -> Result<(), String> {
        if self.ended.contains_key(&end.session) {
            return Ok(());
        }
        self.ended.insert(end.session, (now, end.cause));
        if end.cause != EndCause::Expired {
            return Ok(());
        }
        self.expired += 1;
        let Some(timeout_ms) = end.timeout_ms else { return Ok(()) };
        let timeout = Micros::from(timeout_ms) * 1_000;
        if let Some(&heard) = self.heard.get(&end.session)
            && now - heard + timeout * SLACK_PERCENT / 100 < timeout
        {
            return Err(format!(
                "session {} of {timeout_ms} ms has expired {} ms after its client was heard",
                end.session,
                (now - heard) / 1_000
            ));
        }
        Ok(())
    }

    /// A client was told that its session has expired.
    pub(crate) fn told_expired(&self, session: SessionId) -> Result<(), String> {
        if self.ended.contains_key(&session) {
            Ok(())
        } else {
            Err(format!("a client was told that session {session} has expired, which it has not"))
        }
    }

    /// A client got an answer in its session, which may be served `lease` longer than it exists.
    pub(crate) fn served(&self, session: SessionId, now: Micros, lease: Micros) -> Result<(), String> {
        match self.ended.get(&session) {
            Some(&(at, EndCause::Expired)) if now > at + lease => {
                Err(format!("session {session} is served {} ms after it has expired", (now - at) / 1_000))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn is_ended(&self, session: SessionId) -> bool {
        self.ended.contains_key(&session)
    }
}

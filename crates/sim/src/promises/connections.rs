//! Connections end only for one of the reasons there are (design, 6c). A server that stays in touch with the others
//! keeps its clients, whatever becomes of the leader.

use std::collections::BTreeMap;

use ostler_node::ConnectionEnd;

use crate::Micros;

/// Longest serving lease, and as long as an election may take on top.
const PATIENCE_US: Micros = 4_000_000;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) closed: BTreeMap<String, u64>,
}

impl Connections {
    /// A server that has stayed, and had nothing to suffer but the end of others, has closed a session's connection.
    pub(crate) fn left_alone(&mut self, end: ConnectionEnd) -> Result<(), String> {
        match end {
            ConnectionEnd::LeaseOver | ConnectionEnd::SnapshotInstalled | ConnectionEnd::Shutdown => {
                Err(format!("a client of a server that stayed has noticed a change of leader: {end:?}"))
            }
            _ => Ok(()),
        }
    }

    /// A server has closed a connection. Nothing has gone wrong with servers or their network since `steady_since`.
    pub(crate) fn closed(
        &mut self,
        end: ConnectionEnd,
        now: Micros,
        steady_since: Micros,
    ) -> Result<(), String> {
        *self.closed.entry(format!("{end:?}")).or_default() += 1;
        match end {
            ConnectionEnd::LeaseOver if now > steady_since + PATIENCE_US => {
                Err("a server that is in touch with the others has closed a connection: its lease is over"
                    .into())
            }
            ConnectionEnd::BadFrame
            | ConnectionEnd::BadHandshake
            | ConnectionEnd::NotReading
            | ConnectionEnd::AuthFailed
            | ConnectionEnd::Throttled => Err(format!("a well-behaved client was closed: {end:?}")),
            _ => Ok(()),
        }
    }
}

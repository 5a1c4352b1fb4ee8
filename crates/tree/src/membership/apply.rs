//! What commands and membership entries do to the membership, to `/zookeeper/config` and to the client that
//! waits.

use std::collections::BTreeMap;

use ostler_types::{ErrorCode, Generation, LogIndex, Perms, Sequence, SessionId, Stat, Zxid};

use super::{Member, Membership, MembershipChange, PendingChange, PendingReconfig, ReconfigRequest};
use crate::outcome::{Change, Ignored, OpResult, Outcome};
use crate::session::LastWrite;
use crate::state::State;
use crate::transaction::{CONFIG_PATH, Requester};

impl State {
    /// The members of the ensemble and the nodes of its log.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Applies a membership entry, which has been begun like any other and consumes no zxid; `server` is the
    /// server id in its context. Returns whether it took effect: raft, too, ignores node 0 and refuses to
    /// remove the last voter.
    ///
    /// A standalone server adopts members before its first membership entry: its own node is not among the
    /// voters otherwise.
    pub fn apply_membership(&mut self, change: MembershipChange, server: Option<u8>) -> bool {
        self.membership.apply(change, server)
    }

    /// Validates a reconfig (semantics, "reconfig") and remembers it.
    pub(crate) fn begin_reconfig(
        &mut self,
        who: Requester<'_>,
        generation: Generation,
        sequence: Sequence,
        request: &ReconfigRequest<'_>,
    ) -> Result<(), ErrorCode> {
        if !self.settings.reconfig_enabled {
            return Err(ErrorCode::ReconfigDisabled);
        }
        let min_voters = if self.settings.standalone_enabled { 2 } else { 1 };
        let target = self.membership.target(request, min_voters)?;
        let config = self.lookup(CONFIG_PATH).ok_or(ErrorCode::NoNode)?;
        if !self.is_allowed(&config, Perms::WRITE, who.auth) {
            return Err(ErrorCode::NoAuth);
        }
        let session = who.session;
        let change = PendingChange::Reconfig { session, generation, sequence, target };
        self.membership.pending = Some(PendingReconfig { begun: self.position.index, change });
        let (zxid, error) = (self.position.zxid, ErrorCode::ReconfigInProgress.code());
        self.consume(session, LastWrite { generation, sequence, zxid, error });
        Ok(())
    }

    pub(crate) fn finish_reconfig(&mut self, begun: LogIndex, changes: Option<&mut Vec<Change>>) -> Outcome {
        if !self.is_pending(begun) {
            return Outcome::Ignored(Ignored::NoSuchReconfig);
        }
        if !self.membership.may_finish() {
            return Outcome::Ignored(Ignored::NotComplete);
        }
        match self.take_pending() {
            Some(PendingChange::Reconfig { session, generation, sequence, target }) => {
                let zxid = self.position.zxid.next();
                self.membership.members = target;
                let (data, stat) = self.put_config(zxid, changes);
                self.answer(session, LastWrite { generation, sequence, zxid, error: 0 });
                self.commit(zxid);
                let result = Ok(OpResult::Config { data: data.into(), stat });
                Outcome::Reconfigured { session, generation, sequence, zxid, result }
            }
            Some(PendingChange::Replace { server, node }) => {
                Outcome::ReplaceEnded { server, node, is_done: true }
            }
            None => Outcome::Ignored(Ignored::NoSuchReconfig),
        }
    }

    pub(crate) fn abandon_reconfig(&mut self, begun: LogIndex, error: ErrorCode) -> Outcome {
        if !self.is_pending(begun) {
            return Outcome::Ignored(Ignored::NoSuchReconfig);
        }
        match self.take_pending() {
            Some(PendingChange::Reconfig { session, generation, sequence, .. }) => {
                let zxid = self.position.zxid.next();
                self.answer(session, LastWrite { generation, sequence, zxid, error: error.code() });
                self.commit(zxid);
                Outcome::Reconfigured { session, generation, sequence, zxid, result: Err(error) }
            }
            Some(PendingChange::Replace { server, node }) => {
                Outcome::ReplaceEnded { server, node, is_done: false }
            }
            None => Outcome::Ignored(Ignored::NoSuchReconfig),
        }
    }

    pub(crate) fn begin_replace(&mut self, server: u8, node: u64) -> Outcome {
        if !self.membership.may_replace(server, node) {
            return Outcome::Ignored(Ignored::NotReplaceable);
        }
        let change = PendingChange::Replace { server, node };
        self.membership.pending = Some(PendingReconfig { begun: self.position.index, change });
        Outcome::ReplaceBegun { server, node }
    }

    pub(crate) fn adopt_members(
        &mut self,
        members: &BTreeMap<u8, Member>,
        changes: Option<&mut Vec<Change>>,
    ) -> Outcome {
        let nodes = |votes| {
            let members = members.values().filter(move |member| member.spec.votes() == votes);
            members.filter_map(|member| member.node).collect()
        };
        let adopted = Membership {
            version: Zxid::ZERO,
            members: members.clone(),
            voters: nodes(true),
            learners: nodes(false),
            pending: None,
        };
        if !self.membership.members.is_empty() || adopted.voters.is_empty() {
            return Outcome::Ignored(Ignored::NotAdopted);
        }
        let zxid = self.position.zxid.next();
        self.membership = adopted;
        self.put_config(zxid, changes);
        self.commit(zxid);
        Outcome::MembersAdopted { zxid }
    }

    /// A new epoch begins; the first one of an ensemble is the version of its founding members.
    pub(crate) fn date_founding(&mut self) {
        if !self.membership.members.is_empty() && self.membership.version == Zxid::ZERO {
            self.put_config(self.position.zxid, None);
        }
    }

    /// Gives the membership its version and writes it into its znode. Returns the data and the Stat of that.
    pub(crate) fn put_config(&mut self, version: Zxid, changes: Option<&mut Vec<Change>>) -> (String, Stat) {
        self.membership.version = version;
        let text = self.membership.config_text();
        let mut transaction = self.transaction(changes);
        transaction.zxid = version;
        let stat = transaction.set_config(&text);
        (text, stat)
    }

    fn is_pending(&self, begun: LogIndex) -> bool {
        self.membership.pending.as_ref().is_some_and(|pending| pending.begun == begun)
    }

    fn take_pending(&mut self) -> Option<PendingChange> {
        self.membership.pending.take().map(|pending| pending.change)
    }

    /// The pending reconfig ends like `write`, unless its session has written since.
    fn answer(&mut self, session: SessionId, write: LastWrite) {
        self.sessions.update(session, |row| {
            let number = row.last_write.map(|last| (last.generation, last.sequence));
            if number == Some((write.generation, write.sequence)) {
                row.last_write = Some(write);
            }
        });
    }
}

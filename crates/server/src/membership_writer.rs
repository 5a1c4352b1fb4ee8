//! Keeps the configuration files true to the replicated membership, on a thread of its own: what it writes is synced,
//! and nobody must wait for that.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};

use ostler_tree::{Member, Membership, PendingChange};
use ostler_types::member::ServerSpec;
use ostler_types::{LogIndex, Zxid};

use crate::config::{MembershipFiles, ServerConfig};

/// What the files shall say.
#[derive(Debug, PartialEq, Eq)]
enum Job {
    /// These members are proposed.
    Propose(BTreeMap<u8, ServerSpec>, Zxid),
    /// These are the members, and nothing is proposed.
    Commit(BTreeMap<u8, ServerSpec>, Zxid),
}

/// Notices what there is to write. Used by the thread that applies the log.
#[derive(Debug)]
pub(crate) struct MembershipWatch {
    server_id: u8,
    /// None if there is nothing to write to.
    jobs: Option<Sender<Job>>,
    /// The version the files have.
    written: Zxid,
    /// Whether the server lines are in a file of their own already.
    is_split: bool,
    /// The proposed change that the files have.
    proposed: Option<LogIndex>,
    /// Version, pending change and number of nodes as last seen.
    seen: Option<(Zxid, Option<LogIndex>, usize)>,
}

/// Writes. Runs on its own thread until the watch is dropped.
pub(crate) struct MembershipWriter {
    files: MembershipFiles,
    jobs: Receiver<Job>,
}

/// What follows the membership of this server's state, and, if it has configuration files to keep, what writes them.
pub(crate) fn watch(config: &ServerConfig, server_id: u8) -> (MembershipWatch, Option<MembershipWriter>) {
    let (sender, jobs) = channel();
    let writer = MembershipFiles::of(config).map(|files| MembershipWriter { files, jobs });
    let watch = MembershipWatch {
        server_id,
        jobs: writer.is_some().then_some(sender),
        written: config.ensemble.as_ref().map_or(Zxid::ZERO, |ensemble| ensemble.version),
        is_split: config.ensemble.as_ref().is_some_and(|ensemble| ensemble.dynamic_file.is_some()),
        proposed: None,
        seen: None,
    };
    (watch, writer)
}

impl MembershipWatch {
    /// Looks at the membership as it is now. Returns whether anything about it has changed since the last look.
    pub(crate) fn look(&mut self, membership: &Membership, last_zxid: Zxid) -> bool {
        let pending = membership.pending.as_ref().map(|pending| pending.begun);
        let now = (membership.version, pending, membership.voters.len() + membership.learners.len());
        if self.seen == Some(now) {
            return false;
        }
        self.seen = Some(now);
        self.write(membership, last_zxid);
        true
    }

    fn write(&mut self, membership: &Membership, last_zxid: Zxid) {
        let members = &membership.members;
        // A server that is removed keeps the last configuration it had a place in.
        if self.jobs.is_none() || !members.contains_key(&self.server_id) {
            return;
        }
        if let Some(pending) = &membership.pending
            && let PendingChange::Reconfig { target, .. } = &pending.change
        {
            if self.proposed != Some(pending.begun) {
                self.proposed = Some(pending.begun);
                self.send(Job::Propose(specs(target), last_zxid.next()));
            }
            return;
        }
        // One server alone has nothing to write back until it has grown, as in ZooKeeper.
        let is_new = membership.version > self.written && (members.len() > 1 || self.is_split);
        if is_new || self.proposed.is_some() {
            self.proposed = None;
            self.written = membership.version;
            self.is_split = true;
            self.send(Job::Commit(specs(members), membership.version));
        }
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The writer ends after this.
            let _ = jobs.send(job);
        }
    }
}

fn specs(members: &BTreeMap<u8, Member>) -> BTreeMap<u8, ServerSpec> {
    members.iter().map(|(&server, member)| (server, member.spec.clone())).collect()
}

impl MembershipWriter {
    /// Writes what is asked for until nobody can ask any more.
    pub(crate) fn run(self) {
        for job in self.jobs {
            let (done, version) = match &job {
                Job::Propose(members, version) => (self.files.propose(with_ids(members), *version), version),
                Job::Commit(members, version) => (self.files.commit(with_ids(members), *version), version),
            };
            match (done, &job) {
                (Err(error), _) => tracing::error!(
                    %error,
                    "cannot write the ensemble's membership back to the configuration files: they are out of date until \
                     the next reconfig, or the next start at which they can be written"
                ),
                (Ok(()), Job::Commit(members, _)) => tracing::info!(
                    version = format_args!("{:x}", version.0),
                    members = members.len(),
                    "the configuration files have the ensemble's membership"
                ),
                (Ok(()), Job::Propose(..)) => {}
            }
        }
    }
}

fn with_ids(members: &BTreeMap<u8, ServerSpec>) -> impl Iterator<Item = (u8, &ServerSpec)> {
    members.iter().map(|(&server, spec)| (server, spec))
}

#[cfg(test)]
mod tests {
    use ostler_tree::PendingReconfig;
    use ostler_types::{Generation, Sequence, SessionId};

    use super::*;

    fn members(ids: &[u8]) -> BTreeMap<u8, Member> {
        let member = |id: u8| Member {
            node: Some(id.into()),
            spec: ServerSpec::parse(&format!("h{id}:1:2;3")).unwrap(),
        };
        ids.iter().map(|&id| (id, member(id))).collect()
    }

    fn membership(version: i64, ids: &[u8], target: Option<(u64, &[u8])>) -> Membership {
        let (session, generation, sequence) = (SessionId(1), Generation(1), Sequence(1));
        let pending = target.map(|(begun, ids)| PendingReconfig {
            begun: LogIndex(begun),
            change: PendingChange::Reconfig { session, generation, sequence, target: members(ids) },
        });
        Membership { version: Zxid(version), members: members(ids), pending, ..Membership::default() }
    }

    fn watching(written: i64) -> (MembershipWatch, Receiver<Job>) {
        let (sender, jobs) = channel();
        let watch = MembershipWatch {
            server_id: 1,
            jobs: Some(sender),
            written: Zxid(written),
            is_split: false,
            proposed: None,
            seen: None,
        };
        (watch, jobs)
    }

    #[test]
    fn what_changes_is_written_once() {
        let (mut watch, jobs) = watching(0);
        let mut look = |membership| watch.look(&membership, Zxid(9));
        assert!(look(membership(5, &[1, 2], None)));
        assert!(!look(membership(5, &[1, 2], None)));
        assert!(look(membership(5, &[1, 2], Some((7, &[1, 2, 3])))));
        assert!(look(membership(10, &[1, 2, 3], None)));
        let written: Vec<Job> = jobs.try_iter().collect();
        let expected = [
            Job::Commit(specs(&members(&[1, 2])), Zxid(5)),
            Job::Propose(specs(&members(&[1, 2, 3])), Zxid(10)),
            Job::Commit(specs(&members(&[1, 2, 3])), Zxid(10)),
        ];
        assert_eq!(written, expected);
    }

    #[test]
    fn an_abandoned_proposal_is_taken_back_and_an_old_version_is_not_written() {
        let (mut watch, jobs) = watching(5);
        watch.look(&membership(5, &[1, 2], None), Zxid(9));
        assert_eq!(jobs.try_iter().count(), 0);
        watch.look(&membership(5, &[1, 2], Some((7, &[1]))), Zxid(9));
        watch.look(&membership(5, &[1, 2], None), Zxid(10));
        let last = jobs.try_iter().last();
        assert_eq!(last, Some(Job::Commit(specs(&members(&[1, 2])), Zxid(5))));
    }

    #[test]
    fn neither_a_server_alone_nor_one_removed_writes() {
        let (mut watch, jobs) = watching(0);
        watch.look(&membership(5, &[1], None), Zxid(9));
        watch.look(&membership(6, &[2, 3], None), Zxid(9));
        assert_eq!(jobs.try_iter().count(), 0);
        watch.look(&membership(7, &[1, 2], None), Zxid(9));
        assert_eq!(jobs.try_iter().count(), 1);
    }
}

//! What clients ask for, and what the answers must be.

use ostler_types::{ErrorCode, SessionId, Stat, Zxid};
use ostler_wire::multi::{OpResult, WriteOp};
use ostler_wire::{AclEntry, Create, CreateForm, OpCode, ReplyHeader, Request, Response};

use super::{Armed, Link, PIPELINE, Sent};
use crate::promises::names::Fate;
use crate::world::World;
use crate::{Micros, Scenario};

/// Flags of a create.
const EPHEMERAL: i32 = 1;
const PERSISTENT_SEQUENTIAL: i32 = 2;
/// Where everything is.
const PARENTS: [&str; 3] = ["/seq", "/names", "/ephemerals"];

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Create a parent, which others do too.
    MakeParent(usize),
    /// Create the client's counter.
    MakeCounter { is_retry: bool },
    /// Write a number into it.
    Count { number: u64 },
    /// The same and a sequential znode, in one transaction.
    CountAndNumber { number: u64 },
    /// Create a sequential znode.
    Number,
    /// Create a znode of this name.
    Make { path: String, owner: SessionId },
    /// Delete one that is there.
    Delete { path: String },
    /// Read a counter, and watch it.
    Read { of: usize, watch: bool },
    /// Wait for what everybody has written.
    Sync,
    /// Change who belongs to the ensemble.
    Reconfigure,
    /// End the session.
    Close,
}

/// How far a client is.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Parents that are there.
    parents: usize,
    counter_asked: bool,
    is_made: bool,
    /// Whether a request of the beginning is under way, one at a time.
    is_beginning: bool,
    /// The last number written.
    number: u64,
    /// The last name used.
    name: u64,
    /// Names that are there and may be deleted.
    names: Vec<String>,
}

/// The path of a client's counter.
pub(super) fn counter(of: usize) -> String {
    format!("/c{of}")
}

fn create<'a>(path: &'a str, data: &'a [u8], flags: i32) -> Create<'a> {
    let acl = Some(vec![AclEntry {
        perms: ostler_types::Perms::ALL,
        scheme: Some("world".into()),
        id: Some("anyone".into()),
    }]);
    Create { form: CreateForm::Create, path: path.into(), data: Some(data), acl, flags }
}

impl World {
    /// A client sends what it wants to, as far as there is room.
    pub(super) fn work(&mut self, client: usize) {
        while !self.is_quiet
            && self.clients[client].next_request <= self.now
            && self.clients[client].pending.len() < PIPELINE
            && matches!(self.clients[client].link, Link::Up { .. })
        {
            if self.clients[client].pending.iter().any(|sent| sent.what == What::Close) {
                return;
            }
            if !self.begin(client) && !self.clients[client].work.is_beginning {
                self.go_on(client);
            }
            let pause: Micros = if self.random.chance(8) {
                self.random.between(0, 3_000_000)
            } else {
                self.random.between(0, 60_000)
            };
            self.clients[client].next_request = self.now + pause;
        }
    }

    /// The znodes everything else needs. Returns whether a request for one was sent.
    fn begin(&mut self, client: usize) -> bool {
        let work = &self.clients[client].work;
        if work.is_beginning || work.is_made {
            return false;
        }
        if let Some(path) = PARENTS.get(work.parents) {
            let what = What::MakeParent(work.parents);
            self.clients[client].work.is_beginning = true;
            self.request(client, what, &Request::Create(create(path, b"", 0)));
        } else {
            let is_retry = work.counter_asked;
            (self.clients[client].work.is_beginning, self.clients[client].work.counter_asked) = (true, true);
            self.request(
                client,
                What::MakeCounter { is_retry },
                &Request::Create(create(&counter(client), b"0", 0)),
            );
        }
        true
    }

    fn go_on(&mut self, client: usize) {
        if self.options.scenario == Scenario::Membership && self.random.chance(2) {
            return self.reconfigure(client);
        }
        let kind = self.random.below(100);
        match kind {
            0..25 => {
                let number = self.next_number(client);
                let text = number.to_string();
                let data = Some(text.as_bytes());
                let set = Request::SetData { path: counter(client).into(), data, version: -1 };
                self.request(client, What::Count { number }, &set);
            }
            25..32 => {
                let number = self.next_number(client);
                let text = number.to_string();
                let data = Some(text.as_bytes());
                let ops = vec![
                    WriteOp::SetData { path: counter(client).into(), data, version: -1 },
                    WriteOp::Create(create("/seq/n-", b"", PERSISTENT_SEQUENTIAL)),
                ];
                self.request(client, What::CountAndNumber { number }, &Request::Multi(ops));
            }
            32..40 => {
                let op = create("/seq/n-", b"", PERSISTENT_SEQUENTIAL);
                self.request(client, What::Number, &Request::Create(op));
            }
            40..50 => {
                let path = self.next_name(client, "/names");
                let what = What::Make { path: path.clone(), owner: SessionId::NONE };
                self.request(client, what, &Request::Create(create(&path, b"", 0)));
            }
            50..56 => {
                let owner = self.clients[client].session().unwrap_or(SessionId::NONE);
                let path = self.next_name(client, "/ephemerals");
                let what = What::Make { path: path.clone(), owner };
                self.request(client, what, &Request::Create(create(&path, b"", EPHEMERAL)));
            }
            56..62 => {
                let Some(path) = self.clients[client].work.names.pop() else { return };
                let request = Request::Delete { path: path.clone().into(), version: -1 };
                self.request(client, What::Delete { path: path.clone() }, &request);
            }
            62..90 => {
                let of = self.random.below(self.clients.len() as u64) as usize;
                // One watch at a time on each, so that it is clear what an event is about.
                let is_free = !self.clients[client].watches.contains_key(&of)
                    && !self.clients[client].is_rearming
                    && !self.clients[client].pending.iter().any(
                        |sent| matches!(sent.what, What::Read { of: other, watch: true } if other == of),
                    );
                let watch = is_free && self.random.chance(50);
                let request = Request::GetData { path: counter(of).into(), watch };
                self.request(client, What::Read { of, watch }, &request);
            }
            90..99 => self.request(client, What::Sync, &Request::Sync { path: Some("/".into()) }),
            _ => {
                if self.random.chance(30) {
                    self.request(client, What::Close, &Request::CloseSession);
                }
            }
        }
    }

    /// Somebody joins or leaves; whether that is possible is the servers' affair.
    fn reconfigure(&mut self, client: usize) {
        let id = self.random.below(self.servers.len() as u64) + 1;
        let (joining, leaving) = match self.random.below(5) {
            0..2 => (Some(format!("server.{id}=127.0.0.{id}:2888:3888;2181")), None),
            2 => (Some(format!("server.{id}=127.0.0.{id}:2888:3888:observer;2181")), None),
            _ => (None, Some(id.to_string())),
        };
        self.note(format_args!("c{client} wants {joining:?} in, {leaving:?} out"));
        let request = Request::Reconfig {
            joining: joining.map(Into::into),
            leaving: leaving.map(Into::into),
            new_members: None,
            config_id: -1,
        };
        self.request(client, What::Reconfigure, &request);
    }

    fn next_number(&mut self, client: usize) -> u64 {
        self.clients[client].work.number += 1;
        self.clients[client].work.number
    }

    fn next_name(&mut self, client: usize, parent: &str) -> String {
        self.clients[client].work.name += 1;
        format!("{parent}/{client}-{}", self.clients[client].work.name)
    }

    /// A connection has ended before its answer came: nobody knows what became of a request.
    pub(super) fn unanswered(&mut self, client: usize, what: What) {
        self.outcome.unknown += 1;
        match what {
            What::MakeParent(_) | What::MakeCounter { .. } => self.clients[client].work.is_beginning = false,
            What::Count { .. } => self.promises.counters.lost(client),
            What::CountAndNumber { .. } => {
                self.promises.counters.lost(client);
                self.promises.names.numbered_perhaps();
            }
            What::Number => self.promises.names.numbered_perhaps(),
            What::Make { path, owner } => self.promises.names.set(path, Fate::MaybeMade, owner),
            What::Delete { path } => self.promises.names.set(path, Fate::MaybeDeleted, SessionId::NONE),
            // The event of a watch that was perhaps set comes on that connection only.
            What::Read { .. } | What::Sync => {}
            What::Reconfigure | What::Close => {}
        }
    }

    /// An answer must be one that is possible.
    pub(super) fn answered(
        &mut self,
        client: usize,
        sent: &Sent,
        header: ReplyHeader,
        body: &[u8],
    ) -> Result<(), String> {
        let zxid = header.zxid.0;
        let is_write = !matches!(sent.what, What::Read { .. } | What::Sync);
        if is_write && !matches!(sent.what, What::Close) {
            self.promises.zxids.wrote(client, zxid, sent.floor, self.now)?;
        } else if !is_write {
            let is_strict = sent.what == What::Sync || self.clients[client].is_linearizable;
            let floor = if is_strict { sent.floor } else { sent.stale_floor };
            if zxid < floor {
                return Err(format!(
                    "client {client}: {:?} shows {zxid:#x} although {floor:#x} was acknowledged before",
                    sent.what
                ));
            }
        }
        let decode =
            |op: OpCode| Response::decode(op, body).map_err(|error| format!("client {client}: {error}"));
        let unexpected =
            || Err(format!("client {client}: {:?} is answered with error {}", sent.what, header.err));
        let exists = ErrorCode::NodeExists.code();
        match (&sent.what, header.err) {
            (What::MakeParent(at), err) if err == 0 || err == exists => {
                let work = &mut self.clients[client].work;
                (work.is_beginning, work.parents) = (false, at + 1);
            }
            (What::MakeCounter { is_retry }, err) if err == 0 || (err == exists && *is_retry) => {
                let work = &mut self.clients[client].work;
                (work.is_beginning, work.is_made) = (false, true);
                self.promises.counters.made(client);
            }
            (What::Count { number }, 0) => {
                let Response::Stat { stat } = decode(OpCode::SetData)? else { return unexpected() };
                self.promises.counters.wrote(client, stat.version, *number, zxid)?;
            }
            (What::CountAndNumber { number }, 0) => {
                let Response::Multi { results } = decode(OpCode::Multi)? else { return unexpected() };
                let [OpResult::SetData { stat }, OpResult::Create { path }] = &results[..] else {
                    return Err(format!("client {client}: a multi is answered with {results:?}"));
                };
                self.promises.counters.wrote(client, stat.version, *number, zxid)?;
                self.promises.names.numbered(path, zxid)?;
            }
            (What::Number, 0) => {
                let Response::Path { path } = decode(OpCode::Create)? else { return unexpected() };
                self.promises.names.numbered(&path, zxid)?;
            }
            (What::Make { path, owner }, 0) => {
                self.promises.names.set(path.clone(), Fate::Made, *owner);
                if *owner == SessionId::NONE {
                    self.clients[client].work.names.push(path.clone());
                }
            }
            (What::Delete { path }, 0) => {
                self.promises.names.set(path.clone(), Fate::Deleted, SessionId::NONE);
            }
            (What::Read { of, watch }, 0) => {
                let Response::DataAndStat { data, stat } = decode(OpCode::GetData)? else {
                    return unexpected();
                };
                self.counter_read(client, *of, *watch, &data.unwrap_or_default(), &stat, header.zxid)?;
            }
            (What::Read { of, .. }, err)
                if err == ErrorCode::NoNode.code() && !self.promises.counters.is_made(*of) => {}
            // Made meanwhile, as far as this client may know.
            (What::Read { .. }, err) if err == ErrorCode::NoNode.code() && sent.stale_floor == 0 => {}
            (What::Read { of, .. }, err) if err == ErrorCode::NoNode.code() && *of != client => {
                self.outcome.late_counters += 1;
            }
            (What::Sync, 0) => {}
            (What::Reconfigure, 0) => self.outcome.reconfigs += 1,
            (What::Reconfigure, err) => self.note(format_args!("c{client}: no reconfig, error {err}")),
            (What::Close, 0) => {
                self.clients[client].session = None;
                self.forget_watches(client);
            }
            _ => return unexpected(),
        }
        Ok(())
    }

    fn counter_read(
        &mut self,
        client: usize,
        of: usize,
        watch: bool,
        data: &[u8],
        stat: &Stat,
        zxid: Zxid,
    ) -> Result<(), String> {
        if stat.mzxid > zxid {
            return Err(format!("client {client} is shown a change of {} at {zxid}", stat.mzxid));
        }
        let number = std::str::from_utf8(data).ok().and_then(|text| text.parse().ok());
        let Some(number) = number else {
            return Err(format!("client {client} reads {data:?} from a counter"));
        };
        self.promises.counters.saw(of, stat.version, number, stat.mzxid.0)?;
        if of == client {
            self.promises.counters.read_own(client, stat.version)?;
        }
        if watch {
            self.clients[client].watches.insert(of, Armed { since: zxid.0, until: zxid.0 });
        }
        Ok(())
    }
}

//! The records of a snapshot (`docs/log-and-snapshot.md`). Numbers are big-endian.

use std::collections::{BTreeMap, BTreeSet};

use ostler_types::member::ServerSpec;
use ostler_types::{Acl, Generation, LogIndex, Perms, Sequence, SessionId, Term, Zxid};

use crate::acl::AclId;
use crate::membership::{Member, Membership, PendingChange, PendingReconfig};
use crate::nodes::{Meta, Node, NodeId, Owner};
use crate::session::{Lane, LastWrite, Session};
use crate::settings::Settings;
use crate::state::{Position, TreeDigest};

/// What a record holds: its second field, after the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Header = 1,
    Settings = 2,
    Lane = 3,
    Session = 4,
    TreeDigests = 5,
    Acl = 6,
    Znode = 7,
    Footer = 8,
    Membership = 9,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Header,
        Kind::Settings,
        Kind::Lane,
        Kind::Session,
        Kind::TreeDigests,
        Kind::Acl,
        Kind::Znode,
        Kind::Footer,
        Kind::Membership,
    ];

    pub(super) fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|&kind| kind as u8 == code)
    }

    /// Whether records of this kind can be read in `version`.
    pub(super) fn has_version(self, version: u8) -> bool {
        version == VERSION || (self == Kind::Settings && version == SETTINGS_WITH_STANDALONE)
    }
}

/// The version of every kind of record but settings, which know a second.
const VERSION: u8 = 1;
/// Settings that begin with standaloneEnabled. Written only if that is off, so that older software reads what
/// it can.
const SETTINGS_WITH_STANDALONE: u8 = 2;

/// Bytes before a record's payload: length (4), kind, version.
pub(super) const PREFIX: usize = 6;

/// "No parent": the root's.
const NO_PARENT: u32 = u32::MAX;

/// A znode as a record has it.
#[derive(Debug)]
pub(super) struct ZnodeRecord<'a> {
    pub(super) id: u32,
    pub(super) parent: Option<u32>,
    pub(super) meta: Meta,
    pub(super) name: &'a str,
    pub(super) data: Option<&'a [u8]>,
}

/// What must come out of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) znodes: u64,
    pub(super) sessions: u64,
    pub(super) agreement_digest: u64,
    pub(super) tree_digest: u64,
}

pub(super) fn put_header(out: &mut Vec<u8>, position: &Position) {
    let &Position { term, index, zxid, time_ms } = position;
    record(out, Kind::Header, |out| {
        put_u64(out, term.0);
        put_u64(out, index.0);
        put_i64(out, zxid.0);
        put_i64(out, time_ms);
    });
}

pub(super) fn header(payload: &[u8]) -> Option<Position> {
    decode(payload, |fields| {
        Some(Position {
            term: Term(fields.u64()?),
            index: LogIndex(fields.u64()?),
            zxid: Zxid(fields.i64()?),
            time_ms: fields.i64()?,
        })
    })
}

pub(super) fn put_settings(out: &mut Vec<u8>, settings: &Settings) {
    let &Settings {
        skip_acl,
        enforce_quota,
        extended_types_enabled,
        digest_enabled,
        reconfig_enabled,
        standalone_enabled,
        container_max_never_used_ms,
        feature_level,
    } = settings;
    let version = if standalone_enabled { VERSION } else { SETTINGS_WITH_STANDALONE };
    versioned_record(out, Kind::Settings, version, |out| {
        if !standalone_enabled {
            out.push(u8::from(standalone_enabled));
        }
        for flag in [skip_acl, enforce_quota, extended_types_enabled, digest_enabled, reconfig_enabled] {
            out.push(u8::from(flag));
        }
        put_i64(out, container_max_never_used_ms);
        put_u32(out, feature_level);
    });
}

pub(super) fn settings(payload: &[u8], version: u8) -> Option<Settings> {
    decode(payload, |fields| {
        Some(Settings {
            standalone_enabled: if version == SETTINGS_WITH_STANDALONE { fields.bool()? } else { true },
            skip_acl: fields.bool()?,
            enforce_quota: fields.bool()?,
            extended_types_enabled: fields.bool()?,
            digest_enabled: fields.bool()?,
            reconfig_enabled: fields.bool()?,
            container_max_never_used_ms: fields.i64()?,
            feature_level: fields.u32()?,
        })
    })
}

pub(super) fn put_lane(out: &mut Vec<u8>, server: u8, lane: Lane) {
    record(out, Kind::Lane, |out| {
        out.push(server);
        put_u32(out, lane.boot);
        put_u64(out, lane.last);
    });
}

pub(super) fn lane(payload: &[u8]) -> Option<(u8, Lane)> {
    decode(payload, |fields| Some((fields.u8()?, Lane { boot: fields.u32()?, last: fields.u64()? })))
}

/// Nothing for a standalone server, so that older software can read its snapshots.
pub(super) fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    if *membership != Membership::default() {
        record(out, Kind::Membership, |out| encode_membership(out, membership));
    }
}

/// The payload. The agreement digest is computed from it, so it must not change: another layout is for
/// snapshots alone.
pub(crate) fn encode_membership(out: &mut Vec<u8>, membership: &Membership) {
    let Membership { version, members, voters, learners, pending } = membership;
    put_i64(out, version.0);
    put_members(out, members);
    put_nodes(out, voters);
    put_nodes(out, learners);
    let Some(PendingReconfig { begun, change }) = pending else { return out.push(0) };
    match change {
        PendingChange::Reconfig { session, generation, sequence, target } => {
            out.push(1);
            put_u64(out, begun.0);
            put_i64(out, session.0);
            put_u64(out, generation.0);
            put_u64(out, sequence.0);
            put_members(out, target);
        }
        PendingChange::Replace { server, node } => {
            out.push(2);
            put_u64(out, begun.0);
            out.push(*server);
            put_u64(out, *node);
        }
    }
}

pub(super) fn membership(payload: &[u8]) -> Option<Membership> {
    decode(payload, |fields| {
        let version = Zxid(fields.i64()?);
        let members = members(fields)?;
        let voters = nodes(fields)?;
        let learners = nodes(fields)?;
        let kind = fields.u8()?;
        let pending = if kind == 0 {
            None
        } else {
            let begun = LogIndex(fields.u64()?);
            let change = match kind {
                1 => PendingChange::Reconfig {
                    session: SessionId(fields.i64()?),
                    generation: Generation(fields.u64()?),
                    sequence: Sequence(fields.u64()?),
                    target: self::members(fields)?,
                },
                2 => PendingChange::Replace { server: fields.u8()?, node: fields.u64()? },
                _ => return None,
            };
            Some(PendingReconfig { begun, change })
        };
        voters.is_disjoint(&learners).then_some(Membership { version, members, voters, learners, pending })
    })
}

fn put_members(out: &mut Vec<u8>, members: &BTreeMap<u8, Member>) {
    put_u32(out, members.len() as u32);
    for (&server, Member { node, spec }) in members {
        out.push(server);
        // No disk has node id 0.
        put_u64(out, node.unwrap_or(0));
        put_str(out, &spec.to_string());
    }
}

fn members(fields: &mut Fields<'_>) -> Option<BTreeMap<u8, Member>> {
    let mut members = BTreeMap::new();
    for _ in 0..fields.u32()? {
        let server = fields.u8()?;
        let node = Some(fields.u64()?).filter(|&node| node != 0);
        let member = Member { node, spec: ServerSpec::parse(fields.str()?)? };
        if members.insert(server, member).is_some() {
            return None;
        }
    }
    Some(members)
}

fn put_nodes(out: &mut Vec<u8>, nodes: &BTreeSet<u64>) {
    put_u32(out, nodes.len() as u32);
    for &node in nodes {
        put_u64(out, node);
    }
}

fn nodes(fields: &mut Fields<'_>) -> Option<BTreeSet<u64>> {
    let mut nodes = BTreeSet::new();
    for _ in 0..fields.u32()? {
        if !nodes.insert(fields.u64()?) {
            return None;
        }
    }
    Some(nodes)
}

pub(super) fn put_session(out: &mut Vec<u8>, id: SessionId, row: &Session) {
    let Session { timeout_ms, secret_hash, server, generation, sequence, last_write } = row;
    record(out, Kind::Session, |out| {
        put_i64(out, id.0);
        put_u32(out, *timeout_ms);
        out.extend_from_slice(secret_hash);
        out.push(*server);
        put_u64(out, generation.0);
        put_u64(out, sequence.0);
        out.push(u8::from(last_write.is_some()));
        if let Some(LastWrite { generation, sequence, zxid, error }) = last_write {
            put_u64(out, generation.0);
            put_u64(out, sequence.0);
            put_i64(out, zxid.0);
            put_i32(out, *error);
        }
    });
}

pub(super) fn session(payload: &[u8]) -> Option<(SessionId, Session)> {
    decode(payload, |fields| {
        let id = SessionId(fields.i64()?);
        let mut row = Session {
            timeout_ms: fields.u32()?,
            secret_hash: fields.take(32)?.try_into().ok()?,
            server: fields.u8()?,
            generation: Generation(fields.u64()?),
            sequence: Sequence(fields.u64()?),
            last_write: None,
        };
        if fields.bool()? {
            row.last_write = Some(LastWrite {
                generation: Generation(fields.u64()?),
                sequence: Sequence(fields.u64()?),
                zxid: Zxid(fields.i64()?),
                error: fields.i32()?,
            });
        }
        Some((id, row))
    })
}

pub(super) fn put_tree_digests<'d>(out: &mut Vec<u8>, digests: impl Iterator<Item = &'d TreeDigest>) {
    record(out, Kind::TreeDigests, |out| {
        for &TreeDigest { zxid, version, digest } in digests {
            put_i64(out, zxid.0);
            put_i32(out, version);
            put_u64(out, digest);
        }
    });
}

pub(super) fn tree_digests(payload: &[u8]) -> Option<Vec<TreeDigest>> {
    decode(payload, |fields| {
        let mut digests = Vec::new();
        while !fields.0.is_empty() {
            digests.push(TreeDigest {
                zxid: Zxid(fields.i64()?),
                version: fields.i32()?,
                digest: fields.u64()?,
            });
        }
        Some(digests)
    })
}

pub(super) fn put_acl(out: &mut Vec<u8>, id: AclId, list: &[Acl]) {
    record(out, Kind::Acl, |out| {
        put_u32(out, id.0);
        for entry in list {
            put_i32(out, entry.perms.0);
            put_str(out, &entry.id.scheme);
            put_str(out, &entry.id.id);
        }
    });
}

pub(super) fn acl(payload: &[u8]) -> Option<(u32, Vec<Acl>)> {
    decode(payload, |fields| {
        let id = fields.u32()?;
        let mut list = Vec::new();
        while !fields.0.is_empty() {
            list.push(Acl::new(Perms(fields.i32()?), fields.str()?, fields.str()?));
        }
        Some((id, list))
    })
}

pub(super) fn put_znode(out: &mut Vec<u8>, id: NodeId, node: &Node) {
    let Meta { czxid, mzxid, pzxid, ctime, mtime, version, cversion, aversion, owner, acl } = node.meta;
    record(out, Kind::Znode, |out| {
        put_u32(out, id.0);
        put_u32(out, node.parent().map_or(NO_PARENT, |parent| parent.0));
        put_u32(out, acl.0);
        let (tag, value) = match owner {
            Owner::Persistent => (0, 0),
            Owner::Ephemeral(session) => (1, session.0),
            Owner::Container => (2, 0),
            Owner::Ttl(ttl_ms) => (3, ttl_ms),
        };
        out.push(tag);
        put_i64(out, value);
        for zxid in [czxid, mzxid, pzxid] {
            put_i64(out, zxid.0);
        }
        put_i64(out, ctime);
        put_i64(out, mtime);
        put_i32(out, version);
        put_i32(out, cversion);
        put_i32(out, aversion);
        put_str(out, &node.name);
        out.push(u8::from(node.data.is_some()));
        out.extend_from_slice(node.data.as_deref().unwrap_or_default());
    });
}

pub(super) fn znode(payload: &[u8]) -> Option<ZnodeRecord<'_>> {
    decode(payload, |fields| {
        let id = fields.u32()?;
        let parent = Some(fields.u32()?).filter(|&parent| parent != NO_PARENT);
        let acl = AclId(fields.u32()?);
        let owner = match (fields.u8()?, fields.i64()?) {
            (0, 0) => Owner::Persistent,
            (1, session) => Owner::Ephemeral(SessionId(session)),
            (2, 0) => Owner::Container,
            (3, ttl_ms) => Owner::Ttl(ttl_ms),
            _ => return None,
        };
        let meta = Meta {
            czxid: Zxid(fields.i64()?),
            mzxid: Zxid(fields.i64()?),
            pzxid: Zxid(fields.i64()?),
            ctime: fields.i64()?,
            mtime: fields.i64()?,
            version: fields.i32()?,
            cversion: fields.i32()?,
            aversion: fields.i32()?,
            owner,
            acl,
        };
        let name = fields.str()?;
        let data = if fields.bool()? {
            let data = fields.0;
            fields.0 = &[];
            Some(data)
        } else {
            None
        };
        Some(ZnodeRecord { id, parent, meta, name, data })
    })
}

pub(super) fn put_footer(out: &mut Vec<u8>, footer: &Footer) {
    record(out, Kind::Footer, |out| {
        put_u64(out, footer.znodes);
        put_u64(out, footer.sessions);
        put_u64(out, footer.agreement_digest);
        put_u64(out, footer.tree_digest);
    });
}

pub(super) fn footer(payload: &[u8]) -> Option<Footer> {
    decode(payload, |fields| {
        Some(Footer {
            znodes: fields.u64()?,
            sessions: fields.u64()?,
            agreement_digest: fields.u64()?,
            tree_digest: fields.u64()?,
        })
    })
}

fn record(out: &mut Vec<u8>, kind: Kind, payload: impl FnOnce(&mut Vec<u8>)) {
    versioned_record(out, kind, VERSION, payload);
}

fn versioned_record(out: &mut Vec<u8>, kind: Kind, version: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind as u8, version]);
    payload(out);
    let length = u32::try_from(out.len() - start - 4).expect("a request is below 2 GiB, and so is its znode");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_i32(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    put_u32(out, u32::try_from(text.len()).expect("a request is below 2 GiB, and so are its strings"));
    out.extend_from_slice(text.as_bytes());
}

/// Decodes a whole payload: too few bytes, too many, or a value that cannot be, are nothing.
fn decode<'a, T>(payload: &'a [u8], read: impl FnOnce(&mut Fields<'a>) -> Option<T>) -> Option<T> {
    let mut fields = Fields(payload);
    read(&mut fields).filter(|_| fields.0.is_empty())
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn str(&mut self) -> Option<&'a str> {
        let length = self.u32()?;
        std::str::from_utf8(self.take(usize::try_from(length).ok()?)?).ok()
    }
}

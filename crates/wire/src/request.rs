//! Request bodies (protocol, "Records exchanged with clients" and "Opcodes").

use std::borrow::Cow;

use ostler_types::{AddWatchMode, NodeKind, Perms, WatcherKind, Xid, Zxid};

use crate::frame;
use crate::header::RequestHeader;
use crate::jute::{DecodeError, Limits, Reader, Result, Writer};
use crate::multi::{ReadOp, WriteOp};
use crate::opcode::OpCode;

/// One entry of an ACL vector, as sent. A null scheme or id is legal here and an `INVALIDACL` later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclEntry<'a> {
    /// What is allowed.
    pub perms: Perms,
    /// `world`, `auth`, `digest`, ...
    pub scheme: Option<Cow<'a, str>>,
    /// To whom.
    pub id: Option<Cow<'a, str>>,
}

impl<'a> AclEntry<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self> {
        Ok(AclEntry {
            perms: Perms(reader.int()?),
            scheme: reader.nullable_string()?,
            id: reader.nullable_string()?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.int(self.perms.0);
        writer.nullable_string(self.scheme.as_deref());
        writer.nullable_string(self.id.as_deref());
    }
}

impl<'a> From<&'a ostler_types::Acl> for AclEntry<'a> {
    fn from(acl: &'a ostler_types::Acl) -> Self {
        AclEntry {
            perms: acl.perms,
            scheme: Some(Cow::Borrowed(&acl.id.scheme)),
            id: Some(Cow::Borrowed(&acl.id.id)),
        }
    }
}

/// Which of the four create operations was sent. It, not the flags, decides what kind of znode is stored and
/// what the answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateForm {
    /// `create`: answered with the path alone.
    Create,
    /// `create2`.
    Create2,
    /// `createContainer`.
    Container,
    /// `createTTL`, with the time to live in milliseconds as sent.
    Ttl(i64),
}

impl CreateForm {
    /// The operation that is sent.
    pub fn op(self) -> OpCode {
        match self {
            CreateForm::Create => OpCode::Create,
            CreateForm::Create2 => OpCode::Create2,
            CreateForm::Container => OpCode::CreateContainer,
            CreateForm::Ttl(_) => OpCode::CreateTtl,
        }
    }

    /// The kind of znode to store.
    pub fn kind(self) -> NodeKind {
        match self {
            CreateForm::Create | CreateForm::Create2 => NodeKind::Plain,
            CreateForm::Container => NodeKind::Container,
            CreateForm::Ttl(ttl_ms) => NodeKind::Ttl(ttl_ms),
        }
    }

    /// Whether the answer holds the Stat besides the path.
    pub fn returns_stat(self) -> bool {
        self != CreateForm::Create
    }
}

/// A create of any form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create<'a> {
    /// Which operation.
    pub form: CreateForm,
    /// Where; a prefix if the mode is sequential. Not validated.
    pub path: Cow<'a, str>,
    /// The data; null is stored as null.
    pub data: Option<&'a [u8]>,
    /// Who may do what; null is an `INVALIDACL`.
    pub acl: Option<Vec<AclEntry<'a>>>,
    /// As sent; see [`CreateMode::from_flags`](ostler_types::CreateMode::from_flags).
    pub flags: i32,
}

impl<'a> Create<'a> {
    /// The body of operation `op`, which is one of the four creates.
    pub(crate) fn decode(form: CreateForm, reader: &mut Reader<'a>) -> Result<Self> {
        let mut create = Create {
            form,
            path: reader.string()?,
            data: reader.buffer()?,
            acl: reader.nullable_vector(AclEntry::decode)?,
            flags: reader.int()?,
        };
        if let CreateForm::Ttl(ttl_ms) = &mut create.form {
            *ttl_ms = reader.long()?;
        }
        Ok(create)
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        writer.string(&self.path);
        writer.nullable_buffer(self.data);
        write_acl(writer, self.acl.as_deref());
        writer.int(self.flags);
        if let CreateForm::Ttl(ttl_ms) = self.form {
            writer.long(ttl_ms);
        }
    }
}

fn write_acl(writer: &mut Writer<'_>, acl: Option<&[AclEntry<'_>]>) {
    match acl {
        Some(acl) => writer.vector(acl, |writer, entry| entry.write(writer)),
        None => writer.null_vector(),
    }
}

/// A request's body, one variant per record. Strings borrow from the frame unless they held invalid UTF-8.
///
/// `version` fields expect that version of the znode, or any if they are -1. Paths are not validated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named as in the protocol's records")]
pub enum Request<'a> {
    /// Any of the four creates.
    Create(Create<'a>),
    /// Delete a znode.
    Delete { path: Cow<'a, str>, version: i32 },
    /// Stat of a znode; `watch` also for its creation if it is missing.
    Exists { path: Cow<'a, str>, watch: bool },
    /// Data and Stat.
    GetData { path: Cow<'a, str>, watch: bool },
    /// Replace the data.
    SetData { path: Cow<'a, str>, data: Option<&'a [u8]>, version: i32 },
    /// ACL and Stat.
    GetAcl { path: Cow<'a, str> },
    /// Replace the ACL; `version` is the ACL's.
    SetAcl { path: Cow<'a, str>, acl: Option<Vec<AclEntry<'a>>>, version: i32 },
    /// Names of the children.
    GetChildren { path: Cow<'a, str>, watch: bool },
    /// Catch up with the leader.
    /// The path is only returned, so it may be null.
    Sync { path: Option<Cow<'a, str>> },
    /// Heartbeat.
    Ping,
    /// Names of the children, and Stat.
    GetChildren2 { path: Cow<'a, str>, watch: bool },
    /// A version check on its own, which is not implemented: its body is not looked at.
    Check,
    /// Several writes, all or none.
    Multi(Vec<WriteOp<'a>>),
    /// Change the membership, by difference or to `new_members`.
    Reconfig {
        joining: Option<Cow<'a, str>>,
        leaving: Option<Cow<'a, str>>,
        new_members: Option<Cow<'a, str>>,
        config_id: i64,
    },
    /// Is there such a watch?
    CheckWatches { path: Cow<'a, str>, kind: WatcherKind },
    /// Remove watches.
    RemoveWatches { path: Cow<'a, str>, kind: WatcherKind },
    /// For servers among themselves; from a client the body is not looked at.
    DeleteContainer,
    /// Several reads.
    MultiRead(Vec<ReadOp<'a>>),
    /// Add an identity to the connection. The record's leading `type` is ignored and sent as 0.
    Auth { scheme: Option<Cow<'a, str>>, auth: Option<&'a [u8]> },
    /// Re-register one-shot watches after a reconnect.
    SetWatches(SetWatches<'a>),
    /// One step of a SASL exchange.
    Sasl { token: Option<&'a [u8]> },
    /// Ephemeral znodes of this session below a prefix; null is all.
    GetEphemerals { prefix: Option<Cow<'a, str>> },
    /// Number of all descendants.
    GetAllChildrenNumber { path: Cow<'a, str> },
    /// Re-register watches, persistent ones included, after a reconnect.
    SetWatches2 {
        one_shot: SetWatches<'a>,
        persistent: Vec<Cow<'a, str>>,
        persistent_recursive: Vec<Cow<'a, str>>,
    },
    /// Set a persistent watch.
    AddWatch { path: Cow<'a, str>, mode: AddWatchMode },
    /// Identities of this connection.
    WhoAmI,
    /// For servers among themselves; from a client the body is not looked at.
    CreateSession,
    /// End the session.
    CloseSession,
}

/// The watches a client had before it reconnected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetWatches<'a> {
    /// The newest transaction it had seen: what is newer is sent as an event.
    pub relative_zxid: Zxid,
    /// From getData, and from exists on existing znodes.
    pub data: Vec<Cow<'a, str>>,
    /// From exists on missing znodes.
    pub exist: Vec<Cow<'a, str>>,
    /// From getChildren.
    pub child: Vec<Cow<'a, str>>,
}

impl<'a> SetWatches<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self> {
        Ok(SetWatches {
            relative_zxid: Zxid(reader.long()?),
            data: reader.vector(Reader::string)?,
            exist: reader.vector(Reader::string)?,
            child: reader.vector(Reader::string)?,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) {
        writer.long(self.relative_zxid.0);
        for paths in [&self.data, &self.exist, &self.child] {
            write_paths(writer, paths);
        }
    }
}

fn write_paths(writer: &mut Writer<'_>, paths: &[Cow<'_, str>]) {
    writer.vector(paths, |writer, path| writer.string(path));
}

impl<'a> Request<'a> {
    /// Decodes the body of a request for `op`. What follows the last field is ignored.
    ///
    /// # Errors
    /// [`DecodeError`], to be answered with `MARSHALLINGERROR`. Beside malformed bytes that is: a null path; a
    /// null vector or path in setWatches; a watch mode or watcher type outside its list; and what
    /// [`multi`](crate::multi) forbids.
    pub fn decode(op: OpCode, body: &'a [u8], limits: Limits) -> Result<Request<'a>> {
        let reader = &mut Reader::new(body, limits);
        Ok(match op {
            OpCode::Create => Request::Create(Create::decode(CreateForm::Create, reader)?),
            OpCode::Create2 => Request::Create(Create::decode(CreateForm::Create2, reader)?),
            OpCode::CreateContainer => Request::Create(Create::decode(CreateForm::Container, reader)?),
            OpCode::CreateTtl => Request::Create(Create::decode(CreateForm::Ttl(0), reader)?),
            OpCode::Delete => Request::Delete { path: reader.string()?, version: reader.int()? },
            OpCode::Exists => Request::Exists { path: reader.string()?, watch: reader.boolean()? },
            OpCode::GetData => Request::GetData { path: reader.string()?, watch: reader.boolean()? },
            OpCode::SetData => {
                Request::SetData { path: reader.string()?, data: reader.buffer()?, version: reader.int()? }
            }
            OpCode::GetAcl => Request::GetAcl { path: reader.string()? },
            OpCode::SetAcl => Request::SetAcl {
                path: reader.string()?,
                acl: reader.nullable_vector(AclEntry::decode)?,
                version: reader.int()?,
            },
            OpCode::GetChildren => Request::GetChildren { path: reader.string()?, watch: reader.boolean()? },
            OpCode::Sync => Request::Sync { path: reader.nullable_string()? },
            OpCode::Ping => Request::Ping,
            OpCode::GetChildren2 => {
                Request::GetChildren2 { path: reader.string()?, watch: reader.boolean()? }
            }
            OpCode::Check => Request::Check,
            OpCode::Multi => Request::Multi(crate::multi::decode_writes(reader)?),
            OpCode::Reconfig => Request::Reconfig {
                joining: reader.nullable_string()?,
                leaving: reader.nullable_string()?,
                new_members: reader.nullable_string()?,
                config_id: reader.long()?,
            },
            OpCode::CheckWatches => {
                Request::CheckWatches { path: reader.string()?, kind: watcher_kind(reader)? }
            }
            OpCode::RemoveWatches => {
                Request::RemoveWatches { path: reader.string()?, kind: watcher_kind(reader)? }
            }
            OpCode::DeleteContainer => Request::DeleteContainer,
            OpCode::MultiRead => Request::MultiRead(crate::multi::decode_reads(reader)?),
            OpCode::Auth => {
                let _type = reader.int()?;
                Request::Auth { scheme: reader.nullable_string()?, auth: reader.buffer()? }
            }
            OpCode::SetWatches => Request::SetWatches(SetWatches::decode(reader)?),
            OpCode::Sasl => Request::Sasl { token: reader.buffer()? },
            OpCode::GetEphemerals => Request::GetEphemerals { prefix: reader.nullable_string()? },
            OpCode::GetAllChildrenNumber => Request::GetAllChildrenNumber { path: reader.string()? },
            OpCode::SetWatches2 => Request::SetWatches2 {
                one_shot: SetWatches::decode(reader)?,
                persistent: reader.vector(Reader::string)?,
                persistent_recursive: reader.vector(Reader::string)?,
            },
            OpCode::AddWatch => {
                let path = reader.string()?;
                let mode = reader.int()?;
                let mode = AddWatchMode::from_code(mode)
                    .ok_or(DecodeError::UnknownValue { field: "watch mode", value: mode })?;
                Request::AddWatch { path, mode }
            }
            OpCode::WhoAmI => Request::WhoAmI,
            OpCode::CreateSession => Request::CreateSession,
            OpCode::CloseSession => Request::CloseSession,
        })
    }

    /// The operation to send this as.
    pub fn op(&self) -> OpCode {
        match self {
            Request::Create(create) => create.form.op(),
            Request::Delete { .. } => OpCode::Delete,
            Request::Exists { .. } => OpCode::Exists,
            Request::GetData { .. } => OpCode::GetData,
            Request::SetData { .. } => OpCode::SetData,
            Request::GetAcl { .. } => OpCode::GetAcl,
            Request::SetAcl { .. } => OpCode::SetAcl,
            Request::GetChildren { .. } => OpCode::GetChildren,
            Request::Sync { .. } => OpCode::Sync,
            Request::Ping => OpCode::Ping,
            Request::GetChildren2 { .. } => OpCode::GetChildren2,
            Request::Check => OpCode::Check,
            Request::Multi(_) => OpCode::Multi,
            Request::Reconfig { .. } => OpCode::Reconfig,
            Request::CheckWatches { .. } => OpCode::CheckWatches,
            Request::RemoveWatches { .. } => OpCode::RemoveWatches,
            Request::DeleteContainer => OpCode::DeleteContainer,
            Request::MultiRead(_) => OpCode::MultiRead,
            Request::Auth { .. } => OpCode::Auth,
            Request::SetWatches(_) => OpCode::SetWatches,
            Request::Sasl { .. } => OpCode::Sasl,
            Request::GetEphemerals { .. } => OpCode::GetEphemerals,
            Request::GetAllChildrenNumber { .. } => OpCode::GetAllChildrenNumber,
            Request::SetWatches2 { .. } => OpCode::SetWatches2,
            Request::AddWatch { .. } => OpCode::AddWatch,
            Request::WhoAmI => OpCode::WhoAmI,
            Request::CreateSession => OpCode::CreateSession,
            Request::CloseSession => OpCode::CloseSession,
        }
    }

    /// Appends the frame of this request to `out`.
    pub fn encode(&self, xid: Xid, out: &mut Vec<u8>) {
        frame::write(out, |writer| {
            RequestHeader { xid, op: self.op().code() }.write(writer);
            self.write_body(writer);
        });
    }

    fn write_body(&self, writer: &mut Writer<'_>) {
        match self {
            Request::Create(create) => create.write(writer),
            Request::Delete { path, version } => {
                writer.string(path);
                writer.int(*version);
            }
            Request::Exists { path, watch }
            | Request::GetData { path, watch }
            | Request::GetChildren { path, watch }
            | Request::GetChildren2 { path, watch } => {
                writer.string(path);
                writer.boolean(*watch);
            }
            Request::SetData { path, data, version } => {
                writer.string(path);
                writer.nullable_buffer(*data);
                writer.int(*version);
            }
            Request::SetAcl { path, acl, version } => {
                writer.string(path);
                write_acl(writer, acl.as_deref());
                writer.int(*version);
            }
            Request::Sync { path } => writer.nullable_string(path.as_deref()),
            Request::GetAcl { path } | Request::GetAllChildrenNumber { path } => {
                writer.string(path);
            }
            Request::Multi(ops) => crate::multi::write_writes(writer, ops),
            Request::MultiRead(ops) => crate::multi::write_reads(writer, ops),
            Request::Reconfig { joining, leaving, new_members, config_id } => {
                for members in [joining, leaving, new_members] {
                    writer.nullable_string(members.as_deref());
                }
                writer.long(*config_id);
            }
            Request::CheckWatches { path, kind } | Request::RemoveWatches { path, kind } => {
                writer.string(path);
                writer.int(*kind as i32);
            }
            Request::Auth { scheme, auth } => {
                writer.int(0);
                writer.nullable_string(scheme.as_deref());
                writer.nullable_buffer(*auth);
            }
            Request::SetWatches(watches) => watches.write(writer),
            Request::SetWatches2 { one_shot, persistent, persistent_recursive } => {
                one_shot.write(writer);
                write_paths(writer, persistent);
                write_paths(writer, persistent_recursive);
            }
            Request::Sasl { token } => writer.nullable_buffer(*token),
            Request::GetEphemerals { prefix } => writer.nullable_string(prefix.as_deref()),
            Request::AddWatch { path, mode } => {
                writer.string(path);
                writer.int(*mode as i32);
            }
            Request::Ping
            | Request::WhoAmI
            | Request::CloseSession
            | Request::Check
            | Request::DeleteContainer
            | Request::CreateSession => {}
        }
    }
}

fn watcher_kind(reader: &mut Reader<'_>) -> Result<WatcherKind> {
    let kind = reader.int()?;
    WatcherKind::from_code(kind).ok_or(DecodeError::UnknownValue { field: "watcher type", value: kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(op: OpCode, body: &[u8]) -> Result<Request<'_>> {
        Request::decode(op, body, Limits::default())
    }

    #[test]
    fn bytes_of_a_get_data_request() {
        let mut out = Vec::new();
        Request::GetData { path: "/a".into(), watch: true }.encode(Xid(0x7fff_ffff), &mut out);
        assert_eq!(
            out,
            [
                0, 0, 0, 15, // frame length
                0x7f, 0xff, 0xff, 0xff, // xid
                0, 0, 0, 4, // getData
                0, 0, 0, 2, b'/', b'a', 1,
            ]
        );
    }

    #[test]
    fn bytes_of_a_ttl_create() {
        let mut out = Vec::new();
        Request::Create(Create {
            form: CreateForm::Ttl(0x0102),
            path: "/t".into(),
            data: None,
            acl: Some(vec![AclEntry::from(&ostler_types::open_acl()[0])]),
            flags: 5,
        })
        .encode(Xid(2), &mut out);
        let mut expected = vec![0, 0, 0, 57, 0, 0, 0, 2, 0, 0, 0, 21];
        expected.extend_from_slice(b"\0\0\0\x02/t\xff\xff\xff\xff\0\0\0\x01\0\0\0\x1f\0\0\0\x05world");
        expected.extend_from_slice(b"\0\0\0\x06anyone\0\0\0\x05\0\0\0\0\0\0\x01\x02");
        assert_eq!(out, expected);
    }

    #[test]
    fn null_paths_and_vectors_are_refused() {
        for op in [OpCode::Delete, OpCode::Exists, OpCode::AddWatch, OpCode::Create] {
            assert_eq!(decode(op, &[0xff; 60]), Err(DecodeError::NullString), "{op:?}");
        }
        let null_child_list = [&[0; 16][..], &[0xff; 4]].concat();
        assert_eq!(decode(OpCode::SetWatches, &null_child_list), Err(DecodeError::NullVector));
        let null_path = b"\0\0\0\0\0\0\0\0\0\0\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\0";
        assert_eq!(decode(OpCode::SetWatches, null_path), Err(DecodeError::NullString));
    }

    #[test]
    fn null_acls_are_told_apart() {
        let body = b"\0\0\0\x02/a\xff\xff\xff\xff\0\0\0\0";
        let request = Request::SetAcl { path: "/a".into(), acl: None, version: 0 };
        assert_eq!(decode(OpCode::SetAcl, body), Ok(request));
        let body = b"\0\0\0\x02/a\0\0\0\x01\0\0\0\x1f\xff\xff\xff\xff\0\0\0\x01x\0\0\0\0";
        let entry = AclEntry { perms: Perms::ALL, scheme: None, id: Some("x".into()) };
        let request = Request::SetAcl { path: "/a".into(), acl: Some(vec![entry]), version: 0 };
        assert_eq!(decode(OpCode::SetAcl, body), Ok(request));
    }

    #[test]
    fn watch_modes_and_watcher_types_have_a_list() {
        for (op, field, bad) in [
            (OpCode::AddWatch, "watch mode", [-1i32, 2]),
            (OpCode::RemoveWatches, "watcher type", [0, 6]),
            (OpCode::CheckWatches, "watcher type", [0, 6]),
        ] {
            for value in bad {
                let body = [b"\0\0\0\x01/", &value.to_be_bytes()[..]].concat();
                assert_eq!(decode(op, &body), Err(DecodeError::UnknownValue { field, value }));
            }
        }
    }

    #[test]
    fn strings_borrow_from_the_frame() {
        let Ok(Request::Sync { path: Some(Cow::Borrowed(path)) }) =
            decode(OpCode::Sync, b"\0\0\0\x02/atrailing")
        else {
            panic!("expected a borrowed path");
        };
        assert_eq!(path, "/a");
    }
}

//! Log entries as bytes: a batch of commands, versioned (format: `docs/log-and-snapshot.md`).
//!
//! A client's operation is kept as the bytes it sent, so a server that forwards one need not understand it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ostler_tree::{Command, EndCause, EndCondition, Member, Settings};
use ostler_types::member::ServerSpec;
use ostler_types::{AuthId, ErrorCode, Generation, LogIndex, Sequence, SessionId, Zxid};
use ostler_wire::{Limits, OpCode, Request};

use crate::pending::Key;

/// Version of the batch layout. Readers keep every version ever written.
const BATCH_VERSION: u8 = 1;
/// version, stamped time, count.
const BATCH_HEADER: usize = 1 + 8 + 4;
/// Most commands in one entry (design, "Replicated unit").
pub const MAX_BATCH_COMMANDS: u32 = 1024;
/// A batch is closed when it reaches this many bytes; one command may overshoot it.
pub const MAX_BATCH_BYTES: usize = 1 << 20;

mod kind {
    /// Without a nonce; written until version 0.1.
    pub(super) const REGISTER_BOOT_WITHOUT_NONCE: u8 = 1;
    pub(super) const CREATE_SESSION: u8 = 2;
    pub(super) const ATTACH: u8 = 3;
    pub(super) const END_SESSION: u8 = 4;
    pub(super) const WRITE: u8 = 5;
    pub(super) const REFUSED: u8 = 6;
    pub(super) const CLEAN: u8 = 7;
    pub(super) const CONFIGURE: u8 = 8;
    pub(super) const BOOTSTRAP: u8 = 9;
    pub(super) const REGISTER_BOOT: u8 = 10;
    pub(super) const ADOPT_MEMBERS: u8 = 11;
    pub(super) const FINISH_RECONFIG: u8 = 12;
    pub(super) const ABANDON_RECONFIG: u8 = 13;
    pub(super) const BEGIN_REPLACE: u8 = 14;
}

/// A log entry that cannot be read although it passed its checksum: written by a newer version, or by a bug.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The batch or a command in it has a version this program does not know.
    #[error(
        "log entry uses {what} {value}, which this version of Ostler does not know; run the version that wrote it, or a newer one"
    )]
    Unknown {
        /// What is unknown.
        what: &'static str,
        /// Its value.
        value: i64,
    },
    /// The bytes end early or contradict themselves.
    #[error("log entry is malformed in {0}")]
    Malformed(&'static str),
}

/// Version of a membership entry's context.
const CONTEXT_VERSION: u8 = 1;

/// The context of a membership entry (raft's conf change) that is about a server's node.
pub fn membership_context(server: u8) -> [u8; 2] {
    [CONTEXT_VERSION, server]
}

/// The server a membership entry is about. An entry whose context is empty or cannot be read changes the nodes of
/// the log and no member.
pub fn parse_membership_context(context: &[u8]) -> Option<u8> {
    match *context {
        [CONTEXT_VERSION, server @ 1..=254] => Some(server),
        _ => None,
    }
}

/// Commands on their way into the log, already in the form they will have there.
#[derive(Debug, Default)]
pub struct CommandBuffer {
    bytes: Vec<u8>,
    count: u32,
}

impl CommandBuffer {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the commands, one behind the other as in a log entry.
    pub fn take_bytes(&mut self) -> Bytes {
        self.count = 0;
        std::mem::take(&mut self.bytes).into()
    }

    /// Checks commands that another server has forwarded: they must be whole, and of kinds that are a server's own to
    /// send. What they hold was checked there.
    ///
    /// # Errors
    /// They could not be read back from the log.
    pub(crate) fn check_forwarded(bytes: &[u8]) -> Result<(), CommandError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (_, length) = key_in_log(rest).ok_or(CommandError::Malformed("forwarded commands"))?;
            rest = &rest[length..];
        }
        Ok(())
    }

    /// A client's write: `body` is the request's body as received.
    pub fn push_write(
        &mut self,
        session: SessionId,
        generation: Generation,
        sequence: Sequence,
        auth: &EncodedAuth,
        op: OpCode,
        body: &[u8],
    ) {
        self.push(kind::WRITE, |b| {
            put_position(b, session, generation, sequence);
            b.extend_from_slice(&auth.bytes);
            b.extend_from_slice(&op.code().to_be_bytes());
            b.extend_from_slice(body);
        });
    }

    /// Any command but a write.
    pub fn push_command(&mut self, command: &Command<'_>) {
        match command {
            Command::RegisterBoot { server, boot, nonce } => self.push(kind::REGISTER_BOOT, |b| {
                b.push(*server);
                b.extend_from_slice(&boot.to_be_bytes());
                b.extend_from_slice(&nonce.to_be_bytes());
            }),
            Command::CreateSession { server, boot, number, timeout_ms, secret_hash } => {
                self.push(kind::CREATE_SESSION, |b| {
                    b.push(*server);
                    b.extend_from_slice(&boot.to_be_bytes());
                    b.extend_from_slice(&number.to_be_bytes());
                    b.extend_from_slice(&timeout_ms.to_be_bytes());
                    b.extend_from_slice(secret_hash);
                });
            }
            Command::Attach { session, seen, timeout_ms, server } => self.push(kind::ATTACH, |b| {
                b.extend_from_slice(&session.0.to_be_bytes());
                b.extend_from_slice(&seen.0.to_be_bytes());
                b.extend_from_slice(&timeout_ms.to_be_bytes());
                b.push(*server);
            }),
            Command::EndSession { session, condition, cause, last_heard_ms, owner } => {
                self.push(kind::END_SESSION, |b| {
                    b.extend_from_slice(&session.0.to_be_bytes());
                    put_condition(b, *condition);
                    b.push(*cause as u8);
                    b.extend_from_slice(&last_heard_ms.to_be_bytes());
                    b.push(*owner);
                });
            }
            Command::Refused { session, generation, sequence, error } => self.push(kind::REFUSED, |b| {
                put_position(b, *session, *generation, *sequence);
                b.extend_from_slice(&error.code().to_be_bytes());
            }),
            Command::Clean { path, czxid, mzxid } => self.push(kind::CLEAN, |b| {
                b.extend_from_slice(&czxid.0.to_be_bytes());
                b.extend_from_slice(&mzxid.0.to_be_bytes());
                b.extend_from_slice(path.as_bytes());
            }),
            Command::Configure(settings) => self.push(kind::CONFIGURE, |b| put_settings(b, settings)),
            Command::Bootstrap { zxid } => {
                self.push(kind::BOOTSTRAP, |b| b.extend_from_slice(&zxid.0.to_be_bytes()));
            }
            Command::AdoptMembers { members } => {
                self.push(kind::ADOPT_MEMBERS, |b| put_members(b, members));
            }
            Command::FinishReconfig { begun } => {
                self.push(kind::FINISH_RECONFIG, |b| b.extend_from_slice(&begun.0.to_be_bytes()));
            }
            Command::AbandonReconfig { begun, error } => self.push(kind::ABANDON_RECONFIG, |b| {
                b.extend_from_slice(&begun.0.to_be_bytes());
                b.extend_from_slice(&error.code().to_be_bytes());
            }),
            Command::BeginReplace { server, node } => self.push(kind::BEGIN_REPLACE, |b| {
                b.push(*server);
                b.extend_from_slice(&node.to_be_bytes());
            }),
            Command::Write { .. } => unreachable!("writes are kept as received: push_write"),
        }
    }

    fn push(&mut self, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.push(kind);
        body(&mut self.bytes);
        let length = (self.bytes.len() - start - 4) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
        self.count += 1;
    }
}

/// Collects commands into log entries of bounded size.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    open: Vec<u8>,
    count: u32,
    closed: VecDeque<(Vec<u8>, u32)>,
}

impl BatchBuilder {
    /// Adds commands that lie one behind the other, in order.
    pub fn append(&mut self, commands: &[u8]) {
        let mut rest = commands;
        // Whole buffers are small; one that would burst the entry is split between commands.
        while let Some(length) = rest.first_chunk::<4>() {
            let (command, tail) = rest.split_at(4 + u32::from_be_bytes(*length) as usize);
            if self.count == MAX_BATCH_COMMANDS || self.open.len() + command.len() > MAX_BATCH_BYTES {
                self.close();
            }
            if self.open.is_empty() {
                self.open.resize(BATCH_HEADER, 0);
            }
            self.open.extend_from_slice(command);
            self.count += 1;
            rest = tail;
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = BatchBuilder::default();
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.closed.is_empty()
    }

    /// The oldest entries, up to `max_bytes` but at least one if there is any, stamped with the leader's wall
    /// time in Unix milliseconds. What is left keeps its order and moves to the front.
    pub fn take(&mut self, max_bytes: usize, time_ms: i64) -> Vec<Bytes> {
        self.close();
        let mut taken = Vec::new();
        let mut size = 0;
        while let Some((mut bytes, count)) = self.closed.pop_front() {
            size += bytes.len();
            bytes[0] = BATCH_VERSION;
            bytes[1..9].copy_from_slice(&time_ms.to_be_bytes());
            bytes[9..13].copy_from_slice(&count.to_be_bytes());
            taken.push(Bytes::from(bytes));
            if self.closed.front().is_some_and(|(next, _)| size + next.len() > max_bytes) {
                break;
            }
        }
        taken
    }

    fn close(&mut self) {
        if self.count > 0 {
            self.closed.push_back((std::mem::take(&mut self.open), self.count));
            self.count = 0;
        }
    }
}

/// A log entry being read.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The leader's wall time, Unix milliseconds.
    pub time_ms: i64,
    count: u32,
    rest: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Starts reading.
    ///
    /// # Errors
    /// The version is unknown or the header is cut short.
    pub fn parse(entry: &'a [u8]) -> Result<Self, CommandError> {
        let mut reader = Fields(entry);
        let version = reader.u8("version")?;
        if version != BATCH_VERSION {
            return Err(CommandError::Unknown { what: "batch version", value: version.into() });
        }
        let time_ms = reader.i64("time")?;
        let count = reader.u32("count")?;
        Ok(Batch { time_ms, count, rest: reader.0 })
    }

    /// The next command, or nothing at the end.
    ///
    /// # Errors
    /// It is unknown or malformed; what follows cannot be read either.
    pub fn next(&mut self, auth: &mut AuthCache) -> Result<Option<DecodedCommand<'a>>, CommandError> {
        if self.count == 0 {
            return if self.rest.is_empty() {
                Ok(None)
            } else {
                Err(CommandError::Malformed("bytes after the last command"))
            };
        }
        let mut reader = Fields(self.rest);
        let length = reader.u32("command length")?;
        let command = reader.take(length as usize, "command")?;
        self.rest = reader.0;
        self.count -= 1;
        decode(command, auth).map(Some)
    }
}

/// A command with what it borrows from outside the entry.
#[derive(Debug)]
pub enum DecodedCommand<'a> {
    /// Anything but a write.
    Plain(Command<'a>),
    /// A write; the identities live in the cache.
    Write {
        /// Whose write.
        session: SessionId,
        /// Under which generation.
        generation: Generation,
        /// Its number.
        sequence: Sequence,
        /// With which identities.
        auth: Arc<[AuthId]>,
        /// What is asked for.
        request: Request<'a>,
    },
}

/// A connection's identities in the form they have in a log entry.
#[derive(Clone, Debug)]
pub struct EncodedAuth {
    bytes: Arc<[u8]>,
}

impl EncodedAuth {
    /// Encodes `ids`.
    pub fn new(ids: &[AuthId]) -> Self {
        let mut body = Vec::new();
        for id in ids {
            for text in [&id.scheme, &id.id] {
                body.extend_from_slice(&(text.len() as u32).to_be_bytes());
                body.extend_from_slice(text.as_bytes());
            }
        }
        let mut bytes = Vec::with_capacity(4 + body.len());
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&body);
        EncodedAuth { bytes: bytes.into() }
    }

    /// Bytes in a log entry.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Identities decoded lately, by their encoding: connections repeat the same few in every write.
#[derive(Debug, Default)]
pub struct AuthCache {
    known: HashMap<Box<[u8]>, Arc<[AuthId]>, FixedState>,
}

impl AuthCache {
    /// Past this many sets of identities the cache starts over.
    const CAPACITY: usize = 4096;

    fn get(&mut self, encoded: &[u8]) -> Result<Arc<[AuthId]>, CommandError> {
        if let Some(ids) = self.known.get(encoded) {
            return Ok(ids.clone());
        }
        let mut reader = Fields(encoded);
        let mut ids = Vec::new();
        while !reader.0.is_empty() {
            let scheme = reader.text("identity scheme")?;
            let id = reader.text("identity")?;
            ids.push(AuthId::new(scheme, id));
        }
        let ids: Arc<[AuthId]> = ids.into();
        if self.known.len() >= Self::CAPACITY {
            self.known.clear();
        }
        self.known.insert(encoded.into(), ids.clone());
        Ok(ids)
    }
}

/// What the command at the front of `bytes`, as in a log entry, is known by while it is pending, and its length. None
/// if it is of a kind that does not wait for anybody, or cut short.
pub(crate) fn key_in_log(bytes: &[u8]) -> Option<(Key, usize)> {
    let length = u32::from_be_bytes(*bytes.first_chunk::<4>()?) as usize;
    let mut f = Fields(bytes.get(4..4 + length)?);
    let read = |f: &mut Fields<'_>| {
        Ok(match f.u8("command kind")? {
            kind::WRITE | kind::REFUSED => {
                let (session, generation, sequence) = f.position()?;
                Some(Key::Request(session, generation, sequence))
            }
            kind::END_SESSION => {
                let session = SessionId(f.i64("session")?);
                match f.condition()? {
                    EndCondition::InSequence(generation, sequence) => {
                        Some(Key::Request(session, generation, sequence))
                    }
                    EndCondition::StillGeneration(_) | EndCondition::Always => None,
                }
            }
            kind::CREATE_SESSION => Some(Key::Create(f.u8("server")?, f.u32("boot")?, f.u64("number")?)),
            kind::ATTACH => {
                let (session, seen) = (SessionId(f.i64("session")?), Generation(f.u64("generation")?));
                f.u32("timeout")?;
                Some(Key::Attach(f.u8("server")?, session, seen))
            }
            kind::REGISTER_BOOT => Some(Key::Register(f.u8("server")?, f.u32("boot")?, f.u64("nonce")?)),
            _ => None,
        })
    };
    let key: Result<Option<Key>, CommandError> = read(&mut f);
    Some((key.ok()??, 4 + length))
}

fn decode<'a>(bytes: &'a [u8], auth: &mut AuthCache) -> Result<DecodedCommand<'a>, CommandError> {
    let mut f = Fields(bytes);
    let command = match f.u8("command kind")? {
        kind::REGISTER_BOOT_WITHOUT_NONCE => {
            Command::RegisterBoot { server: f.u8("server")?, boot: f.u32("boot")?, nonce: 0 }
        }
        kind::REGISTER_BOOT => {
            Command::RegisterBoot { server: f.u8("server")?, boot: f.u32("boot")?, nonce: f.u64("nonce")? }
        }
        kind::CREATE_SESSION => Command::CreateSession {
            server: f.u8("server")?,
            boot: f.u32("boot")?,
            number: f.u64("number")?,
            timeout_ms: f.u32("timeout")?,
            secret_hash: *f.take(32, "secret hash")?.first_chunk().expect("took 32 bytes"),
        },
        kind::ATTACH => Command::Attach {
            session: SessionId(f.i64("session")?),
            seen: Generation(f.u64("generation")?),
            timeout_ms: f.u32("timeout")?,
            server: f.u8("server")?,
        },
        kind::END_SESSION => Command::EndSession {
            session: SessionId(f.i64("session")?),
            condition: f.condition()?,
            cause: {
                let code = f.u8("cause")?;
                EndCause::from_code(code)
                    .ok_or(CommandError::Unknown { what: "end-of-session cause", value: code.into() })?
            },
            last_heard_ms: f.i64("last heard")?,
            owner: f.u8("owner")?,
        },
        kind::REFUSED => {
            let (session, generation, sequence) = f.position()?;
            Command::Refused { session, generation, sequence, error: f.error()? }
        }
        kind::CLEAN => {
            let (czxid, mzxid) = (Zxid(f.i64("czxid")?), Zxid(f.i64("mzxid")?));
            let path =
                std::str::from_utf8(std::mem::take(&mut f.0)).map_err(|_| CommandError::Malformed("path"))?;
            Command::Clean { path, czxid, mzxid }
        }
        kind::CONFIGURE => Command::Configure(f.settings()?),
        kind::BOOTSTRAP => Command::Bootstrap { zxid: Zxid(f.i64("zxid")?) },
        kind::ADOPT_MEMBERS => Command::AdoptMembers { members: f.members()? },
        kind::FINISH_RECONFIG => Command::FinishReconfig { begun: LogIndex(f.u64("pending reconfig")?) },
        kind::ABANDON_RECONFIG => {
            Command::AbandonReconfig { begun: LogIndex(f.u64("pending reconfig")?), error: f.error()? }
        }
        kind::BEGIN_REPLACE => Command::BeginReplace { server: f.u8("server")?, node: f.u64("node")? },
        kind::WRITE => {
            let (session, generation, sequence) = f.position()?;
            let length = f.u32("identities")?;
            let auth = auth.get(f.take(length as usize, "identities")?)?;
            let code = f.u32("opcode")? as i32;
            let op = OpCode::from_code(code)
                .ok_or(CommandError::Unknown { what: "operation", value: code.into() })?;
            // The limits were enforced when the request was accepted; what is in the log is applied.
            let request = Request::decode(op, f.0, Limits { max_field_bytes: usize::MAX })
                .map_err(|_| CommandError::Malformed("operation"))?;
            return Ok(DecodedCommand::Write { session, generation, sequence, auth, request });
        }
        other => return Err(CommandError::Unknown { what: "command kind", value: other.into() }),
    };
    if !f.0.is_empty() {
        return Err(CommandError::Malformed("bytes after a command's last field"));
    }
    Ok(DecodedCommand::Plain(command))
}

fn put_position(b: &mut Vec<u8>, session: SessionId, generation: Generation, sequence: Sequence) {
    b.extend_from_slice(&session.0.to_be_bytes());
    b.extend_from_slice(&generation.0.to_be_bytes());
    b.extend_from_slice(&sequence.0.to_be_bytes());
}

/// Bits of the switches in a CONFIGURE command. The last one is standaloneEnabled inverted: older logs, which
/// do not have it, mean "on".
const SWITCHES: u8 = 0b11_1111;

fn put_settings(b: &mut Vec<u8>, settings: &Settings) {
    let Settings {
        skip_acl,
        enforce_quota,
        extended_types_enabled,
        digest_enabled,
        reconfig_enabled,
        standalone_enabled,
        container_max_never_used_ms,
        feature_level,
    } = *settings;
    let switches = [
        skip_acl,
        enforce_quota,
        extended_types_enabled,
        digest_enabled,
        reconfig_enabled,
        !standalone_enabled,
    ];
    b.push(switches.iter().enumerate().map(|(bit, &on)| u8::from(on) << bit).sum());
    b.extend_from_slice(&container_max_never_used_ms.to_be_bytes());
    b.extend_from_slice(&feature_level.to_be_bytes());
}

fn put_members(b: &mut Vec<u8>, members: &BTreeMap<u8, Member>) {
    b.push(members.len() as u8);
    for (&server, Member { node, spec }) in members {
        let spec = spec.to_string();
        b.push(server);
        // No disk has node id 0.
        b.extend_from_slice(&node.unwrap_or(0).to_be_bytes());
        b.extend_from_slice(&(spec.len() as u32).to_be_bytes());
        b.extend_from_slice(spec.as_bytes());
    }
}

fn put_condition(b: &mut Vec<u8>, condition: EndCondition) {
    let (tag, generation, sequence) = match condition {
        EndCondition::Always => (0, 0, 0),
        EndCondition::StillGeneration(generation) => (1, generation.0, 0),
        EndCondition::InSequence(generation, sequence) => (2, generation.0, sequence.0),
    };
    b.push(tag);
    b.extend_from_slice(&generation.to_be_bytes());
    b.extend_from_slice(&sequence.to_be_bytes());
}

/// The unread rest of a command.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], CommandError> {
        let (head, tail) = self.0.split_at_checked(length).ok_or(CommandError::Malformed(what))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], CommandError> {
        Ok(*self.take(N, what)?.first_chunk().expect("took N bytes"))
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, CommandError> {
        Ok(self.array::<1>(what)?[0])
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, CommandError> {
        self.array(what).map(u32::from_be_bytes)
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, CommandError> {
        self.array(what).map(u64::from_be_bytes)
    }

    fn i64(&mut self, what: &'static str) -> Result<i64, CommandError> {
        self.array(what).map(i64::from_be_bytes)
    }

    fn settings(&mut self) -> Result<Settings, CommandError> {
        let switches = self.u8("switches")?;
        if switches & !SWITCHES != 0 {
            return Err(CommandError::Unknown { what: "switches", value: switches.into() });
        }
        let on = |bit: u8| switches & (1 << bit) != 0;
        Ok(Settings {
            skip_acl: on(0),
            enforce_quota: on(1),
            extended_types_enabled: on(2),
            digest_enabled: on(3),
            reconfig_enabled: on(4),
            standalone_enabled: !on(5),
            container_max_never_used_ms: self.i64("never-used interval")?,
            feature_level: self.u32("feature level")?,
        })
    }

    fn error(&mut self) -> Result<ErrorCode, CommandError> {
        let code = self.u32("error")? as i32;
        ErrorCode::from_code(code).ok_or(CommandError::Unknown { what: "error code", value: code.into() })
    }

    fn members(&mut self) -> Result<BTreeMap<u8, Member>, CommandError> {
        let mut members = BTreeMap::new();
        for _ in 0..self.u8("number of members")? {
            let server = self.u8("server")?;
            let node = Some(self.u64("node")?).filter(|&node| node != 0);
            let spec = ServerSpec::parse(self.text("server line")?);
            let spec = spec.ok_or(CommandError::Malformed("server line"))?;
            if members.insert(server, Member { node, spec }).is_some() {
                return Err(CommandError::Malformed("members"));
            }
        }
        Ok(members)
    }

    fn condition(&mut self) -> Result<EndCondition, CommandError> {
        let tag = self.u8("end condition")?;
        let (generation, sequence) = (Generation(self.u64("generation")?), Sequence(self.u64("sequence")?));
        match tag {
            0 => Ok(EndCondition::Always),
            1 => Ok(EndCondition::StillGeneration(generation)),
            2 => Ok(EndCondition::InSequence(generation, sequence)),
            _ => Err(CommandError::Unknown { what: "end-of-session condition", value: tag.into() }),
        }
    }

    fn text(&mut self, what: &'static str) -> Result<&'a str, CommandError> {
        let length = self.u32(what)?;
        std::str::from_utf8(self.take(length as usize, what)?).map_err(|_| CommandError::Malformed(what))
    }

    fn position(&mut self) -> Result<(SessionId, Generation, Sequence), CommandError> {
        Ok((
            SessionId(self.i64("session")?),
            Generation(self.u64("generation")?),
            Sequence(self.u64("sequence")?),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_tree::Operation;

    fn round_trip(command: Command<'_>) {
        let mut buffer = CommandBuffer::default();
        buffer.push_command(&command);
        let mut builder = BatchBuilder::default();
        builder.append(&buffer.take_bytes());
        let entries = builder.take(usize::MAX, 77);
        let mut batch = Batch::parse(&entries[0]).unwrap();
        assert_eq!(batch.time_ms, 77);
        let mut cache = AuthCache::default();
        let Some(DecodedCommand::Plain(decoded)) = batch.next(&mut cache).unwrap() else { panic!() };
        assert_eq!(decoded, command);
        assert!(batch.next(&mut cache).unwrap().is_none());
        // Cut anywhere, it is an error and not a panic.
        for end in 0..entries[0].len() {
            let cut = Batch::parse(&entries[0][..end]).and_then(|mut b| b.next(&mut cache).map(drop));
            assert!(cut.is_err(), "{end} of {}", entries[0].len());
        }
    }

    fn members() -> BTreeMap<u8, Member> {
        let member = |node, spec| Member { node, spec: ServerSpec::parse(spec).unwrap() };
        BTreeMap::from([
            (1, member(Some(9), "10.0.0.1:2888:3888;2181")),
            (254, member(None, "[::1]:2888:3888:observer")),
        ])
    }

    /// The bytes that a released version wrote, or this one writes: a log that has them can be read for ever.
    #[test]
    fn bytes_of_commands_do_not_change() {
        let nonce = 0x0102_0304_0506_0708;
        let line_1 = b"10.0.0.1:2888:3888:participant;0.0.0.0:2181";
        let line_254 = b"[0:0:0:0:0:0:0:1]:2888:3888:observer";
        let mut adopt = vec![11, 2, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, line_1.len() as u8];
        adopt.extend_from_slice(line_1);
        adopt.extend_from_slice(&[254, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, line_254.len() as u8]);
        adopt.extend_from_slice(line_254);
        let settings = Settings { standalone_enabled: false, ..Settings::default() };
        let golden: [(&[u8], Command<'_>, bool); 7] = [
            (&[1, 3, 0, 0, 1, 2], Command::RegisterBoot { server: 3, boot: 258, nonce: 0 }, false),
            (
                &[10, 3, 0, 0, 1, 2, 1, 2, 3, 4, 5, 6, 7, 8],
                Command::RegisterBoot { server: 3, boot: 258, nonce },
                true,
            ),
            (&adopt, Command::AdoptMembers { members: members() }, true),
            (&[12, 0, 0, 0, 0, 0, 0, 1, 2], Command::FinishReconfig { begun: LogIndex(258) }, true),
            (
                &[13, 0, 0, 0, 0, 0, 0, 1, 2, 0xff, 0xff, 0xff, 0xf3],
                Command::AbandonReconfig { begun: LogIndex(258), error: ErrorCode::NewConfigNoQuorum },
                true,
            ),
            (
                &[14, 3, 1, 2, 3, 4, 5, 6, 7, 8],
                Command::BeginReplace { server: 3, node: 0x0102_0304_0506_0708 },
                true,
            ),
            (&[8, 0b10_1000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], Command::Configure(settings), true),
        ];
        for (bytes, command, is_written) in golden {
            let Ok(DecodedCommand::Plain(read)) = decode(bytes, &mut AuthCache::default()) else { panic!() };
            assert_eq!(read, command);
            let mut buffer = CommandBuffer::default();
            buffer.push_command(&command);
            assert_eq!(buffer.bytes[4..] == *bytes, is_written, "{command:?}: {:?}", buffer.bytes);
        }
    }

    #[test]
    fn a_context_names_a_server_or_nothing() {
        assert_eq!(membership_context(7), [1, 7]);
        assert_eq!(parse_membership_context(&membership_context(254)), Some(254));
        for unreadable in [&[][..], &[1], &[1, 0], &[1, 255], &[2, 7], &[1, 7, 0]] {
            assert_eq!(parse_membership_context(unreadable), None, "{unreadable:?}");
        }
    }

    #[test]
    fn members_that_contradict_themselves_are_malformed() {
        let twice: Vec<u8> =
            [[1u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5].as_slice(), b"a:1:2"].concat().repeat(2);
        let with_count = |count: u8, rest: &[u8]| [&[11, count], rest].concat();
        let read = |bytes: &[u8]| decode(bytes, &mut AuthCache::default()).map(drop);
        assert_eq!(read(&with_count(2, &twice)), Err(CommandError::Malformed("members")));
        assert_eq!(read(&with_count(1, &twice[..18])), Ok(()));
        assert_eq!(read(&with_count(1, &twice[..17])), Err(CommandError::Malformed("server line")));
        assert_eq!(
            read(&with_count(1, &twice)),
            Err(CommandError::Malformed("bytes after a command's last field"))
        );
    }

    #[test]
    fn every_command_reads_back_as_written() {
        let (session, generation, sequence) = (SessionId(-5), Generation(3), Sequence(9));
        round_trip(Command::RegisterBoot { server: 7, boot: 0x0102_0304, nonce: u64::MAX });
        let secret_hash = std::array::from_fn(|i| i as u8);
        round_trip(Command::CreateSession { server: 1, boot: 2, number: 3, timeout_ms: 4, secret_hash });
        round_trip(Command::Attach { session, seen: generation, timeout_ms: 30_000, server: 254 });
        for condition in [
            EndCondition::Always,
            EndCondition::StillGeneration(generation),
            EndCondition::InSequence(generation, sequence),
        ] {
            for cause in [EndCause::Closed, EndCause::Expired, EndCause::Killed] {
                round_trip(Command::EndSession { session, condition, cause, last_heard_ms: -1, owner: 2 });
            }
        }
        round_trip(Command::Refused { session, generation, sequence, error: ErrorCode::BadArguments });
        round_trip(Command::Clean { path: "/grün", czxid: Zxid(1), mzxid: Zxid(2) });
        round_trip(Command::Bootstrap { zxid: Zxid(1 << 40) });
        round_trip(Command::AdoptMembers { members: BTreeMap::new() });
        round_trip(Command::AdoptMembers { members: members() });
        round_trip(Command::FinishReconfig { begun: LogIndex(7) });
        let error = ErrorCode::NewConfigNoQuorum;
        round_trip(Command::AbandonReconfig { begun: LogIndex(7), error });
        round_trip(Command::BeginReplace { server: 2, node: u64::MAX });
        for bit in 0..6 {
            round_trip(Command::Configure(Settings {
                skip_acl: bit == 0,
                enforce_quota: bit == 1,
                extended_types_enabled: bit == 2,
                digest_enabled: bit == 3,
                reconfig_enabled: bit == 4,
                standalone_enabled: bit == 5,
                container_max_never_used_ms: 5,
                feature_level: 6,
            }));
        }
    }

    #[test]
    fn writes_keep_the_bytes_and_identities_they_came_with() {
        let mut body = Vec::new();
        Request::Delete { path: "/a".into(), version: 3 }.encode(ostler_types::Xid(1), &mut body);
        let ids = [AuthId::new("ip", "::1"), AuthId::new("digest", "u:h")];
        let mut buffer = CommandBuffer::default();
        let auth = EncodedAuth::new(&ids);
        for sequence in 1..=2 {
            let sequence = Sequence(sequence);
            buffer.push_write(SessionId(1), Generation(2), sequence, &auth, OpCode::Delete, &body[12..]);
        }
        let mut builder = BatchBuilder::default();
        builder.append(&buffer.take_bytes());
        let entries = builder.take(usize::MAX, 0);
        let mut batch = Batch::parse(&entries[0]).unwrap();
        let mut cache = AuthCache::default();
        for expected in 1..=2 {
            let Some(DecodedCommand::Write { sequence, auth, request, .. }) = batch.next(&mut cache).unwrap()
            else {
                panic!()
            };
            assert_eq!((sequence, &auth[..]), (Sequence(expected), &ids[..]));
            let operation = crate::operation::to_operation(&request);
            assert_eq!(operation, Some(Operation::Delete { path: "/a", version: 3 }));
        }
    }

    #[test]
    fn batches_are_closed_before_they_grow_too_large() {
        let mut builder = BatchBuilder::default();
        let mut buffer = CommandBuffer::default();
        for boot in 0..MAX_BATCH_COMMANDS + 1 {
            buffer.push_command(&Command::RegisterBoot { server: 1, boot, nonce: 0 });
        }
        builder.append(&buffer.take_bytes());
        buffer.push_command(&Command::RegisterBoot { server: 1, boot: 0, nonce: 0 });
        builder.append(&buffer.take_bytes());
        let path = "x".repeat(MAX_BATCH_BYTES);
        buffer.push_command(&Command::Clean { path: &path, czxid: Zxid(0), mzxid: Zxid(0) });
        builder.append(&buffer.take_bytes());
        let counts: Vec<u32> =
            builder.take(usize::MAX, 0).iter().map(|e| Batch::parse(e).unwrap().count).collect();
        assert_eq!(counts, [MAX_BATCH_COMMANDS, 2, 1]);
        assert!(builder.is_empty());
    }

    #[test]
    fn what_is_too_much_for_one_round_stays_for_the_next() {
        let mut builder = BatchBuilder::default();
        let mut buffer = CommandBuffer::default();
        for name in ["a", "b", "c"] {
            let path = name.repeat(MAX_BATCH_BYTES - 100);
            buffer.push_command(&Command::Clean { path: &path, czxid: Zxid(0), mzxid: Zxid(0) });
        }
        builder.append(&buffer.take_bytes());
        assert_eq!(builder.take(2 * MAX_BATCH_BYTES, 0).len(), 2);
        assert!(!builder.is_empty());
        buffer.push_command(&Command::RegisterBoot { server: 1, boot: 1, nonce: 0 });
        builder.append(&buffer.take_bytes());
        assert_eq!(builder.take(1, 0).len(), 1, "at least one");
        assert_eq!(builder.take(1, 0).len(), 1);
        assert!(builder.is_empty());
    }

    #[test]
    fn what_a_newer_version_wrote_is_named() {
        let error = Batch::parse(&[9; 20]).unwrap_err();
        assert_eq!(error, CommandError::Unknown { what: "batch version", value: 9 });
        let entry = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 99];
        let error = Batch::parse(&entry).unwrap().next(&mut AuthCache::default()).unwrap_err();
        assert_eq!(error, CommandError::Unknown { what: "command kind", value: 99 });
    }
}

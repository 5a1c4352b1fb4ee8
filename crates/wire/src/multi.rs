//! The contents of multi and multiRead (protocol, "multi / multiRead framing").
//!
//! Requests and results are sequences of a small header and a record, closed by a header that says so. What
//! Apache ZooKeeper 3.9.5 refuses while decoding a request is refused here: reads in a multi, writes in a
//! multiRead, other operations in either; in a create, create2 or createContainer the flags of no mode or of one
//! with a time to live, and a null ACL vector.
//!
//! A createTTL whose flags need no time to live is a plain create, and a create with the flags of a container
//! is a createContainer, again as there.

use std::borrow::Cow;

use ostler_types::{CreateMode, ErrorCode, Stat};

use crate::jute::{DecodeError, Reader, Result, Writer};
use crate::opcode::OpCode;
use crate::request::{Create, CreateForm};
use crate::response;

/// One operation of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named as in the protocol's records")]
pub enum WriteOp<'a> {
    /// Any of the four creates. Its ACL and flags are checked as described in [the module](self).
    Create(Create<'a>),
    /// Delete a znode.
    Delete { path: Cow<'a, str>, version: i32 },
    /// Replace the data.
    SetData { path: Cow<'a, str>, data: Option<&'a [u8]>, version: i32 },
    /// Fail unless the znode has this version.
    Check { path: Cow<'a, str>, version: i32 },
}

impl WriteOp<'_> {
    /// The operation to send this as.
    pub fn op(&self) -> OpCode {
        match self {
            WriteOp::Create(create) => create.form.op(),
            WriteOp::Delete { .. } => OpCode::Delete,
            WriteOp::SetData { .. } => OpCode::SetData,
            WriteOp::Check { .. } => OpCode::Check,
        }
    }
}

/// One operation of a multiRead. Watches cannot be set: a `watch` flag is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named as in the protocol's records")]
pub enum ReadOp<'a> {
    /// Data and Stat.
    GetData { path: Cow<'a, str> },
    /// Names of the children.
    GetChildren { path: Cow<'a, str> },
}

impl ReadOp<'_> {
    /// The operation to send this as.
    pub fn op(&self) -> OpCode {
        match self {
            ReadOp::GetData { .. } => OpCode::GetData,
            ReadOp::GetChildren { .. } => OpCode::GetChildren,
        }
    }
}

/// The result of one operation of a multi or multiRead, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named as in the protocol's records")]
pub enum OpResult {
    /// Of create.
    Create { path: String },
    /// Of create2, createContainer and createTTL.
    Create2 { path: String, stat: Stat },
    /// Of delete.
    Delete,
    /// Of setData.
    SetData { stat: Stat },
    /// Of check.
    Check,
    /// Of getData.
    GetData { data: Option<Vec<u8>>, stat: Stat },
    /// Of getChildren.
    GetChildren { children: Vec<String> },
    /// Instead of a result. In a failed multi: 0 for the operations before the one that failed, its error, then
    /// `RUNTIMEINCONSISTENCY`. In a multiRead: that operation's own error.
    Error(i32),
}

/// Appends the results of a multi or multiRead to a reply; see
/// [`ReplyWriter::multi`](crate::ReplyWriter::multi).
#[derive(Debug)]
pub struct ResultsWriter<'w, 'o> {
    start: usize,
    writer: &'w mut Writer<'o>,
}

/// What `MultiHeader.err` holds where it means nothing.
const NO_ERR: i32 = -1;
/// What `MultiHeader.type` holds for an error and at the end.
const NO_OP: i32 = -1;

fn write_header(writer: &mut Writer<'_>, op: i32, done: bool, err: i32) {
    writer.int(op);
    writer.boolean(done);
    writer.int(err);
}

/// The next header's type and err, or nothing at the end.
fn read_header(reader: &mut Reader<'_>) -> Result<Option<(i32, i32)>> {
    let (op, done, err) = (reader.int()?, reader.boolean()?, reader.int()?);
    Ok(if done { None } else { Some((op, err)) })
}

impl<'w, 'o> ResultsWriter<'w, 'o> {
    pub(crate) fn new(writer: &'w mut Writer<'o>) -> Self {
        ResultsWriter { start: writer.len(), writer }
    }

    /// Bytes of the results written so far. What was asked for says nothing about it: many small reads may name
    /// the same large znode.
    pub fn written(&self) -> usize {
        self.writer.len() - self.start
    }

    fn ok(&mut self, op: OpCode) -> &mut Writer<'o> {
        write_header(self.writer, op.code(), false, 0);
        self.writer
    }

    /// Result of a create.
    pub fn create(&mut self, path: &str) {
        self.ok(OpCode::Create).string(path);
    }

    /// Result of a create2, createContainer or createTTL.
    pub fn create2(&mut self, path: &str, stat: &Stat) {
        let writer = self.ok(OpCode::Create2);
        writer.string(path);
        response::write_stat(writer, stat);
    }

    /// Result of a delete.
    pub fn delete(&mut self) {
        self.ok(OpCode::Delete);
    }

    /// Result of a setData.
    pub fn set_data(&mut self, stat: &Stat) {
        response::write_stat(self.ok(OpCode::SetData), stat);
    }

    /// Result of a check.
    pub fn check(&mut self) {
        self.ok(OpCode::Check);
    }

    /// Result of a getData.
    pub fn get_data(&mut self, data: Option<&[u8]>, stat: &Stat) {
        let writer = self.ok(OpCode::GetData);
        writer.nullable_buffer(data);
        response::write_stat(writer, stat);
    }

    /// Result of a getChildren.
    pub fn get_children(&mut self, names: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        self.ok(OpCode::GetChildren).vector(names, |writer, name| writer.buffer(name.as_ref()));
    }

    /// No result: the operation failed with `error`, or would have succeeded but for another one (`None`).
    pub fn error(&mut self, error: Option<ErrorCode>) {
        let err = error.map_or(0, ErrorCode::code);
        write_header(self.writer, NO_OP, false, err);
        self.writer.int(err);
    }

    pub(crate) fn end(self) {
        write_header(self.writer, NO_OP, true, NO_ERR);
    }
}

pub(crate) fn decode_writes<'a>(reader: &mut Reader<'a>) -> Result<Vec<WriteOp<'a>>> {
    let mut ops = Vec::new();
    while let Some((op, _)) = read_header(reader)? {
        ops.push(match OpCode::from_code(op) {
            Some(OpCode::Create) => WriteOp::Create(decode_create(CreateForm::Create, reader)?),
            Some(OpCode::Create2) => WriteOp::Create(decode_create(CreateForm::Create2, reader)?),
            Some(OpCode::CreateContainer) => WriteOp::Create(decode_create(CreateForm::Container, reader)?),
            Some(OpCode::CreateTtl) => WriteOp::Create(decode_create_ttl(reader)?),
            Some(OpCode::Delete) => WriteOp::Delete { path: reader.string()?, version: reader.int()? },
            Some(OpCode::SetData) => {
                WriteOp::SetData { path: reader.string()?, data: reader.buffer()?, version: reader.int()? }
            }
            Some(OpCode::Check) => WriteOp::Check { path: reader.string()?, version: reader.int()? },
            _ => return Err(DecodeError::OperationNotAllowed(op)),
        });
    }
    Ok(ops)
}

fn decode_create<'a>(form: CreateForm, reader: &mut Reader<'a>) -> Result<Create<'a>> {
    let mut create = Create::decode(form, reader)?;
    match CreateMode::from_flags(create.flags) {
        None | Some(CreateMode::PersistentWithTtl | CreateMode::PersistentSequentialWithTtl) => {
            return Err(DecodeError::CreateFlags(create.flags));
        }
        Some(CreateMode::Container) => create.form = CreateForm::Container,
        Some(_) => {}
    }
    if create.acl.is_none() {
        return Err(DecodeError::NullVector);
    }
    Ok(create)
}

/// Flags of no mode and a null ACL pass here, as in ZooKeeper: the operation fails on its own.
fn decode_create_ttl<'a>(reader: &mut Reader<'a>) -> Result<Create<'a>> {
    let mut create = Create::decode(CreateForm::Ttl(0), reader)?;
    match CreateMode::from_flags(create.flags) {
        Some(CreateMode::PersistentWithTtl | CreateMode::PersistentSequentialWithTtl) => {}
        Some(CreateMode::Container) => create.form = CreateForm::Container,
        None | Some(_) => create.form = CreateForm::Create,
    }
    Ok(create)
}

pub(crate) fn decode_reads<'a>(reader: &mut Reader<'a>) -> Result<Vec<ReadOp<'a>>> {
    let mut ops = Vec::new();
    while let Some((op, _)) = read_header(reader)? {
        let (path, _watch);
        ops.push(match OpCode::from_code(op) {
            Some(OpCode::GetData) => {
                (path, _watch) = (reader.string()?, reader.boolean()?);
                ReadOp::GetData { path }
            }
            Some(OpCode::GetChildren) => {
                (path, _watch) = (reader.string()?, reader.boolean()?);
                ReadOp::GetChildren { path }
            }
            _ => return Err(DecodeError::OperationNotAllowed(op)),
        });
    }
    Ok(ops)
}

pub(crate) fn write_writes(writer: &mut Writer<'_>, ops: &[WriteOp<'_>]) {
    for op in ops {
        write_header(writer, op.op().code(), false, NO_ERR);
        match op {
            WriteOp::Create(create) => create.write(writer),
            WriteOp::SetData { path, data, version } => {
                writer.string(path);
                writer.nullable_buffer(*data);
                writer.int(*version);
            }
            WriteOp::Delete { path, version } | WriteOp::Check { path, version } => {
                writer.string(path);
                writer.int(*version);
            }
        }
    }
    write_header(writer, NO_OP, true, NO_ERR);
}

pub(crate) fn write_reads(writer: &mut Writer<'_>, ops: &[ReadOp<'_>]) {
    for op in ops {
        write_header(writer, op.op().code(), false, NO_ERR);
        let (ReadOp::GetData { path } | ReadOp::GetChildren { path }) = op;
        writer.string(path);
        writer.boolean(false);
    }
    write_header(writer, NO_OP, true, NO_ERR);
}

pub(crate) fn decode_results(reader: &mut Reader<'_>) -> Result<Vec<OpResult>> {
    let mut results = Vec::new();
    while let Some((op, _)) = read_header(reader)? {
        if op == NO_OP {
            results.push(OpResult::Error(reader.int()?));
            continue;
        }
        results.push(match OpCode::from_code(op) {
            Some(OpCode::Create) => OpResult::Create { path: reader.string()?.into_owned() },
            Some(OpCode::Create2) => {
                OpResult::Create2 { path: reader.string()?.into_owned(), stat: response::read_stat(reader)? }
            }
            Some(OpCode::Delete) => OpResult::Delete,
            Some(OpCode::SetData) => OpResult::SetData { stat: response::read_stat(reader)? },
            Some(OpCode::Check) => OpResult::Check,
            Some(OpCode::GetData) => OpResult::GetData {
                data: reader.buffer()?.map(<[u8]>::to_vec),
                stat: response::read_stat(reader)?,
            },
            Some(OpCode::GetChildren) => OpResult::GetChildren { children: response::read_strings(reader)? },
            _ => return Err(DecodeError::OperationNotAllowed(op)),
        });
    }
    Ok(results)
}

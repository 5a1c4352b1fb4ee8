//! Replies: written frame by frame on the server, read into [`Response`] on the client.

use ostler_types::{Acl, ErrorCode, Perms, SessionId, Stat, Xid, Zxid};

use crate::frame;
use crate::header::ReplyHeader;
use crate::jute::{Limits, Reader, Result, Writer};
use crate::multi::{self, OpResult, ResultsWriter};
use crate::opcode::OpCode;

/// Appends one reply frame: [`begin`](Self::begin) writes the header, each method a field or a body, and
/// dropping the writer fills in the frame's length.
///
/// Should a reply pass 2^31-1 bytes, which no frame can hold, it becomes a bare `MARSHALLINGERROR`.
#[derive(Debug)]
pub struct ReplyWriter<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
}

impl<'o> ReplyWriter<'o> {
    /// Begins the reply to the request `xid`. With an error there is no body, except for SASL.
    pub fn begin(out: &'o mut Vec<u8>, xid: Xid, zxid: Zxid, error: Option<ErrorCode>) -> Self {
        let start = frame::begin(out);
        let err = error.map_or(0, ErrorCode::code);
        ReplyHeader { xid, zxid, err }.write(&mut Writer::new(out));
        ReplyWriter { out, start }
    }

    fn writer(&mut self) -> Writer<'_> {
        Writer::new(self.out)
    }

    /// Stat: exists, setData, setACL.
    pub fn stat(&mut self, stat: &Stat) {
        write_stat(&mut self.writer(), stat);
    }

    /// Path: create, sync.
    pub fn path(&mut self, path: &str) {
        self.writer().string(path);
    }

    /// Path and Stat: create2, createContainer, createTTL.
    pub fn path_and_stat(&mut self, path: &str, stat: &Stat) {
        self.path(path);
        self.stat(stat);
    }

    /// Data and Stat: getData, reconfig.
    pub fn data_and_stat(&mut self, data: Option<&[u8]>, stat: &Stat) {
        self.writer().nullable_buffer(data);
        self.stat(stat);
    }

    /// ACL and Stat: getACL.
    pub fn acl_and_stat(&mut self, acl: &[Acl], stat: &Stat) {
        self.writer().vector(acl, |writer, entry| {
            writer.int(entry.perms.0);
            writer.string(&entry.id.scheme);
            writer.string(&entry.id.id);
        });
        self.stat(stat);
    }

    /// UTF-8 strings: the children's names for getChildren, paths for getEphemerals.
    pub fn strings(&mut self, strings: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        self.writer().vector(strings, |writer, string| writer.buffer(string.as_ref()));
    }

    /// Children's names and Stat: getChildren2.
    pub fn children_and_stat(&mut self, names: impl IntoIterator<Item = impl AsRef<[u8]>>, stat: &Stat) {
        self.strings(names);
        self.stat(stat);
    }

    /// Integer: the total for getAllChildrenNumber, 0 for addWatch.
    pub fn int(&mut self, value: i32) {
        self.writer().int(value);
    }

    /// Token: sasl.
    pub fn token(&mut self, token: Option<&[u8]>) {
        self.writer().nullable_buffer(token);
    }

    /// Scheme and display name of each identity: whoAmI.
    pub fn who_am_i<'s>(&mut self, identities: impl IntoIterator<Item = (&'s str, &'s str)>) {
        self.writer().vector(identities, |writer, (scheme, user)| {
            writer.string(scheme);
            writer.string(user);
        });
    }

    /// Results: multi, multiRead. `results` writes one per operation; the closing header is added.
    pub fn multi(&mut self, results: impl FnOnce(&mut ResultsWriter<'_, '_>)) {
        let mut writer = self.writer();
        let mut results_writer = ResultsWriter::new(&mut writer);
        results(&mut results_writer);
        results_writer.end();
    }
}

impl Drop for ReplyWriter<'_> {
    fn drop(&mut self) {
        let payload_at = self.start + frame::LENGTH_BYTES;
        let len = i32::try_from(self.out.len() - payload_at).unwrap_or_else(|_| {
            self.out.truncate(payload_at + ReplyHeader::BYTES);
            let err_at = payload_at + ReplyHeader::BYTES - 4;
            self.out[err_at..].copy_from_slice(&ErrorCode::MarshallingError.code().to_be_bytes());
            ReplyHeader::BYTES as i32
        });
        frame::patch(self.out, self.start, len);
    }
}

/// The body of a reply without error, as a client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named as in the protocol's records")]
pub enum Response {
    /// Nothing: delete, ping, auth, setWatches, checkWatches, removeWatches, deleteContainer, closeSession.
    Empty,
    /// create, sync.
    Path { path: String },
    /// create2, createContainer, createTTL.
    PathAndStat { path: String, stat: Stat },
    /// exists, setData, setACL.
    Stat { stat: Stat },
    /// getData, reconfig.
    DataAndStat { data: Option<Vec<u8>>, stat: Stat },
    /// getACL.
    AclAndStat { acl: Vec<Acl>, stat: Stat },
    /// getChildren, getEphemerals.
    Strings { strings: Vec<String> },
    /// getChildren2.
    ChildrenAndStat { children: Vec<String>, stat: Stat },
    /// getAllChildrenNumber; of addWatch always 0.
    Int { value: i32 },
    /// sasl.
    Token { token: Option<Vec<u8>> },
    /// whoAmI: scheme and display name of each identity.
    WhoAmI { identities: Vec<(String, String)> },
    /// multi, multiRead.
    Multi { results: Vec<OpResult> },
}

impl Response {
    /// Decodes the body of a reply to `op` whose header has no error. What follows the last field is ignored.
    ///
    /// # Errors
    /// [`DecodeError`](crate::DecodeError); the server does not speak this protocol.
    pub fn decode(op: OpCode, body: &[u8]) -> Result<Response> {
        // A server never limits its replies; the frame's own limit is the client's to choose.
        let reader = &mut Reader::new(body, Limits { max_field_bytes: usize::MAX });
        Ok(match op {
            OpCode::Create | OpCode::Sync => Response::Path { path: reader.string()?.into_owned() },
            OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                Response::PathAndStat { path: reader.string()?.into_owned(), stat: read_stat(reader)? }
            }
            OpCode::Exists | OpCode::SetData | OpCode::SetAcl => Response::Stat { stat: read_stat(reader)? },
            OpCode::GetData | OpCode::Reconfig => {
                Response::DataAndStat { data: reader.buffer()?.map(<[u8]>::to_vec), stat: read_stat(reader)? }
            }
            OpCode::GetAcl => Response::AclAndStat {
                acl: reader.vector(|reader| {
                    let perms = Perms(reader.int()?);
                    Ok(Acl::new(perms, reader.string()?, reader.string()?))
                })?,
                stat: read_stat(reader)?,
            },
            OpCode::GetChildren | OpCode::GetEphemerals => {
                Response::Strings { strings: read_strings(reader)? }
            }
            OpCode::GetChildren2 => {
                Response::ChildrenAndStat { children: read_strings(reader)?, stat: read_stat(reader)? }
            }
            OpCode::GetAllChildrenNumber | OpCode::AddWatch => Response::Int { value: reader.int()? },
            OpCode::Sasl => Response::Token { token: reader.buffer()?.map(<[u8]>::to_vec) },
            OpCode::WhoAmI => Response::WhoAmI {
                identities: reader
                    .vector(|reader| Ok((reader.string()?.into_owned(), reader.string()?.into_owned())))?,
            },
            OpCode::Multi | OpCode::MultiRead => Response::Multi { results: multi::decode_results(reader)? },
            OpCode::Delete
            | OpCode::Ping
            | OpCode::Check
            | OpCode::CheckWatches
            | OpCode::RemoveWatches
            | OpCode::DeleteContainer
            | OpCode::Auth
            | OpCode::SetWatches
            | OpCode::SetWatches2
            | OpCode::CreateSession
            | OpCode::CloseSession => Response::Empty,
        })
    }
}

/// Bytes of a Stat: 6 longs and 5 ints.
const STAT_BYTES: usize = 68;

pub(crate) fn write_stat(writer: &mut Writer<'_>, stat: &Stat) {
    let mut bytes = [0; STAT_BYTES];
    let mut rest = &mut bytes[..];
    let mut put = |field: &[u8]| {
        let (slot, tail) = std::mem::take(&mut rest).split_at_mut(field.len());
        slot.copy_from_slice(field);
        rest = tail;
    };
    put(&stat.czxid.0.to_be_bytes());
    put(&stat.mzxid.0.to_be_bytes());
    put(&stat.ctime.to_be_bytes());
    put(&stat.mtime.to_be_bytes());
    put(&stat.version.to_be_bytes());
    put(&stat.cversion.to_be_bytes());
    put(&stat.aversion.to_be_bytes());
    put(&stat.ephemeral_owner.0.to_be_bytes());
    put(&stat.data_length.to_be_bytes());
    put(&stat.num_children.to_be_bytes());
    put(&stat.pzxid.0.to_be_bytes());
    writer.bytes(&bytes);
}

pub(crate) fn read_stat(reader: &mut Reader<'_>) -> Result<Stat> {
    Ok(Stat {
        czxid: Zxid(reader.long()?),
        mzxid: Zxid(reader.long()?),
        ctime: reader.long()?,
        mtime: reader.long()?,
        version: reader.int()?,
        cversion: reader.int()?,
        aversion: reader.int()?,
        ephemeral_owner: SessionId(reader.long()?),
        data_length: reader.int()?,
        num_children: reader.int()?,
        pzxid: Zxid(reader.long()?),
    })
}

pub(crate) fn read_strings(reader: &mut Reader<'_>) -> Result<Vec<String>> {
    reader.vector(|reader| reader.string().map(Into::into))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_an_error_reply() {
        let mut out = b"before".to_vec();
        ReplyWriter::begin(&mut out, Xid(5), Zxid(0x1_0000_0002), Some(ErrorCode::NoNode));
        assert_eq!(
            out[6..],
            [
                0, 0, 0, 16, // frame length
                0, 0, 0, 5, // xid
                0, 0, 0, 1, 0, 0, 0, 2, // zxid
                0xff, 0xff, 0xff, 0x9b, // NONODE, -101
            ]
        );
    }

    #[test]
    fn bytes_of_a_stat() {
        let stat = Stat {
            czxid: Zxid(1),
            mzxid: Zxid(2),
            ctime: 3,
            mtime: 4,
            version: 5,
            cversion: 6,
            aversion: 7,
            ephemeral_owner: SessionId(0x0100_0000_0000_0008),
            data_length: 9,
            num_children: 10,
            pzxid: Zxid(11),
        };
        let mut out = Vec::new();
        write_stat(&mut Writer::new(&mut out), &stat);
        let mut expected = Vec::new();
        for long in 1..=4u8 {
            expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, long]);
        }
        expected.extend_from_slice(&[0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7]);
        expected.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 8]);
        expected.extend_from_slice(&[0, 0, 0, 9, 0, 0, 0, 10]);
        expected.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 11]);
        assert_eq!(out, expected);
        assert_eq!(read_stat(&mut Reader::new(&out, Limits::default())), Ok(stat));
    }

    #[test]
    fn results_are_counted_without_what_stands_before_them() {
        let mut out = b"before".to_vec();
        ReplyWriter::begin(&mut out, Xid(1), Zxid(2), None).multi(|results| {
            assert_eq!(results.written(), 0);
            results.error(None);
            assert_eq!(results.written(), 13);
            results.get_data(Some(b"1234"), &Stat::default());
            assert_eq!(results.written(), 13 + 9 + 4 + 4 + STAT_BYTES);
        });
    }

    #[test]
    fn bytes_of_a_failed_multi() {
        let mut out = Vec::new();
        ReplyWriter::begin(&mut out, Xid(1), Zxid(2), None).multi(|results| {
            results.error(None);
            results.error(Some(ErrorCode::NodeExists));
        });
        let expected = [
            &[0, 0, 0, 51, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0][..],
            &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0x92, 0xff, 0xff, 0xff, 0x92],
            &[0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff],
        ]
        .concat();
        assert_eq!(out, expected);
    }
}

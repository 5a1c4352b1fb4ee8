//! The handshake: one frame each way, without headers (protocol, "Handshake").

use std::fmt;

use ostler_types::{SessionId, Zxid};

use crate::frame;
use crate::jute::{Limits, Reader, Result};

/// Bytes of a session password.
pub const PASSWORD_BYTES: usize = 16;

/// The first frame of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnectRequest<'a> {
    /// Sent as 0 and ignored.
    pub protocol_version: i32,
    /// Newest transaction the client has seen; a server that has not yet applied it must turn the client away.
    pub last_zxid_seen: Zxid,
    /// Session timeout asked for, in milliseconds, as sent.
    pub timeout_ms: i32,
    /// The session to resume, or [`SessionId::NONE`] for a new one.
    pub session: SessionId,
    /// The session's password as sent.
    pub password: Option<&'a [u8]>,
    /// Whether a read-only server will do. Absent from clients older than 3.4, whose answer then has to go
    /// without the flag too.
    pub read_only: Option<bool>,
}

impl<'a> ConnectRequest<'a> {
    /// Whether the client knows the read-only flag, so that the answer must carry it.
    pub fn has_read_only(&self) -> bool {
        self.read_only.is_some()
    }

    /// Decodes a frame's payload: 44 bytes without the flag and 45 with it, for a password of 16.
    ///
    /// # Errors
    /// [`DecodeError`](crate::DecodeError); the connection cannot go on.
    pub fn decode(payload: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(payload, Limits::default());
        Ok(ConnectRequest {
            protocol_version: reader.int()?,
            last_zxid_seen: Zxid(reader.long()?),
            timeout_ms: reader.int()?,
            session: SessionId(reader.long()?),
            password: reader.buffer()?,
            read_only: reader.boolean().ok(),
        })
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame::write(out, |writer| {
            writer.int(self.protocol_version);
            writer.long(self.last_zxid_seen.0);
            writer.int(self.timeout_ms);
            writer.long(self.session.0);
            writer.nullable_buffer(self.password);
            if let Some(read_only) = self.read_only {
                writer.boolean(read_only);
            }
        });
    }
}

/// The server's answer to a [`ConnectRequest`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConnectResponse<'a> {
    /// Always 0.
    pub protocol_version: i32,
    /// The negotiated session timeout in milliseconds; 0 or less: the session has expired.
    pub timeout_ms: i32,
    /// The session, or [`SessionId::NONE`] if it has expired.
    pub session: SessionId,
    /// The session's password, 16 bytes.
    pub password: Option<&'a [u8]>,
    /// Whether this server is read-only; absent exactly when the request had no flag.
    pub read_only: Option<bool>,
}

impl<'a> ConnectResponse<'a> {
    /// The answer for a session that does not exist (any more) or whose password is wrong. `read_only` as for a
    /// session that does.
    pub fn expired(read_only: Option<bool>) -> ConnectResponse<'static> {
        ConnectResponse {
            protocol_version: 0,
            timeout_ms: 0,
            session: SessionId::NONE,
            password: Some(&[0; PASSWORD_BYTES]),
            read_only,
        }
    }

    /// Whether this says that the session has expired.
    pub fn is_expired(&self) -> bool {
        self.timeout_ms <= 0
    }

    /// Decodes a frame's payload.
    ///
    /// # Errors
    /// [`DecodeError`](crate::DecodeError); the connection cannot go on.
    pub fn decode(payload: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(payload, Limits::default());
        Ok(ConnectResponse {
            protocol_version: reader.int()?,
            timeout_ms: reader.int()?,
            session: SessionId(reader.long()?),
            password: reader.buffer()?,
            read_only: reader.boolean().ok(),
        })
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame::write(out, |writer| {
            writer.int(self.protocol_version);
            writer.int(self.timeout_ms);
            writer.long(self.session.0);
            writer.nullable_buffer(self.password);
            if let Some(read_only) = self.read_only {
                writer.boolean(read_only);
            }
        });
    }
}

// By hand, to keep passwords out of logs.
impl fmt::Debug for ConnectRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("last_zxid_seen", &self.last_zxid_seen)
            .field("timeout_ms", &self.timeout_ms)
            .field("session", &self.session)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ConnectResponse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectResponse")
            .field("timeout_ms", &self.timeout_ms)
            .field("session", &self.session)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Scan, scan};

    fn new_session(read_only: Option<bool>) -> ConnectRequest<'static> {
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(0x1_0000_0002),
            timeout_ms: 30_000,
            session: SessionId::NONE,
            password: Some(&[0; 16]),
            read_only,
        }
    }

    #[test]
    fn both_request_lengths() {
        let mut out = Vec::new();
        new_session(Some(false)).encode(&mut out);
        assert_eq!(out[..4], [0, 0, 0, 0x2d]);
        assert_eq!(
            out[4..32],
            [
                0, 0, 0, 0, // protocolVersion
                0, 0, 0, 1, 0, 0, 0, 2, // lastZxidSeen
                0, 0, 0x75, 0x30, // timeOut
                0, 0, 0, 0, 0, 0, 0, 0, // sessionId
                0, 0, 0, 16, // length of passwd
            ]
        );
        assert_eq!(ConnectRequest::decode(&out[4..]), Ok(new_session(Some(false))));
        assert_eq!(ConnectRequest::decode(&out[4..out.len() - 1]), Ok(new_session(None)));

        out.clear();
        new_session(None).encode(&mut out);
        assert_eq!(scan(&out, 100), Scan::Frame(4..48));
        assert_eq!(ConnectRequest::decode(&out[4..]), Ok(new_session(None)));
    }

    #[test]
    fn expired_answers() {
        let mut out = Vec::new();
        ConnectResponse::expired(Some(false)).encode(&mut out);
        let mut expected = vec![0, 0, 0, 37];
        expected.extend_from_slice(&[0; 16]);
        expected.extend_from_slice(&[0, 0, 0, 16]);
        expected.extend_from_slice(&[0; 17]);
        assert_eq!(out, expected);
        assert!(ConnectResponse::decode(&out[4..]).unwrap().is_expired());

        out.clear();
        ConnectResponse::expired(None).encode(&mut out);
        assert_eq!(out[..4], [0, 0, 0, 36]);
        assert_eq!(ConnectResponse::decode(&out[4..]), Ok(ConnectResponse::expired(None)));
    }

    #[test]
    fn passwords_stay_out_of_debug_output() {
        let request = ConnectRequest { password: Some(b"sixteen secrets!"), ..new_session(None) };
        assert!(!format!("{request:?}").contains(&format!("{:?}", b"sixteen secrets!")));
        assert!(!format!("{request:?}").contains("password"));
    }
}

//! Opening a connection and getting a session on it.

use std::fmt;
use std::time::Duration;

use ostler_types::{SessionId, Zxid};
use ostler_wire::{ConnectRequest, ConnectResponse};
use tokio::net::{TcpStream, ToSocketAddrs};

use crate::client::ConnectOptions;
use crate::error::ConnectError;
use crate::raw::{RawConnection, ReadError};

/// A session, with what is needed to resume it on another connection.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id, visible to all as the owner of its ephemeral znodes.
    pub id: SessionId,
    /// Proof that it is ours.
    pub password: Vec<u8>,
    /// The timeout the server granted.
    pub timeout: Duration,
    /// Whether the server that answered was in read-only mode; unknown from servers before 3.4.
    pub read_only: Option<bool>,
}

// By hand, to keep the password out of logs.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("timeout", &self.timeout)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

/// Connects and shakes hands, within the time the options allow.
pub(crate) async fn connect(
    address: impl ToSocketAddrs,
    options: &ConnectOptions,
) -> Result<(RawConnection, Session), ConnectError> {
    let limit = options.connect_timeout;
    let attempt = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut connection = RawConnection::new(stream, options.max_frame_bytes);
        let session = shake_hands(&mut connection, options).await?;
        Ok((connection, session))
    };
    tokio::time::timeout(limit, attempt).await.unwrap_or(Err(ConnectError::TimedOut(limit)))
}

async fn shake_hands(
    connection: &mut RawConnection,
    options: &ConnectOptions,
) -> Result<Session, ConnectError> {
    let resume = options.resume.as_ref();
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: options.last_zxid_seen.unwrap_or(Zxid::ZERO),
        timeout_ms: i32::try_from(options.session_timeout.as_millis()).unwrap_or(i32::MAX),
        session: resume.map_or(SessionId::NONE, |session| session.id),
        password: Some(
            resume.map_or(&[0; ostler_wire::connect::PASSWORD_BYTES], |session| &session.password),
        ),
        read_only: options.read_only,
    };
    let mut bytes = Vec::new();
    request.encode(&mut bytes);
    connection.send(&bytes).await?;
    let payload = match connection.read_frame().await {
        Ok(Some(payload)) => payload,
        Ok(None) => return Err(ConnectError::Refused),
        // A server that closes with our bytes still unread resets the connection.
        Err(ReadError::Io(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => {
            return Err(ConnectError::Refused);
        }
        Err(ReadError::Io(error)) => return Err(error.into()),
        Err(ReadError::Protocol(error)) => return Err(error.into()),
    };
    let response = ConnectResponse::decode(payload).map_err(|error| ConnectError::Protocol(error.into()))?;
    if response.is_expired() {
        return Err(ConnectError::SessionExpired);
    }
    Ok(Session {
        id: response.session,
        password: response.password.unwrap_or_default().to_vec(),
        timeout: Duration::from_millis(response.timeout_ms.unsigned_abs().into()),
        read_only: response.read_only,
    })
}

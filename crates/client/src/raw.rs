//! A socket and frames, nothing else: for tests that send what no client sends, and beneath [`Client`].
//!
//! [`Client`]: crate::Client

use std::io;

use ostler_types::Xid;
use ostler_wire::frame::{self, Scan};
use ostler_wire::{ConnectRequest, ReplyHeader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};

use crate::exchange::ProtocolError;

/// A connection that sends any bytes and reads frames.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    input: FrameBuffer,
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The socket failed, or ended inside a frame.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// What arrived is no frame, or not the one expected.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
}

impl RawConnection {
    /// Connects; nothing is sent yet.
    ///
    /// # Errors
    /// When the address does not resolve or nobody listens there.
    pub async fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self::new(stream, usize::MAX))
    }

    pub(crate) fn new(stream: TcpStream, max_frame_bytes: usize) -> Self {
        RawConnection { stream, input: FrameBuffer::new(max_frame_bytes) }
    }

    pub(crate) fn into_parts(self) -> (TcpStream, FrameBuffer) {
        (self.stream, self.input)
    }

    /// The socket, to shut down one half, or set options.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends `bytes` as they are.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a frame of any xid, opcode and body.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn send_request(&mut self, xid: Xid, op: i32, body: &[u8]) -> io::Result<()> {
        let len = i32::try_from(8 + body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut bytes = Vec::with_capacity(12 + body.len());
        for int in [len, xid.0, op] {
            bytes.extend_from_slice(&int.to_be_bytes());
        }
        bytes.extend_from_slice(body);
        self.send(&bytes).await
    }

    /// Sends a handshake.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn send_connect(&mut self, request: &ConnectRequest<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        self.send(&bytes).await
    }

    /// The payload of the next frame, or `None` once the server has closed the connection.
    ///
    /// # Errors
    /// [`ReadError`]; a connection closed inside a frame is an `UnexpectedEof`. Dropping the future loses nothing.
    pub async fn read_frame(&mut self) -> Result<Option<&[u8]>, ReadError> {
        loop {
            if let Some(range) = self.input.next_frame()? {
                return Ok(Some(&self.input.bytes[range]));
            }
            self.input.compact();
            if self.stream.read_buf(&mut self.input.bytes).await? == 0 {
                return if self.input.is_empty() {
                    Ok(None)
                } else {
                    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
                };
            }
        }
    }

    /// The next frame as header and body of a reply or event, or `None` once the server has closed.
    ///
    /// # Errors
    /// As [`read_frame`](Self::read_frame).
    pub async fn read_reply(&mut self) -> Result<Option<(ReplyHeader, &[u8])>, ReadError> {
        match self.read_frame().await? {
            Some(payload) => Ok(Some(ReplyHeader::decode(payload).map_err(ProtocolError::from)?)),
            None => Ok(None),
        }
    }
}

/// Received bytes, and how far they have been handed out.
#[derive(Debug)]
pub(crate) struct FrameBuffer {
    pub(crate) bytes: Vec<u8>,
    consumed: usize,
    max_frame_bytes: usize,
}

impl FrameBuffer {
    fn new(max_frame_bytes: usize) -> Self {
        FrameBuffer { bytes: Vec::new(), consumed: 0, max_frame_bytes }
    }

    /// Where in `bytes` the payload of the next whole frame is.
    pub(crate) fn next_frame(&mut self) -> Result<Option<std::ops::Range<usize>>, ProtocolError> {
        match frame::scan(&self.bytes[self.consumed..], self.max_frame_bytes) {
            Scan::NeedMore(_) => Ok(None),
            Scan::Frame(range) => {
                let start = self.consumed;
                self.consumed += range.end;
                Ok(Some(start + range.start..start + range.end))
            }
            Scan::Negative(length) => Err(ProtocolError::NegativeLength(length)),
            Scan::TooLong { len } => Err(ProtocolError::FrameTooLong(len)),
        }
    }

    /// Forgets the frames handed out.
    pub(crate) fn compact(&mut self) {
        self.bytes.drain(..self.consumed);
        self.consumed = 0;
    }

    fn is_empty(&self) -> bool {
        self.consumed == self.bytes.len()
    }
}

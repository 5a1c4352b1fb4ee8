//! Introductions on a fresh connection, before anything else is said.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::frame::{FrameReader, ReadError, frame_header};
use super::hello::{BadGreeting, Greeting, Hello, MAGIC, MAX_GREETING_BYTES, Refusal, Standing};

/// How long the other side may take for its introduction.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there was no introduction.
#[derive(Debug, thiserror::Error)]
pub(super) enum GreetError {
    /// Connected, but it closed the connection or broke it.
    #[error("it closed the connection instead of introducing itself")]
    Closed,
    #[error("it did not introduce itself within two seconds: it hangs, or is no Ostler server")]
    Silent,
    #[error("it does not speak Ostler's peer protocol; is this the quorum port of an Ostler server?")]
    NotOstler,
    #[error(transparent)]
    Bad(#[from] BadGreeting),
    #[error("its introduction is damaged: {0}")]
    Damaged(ReadError),
    #[error("it introduced itself out of turn")]
    OutOfTurn,
    #[error("it chose version {chosen} of the peer protocol, where {expected} was to be chosen")]
    Version { chosen: u16, expected: u16 },
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for GreetError {
    fn from(error: io::Error) -> GreetError {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                GreetError::Closed
            }
            _ => GreetError::Io(error),
        }
    }
}

/// What the server that was dialed answers.
#[derive(Debug)]
pub(super) enum Answer {
    Yes { hello: Hello, version: u16, standing: Standing },
    No(Refusal),
}

/// Sends a greeting.
pub(super) async fn say(
    stream: &mut (impl AsyncWrite + Unpin),
    greeting: &Greeting,
) -> Result<(), GreetError> {
    let payload = greeting.encode();
    let bytes = [&MAGIC[..], &frame_header(&payload), &payload].concat();
    timeout(PATIENCE, stream.write_all(&bytes)).await.map_err(|_| GreetError::Silent)??;
    Ok(())
}

/// Waits for the Hello of a server that has connected.
pub(super) async fn hear_hello<S: AsyncRead + Unpin>(
    stream: &mut S,
    frames: &mut FrameReader,
) -> Result<Hello, GreetError> {
    match hear(stream, frames).await? {
        Greeting::Hello(hello) => Ok(hello),
        Greeting::Answer { .. } | Greeting::Refusal(_) => Err(GreetError::OutOfTurn),
    }
}

/// Waits for the answer to our Hello.
pub(super) async fn hear_answer<S: AsyncRead + Unpin>(
    stream: &mut S,
    frames: &mut FrameReader,
) -> Result<Answer, GreetError> {
    match hear(stream, frames).await? {
        Greeting::Answer { hello, version, standing } => Ok(Answer::Yes { hello, version, standing }),
        Greeting::Refusal(refusal) => Ok(Answer::No(refusal)),
        Greeting::Hello(_) => Err(GreetError::OutOfTurn),
    }
}

async fn hear<S: AsyncRead + Unpin>(
    stream: &mut S,
    frames: &mut FrameReader,
) -> Result<Greeting, GreetError> {
    let heard = async {
        while !frames.skip(MAGIC).map_err(|_| GreetError::NotOstler)? {
            frames.fill(stream).await.map_err(read_error)?;
        }
        frames.limit_to(MAX_GREETING_BYTES);
        let payload = frames.read(stream).await.map_err(read_error)?;
        Ok(Greeting::decode(&payload)?)
    };
    timeout(PATIENCE, heard).await.map_err(|_| GreetError::Silent)?
}

fn read_error(error: ReadError) -> GreetError {
    match error {
        ReadError::Closed | ReadError::Cut => GreetError::Closed,
        ReadError::Io(error) => error.into(),
        error @ ReadError::Bad(_) => GreetError::Damaged(error),
    }
}

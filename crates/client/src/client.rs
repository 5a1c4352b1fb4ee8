//! The handle that requests go through.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ostler_types::{EventType, Xid, Zxid};
use ostler_wire::{OpCode, Request, Response};
use tokio::net::ToSocketAddrs;
use tokio::sync::{mpsc, oneshot, watch};

use crate::connection::{self, Command};
use crate::error::{ConnectError, Error, LossCause};
use crate::handshake::{self, Session};

/// How to connect.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Session timeout to ask for. The server clamps it to its own bounds.
    pub session_timeout: Duration,
    /// How long to wait for the connection and the handshake together.
    pub connect_timeout: Duration,
    /// The session to resume; a new one if absent.
    pub resume: Option<Session>,
    /// Newest transaction seen so far: a server that is behind it refuses.
    pub last_zxid_seen: Option<Zxid>,
    /// Whether a server in read-only mode will do. Absent: the flag is not sent, as by clients before 3.4.
    pub read_only: Option<bool>,
    /// Whether to send heartbeats when nothing else is sent for a third of the session timeout, and to give the
    /// connection up when nothing is received for two thirds of it.
    pub keep_alive: bool,
    /// Number of the first request.
    pub first_xid: i32,
    /// Longest frame to accept, in bytes.
    pub max_frame_bytes: usize,
    /// How many requests may wait for replies; further ones wait their turn in this process.
    pub max_outstanding: usize,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions {
            session_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            resume: None,
            last_zxid_seen: None,
            read_only: Some(false),
            keep_alive: true,
            first_xid: 1,
            max_frame_bytes: 64 << 20,
            max_outstanding: 16 << 10,
        }
    }
}

/// A watch fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The transaction that fired it, or -1 if it was found while serving setWatches.
    pub zxid: Zxid,
    /// What happened.
    pub kind: EventType,
    /// To which znode.
    pub path: String,
    /// Position among all replies and events of the connection, from 0.
    pub arrival: u64,
}

/// A successful reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The newest transaction the server had applied; a write's own or a later one.
    pub zxid: Zxid,
    /// The reply's body.
    pub response: Response,
    /// Position among all replies and events of the connection, from 0.
    pub arrival: u64,
}

/// A request under way; resolves to its reply. Dropping it does not take the request back.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<Reply, Error>>);

impl Future for Pending {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The connection answers every request it took before it ends; if it is gone without, its task was
        // cancelled with the runtime, and nobody knows how far it had come.
        let lost = |_| Err(Error::OutcomeUnknown(LossCause::ClosedHere));
        Pin::new(&mut self.0).poll(context).map(|reply| reply.unwrap_or_else(lost))
    }
}

/// A session on one connection. Clones share it; when the last one goes, so does the connection, but not the
/// session: see [`close`](Self::close).
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    session: Arc<Session>,
    last_zxid_seen: watch::Receiver<Zxid>,
    end: watch::Receiver<Option<LossCause>>,
}

impl Client {
    /// Connects, opens or resumes a session, and starts the task that runs the connection.
    ///
    /// Events arrive in the order the server sent them, and before any later reply resolves. They are kept
    /// until they are received; dropping the receiver discards them.
    ///
    /// # Errors
    /// [`ConnectError`]
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(
        address: impl ToSocketAddrs,
        options: &ConnectOptions,
    ) -> Result<(Client, mpsc::UnboundedReceiver<Event>), ConnectError> {
        let (raw, session) = handshake::connect(address, options).await?;
        let (command_sender, commands) = mpsc::channel(1024);
        // Unbounded: holding back events would hold back replies, and with them those who free the space.
        let (events, event_receiver) = mpsc::unbounded_channel();
        let (zxid_sender, last_zxid_seen) = watch::channel(options.last_zxid_seen.unwrap_or(Zxid::ZERO));
        let (end_sender, end) = watch::channel(None);
        let ends = connection::Ends { commands, events, last_zxid_seen: zxid_sender, end: end_sender };
        connection::spawn(raw, session.timeout, options, ends);
        let client = Client { commands: command_sender, session: Arc::new(session), last_zxid_seen, end };
        Ok((client, event_receiver))
    }

    /// The session, as granted by the server.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The newest transaction a reply has shown.
    pub fn last_zxid_seen(&self) -> Zxid {
        *self.last_zxid_seen.borrow()
    }

    /// Sends a request and returns without waiting for its reply. Requests are sent, carried out and answered
    /// in the order in which these futures were first polled; each waits only while too many are outstanding.
    pub async fn start(&self, request: &Request<'_>) -> Pending {
        let mut frame = Vec::new();
        // The connection numbers it when it is sent.
        request.encode(Xid(0), &mut frame);
        self.start_frame(request.op(), frame).await
    }

    async fn start_frame(&self, op: OpCode, frame: Vec<u8>) -> Pending {
        let (reply, receiver) = oneshot::channel();
        if let Err(mpsc::error::SendError(command)) =
            self.commands.send(Command::Request { op, frame, reply }).await
        {
            let cause = self.end.borrow().clone().unwrap_or(LossCause::ClosedHere);
            if let Command::Request { reply, .. } = command {
                // The receiver is ours and alive.
                let _ = reply.send(Err(Error::NotSent(cause)));
            }
        }
        Pending(receiver)
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn call(&self, request: &Request<'_>) -> Result<Reply, Error> {
        self.start(request).await.await
    }

    /// Drops the connection without ending the session, as a crash would. Requests without a reply resolve to
    /// [`Error::OutcomeUnknown`] or [`Error::NotSent`].
    pub async fn disconnect(&self) {
        // An error means that the connection is gone already.
        let _ = self.commands.send(Command::Disconnect).await;
        self.ended().await;
    }

    /// Waits until the connection has ended, and says why.
    pub async fn ended(&self) -> LossCause {
        let mut end = self.end.clone();
        match end.wait_for(Option::is_some).await.map(|cause| cause.clone()) {
            Ok(Some(cause)) => cause,
            // The task was cancelled with its runtime.
            Ok(None) | Err(_) => LossCause::ClosedHere,
        }
    }
}

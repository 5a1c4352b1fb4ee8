//! The task that owns a connection's socket: commands in, frames out, replies and events back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ostler_types::{ErrorCode, Xid, Zxid};
use ostler_wire::{OpCode, Request, Response};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::client::{ConnectOptions, Event, Reply};
use crate::error::{Error, LossCause};
use crate::exchange::{Exchange, Incoming};
use crate::raw::{FrameBuffer, RawConnection};

/// What a handle asks of its connection.
#[derive(Debug)]
pub(crate) enum Command {
    /// Send `frame`, whose xid is yet to be filled in.
    Request { op: OpCode, frame: Vec<u8>, reply: oneshot::Sender<Result<Reply, Error>> },
    /// End the connection.
    Disconnect,
}

/// The connection's ends of the channels to its handles.
pub(crate) struct Ends {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) last_zxid_seen: watch::Sender<Zxid>,
    pub(crate) end: watch::Sender<Option<LossCause>>,
}

/// Read this much at a time, in bytes.
const READ_CHUNK: usize = 64 << 10;
/// Stop taking commands while this many bytes wait to be written.
const MAX_UNWRITTEN: usize = 1 << 20;
/// Where in a frame the xid is.
const XID_AT: std::ops::Range<usize> = 4..8;

/// Starts the task.
pub(crate) fn spawn(raw: RawConnection, session_timeout: Duration, options: &ConnectOptions, ends: Ends) {
    let (stream, input) = raw.into_parts();
    let now = Instant::now();
    let mut connection = Connection {
        stream,
        input,
        output: Vec::new(),
        written: 0,
        written_total: 0,
        exchange: Exchange::new(options.first_xid, options.last_zxid_seen.unwrap_or(Zxid::ZERO)),
        events: ends.events,
        last_zxid_seen: ends.last_zxid_seen,
        arrivals: 0,
        last_sent: now,
        last_received: now,
        unanswered_ping: None,
        session_timeout: options.keep_alive.then_some(session_timeout),
        max_outstanding: options.max_outstanding,
    };
    let mut commands = ends.commands;
    tokio::spawn(async move {
        let cause = connection.run(&mut commands).await;
        connection.end(cause.clone());
        // From here on `start` fails by itself; what it had queued before is answered below.
        ends.end.send_replace(Some(cause.clone()));
        commands.close();
        while let Some(command) = commands.recv().await {
            if let Command::Request { reply, .. } = command {
                let _ = reply.send(Err(Error::NotSent(cause.clone())));
            }
        }
    });
}

/// Who waits for a reply, and since which position of the output stream.
struct Waiter {
    /// `None` for heartbeats of our own.
    reply: Option<oneshot::Sender<Result<Reply, Error>>>,
    /// Bytes of output before the request's first.
    starts_at: u64,
}

struct Connection {
    stream: TcpStream,
    input: FrameBuffer,
    /// Encoded requests; the first `written` bytes are sent.
    output: Vec<u8>,
    written: usize,
    /// Bytes sent in all.
    written_total: u64,
    exchange: Exchange<Waiter>,
    events: mpsc::UnboundedSender<Event>,
    last_zxid_seen: watch::Sender<Zxid>,
    arrivals: u64,
    last_sent: Instant,
    last_received: Instant,
    /// When a heartbeat was sent since anything was received.
    unanswered_ping: Option<Instant>,
    /// `None`: no heartbeats and no read timeout.
    session_timeout: Option<Duration>,
    max_outstanding: usize,
}

impl Connection {
    /// Runs until the connection ends.
    async fn run(&mut self, commands: &mut mpsc::Receiver<Command>) -> LossCause {
        let mut batch = Vec::new();
        loop {
            let room = self.max_outstanding.saturating_sub(self.exchange.waiting());
            let take_commands = room > 0 && self.output.len() - self.written < MAX_UNWRITTEN;
            let deadline = self.next_deadline();
            let outcome = tokio::select! {
                readable = self.stream.readable() => match readable {
                    Ok(()) => self.read(),
                    Err(error) => Err(LossCause::Io(Arc::new(error))),
                },
                taken = commands.recv_many(&mut batch, room.min(1024)), if take_commands => {
                    if taken == 0 {
                        return LossCause::ClosedHere;
                    }
                    self.take(&mut batch)
                }
                writable = self.stream.writable(), if self.written < self.output.len() => match writable {
                    Ok(()) => self.write(),
                    Err(error) => Err(LossCause::Io(Arc::new(error))),
                },
                () = sleep_until(deadline) => self.on_deadline(),
            };
            if let Err(cause) = outcome {
                return cause;
            }
        }
    }

    /// When to look at the timers next.
    fn next_deadline(&self) -> Option<Instant> {
        let timeout = self.session_timeout?;
        let ping_at = self.ping_at(timeout);
        Some(ping_at.map_or(self.silent_at(timeout), |at| at.min(self.silent_at(timeout))))
    }

    /// When to send the next heartbeat; not while one is unanswered.
    fn ping_at(&self, timeout: Duration) -> Option<Instant> {
        self.unanswered_ping.is_none().then_some(self.last_sent + timeout / 3)
    }

    /// When to give up. A heartbeat is given time for its answer even if this process has been stalled.
    fn silent_at(&self, timeout: Duration) -> Instant {
        let silent_at = self.last_received + timeout * 2 / 3;
        self.unanswered_ping.map_or(silent_at, |sent| silent_at.max(sent + timeout / 3))
    }

    fn on_deadline(&mut self) -> Result<(), LossCause> {
        let (Some(timeout), now) = (self.session_timeout, Instant::now()) else { return Ok(()) };
        if self.ping_at(timeout).is_some_and(|at| now >= at) {
            let mut frame = Vec::new();
            Request::Ping.encode(Xid::PING, &mut frame);
            self.enqueue(OpCode::Ping, &mut frame, None);
            self.unanswered_ping = Some(now);
            return self.write();
        }
        if now >= self.silent_at(timeout) {
            // After a stall what looks like silence may wait in the socket.
            self.read()?;
            if now >= self.silent_at(timeout) {
                return Err(LossCause::Silence(now - self.last_received));
            }
        }
        Ok(())
    }

    fn take(&mut self, batch: &mut Vec<Command>) -> Result<(), LossCause> {
        let mut outcome = Ok(());
        for command in batch.drain(..) {
            match command {
                Command::Request { reply, .. } if outcome.is_err() => {
                    let _ = reply.send(Err(Error::NotSent(LossCause::ClosedHere)));
                }
                Command::Request { op, mut frame, reply } => self.enqueue(op, &mut frame, Some(reply)),
                Command::Disconnect => outcome = Err(LossCause::ClosedHere),
            }
        }
        outcome?;
        self.write()
    }

    fn enqueue(
        &mut self,
        op: OpCode,
        frame: &mut [u8],
        reply: Option<oneshot::Sender<Result<Reply, Error>>>,
    ) {
        let starts_at = self.written_total + (self.output.len() - self.written) as u64;
        let xid = self.exchange.send(op, Waiter { reply, starts_at });
        frame[XID_AT].copy_from_slice(&xid.0.to_be_bytes());
        self.output.extend_from_slice(frame);
    }

    /// Writes as much as the socket takes.
    fn write(&mut self) -> Result<(), LossCause> {
        while self.written < self.output.len() {
            match self.stream.try_write(&self.output[self.written..]) {
                Ok(count) => {
                    self.written += count;
                    self.written_total += count as u64;
                    self.last_sent = Instant::now();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(LossCause::Io(Arc::new(error))),
            }
        }
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads what the socket has, up to a chunk, and deals with every whole frame.
    fn read(&mut self) -> Result<(), LossCause> {
        self.input.compact();
        self.input.bytes.reserve(READ_CHUNK);
        match self.stream.try_read_buf(&mut self.input.bytes) {
            Ok(0) => return Err(LossCause::ClosedByServer),
            Ok(_) => {
                self.last_received = Instant::now();
                self.unanswered_ping = None;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(LossCause::ClosedByServer);
            }
            Err(error) => return Err(LossCause::Io(Arc::new(error))),
        }
        while let Some(range) = self.input.next_frame().map_err(LossCause::Protocol)? {
            let arrival = self.arrivals;
            self.arrivals += 1;
            match self.exchange.receive(&self.input.bytes[range]).map_err(LossCause::Protocol)? {
                Incoming::Event { zxid, event } => {
                    let event = Event { zxid, kind: event.kind, path: event.path.into_owned(), arrival };
                    // Nobody has to listen.
                    let _ = self.events.send(event);
                }
                Incoming::Reply { tag, op, header, body } => {
                    let result = match (header.err, ErrorCode::from_code(header.err)) {
                        (0, _) => Response::decode(op, body)
                            .map(|response| Reply { zxid: header.zxid, response, arrival })
                            .map_err(Error::Reply),
                        (_, Some(code)) => Err(Error::Server(code)),
                        (code, None) => Err(Error::ServerCode(code)),
                    };
                    let zxid = self.exchange.last_zxid_seen();
                    self.last_zxid_seen.send_if_modified(|seen| std::mem::replace(seen, zxid) != zxid);
                    if let Some(reply) = tag.reply {
                        // Nobody has to wait.
                        let _ = reply.send(result);
                    }
                }
            }
        }
        Ok(())
    }

    /// Answers every request that is left without a reply.
    fn end(self, cause: LossCause) {
        let written = self.written_total;
        for waiter in self.exchange.into_waiting() {
            if let Some(reply) = waiter.reply {
                let error = if waiter.starts_at < written { Error::OutcomeUnknown } else { Error::NotSent };
                let _ = reply.send(Err(error(cause.clone())));
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

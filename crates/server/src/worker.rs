//! One I/O worker: the sockets of one session shard, on one thread.
//!
//! A turn of the loop waits for sockets, reads what they hold, lets the shard decide, and writes what it
//! answered: one wake-up and one write per connection and turn, however many replies that is. Reading is
//! edge-triggered; an idle connection holds no buffer and costs no system call.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use ostler_node::{ConnId, ConnToken, ConnectionEnd, ConnectionFacts, Effect, Millis, Shard, ShardId};
use ostler_types::SessionId;

use crate::admission::Gate;
use crate::clock;
use crate::core::CoreEvent;
use crate::reports::Question;

const WAKE: Token = Token(usize::MAX);
/// Bytes read from one socket before the others have their turn.
const READ_BYTES: usize = 64 << 10;
/// Readiness events taken at once: more than a process has descriptors here, so that one turn hears everybody.
const EVENTS: usize = 32 << 10;
/// When stopping, a connection has this long to take its last bytes and close (design, "Graceful stop").
const LINGER_MS: Millis = 1_000;
/// A connection that is to be closed has this long to take what was sent before the end; a client that has
/// stopped reading would otherwise hold its output and its socket for good.
const LAST_OUTPUT_MS: Millis = 5_000;

/// What other threads ask of a worker.
pub(crate) enum WorkerMessage {
    /// Serve this connection.
    Accepted {
        /// Its socket.
        stream: std::net::TcpStream,
        /// Where it comes from.
        peer: SocketAddr,
        /// Whether it came to the port for linearizable reads.
        is_linearizable: bool,
    },
    /// Answer a four-letter word.
    Answer(ConnToken, Vec<u8>),
    /// Describe the connections.
    Connections(SyncSender<Vec<ConnectionFacts>>),
    /// Describe the data watches.
    Watches(SyncSender<Vec<(SessionId, String)>>),
    /// Reset the connections' counters (`crst`).
    ResetConnections(SyncSender<()>),
    /// Finish what is in flight, then end.
    Stop,
}

/// How other threads reach a worker.
#[derive(Clone)]
pub(crate) struct WorkerHandle {
    messages: Sender<WorkerMessage>,
    waker: Arc<Waker>,
}

impl WorkerHandle {
    /// Hands over a message. A worker that has ended drops it, as the whole server is ending then.
    pub(crate) fn send(&self, message: WorkerMessage) {
        if self.messages.send(message).is_ok() {
            self.wake();
        }
    }

    /// There is something in the shard's inbox.
    pub(crate) fn wake(&self) {
        // The waker is an eventfd in the worker's own poll; it fails only when that is gone.
        let _ = self.waker.wake();
    }
}

struct Socket {
    stream: TcpStream,
    address: IpAddr,
    /// An edge was seen and the socket has not been read empty since.
    readable: bool,
    /// The peer has ended its side: an edge that is not repeated, so the socket is read until it says so.
    read_closed: bool,
    /// When it is closed whatever is left to be sent or read.
    close_by: Option<Millis>,
    /// The write side is shut; what is left is to wait for the peer.
    lingering: bool,
}

/// See the module's documentation.
pub(crate) struct Worker {
    poll: Poll,
    messages: Receiver<WorkerMessage>,
    shard: Shard,
    shard_id: ShardId,
    sockets: Vec<Option<Socket>>,
    /// Sockets with something left to read.
    ready: Vec<ConnId>,
    core: Sender<CoreEvent>,
    questions: Sender<Question>,
    gate: Arc<Gate>,
    /// Connections on their way out, and when they are dropped: first those whose last output is not written
    /// yet, then those whose write side is shut. Each queue oldest first.
    last_output: VecDeque<(Millis, ConnId)>,
    lingering: VecDeque<(Millis, ConnId)>,
    stopping: bool,
    stop_by: Millis,
}

impl Worker {
    /// A worker and the handle to it.
    pub(crate) fn new(
        shard_id: ShardId,
        core: Sender<CoreEvent>,
        questions: Sender<Question>,
        gate: Arc<Gate>,
        make_shard: impl FnOnce(Millis) -> Shard,
    ) -> std::io::Result<(Worker, WorkerHandle)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        let (sender, messages) = std::sync::mpsc::channel();
        let worker = Worker {
            poll,
            messages,
            shard: make_shard(clock::now()),
            shard_id,
            sockets: Vec::new(),
            ready: Vec::new(),
            core,
            questions,
            gate,
            last_output: VecDeque::new(),
            lingering: VecDeque::new(),
            stopping: false,
            stop_by: Millis::MAX,
        };
        Ok((worker, WorkerHandle { messages: sender, waker }))
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        let mut scratch = vec![0; READ_BYTES];
        let mut heard_through = clock::now();
        loop {
            let before = clock::now();
            let timeout = if self.ready.is_empty() && !self.shard.has_effects() {
                let closing = [&self.last_output, &self.lingering].map(|queue| queue.front());
                let closing = closing.into_iter().flatten().map(|&(until, _)| until).min();
                clock::until(self.shard.next_deadline().min(closing.unwrap_or(Millis::MAX)), before)
            } else {
                Duration::ZERO
            };
            if let Err(error) = self.poll.poll(&mut events, Some(timeout))
                && error.kind() != ErrorKind::Interrupted
            {
                // Nothing a caller could do: the poll descriptor itself is broken.
                tracing::error!(%error, shard = self.shard_id.0, "cannot wait for sockets, stopping");
                crate::exit(crate::EXIT_FAILURE);
            }
            let now = clock::now();
            let mut taken = 0;
            for event in &events {
                taken += 1;
                if event.token() == WAKE {
                    continue;
                }
                let id = ConnId(event.token().0 as u32);
                if event.is_writable() {
                    self.flush(id, now);
                }
                if event.is_readable() || event.is_read_closed() || event.is_error() {
                    self.mark_readable(id, event.is_read_closed() || event.is_error());
                }
            }
            if self.take_messages(now).is_none() {
                return;
            }
            for id in std::mem::take(&mut self.ready) {
                self.read(id, &mut scratch, now);
            }
            self.shard.process_inbox(now);
            self.shard.tick(now);
            self.perform(now);
            self.end_closing(now);
            // What arrived before the poll began has been read, or belongs to a client that was read from
            // just now and has still more.
            if taken < EVENTS {
                heard_through = before;
            }
            if let Some(requests) = self.shard.take_requests(heard_through, now)
                && self.core.send(CoreEvent::Shard(requests)).is_err()
            {
                return;
            }
            if self.stopping && self.finish_stopping(now) {
                return;
            }
        }
    }

    fn take_messages(&mut self, now: Millis) -> Option<()> {
        loop {
            match self.messages.try_recv() {
                Ok(WorkerMessage::Accepted { stream, peer, is_linearizable }) => {
                    self.accept(stream, peer, is_linearizable, now);
                }
                Ok(WorkerMessage::Answer(token, text)) => self.shard.answer_text(token, &text),
                // Whoever asked may have given up.
                Ok(WorkerMessage::Connections(reply)) => {
                    let _ = reply.send(self.shard.connection_facts(now));
                }
                Ok(WorkerMessage::Watches(reply)) => {
                    let _ = reply.send(self.shard.watch_facts());
                }
                Ok(WorkerMessage::ResetConnections(reply)) => {
                    self.shard.reset_connection_stats();
                    let _ = reply.send(());
                }
                Ok(WorkerMessage::Stop) => {
                    self.stopping = true;
                    self.stop_by = now + LINGER_MS * 2;
                    self.shard.begin_shutdown();
                }
                Err(TryRecvError::Empty) => return Some(()),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
    }

    fn accept(&mut self, stream: std::net::TcpStream, peer: SocketAddr, is_linearizable: bool, now: Millis) {
        if self.stopping {
            self.gate.closed(peer.ip());
            return;
        }
        let mut stream = TcpStream::from_std(stream);
        let id = if is_linearizable {
            self.shard.open_linearizable(peer, now)
        } else {
            self.shard.open(peer, now)
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, Token(id.0 as usize), interest) {
            tracing::warn!(%peer, %error, "cannot watch a new connection, closing it");
            self.shard.remove(id, ConnectionEnd::SocketError, now);
            self.gate.closed(peer.ip());
            return;
        }
        let slot = id.0 as usize;
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        let address = peer.ip();
        self.sockets[slot] = Some(Socket {
            stream,
            address,
            readable: false,
            read_closed: false,
            close_by: None,
            lingering: false,
        });
    }

    fn mark_readable(&mut self, id: ConnId, read_closed: bool) {
        if let Some(Some(socket)) = self.sockets.get_mut(id.0 as usize) {
            socket.read_closed |= read_closed;
            if !socket.readable {
                socket.readable = true;
                self.ready.push(id);
            }
        }
    }

    fn read(&mut self, id: ConnId, scratch: &mut [u8], now: Millis) {
        let Some(Some(socket)) = self.sockets.get_mut(id.0 as usize) else { return };
        if socket.lingering {
            return self.read_lingering(id, scratch, now);
        }
        // The edge stays noted: reading goes on when the shard lets it.
        if !self.shard.wants_read(id) {
            return;
        }
        match socket.stream.read(scratch) {
            Ok(0) => self.drop_connection(id, ConnectionEnd::PeerClosed, now),
            Ok(count) => {
                if count < scratch.len() && !socket.read_closed {
                    // A short read of a stream socket has emptied it.
                    socket.readable = false;
                } else {
                    self.ready.push(id);
                }
                self.shard.receive(id, &scratch[..count], now);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => socket.readable = false,
            Err(error) if error.kind() == ErrorKind::Interrupted => self.ready.push(id),
            Err(_) => self.drop_connection(id, ConnectionEnd::SocketError, now),
        }
    }

    /// Does what the shard has decided. What it decides meanwhile waits for the next turn: a client that takes
    /// its answers as fast as they are made must not keep the others waiting.
    fn perform(&mut self, now: Millis) {
        let mut effects = self.shard.take_effects();
        for effect in effects.drain(..) {
            match effect {
                Effect::Flush(id) => self.flush(id, now),
                Effect::Resume(id) => {
                    if let Some(Some(socket)) = self.sockets.get(id.0 as usize)
                        && socket.readable
                    {
                        self.ready.push(id);
                    }
                }
                Effect::Text(connection, bytes) => {
                    let question = Question { shard: self.shard_id, connection, bytes };
                    // The reporter ends with the server.
                    let _ = self.questions.send(question);
                }
            }
        }
        self.shard.recycle(effects);
    }

    fn flush(&mut self, id: ConnId, now: Millis) {
        let Some(Some(socket)) = self.sockets.get_mut(id.0 as usize) else { return };
        let Some(output) = self.shard.output(id) else { return };
        let mut broken = false;
        while !output.unsent().is_empty() {
            match socket.stream.write(output.unsent()) {
                Ok(count) => output.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    broken = true;
                    break;
                }
            }
        }
        if broken {
            return self.drop_connection(id, ConnectionEnd::SocketError, now);
        }
        self.shard.output_progress(id, now);
        if self.shard.is_finished(id) {
            self.close(id, now);
        } else if self.shard.is_closing(id)
            && let Some(Some(socket)) = self.sockets.get_mut(id.0 as usize)
            && socket.close_by.is_none()
        {
            let until = now + LAST_OUTPUT_MS;
            socket.close_by = Some(until);
            self.last_output.push_back((until, id));
        }
    }

    /// Closes a connection whose output is written. With unread input a plain close would reset the
    /// connection and could destroy what was just sent, so the write side is shut first and the peer gets a
    /// moment to close.
    fn close(&mut self, id: ConnId, now: Millis) {
        let Some(Some(socket)) = self.sockets.get_mut(id.0 as usize) else { return };
        if !socket.lingering {
            // An error here means that the peer is gone already.
            let _ = socket.stream.shutdown(Shutdown::Write);
            let until = now + LINGER_MS;
            (socket.lingering, socket.close_by) = (true, Some(until));
            socket.readable = true;
            self.lingering.push_back((until, id));
            self.ready.push(id);
        }
    }

    fn read_lingering(&mut self, id: ConnId, scratch: &mut [u8], now: Millis) {
        let Some(Some(socket)) = self.sockets.get_mut(id.0 as usize) else { return };
        match socket.stream.read(scratch) {
            // Once a turn, however fast the peer sends.
            Ok(count) if count > 0 => self.ready.push(id),
            Err(error) if error.kind() == ErrorKind::Interrupted => self.ready.push(id),
            Err(error) if error.kind() == ErrorKind::WouldBlock => socket.readable = false,
            Ok(_) | Err(_) => self.drop_connection(id, ConnectionEnd::PeerClosed, now),
        }
    }

    /// Drops the connections whose time to close is over.
    fn end_closing(&mut self, now: Millis) {
        let due = |queue: &mut VecDeque<_>| queue.pop_front_if(|&mut (until, _)| until <= now);
        while let Some((until, id)) = due(&mut self.last_output).or_else(|| due(&mut self.lingering)) {
            // The slot may have a new user by now, or the output has been written after all.
            if let Some(Some(socket)) = self.sockets.get(id.0 as usize)
                && socket.close_by == Some(until)
            {
                self.drop_connection(id, ConnectionEnd::PeerClosed, now);
            }
        }
    }

    fn drop_connection(&mut self, id: ConnId, end: ConnectionEnd, now: Millis) {
        let Some(socket) = self.sockets.get_mut(id.0 as usize).and_then(Option::take) else { return };
        self.gate.closed(socket.address);
        drop(socket);
        if let Some(closed) = self.shard.remove(id, end, now) {
            crate::events::connection_closed(&closed);
        }
    }

    /// Whether every connection is gone, or has had its time.
    fn finish_stopping(&mut self, now: Millis) -> bool {
        if now >= self.stop_by {
            for id in self.shard.connection_ids() {
                self.drop_connection(id, ConnectionEnd::Shutdown, now);
            }
        }
        self.sockets.iter().all(Option::is_none)
    }
}

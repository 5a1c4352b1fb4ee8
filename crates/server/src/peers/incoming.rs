//! Connections that other servers have dialed: introductions, and the frames they send.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, spawn_local};

use super::complaints::About;
use super::frame::{FrameReader, MAX_FRAME_BYTES, ReadError};
use super::greet::{self, GreetError};
use super::hello::{Greeting, Hello, Purpose, Refusal, RefusalCode};
use super::judge::judge;
use super::shared::Shared;
use super::socket::{self, Stream};
use super::{PeerEvent, transfer};

/// Connections that have not introduced themselves yet; further ones are closed. An ensemble needs a few, and only
/// while it starts.
const STRANGERS: usize = 64;
/// Bytes of frames from one server that are not dealt with, before no more is read. Two of the longest frames.
const UNREAD_BYTES: usize = 2 * MAX_FRAME_BYTES;
/// Pause after an error that the next accept would only meet again, as with too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The room that frames take until they are dealt with.
#[derive(Debug)]
pub struct Credit(#[expect(dead_code, reason = "it is given back when it is dropped")] OwnedSemaphorePermit);

/// The servers whose links have come in. One per server id.
#[derive(Default)]
pub(super) struct Connected {
    by_server: HashMap<u8, Incoming>,
    /// Of each server, a run of its process that a later one has replaced: node and incarnation.
    replaced: HashMap<u8, (u64, u64)>,
    counter: u64,
}

struct Incoming {
    node_id: u64,
    incarnation: u64,
    address: SocketAddr,
    /// Ends the task that reads it.
    task: AbortHandle,
    /// Tells this connection from the next one of the same server.
    number: u64,
}

impl Connected {
    /// Whether a server may connect besides those that are.
    fn admit(&self, hello: &Hello) -> Result<(), Refusal> {
        let from = &hello.from;
        let Some(first) = self.by_server.get(&from.server_id) else { return Ok(()) };
        let refuse = |code, reason| Err(Refusal { code, reason });
        if first.node_id != from.node_id {
            return refuse(
                RefusalCode::OtherDisk,
                format!(
                    "server {} is already connected from {} with another disk (node {:016x}, not {:016x}); remedy: \
                     give each server its own myid, or stop the other one if this one is to take its place",
                    from.server_id, first.address, first.node_id, from.node_id
                ),
            );
        }
        if first.incarnation != from.incarnation
            && self.replaced.get(&from.server_id) == Some(&(from.node_id, from.incarnation))
        {
            return refuse(
                RefusalCode::Copied,
                format!(
                    "server {} runs twice with the disk of node {:016x}, also at {}: its data directory was copied; \
                     remedy: stop one of the two and empty its dataDir and dataLogDir",
                    from.server_id, from.node_id, first.address
                ),
            );
        }
        Ok(())
    }

    /// A link is in; one that the same server had before ends. Returns its number.
    fn enter(&mut self, hello: &Hello, address: SocketAddr, task: AbortHandle) -> u64 {
        self.counter += 1;
        let (number, from) = (self.counter, &hello.from);
        let incoming =
            Incoming { node_id: from.node_id, incarnation: from.incarnation, address, task, number };
        if let Some(before) = self.by_server.insert(from.server_id, incoming) {
            before.task.abort();
            if before.incarnation != from.incarnation {
                self.replaced.insert(from.server_id, (before.node_id, before.incarnation));
            }
        }
        number
    }

    fn leave(&mut self, server_id: u8, number: u64) {
        if self.by_server.get(&server_id).is_some_and(|incoming| incoming.number == number) {
            self.by_server.remove(&server_id);
        }
    }

    /// Ends the links of all servers that are not `wanted`.
    pub(super) fn keep(&mut self, wanted: impl Fn(u8) -> bool) {
        for (_, incoming) in self.by_server.extract_if(|&server, _| !wanted(server)) {
            incoming.task.abort();
        }
    }

    /// Ends all links that have come in.
    pub(super) fn close_all(&mut self) {
        for (_, incoming) in self.by_server.drain() {
            incoming.task.abort();
        }
    }
}

/// Accepts connections for ever.
pub(super) async fn listen(shared: Rc<Shared>, listener: TcpListener) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        match socket::accept(&listener).await {
            Ok((stream, address)) => match Arc::clone(&strangers).try_acquire_owned() {
                Ok(stranger) => {
                    spawn_local(receive(Rc::clone(&shared), stream, address, stranger));
                }
                Err(_) => {
                    if shared.complaint_is_due(About::Listening, "strangers") {
                        tracing::warn!(
                            %address,
                            "too many connections to the quorum port that do not introduce themselves: closing new ones"
                        );
                    }
                }
            },
            Err(error) => {
                if shared.complaint_is_due(About::Listening, &error.to_string()) {
                    tracing::warn!(%error, "cannot accept a connection of another server");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection from its first byte to its last.
async fn receive(
    shared: Rc<Shared>,
    mut stream: Stream,
    address: SocketAddr,
    stranger: OwnedSemaphorePermit,
) {
    let mut frames = FrameReader::new(MAX_FRAME_BYTES);
    let hello = match greet::hear_hello(&mut stream, &mut frames).await {
        Ok(hello) => hello,
        // It comes and goes without a word: somebody looks whether the port is open, or a server is just ending.
        Err(GreetError::Closed) => return,
        Err(error) => {
            if shared.complaint_is_due(About::Stranger(address.ip()), &error.to_string()) {
                tracing::warn!(%address, "closed a connection to the quorum port: {error}");
            }
            return;
        }
    };
    let server_id = hello.from.server_id;
    let mine = shared.hello(server_id, hello.purpose);
    let judged = judge(&mine, &hello).and_then(|version| {
        shared.connected.borrow().admit(&hello)?;
        Ok((version, shared.standing(&hello)?))
    });
    let (version, standing) = match judged {
        Ok(agreed) => agreed,
        Err(refusal) => {
            if shared.complaint_is_due(About::From(server_id), &refusal.reason) {
                tracing::warn!(server = server_id, %address, "refused a server: {refusal}");
            }
            // Whether it hears the reason or not, the connection ends.
            let _ = greet::say(&mut stream, &Greeting::Refusal(refusal)).await;
            return;
        }
    };
    let we_are_born = mine.from.cluster_id.is_some();
    if greet::say(&mut stream, &Greeting::Answer { hello: mine, version, standing }).await.is_err() {
        return;
    }
    drop(stranger);
    if shared.connected.borrow().admit(&hello).is_err() {
        // Another one was faster. This one hears why when it tries again.
        return;
    }
    let they_are_born = hello.from.cluster_id.is_some();
    if they_are_born {
        // It lives, and may have news for an unborn server: no reason to wait before we dial it.
        shared.kick(server_id);
    }
    if !(we_are_born && they_are_born) {
        shared.emit(PeerEvent::Heard { hello, standing: None });
        return;
    }
    match hello.purpose {
        Purpose::Link => receive_frames(shared, stream, address, hello, frames).await,
        Purpose::Snapshot => {
            let Ok(_sending) = Arc::clone(&shared.sending).try_acquire_owned() else {
                // It comes again.
                return;
            };
            if socket::be_patient(&stream).is_ok() {
                transfer::serve(&shared, &mut stream, &mut frames, server_id).await;
            }
        }
    }
}

/// Takes in frames until the link ends.
async fn receive_frames(
    shared: Rc<Shared>,
    mut stream: Stream,
    address: SocketAddr,
    hello: Hello,
    mut frames: FrameReader,
) {
    let (server_id, node_id) = (hello.from.server_id, hello.from.node_id);
    let task = spawn_local({
        let shared = Rc::clone(&shared);
        async move {
            frames.limit_to(MAX_FRAME_BYTES);
            let emit = |frames, credit| shared.emit(PeerEvent::Frames { server_id, node_id, frames, credit });
            let error = pass_on(&mut stream, &mut frames, UNREAD_BYTES, emit).await;
            match error {
                ReadError::Bad(error) => {
                    if shared.complaint_is_due(About::From(server_id), &error.to_string()) {
                        tracing::error!(
                            server = server_id,
                            %address,
                            "damaged bytes came from a server, closing the connection: {error}; if this comes again, \
                             look for faulty memory or network hardware between the two"
                        );
                    }
                }
                // Its own link to us tells the same, louder.
                error => {
                    tracing::debug!(server = server_id, %address, "the link from a server ended: {error}")
                }
            }
        }
    });
    let number = shared.connected.borrow_mut().enter(&hello, address, task.abort_handle());
    if shared.settle_complaints(About::From(server_id)) {
        tracing::info!(server = server_id, %address, "the server is let in again");
    }
    // Aborted or ended, it is over.
    let _ = task.await;
    shared.connected.borrow_mut().leave(server_id, number);
}

/// Passes frames on as they come, while those not dealt with leave room.
async fn pass_on(
    stream: &mut (impl AsyncRead + Unpin),
    reader: &mut FrameReader,
    room_bytes: usize,
    emit: impl Fn(Vec<Bytes>, Credit),
) -> ReadError {
    let room = Arc::new(Semaphore::new(room_bytes));
    loop {
        let mut frames = Vec::new();
        let mut bytes = 0;
        let ended = loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    bytes += frame.len();
                    frames.push(frame);
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if !frames.is_empty() {
            let bytes = bytes.min(room_bytes) as u32;
            let permit = Arc::clone(&room).acquire_many_owned(bytes).await.expect("nobody closes it");
            emit(frames, Credit(permit));
        }
        if let Some(error) = ended {
            return error.into();
        }
        if let Err(error) = reader.fill(stream).await {
            return error;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::frame_header;
    use super::*;
    use std::cell::RefCell;
    use tokio::io::AsyncWriteExt;
    use tokio::task::yield_now;

    #[tokio::test]
    async fn what_is_not_dealt_with_takes_room() {
        // One frame at a time fits between the two, and two into the room.
        let payload = [7; 40];
        let (mut theirs, mut ours) = tokio::io::duplex(48);
        let passed = RefCell::new(Vec::new());
        let mut reader = FrameReader::new(100);
        let passes =
            pass_on(&mut ours, &mut reader, 100, |frames, credit| passed.borrow_mut().push((frames, credit)));
        let deals = async {
            for _ in 0..8 {
                theirs.write_all(&frame_header(&payload)).await.unwrap();
                theirs.write_all(&payload).await.unwrap();
                for _ in 0..100 {
                    yield_now().await;
                }
                let waiting = passed.borrow().len();
                assert!(waiting <= 2, "{waiting} frames were passed on");
                if passed.borrow().len() == 2 {
                    // The next one is read, and waits.
                    theirs.write_all(&frame_header(&payload)).await.unwrap();
                    theirs.write_all(&payload).await.unwrap();
                    for _ in 0..100 {
                        yield_now().await;
                    }
                    assert_eq!(passed.borrow().len(), 2);
                    let (frames, _) = passed.borrow_mut().remove(0);
                    assert_eq!(frames, [&payload[..]]);
                    for _ in 0..100 {
                        yield_now().await;
                    }
                    assert_eq!(passed.borrow().len(), 2, "room for the one that waited");
                    passed.borrow_mut().clear();
                }
            }
        };
        tokio::select! {
            error = passes => panic!("{error}"),
            () = deals => {}
        }
    }
}

//! The sending ends of all links, shared between whoever sends and the peers' thread.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::frame::{FRAME_HEADER, MAX_FRAME_BYTES, frame_header};

/// Frames up to this size are gathered into one write; longer ones are written from where they are.
const GATHER_BYTES: usize = 32 << 10;
/// Bytes gathered for one write.
const WRITE_BYTES: usize = 256 << 10;

/// What it means if a frame cannot be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is dropped; the link stays.
    MayDrop,
    /// The link is broken, so that [`PeerEvent::Down`](super::PeerEvent::Down) tells that something is missing.
    OrBreak,
}

/// What has become of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// They arrive, unless the link breaks.
    Queued,
    /// There is no link, or it is breaking. Up or Down tell when that changes.
    NoLink,
    /// Too much waits for that server already. With [`Delivery::OrBreak`] the link is closed now.
    Full,
}

/// See the module's documentation.
pub(super) struct Links {
    by_node: Mutex<HashMap<u64, LinkSender>>,
    /// How many links there have been.
    opened: AtomicU64,
    queue_bytes: usize,
}

struct LinkSender {
    /// Which of the links there have been.
    number: u64,
    frames: UnboundedSender<Vec<Bytes>>,
    state: Arc<LinkState>,
}

/// What both ends of the queue know.
#[derive(Default)]
struct LinkState {
    /// Bytes queued and not yet written, headers included.
    queued: AtomicUsize,
    /// The link must end: something that must not be lost found no room.
    overflowed: AtomicBool,
    /// Told when that is so.
    overflow: Notify,
}

/// The receiving end of a link's queue. While it exists frames can be queued.
pub(super) struct LinkQueue {
    node_id: u64,
    /// As in [`PeerEvent::Up`](super::PeerEvent::Up).
    pub(super) number: u64,
    frames: UnboundedReceiver<Vec<Bytes>>,
    state: Arc<LinkState>,
    links: Arc<Links>,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkEnd {
    #[error("the other side closed it")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the other side sent something, which it must not")]
    Spoke,
    #[error("it takes frames more slowly than they come, and one that must not be lost found no room")]
    Overflow,
    #[error("this server stops")]
    Stopped,
}

impl Links {
    pub(super) fn new(queue_bytes: usize) -> Links {
        Links { by_node: Mutex::default(), opened: AtomicU64::new(0), queue_bytes }
    }

    /// Opens a queue to a node that has none.
    pub(super) fn open(self: &Arc<Links>, node_id: u64) -> LinkQueue {
        let (sender, frames) = unbounded_channel();
        let state = Arc::new(LinkState::default());
        let number = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        let sender = LinkSender { number, frames: sender, state: Arc::clone(&state) };
        self.by_node.lock().insert(node_id, sender);
        LinkQueue { node_id, number, frames, state, links: Arc::clone(self) }
    }

    /// See [`Peers::send`](super::Peers::send) and [`Peers::send_on`](super::Peers::send_on).
    pub(super) fn send(
        &self,
        node_id: u64,
        link: Option<u64>,
        frames: Vec<Bytes>,
        delivery: Delivery,
    ) -> Sent {
        let fits = |frame: &Bytes| (1..=MAX_FRAME_BYTES).contains(&frame.len());
        assert!(frames.iter().all(fits), "a frame has 1 to {MAX_FRAME_BYTES} bytes");
        let bytes = queued_bytes(&frames);
        let mut by_node = self.by_node.lock();
        let Some(link) = by_node.get(&node_id).filter(|open| link.is_none_or(|number| number == open.number))
        else {
            return Sent::NoLink;
        };
        let before = link.state.queued.fetch_add(bytes, Ordering::Relaxed);
        // An empty queue takes anything, or a frame longer than the bound could never be sent.
        if before > 0 && before + bytes > self.queue_bytes {
            link.state.queued.fetch_sub(bytes, Ordering::Relaxed);
            if delivery == Delivery::OrBreak {
                link.state.overflowed.store(true, Ordering::Relaxed);
                link.state.overflow.notify_one();
                // Whatever came after the missing frame would be out of order.
                by_node.remove(&node_id);
            }
            return Sent::Full;
        }
        if link.frames.send(frames).is_err() {
            return Sent::NoLink;
        }
        Sent::Queued
    }

    /// Bytes that wait to be written to a node.
    #[cfg(test)]
    pub(super) fn queued(&self, node_id: u64) -> usize {
        self.by_node.lock().get(&node_id).map_or(0, |link| link.state.queued.load(Ordering::Relaxed))
    }

    /// Takes no more frames; what is queued is still written.
    pub(super) fn close(&self) {
        self.by_node.lock().clear();
    }
}

fn queued_bytes(frames: &[Bytes]) -> usize {
    frames.iter().map(|frame| FRAME_HEADER + frame.len()).sum()
}

impl LinkQueue {
    /// Takes no more frames.
    pub(super) fn close(&mut self) {
        let mut by_node = self.links.by_node.lock();
        // The entry may be gone already, or be another link's.
        if by_node.get(&self.node_id).is_some_and(|link| Arc::ptr_eq(&link.state, &self.state)) {
            by_node.remove(&self.node_id);
        }
    }

    /// Writes what is queued until the link ends.
    pub(super) async fn run(&mut self, stream: impl AsyncRead + AsyncWrite) -> LinkEnd {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let hears = async {
            match reader.read(&mut [0; 1]).await {
                Ok(0) => LinkEnd::Closed,
                Ok(_) => LinkEnd::Spoke,
                Err(error) => error.into(),
            }
        };
        let writes = write_all(&mut self.frames, &self.state, &mut writer);
        let end = tokio::select! {
            biased;
            () = self.state.overflow.notified() => LinkEnd::Overflow,
            end = hears => end,
            end = writes => end,
        };
        match end {
            // The queue closes in both cases, and everything before the gap may just have been written.
            LinkEnd::Stopped if self.state.overflowed.load(Ordering::Relaxed) => LinkEnd::Overflow,
            end => end,
        }
    }
}

/// Writes everything that is queued, as much as there is with one write.
async fn write_all(
    frames: &mut UnboundedReceiver<Vec<Bytes>>,
    state: &LinkState,
    writer: &mut (impl AsyncWrite + Unpin),
) -> LinkEnd {
    const SENDS: usize = 1024;
    let mut sends = Vec::new();
    let mut gathered = Gathered { bytes: Vec::new(), counted: 0, state };
    loop {
        if frames.recv_many(&mut sends, SENDS).await == 0 {
            return match writer.shutdown().await {
                Ok(()) => LinkEnd::Stopped,
                Err(error) => error.into(),
            };
        }
        for frame in sends.drain(..).flatten() {
            if let Err(error) = gathered.add(&frame, writer).await {
                return error.into();
            }
        }
        if let Err(error) = gathered.flush(writer).await {
            return error.into();
        }
    }
}

/// What the next write takes along.
struct Gathered<'a> {
    bytes: Vec<u8>,
    /// Bytes of the queue that are accounted for when it is written.
    counted: usize,
    state: &'a LinkState,
}

impl Gathered<'_> {
    async fn add(&mut self, frame: &Bytes, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        self.bytes.extend_from_slice(&frame_header(frame));
        self.counted += FRAME_HEADER + frame.len();
        if frame.len() > GATHER_BYTES {
            writer.write_all(&self.bytes).await?;
            self.bytes.clear();
            writer.write_all(frame).await?;
            return self.flush(writer).await;
        }
        self.bytes.extend_from_slice(frame);
        if self.bytes.len() >= WRITE_BYTES { self.flush(writer).await } else { Ok(()) }
    }

    async fn flush(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        writer.write_all(&self.bytes).await?;
        writer.flush().await?;
        self.bytes.clear();
        self.state.queued.fetch_sub(std::mem::take(&mut self.counted), Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: u64 = 7;

    fn open(queue_bytes: usize) -> (Arc<Links>, LinkQueue) {
        let links = Arc::new(Links::new(queue_bytes));
        let queue = links.open(NODE);
        (links, queue)
    }

    fn frame(len: usize) -> Vec<Bytes> {
        vec![vec![1; len].into()]
    }

    #[test]
    fn the_bound_is_of_bytes_with_their_headers_and_an_empty_queue_takes_anything() {
        let (links, _queue) = open(1000);
        assert_eq!(links.send(8, None, frame(1), Delivery::MayDrop), Sent::NoLink);
        assert_eq!(links.send(NODE, None, frame(992), Delivery::MayDrop), Sent::Queued);
        assert_eq!(links.queued(NODE), 1000);
        assert_eq!(links.send(NODE, None, frame(1), Delivery::MayDrop), Sent::Full);
        assert_eq!(links.queued(NODE), 1000);
        let (links, _queue) = open(1000);
        assert_eq!(links.send(NODE, None, frame(5000), Delivery::MayDrop), Sent::Queued);
        assert_eq!(links.send(NODE, None, frame(1), Delivery::MayDrop), Sent::Full);
    }

    #[test]
    fn a_queue_that_is_replaced_does_not_close_its_successor() {
        let (links, mut first) = open(1000);
        let mut second = links.open(NODE);
        first.close();
        assert_eq!(links.send(NODE, None, frame(1), Delivery::MayDrop), Sent::Queued);
        second.close();
        assert_eq!(links.send(NODE, None, frame(1), Delivery::MayDrop), Sent::NoLink);
    }

    #[test]
    fn what_belongs_on_a_lost_link_does_not_go_on_the_next_one() {
        let (links, first) = open(1000);
        assert_eq!(links.send(NODE, Some(first.number), frame(1), Delivery::OrBreak), Sent::Queued);
        let second = links.open(NODE);
        assert_eq!(links.send(NODE, Some(first.number), frame(1), Delivery::OrBreak), Sent::NoLink);
        assert_eq!(links.send(NODE, Some(second.number), frame(1), Delivery::OrBreak), Sent::Queued);
    }

    #[tokio::test]
    async fn a_gap_is_no_orderly_end_even_if_all_before_it_was_written() {
        let (links, mut queue) = open(1000);
        assert_eq!(links.send(NODE, None, frame(900), Delivery::OrBreak), Sent::Queued);
        assert_eq!(links.send(NODE, None, frame(900), Delivery::OrBreak), Sent::Full);
        assert_eq!(links.send(NODE, None, frame(1), Delivery::MayDrop), Sent::NoLink);
        // The link was just being written to, and found its queue closed before it saw why.
        queue.state.overflow.notified().await;
        let (ours, _theirs) = tokio::io::duplex(1 << 20);
        assert!(matches!(queue.run(ours).await, LinkEnd::Overflow));
    }

    #[tokio::test]
    async fn a_closed_queue_is_written_to_its_end() {
        let (links, mut queue) = open(1 << 20);
        for len in [1, GATHER_BYTES, GATHER_BYTES + 1, 300_000, 5] {
            assert_eq!(links.send(NODE, None, frame(len), Delivery::MayDrop), Sent::Queued);
        }
        let queued = links.queued(NODE);
        links.close();
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        assert!(matches!(queue.run(ours).await, LinkEnd::Stopped));
        let mut written = Vec::new();
        theirs.read_to_end(&mut written).await.unwrap();
        assert_eq!(written.len(), queued);
        assert_eq!(queue.state.queued.load(Ordering::Relaxed), 0);
    }
}

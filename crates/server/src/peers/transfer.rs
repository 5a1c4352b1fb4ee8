//! Snapshot files from one server to another: pulled, in chunks, resumed where they broke off.
//!
//! ```text
//! request  0  version    u8   1
//!          1  index      u64
//!          9  term       u64
//!         17  file_bytes u64
//!         25  digest     u128
//!         41  offset     u64  of the first byte wanted
//! chunk    0  kind       u8   1
//!          1  offset     u64
//!          9  bytes of the file
//! missing  0  kind       u8   2: there is no such snapshot (any more)
//! ```
//! Each is the payload of a frame; integers are little-endian. Whether the bytes are the right ones is found out when
//! the file is adopted.

use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use ostler_storage::{
    DiskError, IncomingSnapshot, SnapshotError, SnapshotFile, SnapshotStore, SnapshotTicket,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, sleep_until, timeout};

use super::complaints::About;
use super::dialer::reach_any;
use super::frame::{FRAME_HEADER, FrameReader, ReadError, frame_header};
use super::hello::Purpose;
use super::shared::Shared;
use super::{PeerEvent, PeerTarget};

const REQUEST_BYTES: usize = 49;
/// The most of a file in one chunk; less if the rate is so low that it would take long.
const CHUNK_BYTES: u64 = 256 << 10;
const CHUNK_HEADER: usize = 9;
/// Chunks received that wait for the disk.
const CHUNKS_WAITING: usize = 16;
/// A transfer in which nothing moves for this long has broken off.
const STUCK: Duration = Duration::from_secs(30);
/// Attempts in a row that brought nothing, before a fetch is given up.
const FRUITLESS_ATTEMPTS: u32 = 10;
/// Pause after the first fruitless attempt; it grows by as much each time.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes between two reports of progress.
const PROGRESS_BYTES: u64 = 16 << 20;
/// What a pause of the sender lets it make up for at once.
const BURST: Duration = Duration::from_millis(50);

/// Why a snapshot could not be fetched. What was received of it is removed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server is not one of those to dial.
    #[error("server {0} is not among the servers to dial")]
    NoTarget(u8),
    /// Another disk answers under this server id.
    #[error("the server has another disk now, node {found:016x}")]
    OtherNode {
        /// Its node id.
        found: u64,
    },
    /// The other server has no such snapshot, or none any more.
    #[error("the server has no such snapshot (any more)")]
    Missing,
    /// It broke off again and again, each time without a byte.
    #[error("given up after {attempts} attempts that brought nothing, the last because {cause}")]
    Broken {
        /// How many attempts there were since the last byte.
        attempts: u32,
        /// What went wrong with the last one.
        cause: String,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The thread that writes the file has panicked.
    #[error("the thread that writes the file has ended")]
    Ended,
}

/// One snapshot wanted from one server.
pub(super) struct Fetch {
    pub(super) server_id: u8,
    pub(super) node_id: u64,
    pub(super) ticket: SnapshotTicket,
    pub(super) file: IncomingSnapshot,
}

/// Why one attempt ended before the end of the file.
enum Stop {
    /// The next attempt may get further.
    Again(String),
    Failed(FetchError),
    /// The disk takes no more; the thread that writes knows why.
    Disk,
}

/// Spreads what is sent evenly, all transfers together.
pub(super) struct Pace {
    /// `None` is no limit.
    bytes_per_second: Option<NonZeroU64>,
    next: Instant,
}

impl Pace {
    pub(super) fn new(bytes_per_second: Option<NonZeroU64>) -> Pace {
        Pace { bytes_per_second, next: Instant::now() }
    }

    /// When so many bytes may be sent; the next ones come after them.
    fn reserve(&mut self, bytes: u64, now: Instant) -> Instant {
        let Some(rate) = self.bytes_per_second else { return now };
        let at = self.next.max(now.checked_sub(BURST).unwrap_or(now));
        self.next = at + Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        at
    }

    /// A chunk takes at most a tenth of a second, if it has more than 4 KiB.
    fn chunk_bytes(&self) -> u64 {
        self.bytes_per_second.map_or(CHUNK_BYTES, |rate| (rate.get() / 10).clamp(4 << 10, CHUNK_BYTES))
    }
}

fn encode_request(ticket: &SnapshotTicket, offset: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(REQUEST_BYTES);
    out.push(1);
    for word in [ticket.index, ticket.term, ticket.file_bytes] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&ticket.digest.to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out
}

fn decode_request(mut bytes: &[u8]) -> Option<(SnapshotTicket, u64)> {
    if bytes.len() < REQUEST_BYTES || bytes.get_u8() != 1 {
        return None;
    }
    let [index, term, file_bytes] = std::array::from_fn(|_| bytes.get_u64_le());
    let digest = bytes.get_u128_le();
    Some((SnapshotTicket { index, term, file_bytes, digest }, bytes.get_u64_le()))
}

/// Sends what the server at the other end asks for.
pub(super) async fn serve<S>(shared: &Shared, stream: &mut S, frames: &mut FrameReader, to: u8)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    frames.limit_to(1 << 10);
    let request = match timeout(STUCK, frames.read(stream)).await {
        Ok(Ok(request)) => request,
        // It has changed its mind.
        _ => return,
    };
    let Some((ticket, offset)) = decode_request(&request) else {
        if shared.complaint_is_due(About::Snapshot(to), "request") {
            tracing::warn!(
                server = to,
                "a server asks for a snapshot in a way this release does not understand"
            );
        }
        return;
    };
    match open(shared, ticket).await {
        Ok(Some(file)) => {
            tracing::info!(
                server = to,
                index = ticket.index,
                bytes = ticket.file_bytes,
                offset,
                "sending a snapshot"
            );
            match send_file(shared, stream, Arc::new(file), ticket.file_bytes, offset).await {
                Ok(()) => tracing::info!(server = to, index = ticket.index, "snapshot sent"),
                Err(cause) => {
                    tracing::info!(server = to, index = ticket.index, "sending a snapshot broke off: {cause}")
                }
            }
        }
        Ok(None) => {
            tracing::info!(
                server = to,
                index = ticket.index,
                "a server asks for a snapshot that is not there"
            );
            // If it does not hear it, it asks again.
            let _ = write_frame(stream, &[2]).await;
        }
        Err(error) => {
            if shared.complaint_is_due(About::Snapshot(to), &error.to_string()) {
                tracing::error!(server = to, "a snapshot cannot be sent: {error}");
            }
            let _ = write_frame(stream, &[2]).await;
        }
    }
}

async fn open(shared: &Shared, ticket: SnapshotTicket) -> Result<Option<SnapshotFile>, SnapshotError> {
    let Some(store) = shared.snapshots.borrow().clone() else { return Ok(None) };
    let open = move |store: SnapshotStore| store.open_file(&ticket);
    spawn_blocking(move || open(store)).await.unwrap_or(Ok(None))
}

async fn send_file(
    shared: &Shared,
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    file: Arc<SnapshotFile>,
    file_bytes: u64,
    mut offset: u64,
) -> Result<(), String> {
    let broken = |error: std::io::Error| error.to_string();
    let chunk_bytes = shared.pace.borrow().chunk_bytes();
    while offset < file_bytes {
        let bytes = chunk_bytes.min(file_bytes - offset);
        let at = shared.pace.borrow_mut().reserve(bytes, Instant::now());
        sleep_until(at.into()).await;
        let from = Arc::clone(&file);
        let read = spawn_blocking(move || {
            let mut chunk = vec![0; CHUNK_HEADER + bytes as usize];
            chunk[0] = 1;
            chunk[1..CHUNK_HEADER].copy_from_slice(&offset.to_le_bytes());
            from.read_at(&mut chunk[CHUNK_HEADER..], offset).map(|n| (chunk, n as u64))
        });
        let (chunk, n) = read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if n < bytes {
            return Err("the file has become shorter".to_owned());
        }
        timeout(STUCK, write_frame(stream, &chunk))
            .await
            .map_err(|_| "nothing was taken for half a minute".to_owned())?
            .map_err(broken)?;
        offset += bytes;
    }
    stream.shutdown().await.map_err(broken)
}

async fn write_frame(stream: &mut (impl AsyncWrite + Unpin), payload: &[u8]) -> std::io::Result<()> {
    let header: [u8; FRAME_HEADER] = frame_header(payload);
    stream.write_all(&header).await?;
    stream.write_all(payload).await?;
    stream.flush().await
}

/// Fetches one snapshot and reports how that went.
pub(super) async fn fetch(shared: Rc<Shared>, target: Option<PeerTarget>, fetch: Fetch) {
    let Fetch { server_id, node_id, ticket, file } = fetch;
    let event = match receive(&shared, target, server_id, node_id, ticket, file).await {
        Ok(file) => PeerEvent::SnapshotFetched { server_id, node_id, ticket, file },
        Err(error) => PeerEvent::SnapshotFailed { server_id, node_id, ticket, error },
    };
    shared.emit(event);
}

async fn receive(
    shared: &Shared,
    target: Option<PeerTarget>,
    server_id: u8,
    node_id: u64,
    ticket: SnapshotTicket,
    file: IncomingSnapshot,
) -> Result<IncomingSnapshot, FetchError> {
    let (chunks, waiting) = channel(CHUNKS_WAITING);
    // From here on only that thread touches the file, its removal included.
    let writer = spawn_blocking(move || write(file, waiting));
    let target = target.ok_or(FetchError::NoTarget(server_id))?;
    let mut received = Received { server_id, node_id, ticket, bytes: 0, reported: 0, chunks };
    let mut attempts = 0;
    while received.bytes < ticket.file_bytes {
        let before = received.bytes;
        match pull(shared, &target, &mut received).await {
            Ok(()) => {}
            Err(Stop::Disk) => break,
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Again(cause)) => {
                attempts = if received.bytes > before { 1 } else { attempts + 1 };
                if shared.complaint_is_due(About::Snapshot(server_id), &cause) {
                    tracing::warn!(
                        server = server_id,
                        received = received.bytes,
                        "a snapshot broke off, going on: {cause}"
                    );
                }
                if attempts >= FRUITLESS_ATTEMPTS {
                    return Err(FetchError::Broken { attempts, cause });
                }
                sleep(PAUSE * attempts).await;
            }
        }
    }
    drop(received);
    shared.settle_complaints(About::Snapshot(server_id));
    match writer.await {
        Ok(written) => Ok(written?),
        Err(_) => Err(FetchError::Ended),
    }
}

/// Writes chunks until there are no more.
fn write(mut file: IncomingSnapshot, mut chunks: Receiver<Bytes>) -> Result<IncomingSnapshot, DiskError> {
    while let Some(chunk) = chunks.blocking_recv() {
        file.push(&chunk)?;
    }
    Ok(file)
}

/// What has come of a file.
struct Received {
    server_id: u8,
    node_id: u64,
    ticket: SnapshotTicket,
    /// Bytes handed to the disk, from the start of the file.
    bytes: u64,
    /// As much of it as was reported.
    reported: u64,
    chunks: Sender<Bytes>,
}

/// One attempt, on one connection.
async fn pull(shared: &Shared, target: &PeerTarget, received: &mut Received) -> Result<(), Stop> {
    let again = |error: &dyn std::fmt::Display| Stop::Again(error.to_string());
    let reached = reach_any(shared, target, None, Purpose::Snapshot).await.map_err(|error| again(&error))?;
    if reached.hello.from.node_id != received.node_id {
        return Err(Stop::Failed(FetchError::OtherNode { found: reached.hello.from.node_id }));
    }
    let (mut stream, mut frames) = (reached.stream, reached.frames);
    write_frame(&mut stream, &encode_request(&received.ticket, received.bytes))
        .await
        .map_err(|error| again(&error))?;
    frames.limit_to(CHUNK_HEADER + CHUNK_BYTES as usize);
    while received.bytes < received.ticket.file_bytes {
        let frame = match timeout(STUCK, frames.read(&mut stream)).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(error @ ReadError::Bad(_))) => {
                return Err(Stop::Again(format!("bytes were damaged on their way: {error}")));
            }
            Ok(Err(error)) => return Err(again(&error)),
            Err(_) => return Err(Stop::Again("nothing came for half a minute".to_owned())),
        };
        received.take(shared, frame).await?;
    }
    Ok(())
}

impl Received {
    async fn take(&mut self, shared: &Shared, mut frame: Bytes) -> Result<(), Stop> {
        let kind = frame.get_u8();
        if kind == 2 {
            return Err(Stop::Failed(FetchError::Missing));
        }
        if kind != 1 || frame.len() <= 8 {
            return Err(Stop::Again("it sent something that is no part of a snapshot".to_owned()));
        }
        let offset = frame.get_u64_le();
        let end = offset.saturating_add(frame.len() as u64);
        if offset != self.bytes || end > self.ticket.file_bytes {
            return Err(Stop::Again("it sent another part of the snapshot than was asked for".to_owned()));
        }
        if self.chunks.send(frame).await.is_err() {
            return Err(Stop::Disk);
        }
        self.bytes = end;
        if end - self.reported >= PROGRESS_BYTES {
            self.reported = end;
            shared.emit(PeerEvent::SnapshotProgress {
                server_id: self.server_id,
                node_id: self.node_id,
                ticket: self.ticket,
                received: end,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TICKET: SnapshotTicket = SnapshotTicket { index: 1, term: 2, file_bytes: 3, digest: 4 };

    #[test]
    fn the_bytes_of_version_1() {
        let golden = b"\x01\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\
            \x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0";
        assert_eq!(encode_request(&TICKET, 5), golden);
        assert_eq!(decode_request(golden), Some((TICKET, 5)));
    }

    #[test]
    fn the_rate_holds_over_any_time_and_a_pause_is_not_made_up_for() {
        let mut pace = Pace::new(NonZeroU64::new(1_000));
        let start = Instant::now();
        let seconds = |at: Instant| at.saturating_duration_since(start).as_secs_f64().round();
        let first = pace.reserve(1_000, start);
        assert_eq!(seconds(first), 0.0);
        for n in 1..10 {
            assert_eq!(seconds(pace.reserve(1_000, start)), f64::from(n));
        }
        let later = start + Duration::from_secs(100);
        assert!(pace.reserve(1_000, later) <= later);
        assert_eq!(seconds(pace.reserve(1_000, later)), 101.0);
    }

    #[test]
    fn chunks_are_small_where_the_rate_is_low() {
        let chunk = |rate| Pace::new(NonZeroU64::new(rate)).chunk_bytes();
        assert_eq!([chunk(1), chunk(1 << 20), chunk(100 << 20)], [4 << 10, (1 << 20) / 10, CHUNK_BYTES]);
    }

    proptest! {
        #[test]
        fn hostile_requests_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some((ticket, offset)) = decode_request(&bytes) {
                prop_assert_eq!(&encode_request(&ticket, offset)[..], &bytes[..REQUEST_BYTES]);
            }
        }
    }
}

//! Dials one other server, for ever, and sends it what is queued.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::timeout;

use super::complaints::About;
use super::frame::{FrameReader, MAX_FRAME_BYTES};
use super::greet::{self, Answer, GreetError};
use super::hello::{Greeting, Hello, Purpose, Refusal, Standing};
use super::judge::judge;
use super::links::{LinkEnd, LinkQueue};
use super::shared::Shared;
use super::socket::{self, Stream};
use super::{PeerEvent, PeerTarget};

/// Pauses between attempts: none, then this, doubling up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// While one of two servers is unborn they introduce themselves this often.
const INTRODUCE_EVERY: Duration = Duration::from_millis(100);
/// A link that lived this long was a good one: the next attempt begins without a pause.
const GOOD_LINK: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(super) struct Dialer {
    shared: Rc<Shared>,
    target: PeerTarget,
    kick: Rc<Notify>,
    pause: Pause,
    /// The address of the last link.
    known_good: Option<SocketAddr>,
    /// The node whose link is lost, while it is not known whether its process is gone.
    missed: Option<u64>,
}

/// How an attempt ended.
enum Attempt {
    /// There was a link, for this long.
    Linked(Duration),
    /// One of the two is unborn.
    Introduced,
    Failed,
    /// This server stops.
    Stopped,
}

/// A connection whose other end has introduced itself.
pub(super) struct Introduced {
    pub(super) stream: Stream,
    pub(super) address: SocketAddr,
    pub(super) frames: FrameReader,
    pub(super) hello: Hello,
    pub(super) version: u16,
    pub(super) standing: Standing,
}

/// Why a server could not be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("cannot look up {host}: {error}")]
    LookUp { host: String, error: io::Error },
    #[error("server {0} has no address, or its name stands for none")]
    NoAddress(u8),
    #[error("cannot connect to {address}: {error}")]
    Connect { address: SocketAddr, error: io::Error },
    #[error("connected to {address}, but {error}")]
    Greet { address: SocketAddr, error: GreetError },
    #[error("{address} refuses this server: {refusal}")]
    RefusedByThem { address: SocketAddr, refusal: Refusal },
    #[error("this server refuses {address}: {refusal}")]
    RefusedByUs { address: SocketAddr, refusal: Refusal },
}

impl Dialer {
    pub(super) fn new(shared: Rc<Shared>, target: PeerTarget, kick: Rc<Notify>) -> Dialer {
        Dialer { shared, target, kick, pause: Pause::default(), known_good: None, missed: None }
    }

    /// Runs until it is aborted or the server stops.
    pub(super) async fn run(mut self) {
        loop {
            let pause = match self.attempt().await {
                Attempt::Linked(lived) => {
                    self.pause.link_ended(lived);
                    self.pause.next()
                }
                Attempt::Introduced => INTRODUCE_EVERY,
                Attempt::Failed => self.pause.next(),
                Attempt::Stopped => return,
            };
            if !pause.is_zero() {
                // Kicked or not, it is time.
                let _ = timeout(pause, self.kick.notified()).await;
            }
        }
    }

    async fn attempt(&mut self) -> Attempt {
        let introduced = match self.dial().await {
            Ok(introduced) => introduced,
            Err(error) => {
                self.complain(&error);
                return Attempt::Failed;
            }
        };
        let unborn = self.shared.hello(self.target.server_id, Purpose::Link).from.cluster_id.is_none();
        if unborn || introduced.hello.from.cluster_id.is_none() {
            self.good_news();
            self.shared
                .emit(PeerEvent::Heard { hello: introduced.hello, standing: Some(introduced.standing) });
            return Attempt::Introduced;
        }
        self.link(introduced).await
    }

    /// Sends until the link is lost.
    async fn link(&mut self, introduced: Introduced) -> Attempt {
        let Introduced { stream, address, hello, version, standing, .. } = introduced;
        let (server_id, node_id) = (self.target.server_id, hello.from.node_id);
        self.known_good = Some(address);
        self.missed = None;
        let began = Instant::now();
        if !self.good_news() && self.pause.links_are_good() {
            tracing::info!(server = server_id, node = format_args!("{node_id:016x}"), %address, version, "linked to a server");
        }
        let mut link = OpenLink::new(&self.shared, server_id, node_id);
        let number = link.queue.number;
        self.shared.emit(PeerEvent::Up { hello, version, standing, link: number });
        let end = link.queue.run(stream).await;
        drop(link);
        if let LinkEnd::Stopped = end {
            return Attempt::Stopped;
        }
        self.missed = Some(node_id);
        if self.shared.complaint_is_due(About::To(server_id), &format!("lost: {end}")) {
            tracing::warn!(server = server_id, %address, "the link to a server is lost: {end}");
        }
        Attempt::Linked(began.elapsed())
    }

    /// Connects to one of the addresses, the last good one first, and introduces this server.
    async fn dial(&mut self) -> Result<Introduced, DialError> {
        let (shared, target) = (Rc::clone(&self.shared), &self.target);
        let tried = self.known_good;
        let mut failed = None;
        if let Some(address) = tried {
            match reach(&shared, target, address, Purpose::Link).await {
                Ok(introduced) => return Ok(introduced),
                Err(error) => {
                    if error.is_refused_connection()
                        && let Some(node_id) = self.missed.take()
                    {
                        shared.emit(PeerEvent::Gone { server_id: target.server_id, node_id });
                    }
                    if self.missed.is_none() {
                        // Names may stand for other addresses by now.
                        self.known_good = None;
                    }
                    failed = Some(error);
                }
            }
        }
        match reach_any(&shared, target, tried, Purpose::Link).await {
            Ok(introduced) => Ok(introduced),
            Err(error) => Err(failed.unwrap_or(error)),
        }
    }

    fn complain(&self, error: &DialError) {
        let server_id = self.target.server_id;
        let text = error.to_string();
        if self.shared.complaint_is_due(About::To(server_id), &text) {
            tracing::warn!(server = server_id, "no link to a server: {text}");
        }
    }

    /// Tells that what was complained about is over, if there was something.
    fn good_news(&self) -> bool {
        let settled = self.shared.settle_complaints(About::To(self.target.server_id));
        if settled {
            tracing::info!(server = self.target.server_id, "the server is reached again");
        }
        settled
    }
}

/// A link that can be sent over; its end, however it comes, is reported.
struct OpenLink<'a> {
    queue: LinkQueue,
    shared: &'a Shared,
    server_id: u8,
    node_id: u64,
}

impl OpenLink<'_> {
    fn new(shared: &Shared, server_id: u8, node_id: u64) -> OpenLink<'_> {
        shared.open_links.update(|open| open + 1);
        OpenLink { queue: shared.links.open(node_id), shared, server_id, node_id }
    }
}

impl Drop for OpenLink<'_> {
    fn drop(&mut self) {
        self.queue.close();
        self.shared.emit(PeerEvent::Down { server_id: self.server_id, node_id: self.node_id });
        self.shared.open_links.update(|open| open - 1);
        self.shared.link_ended.notify_one();
    }
}

impl DialError {
    /// True if no process listens there.
    fn is_refused_connection(&self) -> bool {
        matches!(self, DialError::Connect { error, .. } if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

/// Tries all addresses of a server but `tried`, until there is one at which it answers.
///
/// # Errors
/// The first thing that went wrong.
pub(super) async fn reach_any(
    shared: &Shared,
    target: &PeerTarget,
    tried: Option<SocketAddr>,
    purpose: Purpose,
) -> Result<Introduced, DialError> {
    let mut failed = None;
    for configured in &target.addresses {
        let found = match socket::look_up(configured).await {
            Ok(found) => found,
            Err(error) => {
                failed.get_or_insert(DialError::LookUp { host: configured.host.clone(), error });
                continue;
            }
        };
        for address in found.into_iter().filter(|&address| Some(address) != tried) {
            match reach(shared, target, address, purpose).await {
                Ok(introduced) => return Ok(introduced),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
    }
    Err(failed.unwrap_or(DialError::NoAddress(target.server_id)))
}

/// Connects to `address`; then both sides introduce themselves and agree to talk, or not.
async fn reach(
    shared: &Shared,
    target: &PeerTarget,
    address: SocketAddr,
    purpose: Purpose,
) -> Result<Introduced, DialError> {
    let mut stream = socket::connect(address, shared.settings.connect_timeout)
        .await
        .map_err(|error| DialError::Connect { address, error })?;
    let greet = |error| DialError::Greet { address, error };
    let mine = shared.hello(target.server_id, purpose);
    greet::say(&mut stream, &Greeting::Hello(mine.clone())).await.map_err(greet)?;
    let mut frames = FrameReader::new(MAX_FRAME_BYTES);
    let (hello, version, standing) =
        match greet::hear_answer(&mut stream, &mut frames).await.map_err(greet)? {
            Answer::Yes { hello, version, standing } => (hello, version, standing),
            Answer::No(refusal) => return Err(DialError::RefusedByThem { address, refusal }),
        };
    // By the same rules as over there, which may lag behind in what it knows.
    let judged = if hello.from.server_id == target.server_id {
        judge(&mine, &hello).and_then(|expected| shared.standing(&hello).map(|_| expected))
    } else {
        Err(Refusal::other_server(&mine, &hello))
    };
    let expected = judged.map_err(|refusal| DialError::RefusedByUs { address, refusal })?;
    if version != expected {
        return Err(greet(GreetError::Version { chosen: version, expected }));
    }
    Ok(Introduced { stream, address, frames, hello, version, standing })
}

/// How long to wait before the next attempt.
#[derive(Default)]
struct Pause {
    /// Attempts since the last good link.
    attempts: u32,
    /// Links in a row that were no good ones.
    short_links: u32,
}

impl Pause {
    /// Short links in a row that are made again without a pause.
    const SHORT_LINKS: u32 = 2;

    fn link_ended(&mut self, lived: Duration) {
        self.short_links = if lived >= GOOD_LINK { 0 } else { self.short_links + 1 };
        if self.links_are_good() {
            self.attempts = 0;
        }
    }

    fn links_are_good(&self) -> bool {
        self.short_links <= Self::SHORT_LINKS
    }

    fn next(&mut self) -> Duration {
        let doublings = self.attempts;
        self.attempts = self.attempts.saturating_add(1);
        if doublings < 2 {
            // The first attempt may meet a process that is just ending: its listener still accepts.
            return Duration::ZERO;
        }
        let pause = SHORTEST_PAUSE.saturating_mul(1 << (doublings - 2).min(10)).min(LONGEST_PAUSE);
        // Servers that lost each other at the same moment must not meet for ever. No randomness only means no jitter.
        let jitter = getrandom::u32().unwrap_or(0) % 256;
        pause * (256 + jitter) / 512 + pause / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_begin_at_once_and_grow_to_half_a_second() {
        let mut pause = Pause::default();
        assert_eq!([pause.next(), pause.next()], [Duration::ZERO; 2]);
        let about = |pause: Duration, expected| {
            let range = expected * 3 / 4..=expected * 5 / 4;
            assert!(range.contains(&pause), "{pause:?} is not about {expected:?}");
        };
        for expected in [10, 20, 40, 80, 160, 320, 500, 500] {
            about(pause.next(), Duration::from_millis(expected));
        }
        for _ in 0..100 {
            about(pause.next(), LONGEST_PAUSE);
        }
        pause.link_ended(GOOD_LINK);
        assert_eq!(pause.next(), Duration::ZERO);
    }

    #[test]
    fn links_that_never_last_are_not_made_without_pause() {
        let mut pause = Pause::default();
        let mut total = Duration::ZERO;
        for _ in 0..20 {
            pause.link_ended(Duration::ZERO);
            total += pause.next();
        }
        assert!(total > LONGEST_PAUSE * 5, "{total:?}");
        pause.link_ended(GOOD_LINK);
        assert_eq!(pause.next(), Duration::ZERO);
    }
}

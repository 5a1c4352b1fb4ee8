//! What the tasks of the peers' thread share, and the loop that follows the owner's commands.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ostler_storage::SnapshotStore;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use super::complaints::{About, Complaints};
use super::dialer::Dialer;
use super::hello::{Hello, Myself, Purpose, Refusal, Standing};
use super::incoming::{self, Connected};
use super::links::Links;
use super::transfer::{self, Fetch, Pace};
use super::{Membership, PeerEvent, PeerSettings, PeerTarget};

/// When the server stops, what is queued gets this long to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Snapshots sent at a time; they share one rate.
const TRANSFERS: usize = 8;

/// What the owner wants.
pub(super) enum Command {
    Targets(Vec<PeerTarget>),
    Myself(Myself),
    Snapshots(SnapshotStore),
    Fetch(Box<Fetch>),
    Stop,
}

/// See the module's documentation. All of it belongs to one thread.
pub(super) struct Shared {
    pub(super) settings: PeerSettings,
    myself: RefCell<Myself>,
    membership: Arc<dyn Membership>,
    on_event: Box<dyn Fn(PeerEvent)>,
    pub(super) links: Arc<Links>,
    /// Who has connected.
    pub(super) connected: RefCell<Connected>,
    complaints: RefCell<Complaints>,
    /// Cuts short the pause before the next attempt to dial a server.
    kicks: RefCell<HashMap<u8, Rc<Notify>>>,
    /// What other servers may fetch.
    pub(super) snapshots: RefCell<Option<SnapshotStore>>,
    /// How fast they get it.
    pub(super) pace: RefCell<Pace>,
    /// How many at a time.
    pub(super) sending: Arc<Semaphore>,
    /// Links that can be sent over.
    pub(super) open_links: Cell<usize>,
    /// Told when one of them ends.
    pub(super) link_ended: Notify,
}

impl Shared {
    pub(super) fn emit(&self, event: PeerEvent) {
        (self.on_event)(event);
    }

    /// Our Hello to a server.
    pub(super) fn hello(&self, to_server_id: u8, purpose: Purpose) -> Hello {
        Hello {
            from: self.myself.borrow().clone(),
            versions: self.settings.versions,
            to_server_id,
            purpose,
            software: concat!("ostler ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }

    /// What the server that says `hello` is to this one.
    ///
    /// # Errors
    /// It must not be talked to.
    pub(super) fn standing(&self, hello: &Hello) -> Result<Standing, Refusal> {
        if self.myself.borrow().cluster_id.is_none() {
            return Ok(Standing::Unborn);
        }
        match self.membership.standing(hello) {
            Standing::Refused(code, reason) => Err(Refusal { code, reason }),
            standing => Ok(standing),
        }
    }

    /// Whether to log `cause` now.
    pub(super) fn complaint_is_due(&self, about: About, cause: &str) -> bool {
        self.complaints.borrow_mut().is_due(about, cause)
    }

    /// Whether there were complaints that are settled now.
    pub(super) fn settle_complaints(&self, about: About) -> bool {
        self.complaints.borrow_mut().settle(about)
    }

    async fn all_links_ended(&self) {
        while self.open_links.get() > 0 {
            self.link_ended.notified().await;
        }
    }

    /// There is reason to dial this server at once.
    pub(super) fn kick(&self, server_id: u8) {
        if let Some(kick) = self.kicks.borrow().get(&server_id) {
            kick.notify_one();
        }
    }
}

/// Everything, until told to stop or the handle is dropped.
pub(super) async fn run(
    settings: PeerSettings,
    myself: Myself,
    membership: Arc<dyn Membership>,
    on_event: Box<dyn Fn(PeerEvent)>,
    links: Arc<Links>,
    listeners: Vec<std::net::TcpListener>,
    mut commands: UnboundedReceiver<Command>,
) {
    let pace = Pace::new(settings.snapshot_bytes_per_second);
    let shared = Rc::new(Shared {
        settings,
        myself: RefCell::new(myself),
        membership,
        on_event,
        links,
        connected: RefCell::default(),
        complaints: RefCell::default(),
        kicks: RefCell::default(),
        snapshots: RefCell::default(),
        pace: RefCell::new(pace),
        sending: Arc::new(Semaphore::new(TRANSFERS)),
        open_links: Cell::new(0),
        link_ended: Notify::new(),
    });
    let mut listening = Vec::new();
    for listener in listeners {
        let listener =
            TcpListener::from_std(listener).expect("this is a runtime with I/O, and the socket is ready");
        listening.push(spawn_local(incoming::listen(Rc::clone(&shared), listener)));
    }
    let mut dialers = Dialers { shared: Rc::clone(&shared), running: HashMap::new() };
    let mut fetching: Option<JoinHandle<()>> = None;
    while let Some(command) = commands.recv().await {
        match command {
            Command::Targets(targets) => {
                // A server that is not wanted any more comes again, and then hears what it is.
                let wanted = |server| targets.iter().any(|target| target.server_id == server);
                shared.connected.borrow_mut().keep(wanted);
                dialers.set(targets);
            }
            Command::Myself(myself) => {
                let identity = |myself: &Myself| (myself.cluster_id, myself.node_id, myself.server_id);
                let changed = identity(&myself) != identity(&shared.myself.borrow());
                *shared.myself.borrow_mut() = myself;
                if changed {
                    shared.connected.borrow_mut().close_all();
                    dialers.restart();
                }
            }
            Command::Snapshots(store) => *shared.snapshots.borrow_mut() = Some(store),
            Command::Fetch(fetch) => {
                if let Some(before) = fetching.take() {
                    before.abort();
                }
                let target = dialers.running.get(&fetch.server_id).map(|dialing| dialing.target.clone());
                fetching = Some(spawn_local(transfer::fetch(Rc::clone(&shared), target, *fetch)));
            }
            Command::Stop => {
                for task in &listening {
                    task.abort();
                }
                shared.links.close();
                if timeout(LAST_WORDS, shared.all_links_ended()).await.is_err() {
                    tracing::debug!("not everything could be sent to the other servers before the end");
                }
                break;
            }
        }
    }
    // The rest ends with the runtime.
}

/// One task per server to dial.
struct Dialers {
    shared: Rc<Shared>,
    running: HashMap<u8, Dialing>,
}

struct Dialing {
    target: PeerTarget,
    task: JoinHandle<()>,
}

impl Dialers {
    fn set(&mut self, targets: Vec<PeerTarget>) {
        let me = self.shared.myself.borrow().server_id;
        let mut before = std::mem::take(&mut self.running);
        for target in targets.into_iter().filter(|target| target.server_id != me) {
            match before.remove(&target.server_id) {
                Some(dialing) if dialing.target == target => {
                    self.running.insert(target.server_id, dialing);
                }
                changed => {
                    if let Some(dialing) = changed {
                        dialing.task.abort();
                    }
                    self.dial(target);
                }
            }
        }
        for (server_id, dialing) in before {
            dialing.task.abort();
            self.shared.kicks.borrow_mut().remove(&server_id);
        }
    }

    fn restart(&mut self) {
        for (_, Dialing { target, task }) in std::mem::take(&mut self.running) {
            task.abort();
            self.dial(target);
        }
    }

    fn dial(&mut self, target: PeerTarget) {
        let kick = Rc::new(Notify::new());
        self.shared.kicks.borrow_mut().insert(target.server_id, Rc::clone(&kick));
        let dialer = Dialer::new(Rc::clone(&self.shared), target.clone(), kick);
        let task = spawn_local(dialer.run());
        self.running.insert(target.server_id, Dialing { target, task });
    }
}

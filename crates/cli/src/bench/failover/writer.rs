//! A client that behaves as stock ones do: when its connection breaks it resumes the session on the next server. What
//! became of each write it remembers.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ostler_client::{Client, ConnectError, ConnectOptions, Error, Pending, Session};
use ostler_types::{CreateMode, ErrorCode, Zxid, open_acl};
use ostler_wire::{AclEntry, Create, CreateForm, Request, Response};

use crate::bench::{BenchError, Result};

/// Pause after all servers were tried in vain.
const PAUSE: Duration = Duration::from_millis(20);
/// A client that cannot connect for this long gives up.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);
/// Errors that are kept to be told.
const ERRORS_KEPT: usize = 4;

/// What all writers have in common.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) addresses: Vec<String>,
    pub(super) root: String,
    pub(super) interval: Duration,
    pub(super) outstanding: usize,
    pub(super) session_timeout: Duration,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Writer {
    plan: Rc<Plan>,
    pub(super) number: usize,
    /// The server it belongs on.
    pub(super) home: usize,
    /// The server it is connected to, or tried last.
    at: usize,
    client: Option<Client>,
    session: Option<Session>,
    last_zxid_seen: Zxid,
    sessions_opened: u32,
    next_write: u64,
    /// Path of this session's ephemeral znode, once made.
    pub(super) ephemeral: Option<String>,
    pub(super) notes: Notes,
    /// Everything ever acknowledged: path and number.
    pub(super) acknowledged: Vec<(String, u64)>,
}

/// What happened since the writer last started to write.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// When writes were acknowledged.
    pub(super) acknowledged_at: Vec<Instant>,
    /// How many of all acknowledged writes came before.
    pub(super) acknowledged_before: usize,
    pub(super) failed: u64,
    pub(super) disconnects: u64,
    pub(super) sessions_lost: u64,
    /// The first few.
    pub(super) errors: Vec<String>,
}

impl Notes {
    fn error(&mut self, error: impl ToString) {
        if self.errors.len() < ERRORS_KEPT {
            self.errors.push(error.to_string());
        }
    }
}

impl Plan {
    /// Where `writer` writes in an event.
    pub(super) fn home(root: &str, event: usize, writer: usize) -> String {
        format!("{root}/e{event}/c{writer}")
    }

    /// Where the ephemeral znodes are.
    pub(super) fn ephemerals(root: &str) -> String {
        format!("{root}/ephemerals")
    }
}

impl Writer {
    pub(super) fn new(plan: Rc<Plan>, number: usize, home: usize) -> Writer {
        Writer {
            plan,
            number,
            home,
            at: home,
            client: None,
            session: None,
            last_zxid_seen: Zxid::ZERO,
            sessions_opened: 0,
            next_write: 1,
            ephemeral: None,
            notes: Notes::default(),
            acknowledged: Vec::new(),
        }
    }

    /// The session's id, if it has one.
    pub(super) fn session(&self) -> Option<&Session> {
        self.session.as_ref()
    }

    /// Forgets its notes, and moves its session to the server it belongs on.
    pub(super) async fn go_home(&mut self) -> Result<()> {
        // A session lost between two events counts for the next.
        let mut notes = Notes { acknowledged_before: self.acknowledged.len(), ..Notes::default() };
        std::mem::swap(&mut notes, &mut self.notes);
        if self.at != self.home
            && let Some(client) = self.client.take()
        {
            self.last_zxid_seen = client.last_zxid_seen().max(self.last_zxid_seen);
            client.disconnect().await;
        }
        let started = Instant::now();
        while self.client.is_none() {
            self.at = self.home;
            if !self.connect().await {
                if started.elapsed() > CONNECT_LIMIT {
                    let address = self.plan.addresses[self.home].clone();
                    return Err(BenchError::NoClient { address, errors: self.notes.errors.join("; ") });
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Writes until `stop`, and then until every write has an answer or is lost.
    pub(super) async fn write(&mut self, event: usize, stop: &Cell<bool>) {
        let home = Plan::home(&self.plan.root, event, self.number);
        let mut next = tokio::time::Instant::now();
        while !stop.get() {
            let Some(client) = self.client.clone() else {
                self.at = (self.at + 1) % self.plan.addresses.len();
                if !self.connect().await {
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            };
            self.write_on(&client, &home, &mut next, stop).await;
        }
    }

    /// Writes on one connection, until its end or `stop`.
    async fn write_on(
        &mut self,
        client: &Client,
        home: &str,
        next: &mut tokio::time::Instant,
        stop: &Cell<bool>,
    ) {
        let mut under_way: VecDeque<(u64, Pending)> = VecDeque::new();
        let mut is_connected = true;
        while is_connected && !stop.get() || !under_way.is_empty() {
            let may_start = is_connected && !stop.get() && under_way.len() < self.plan.outstanding;
            tokio::select! {
                biased;
                reply = async { (&mut under_way.front_mut().expect("there is one").1).await }, if !under_way.is_empty() => {
                    let (number, _) = under_way.pop_front().expect("there was one");
                    is_connected &= self.answered(number, reply.map(|reply| reply.response));
                }
                () = tokio::time::sleep_until(*next), if may_start => {
                    *next = (*next + self.plan.interval).max(tokio::time::Instant::now() - self.plan.interval);
                    let number = self.next_write;
                    self.next_write += 1;
                    under_way.push_back((number, start(client, home, number).await));
                }
                cause = client.ended(), if is_connected && under_way.is_empty() => {
                    self.notes.error(&cause);
                    is_connected = false;
                }
                () = tokio::time::sleep(PAUSE), if is_connected && under_way.is_empty() && !may_start => {}
            }
        }
        self.last_zxid_seen = client.last_zxid_seen().max(self.last_zxid_seen);
        if !is_connected {
            self.notes.disconnects += 1;
            client.disconnect().await;
            self.client = None;
        }
    }

    /// Notes what became of a write; returns whether the connection goes on.
    fn answered(&mut self, number: u64, reply: Result<Response, Error>) -> bool {
        match reply {
            Ok(Response::Path { path }) => {
                self.notes.acknowledged_at.push(Instant::now());
                self.acknowledged.push((path, number));
                return true;
            }
            Ok(other) => self.notes.error(format_args!("unexpected reply {other:?}")),
            Err(error) => {
                let goes_on = matches!(error, Error::Server(code) if code != ErrorCode::SessionExpired
                    && code != ErrorCode::SessionMoved);
                self.notes.failed += 1;
                self.notes.error(&error);
                return goes_on;
            }
        }
        self.notes.failed += 1;
        true
    }

    /// Tries to resume the session, or to open one if there is none; returns whether there is a connection now.
    async fn connect(&mut self) -> bool {
        let options = ConnectOptions {
            session_timeout: self.plan.session_timeout,
            connect_timeout: self.plan.session_timeout / 3,
            resume: self.session.clone(),
            last_zxid_seen: Some(self.last_zxid_seen),
            ..ConnectOptions::default()
        };
        let client = match Client::connect(self.plan.addresses[self.at].as_str(), &options).await {
            Ok((client, _events)) => client,
            Err(error) => {
                if matches!(error, ConnectError::SessionExpired) {
                    self.notes.sessions_lost += 1;
                    (self.session, self.ephemeral) = (None, None);
                }
                self.notes.error(format_args!("{}: {error}", self.plan.addresses[self.at]));
                return false;
            }
        };
        if self.session.is_none() {
            self.sessions_opened += 1;
        }
        self.session = Some(client.session().clone());
        if self.ephemeral.is_none() {
            let path =
                format!("{}/c{}-{}", Plan::ephemerals(&self.plan.root), self.number, self.sessions_opened);
            match client.create(&path, b"", &open_acl(), CreateMode::Ephemeral).await {
                // It exists if an earlier attempt had no answer.
                Ok(_) | Err(Error::Server(ErrorCode::NodeExists)) => self.ephemeral = Some(path),
                Err(error) => {
                    self.notes.error(&error);
                    client.disconnect().await;
                    return false;
                }
            }
        }
        self.client = Some(client);
        true
    }

    /// Ends the session.
    pub(super) async fn close(mut self) {
        if let Some(client) = self.client.take() {
            // Otherwise it expires.
            let _ = client.close().await;
        }
    }
}

async fn start(client: &Client, home: &str, number: u64) -> Pending {
    let (acl, data) = (open_acl(), number.to_string());
    let create = Create {
        form: CreateForm::Create,
        path: format!("{home}/n-").into(),
        data: Some(data.as_bytes()),
        acl: Some(acl.iter().map(AclEntry::from).collect()),
        flags: CreateMode::PersistentSequential as i32,
    };
    client.start(&Request::Create(create)).await
}

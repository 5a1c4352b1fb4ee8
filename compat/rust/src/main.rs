//! Runs cases on the `zookeeper-client` crate and reports each on a line; see `lib/outcomes.py`.

mod cases;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zookeeper_client::{
    Acls, Client, CreateMode, CreateOptions, Error, EventType, OneshotWatcher, PersistentWatcher,
    SessionInfo, SessionState, WatchedEvent,
};

const CASE_LIMIT: Duration = Duration::from_secs(60);

/// A failed case: what was seen and what was expected.
type Outcome<T = ()> = Result<T, String>;

/// Options of nodes open to everybody.
const fn open(mode: CreateMode) -> CreateOptions<'static> {
    mode.with_acls(Acls::anyone_all())
}

fn server() -> String {
    variable("COMPAT_SERVER")
}

fn proxy() -> String {
    variable("COMPAT_PROXY")
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: start this through compat/run"))
}

/// Opens a session of this timeout.
async fn connect_to(address: &str, timeout: Duration) -> Outcome<Client> {
    within(Client::connector().with_session_timeout(timeout).connect(address)).await?.or_fail("connect")
}

async fn connect() -> Outcome<Client> {
    connect_to(&server(), Duration::from_secs(10)).await
}

/// Re-attaches to a session.
async fn attach(address: &str, session: SessionInfo) -> Outcome<Result<Client, Error>> {
    let connector = Client::connector().with_session_timeout(Duration::from_secs(20)).with_session(session);
    within(connector.connect(address)).await
}

/// Says a word to the control port; see `lib/control.py`.
async fn control(word: &str) -> Outcome {
    let failed = |error: std::io::Error| format!("control {word}: {error}");
    let mut connection = TcpStream::connect(variable("COMPAT_CONTROL")).await.map_err(failed)?;
    connection.write_all(format!("{word}\n").as_bytes()).await.map_err(failed)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.map_err(failed)?;
    same("control", answer.trim(), "ok")
}

/// Waits for anything, but not for ever.
async fn within<F: Future>(future: F) -> Outcome<F::Output> {
    tokio::time::timeout(CASE_LIMIT / 4, future).await.map_err(|_| "timed out".to_owned())
}

fn same<A: PartialEq<E> + std::fmt::Debug, E: std::fmt::Debug>(
    what: &str,
    actual: A,
    expected: E,
) -> Outcome {
    if actual == expected { Ok(()) } else { Err(format!("{what} is {actual:?}, expected {expected:?}")) }
}

/// Turns an unexpected error into a failure that names the call.
trait OrFail<T> {
    fn or_fail(self, call: &str) -> Outcome<T>;
}

impl<T, E: std::fmt::Display> OrFail<T> for Result<T, E> {
    fn or_fail(self, call: &str) -> Outcome<T> {
        self.map_err(|error| format!("{call}: {error}"))
    }
}

/// Checks that a call fails with this error.
fn fails<T: std::fmt::Debug>(call: &str, result: Result<T, Error>, expected: Error) -> Outcome {
    match result {
        Err(error) => same(call, error, expected),
        Ok(value) => Err(format!("{call} gave {value:?}, expected the error {expected:?}")),
    }
}

/// Checks one event, and that it names the transaction that caused it.
fn is_event(event: &WatchedEvent, kind: EventType, path: &str) -> Outcome {
    same("event", (event.event_type, event.path.as_str()), (kind, path))?;
    if event.zxid > 0 { Ok(()) } else { Err(format!("event without a zxid: {event:?}")) }
}

async fn expect(watcher: OneshotWatcher, kind: EventType, path: &str) -> Outcome<WatchedEvent> {
    let event = within(watcher.changed()).await?;
    is_event(&event, kind, path)?;
    Ok(event)
}

async fn expect_next(watcher: &mut PersistentWatcher, kind: EventType, path: &str) -> Outcome<WatchedEvent> {
    let event = within(watcher.changed()).await?;
    is_event(&event, kind, path)?;
    Ok(event)
}

/// Waits until the client has this state.
async fn wait_state(client: &Client, wanted: SessionState) -> Outcome {
    let mut watcher = client.state_watcher();
    while watcher.peek_state() != wanted {
        within(watcher.changed()).await?;
    }
    Ok(())
}

/// Waits until a node does not exist.
async fn wait_gone(client: &Client, path: &str) -> Outcome {
    loop {
        let (stat, watcher) = client.check_and_watch_stat(path).await.or_fail("exists")?;
        if stat.is_none() {
            return Ok(());
        }
        within(watcher.changed()).await?;
    }
}

/// Repeats a call that lost its connection.
async fn retry<T, F: Future<Output = Result<T, Error>>>(mut call: impl FnMut() -> F) -> Result<T, Error> {
    loop {
        match call().await {
            Err(Error::ConnectionLoss) => {}
            result => return result,
        }
    }
}

#[tokio::main]
async fn main() {
    // Names on the command line select cases, for working on one.
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut cases = cases::all();
    cases.retain(|(name, _)| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name));
    println!("1..{}", cases.len());
    for (name, case) in cases {
        let root = format!("/rust-{name}");
        let run = tokio::spawn(async move {
            let client = connect().await?;
            client.create(&root, b"", &open(CreateMode::Persistent)).await.or_fail("create")?;
            drop(client);
            tokio::time::timeout(CASE_LIMIT, case(root)).await.unwrap_or_else(|_| Err("hung".to_owned()))
        });
        match run.await.unwrap_or_else(|panic| Err(panic.to_string())) {
            Ok(()) => println!("ok {name}"),
            Err(problem) => println!("not ok {name}: {}", problem.replace('\n', " ")),
        }
        control("accept").await.expect("the control port answers");
    }
}

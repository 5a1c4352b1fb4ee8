//! `ostler config` and `ostler reconfig`: who is in an ensemble, and changing that while it runs. Both speak
//! ZooKeeper's protocol on the client port.

mod args;
mod ensemble;
mod progress;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use ostler_client::{Client, ConnectError, ConnectOptions, Error};
use ostler_types::ErrorCode;
use ostler_wire::{Request, Response};

pub use args::{ConfigArgs, ReconfigArgs, ServerArgs};

use args::Change;
use ensemble::Ensemble;

/// The znode that shows the membership.
const CONFIG_PATH: &str = "/zookeeper/config";

/// Why the membership could not be shown or changed.
#[derive(Debug, thiserror::Error)]
enum MembershipError {
    #[error("no server could be reached:{}", Lines(.0))]
    Unreachable(Vec<(String, ConnectError)>),
    #[error("cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: {text}", path.display())]
    FileContent { path: PathBuf, text: String },
    #[error("the identity was refused: {0}")]
    Auth(Error),
    #[error("refused: {code}{}", advice(*.code))]
    Refused { code: ErrorCode },
    #[error(
        "{0}; the change may have been made, or be made yet: look with `ostler config` before trying again"
    )]
    Unknown(Error),
    #[error("{0}")]
    Request(Error),
    #[error("{CONFIG_PATH} is empty: the server has no server.N lines in its configuration")]
    NoEnsemble,
    #[error("{CONFIG_PATH} has an unexpected line: {0:?}")]
    Text(String),
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    #[error("cannot write the result: {0}")]
    Output(std::io::Error),
}

type Result<T, E = MembershipError> = std::result::Result<T, E>;

struct Lines<'a>(&'a [(String, ConnectError)]);

impl std::fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(server, error)| write!(f, "\n  {server}: {error}"))
    }
}

/// What to do about a refusal.
fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::ReconfigDisabled => "; set reconfigEnabled=true in the configuration of every server",
        ErrorCode::NoAuth => {
            "; give the super user with --auth-file (DigestAuthenticationProvider.superDigest in the servers' \
             configuration), or somebody who may write /zookeeper/config"
        }
        ErrorCode::BadVersion => "; the membership is not of the version expected: look with `ostler config`",
        ErrorCode::ReconfigInProgress => "; wait until it is done",
        ErrorCode::NewConfigNoQuorum => {
            "; start the servers of the new membership first: more than half of them must be up"
        }
        ErrorCode::Unimplemented => {
            "; a server can be part of an ensemble only with server.N lines in its configuration"
        }
        ErrorCode::BadArguments => {
            "; a server's line must have both ports and a client port, no address may occur twice, and somebody must \
             be left to vote"
        }
        ErrorCode::NotReadOnly => "; the server has no contact to a majority: ask another one",
        _ => "",
    }
}

/// Prints the membership.
///
/// Exit status 0: printed; 1: it could not be had.
pub fn config(args: &ConfigArgs) -> ExitCode {
    exit(block_on(async {
        let client = connect(&args.server).await?;
        let (data, _) = client.get_data(CONFIG_PATH, false).await.map_err(MembershipError::Request)?;
        let ensemble = Ensemble::read(data.as_deref())?;
        print(&ensemble, args.server.json)?;
        close(client).await;
        Ok(())
    }))
}

/// Changes the membership, waits until that is done, and prints the new one.
///
/// Exit status 0: done; 1: refused, or it is not known whether it was done.
pub fn reconfig(args: &ReconfigArgs) -> ExitCode {
    exit(block_on(async {
        let change = args.change()?;
        let auth = args.auth()?;
        let client = connect(&args.server).await?;
        if let Some(auth) = &auth {
            client.add_auth("digest", auth.as_bytes()).await.map_err(MembershipError::Auth)?;
        }
        let config_id = args.version.map_or(-1, |version| version.0);
        let Change { joining, leaving, members } = &change;
        let request = Request::Reconfig {
            joining: joining.as_deref().map(Into::into),
            leaving: leaving.as_deref().map(Into::into),
            new_members: members.as_deref().map(Into::into),
            config_id,
        };
        let reply = progress::while_waiting(&change, client.call(&request)).await.map_err(refusal)?;
        let Response::DataAndStat { data, .. } = reply.response else {
            // The client has decoded it as what a reconfig is answered with.
            return Err(MembershipError::NoEnsemble);
        };
        print(&Ensemble::read(data.as_deref())?, args.server.json)?;
        close(client).await;
        Ok(())
    }))
}

fn refusal(error: Error) -> MembershipError {
    match error {
        Error::Server(code) => MembershipError::Refused { code },
        Error::OutcomeUnknown(_) | Error::Reply(_) => MembershipError::Unknown(error),
        Error::ServerCode(_) | Error::Multi { .. } | Error::NotSent(_) => MembershipError::Request(error),
    }
}

/// A session on the first server that grants one.
async fn connect(args: &ServerArgs) -> Result<Client> {
    let mut failed = Vec::new();
    for server in &args.server {
        match Client::connect(server.as_str(), &ConnectOptions::default()).await {
            Ok((client, _events)) => return Ok(client),
            Err(error) => failed.push((server.clone(), error)),
        }
    }
    Err(MembershipError::Unreachable(failed))
}

/// Everything is done; a session that cannot be closed expires.
async fn close(client: Client) {
    let _ = client.close().await;
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(MembershipError::Runtime)?.block_on(work)
}

fn print(ensemble: &Ensemble, json: bool) -> Result<()> {
    let text = if json { ensemble.to_json().to_string() + "\n" } else { ensemble.to_string() };
    std::io::stdout().write_all(text.as_bytes()).map_err(MembershipError::Output)
}

fn exit(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

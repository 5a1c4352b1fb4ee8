//! What happens, in words.

use super::Forwarding;
use super::state::{Command, Request, State};
use super::world::Action;

pub(super) fn describe(model: &Forwarding, state: &State, action: Action) -> String {
    let of = |server: u8| &state.servers[usize::from(server)];
    let named = |server: u8, connection: u8| &of(server).connections[usize::from(connection)];
    match action {
        Action::ClientWrites => {
            format!(
                "the client sends write {} on connection {}",
                state.client.sent + 1,
                state.client.connection
            )
        }
        Action::ClientAddsAuth => {
            format!("the client sends an addauth on connection {}", state.client.connection)
        }
        Action::ClientConnects(server) => {
            format!("the client opens connection {} to server {server}", state.client.connection + 1)
        }
        Action::ClientLosesConnection => {
            format!("the client loses connection {}, its server does not notice", state.client.connection)
        }
        Action::Handle { server, connection } => {
            let number = named(server, connection).number;
            format!("server {server} handles the ConnectRequest of connection {number}")
        }
        Action::Read { server, connection } => {
            let connection = named(server, connection);
            let request = connection.received[0];
            match request {
                Request::AddAuth => {
                    format!("server {server} reads the addauth of connection {}", connection.number)
                }
                Request::Write(write) if model.refuses(request) => {
                    format!("server {server} refuses write {write} of connection {}", connection.number)
                }
                Request::Write(write) => format!(
                    "server {server} reads write {write} of connection {}: sequence {} of generation {}",
                    connection.number,
                    connection.numbered + 1,
                    connection.generation
                ),
            }
        }
        Action::Notice { server, connection } => {
            format!("server {server} notices that connection {} is gone", named(server, connection).number)
        }
        Action::Reforward(server) => format!("server {server} forwards everything pending again"),
        Action::Apply(server) => {
            let place = of(server).applied;
            let command = state.log[usize::from(place)];
            let outcome = state.session_at(place, &model.rules).apply(command, &model.rules);
            let effect = if outcome == super::state::Outcome::Done { "" } else { ", without effect" };
            format!("server {server} applies {}{effect}", command_in_words(command))
        }
        Action::InstallSnapshot(server) => format!("server {server} installs a snapshot"),
        Action::Crash(server) => format!("server {server} crashes and starts again"),
        Action::Propose(server) => {
            format!("the leader appends {} from server {server}", command_in_words(of(server).link[0]))
        }
        Action::Drop(server) => {
            let silently = if model.rules.drops_are_refusals { "" } else { " silently" };
            format!(
                "the leader drops {} from server {server}{silently}",
                command_in_words(of(server).link[0])
            )
        }
        Action::BreakLink(server) => format!("the link of server {server} breaks; what was on it is delayed"),
        Action::ProposeLate(server) => format!(
            "the leader gets {} late, from the old link of server {server}, and appends it",
            command_in_words(of(server).old_link[0])
        ),
        Action::LoseOldLink(server) => format!("what was on the old link of server {server} is lost"),
        Action::Commit => {
            format!("{} is committed", command_in_words(state.log[usize::from(state.committed)]))
        }
        Action::ChangeLeader { surviving } => {
            let uncommitted = state.log.len() - usize::from(state.committed);
            format!("the leader changes; {surviving} of {uncommitted} uncommitted entries survive")
        }
        Action::Expire => format!(
            "the leader decides to expire generation {}",
            state.session_at(state.committed, &model.rules).generation
        ),
    }
}

fn command_in_words(command: Command) -> String {
    match command {
        Command::Nothing => "nothing".to_owned(),
        Command::Create { connection, .. } => format!("createSession (connection {connection})"),
        Command::Attach { connection, seen_generation, .. } => {
            format!("attach (connection {connection}, saw generation {seen_generation})")
        }
        Command::Write { generation, sequence, write, closes, .. } => {
            let closing = if closes { ", closing" } else { "" };
            format!("write {write}{closing} (generation {generation}, sequence {sequence})")
        }
        Command::Expire { generation } => format!("expire (generation {generation})"),
    }
}

//! The ensemble a server belongs to: its `server.N` lines, which of them is this server, and what must agree.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ostler_types::Zxid;
use ostler_types::member::{PeerAddress, Role, ServerSpec};

use super::reader::{Reader, printable};
use super::resolve::Reported;
use super::{ListenAddress, ReadFile, dynamic_file};

/// The ensemble a server belongs to, from its `server.N` lines. It may have a single server, which then can grow.
///
/// It says how a server finds the others and what a new cluster begins with; once there is a cluster, its
/// replicated membership decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleConfig {
    /// This server's number: `--id`, or the file `myid` in `dataDir`. 1 to 254, and a key of `servers`.
    pub server_id: u8,
    /// Every server by its number, 1 to 254. At least one is a participant.
    pub servers: BTreeMap<u8, ServerSpec>,
    /// `quorumListenOnAllIPs`: listen for servers on every interface, not only on the address of the line.
    pub listen_on_all: bool,
    /// The file the configuration comes from, which `reconfig` rewrites; `None` if it comes from elsewhere.
    pub config_file: Option<PathBuf>,
    /// `dynamicConfigFile`: the file the server lines come from, if it is not `config_file`.
    pub dynamic_file: Option<PathBuf>,
    /// Version of the server lines: the zxid of the `reconfig` that made them, from the name of `dynamic_file`. 0 for
    /// lines an operator wrote.
    pub version: Zxid,
}

impl EnsembleConfig {
    /// This server's own line.
    pub fn this(&self) -> &ServerSpec {
        &self.servers[&self.server_id]
    }

    /// Where to listen for other servers; no host is every interface. Not empty, and no two are the same.
    pub fn quorum_listen(&self) -> Vec<ListenAddress> {
        let mut listen = Vec::new();
        for PeerAddress { host, quorum_port, .. } in &self.this().addresses {
            let everywhere = self.listen_on_all || is_everywhere(host);
            let address = ListenAddress { host: (!everywhere).then(|| host.clone()), port: *quorum_port };
            if !listen.contains(&address) {
                listen.push(address);
            }
        }
        listen
    }

    /// Whether this server's client address is not in its line but in `clientPort`. `/zookeeper/config` and the
    /// files that `reconfig` writes then leave it out.
    pub fn client_is_static(&self) -> bool {
        self.this().client.is_none()
    }
}

/// What the command line and the directories add to the settings.
pub(super) struct Around<'a> {
    pub(super) read: ReadFile<'a>,
    pub(super) config_file: Option<&'a Path>,
    /// `--id`.
    pub(super) server_id: Option<u8>,
}

/// What this server's number must be, for messages.
const ID_EXPECTED: &str = "a number from 1 to 254: it is the first byte of the session ids this server gives out, where \
                           0 stands for no server and 255 marks nodes with a TTL";

/// The server lines and what goes with them; `None` if there are none.
pub(super) fn resolve(reader: &mut Reader, around: &Around<'_>) -> Result<Option<EnsembleConfig>, Reported> {
    let dynamic_file = reader.text("dynamicConfigFile").filter(|name| !name.is_empty()).map(PathBuf::from);
    let listen_on_all = reader.switch("quorumListenOnAllIPs");
    let several_addresses = reader.switch("multiAddress.enabled");
    let peer_type = peer_type(reader);
    let lines = reader.servers();
    if lines.is_empty() {
        if around.server_id.is_some() {
            reader.problem(
                "server.*",
                "--id is this server's number among server.N lines, and there are none".to_owned(),
            );
        }
        if peer_type == Some(Role::Observer) {
            reader.note("peerType", "peerType=observer: there are no server lines, so there is nobody to observe; the server runs alone".to_owned());
        }
        return Ok(None);
    }
    let servers = servers(reader, &lines)?;
    check_members(reader, &servers, several_addresses)?;
    let server_id = server_id(reader, &servers, around)?;
    check_hosts(reader, &servers, server_id);
    let role = servers[&server_id].role;
    if let Some(stated) = peer_type.filter(|&stated| stated != role) {
        let text =
            format!("peerType={stated}, but the line of server.{server_id} says {role}; the line decides");
        reader.note("peerType", text);
    }
    let version = dynamic_file.as_deref().map_or(Zxid(0), dynamic_file::version);
    Ok(Some(EnsembleConfig {
        server_id,
        servers,
        listen_on_all,
        config_file: around.config_file.map(Path::to_owned),
        dynamic_file,
        version,
    }))
}

fn peer_type(reader: &mut Reader) -> Option<Role> {
    let text = reader.text("peerType")?;
    match text.to_ascii_lowercase().as_str() {
        "participant" => Some(Role::Participant),
        "observer" => Some(Role::Observer),
        _ => {
            reader.wrong("peerType", &text, "participant or observer");
            None
        }
    }
}

fn servers(reader: &mut Reader, lines: &[(String, String)]) -> Result<BTreeMap<u8, ServerSpec>, Reported> {
    let mut servers = BTreeMap::new();
    for (name, value) in lines {
        let number = name.strip_prefix("server.").unwrap_or(name);
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        let Some(id) = number.parse().ok().filter(|id| digits && (1..=254).contains(id)) else {
            reader.problem(name, format!("{}: after `server.`, expected {ID_EXPECTED}", printable(name)));
            continue;
        };
        match ServerSpec::parse(value) {
            None => reader.wrong(name, value, ServerSpec::EXPECTED),
            Some(spec) => {
                if servers.insert(id, spec).is_some() {
                    reader.problem(name, format!("{}: server {id} has another line", printable(name)));
                }
            }
        }
    }
    if servers.len() < lines.len() { Err(Reported) } else { Ok(servers) }
}

/// What an ensemble must be, and what its operator should know of it.
fn check_members(
    reader: &mut Reader,
    servers: &BTreeMap<u8, ServerSpec>,
    several_addresses: bool,
) -> Result<(), Reported> {
    let voters = servers.values().filter(|spec| spec.votes()).count();
    let last = servers.last_key_value().map_or_else(String::new, |(id, _)| format!("server.{id}"));
    if voters == 0 {
        let text = "every server is an observer: nobody could decide; make at least one a participant";
        reader.problem(&last, text.to_owned());
        return Err(Reported);
    }
    let mut owners: BTreeMap<(&str, u16), u8> = BTreeMap::new();
    let mut wrong = false;
    for (&id, spec) in servers {
        let name = format!("server.{id}");
        for PeerAddress { host, quorum_port, .. } in &spec.addresses {
            if let Some(other) = owners.insert((host, *quorum_port), id) {
                reader.problem(
                    &name,
                    format!("{name} and server.{other} have the same address {host}:{quorum_port}"),
                );
                wrong = true;
            }
        }
        if spec.addresses.len() > 1 && !several_addresses {
            reader.problem(
                &name,
                format!("{name} has several addresses: that needs multiAddress.enabled=true"),
            );
            wrong = true;
        }
    }
    if wrong {
        return Err(Reported);
    }
    if voters == 2 {
        reader.note(&last, "2 participants survive no failure; 3 survive one".to_owned());
    } else if voters.is_multiple_of(2) {
        let text = format!("{voters} participants survive no more failures than {}", voters - 1);
        reader.note(&last, text);
    }
    Ok(())
}

/// `0.0.0.0` is where a server listens, and nobody's address.
fn check_hosts(reader: &mut Reader, servers: &BTreeMap<u8, ServerSpec>, server_id: u8) {
    if servers.len() == 1 {
        return;
    }
    for (id, spec) in servers {
        if !spec.addresses.iter().any(|address| is_everywhere(&address.host)) {
            continue;
        }
        let name = format!("server.{id}");
        if *id == server_id {
            let text = format!(
                "{name} is this server and should have the name that the others use for it: they cannot be told \
                 0.0.0.0; quorumListenOnAllIPs=true is how to listen on every interface"
            );
            reader.note(&name, text);
        } else {
            reader.problem(&name, format!("{name} is another server: 0.0.0.0 is no address to find it at"));
        }
    }
}

/// Whether `host` stands for every interface.
fn is_everywhere(host: &str) -> bool {
    host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_unspecified())
}

/// This server's number. With a single line it is that line's unless `myid` says otherwise: ZooKeeper runs such a file
/// without a `myid`.
fn server_id(
    reader: &mut Reader,
    servers: &BTreeMap<u8, ServerSpec>,
    around: &Around<'_>,
) -> Result<u8, Reported> {
    // A missing dataDir is reported where the data is looked for.
    let Some(data_dir) = reader.text("dataDir").filter(|path| !path.is_empty()) else { return Err(Reported) };
    let path = Path::new(&data_dir).join("myid");
    let mut report = |text: String| {
        reader.problem("dataDir", text);
        Reported
    };
    let written = match (around.read)(&path) {
        Ok(bytes) => Some(parse_myid(&bytes).map_err(|text| {
            report(format!("{}: `{}`: expected {ID_EXPECTED}", path.display(), printable(&text)))
        })?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(report(format!("cannot read {}: {error}", path.display()))),
    };
    let (id, source) = match (around.server_id, written) {
        (Some(asked), Some(written)) if asked != written => {
            let text = format!(
                "--id {asked}, but {} says {written}: the data is server {written}'s",
                path.display()
            );
            return Err(report(text));
        }
        (Some(asked), _) => (asked, "--id".to_owned()),
        (None, Some(written)) => (written, path.display().to_string()),
        (None, None) => match servers.first_key_value() {
            Some((&only, _)) if servers.len() == 1 => return Ok(only),
            _ => {
                let text = format!(
                    "{} is missing: expected a file that says which of the server.N lines this server is, or --id N",
                    path.display()
                );
                return Err(report(text));
            }
        },
    };
    if !servers.contains_key(&id) {
        let known: Vec<_> = servers.keys().map(|id| format!("server.{id}")).collect();
        let known = known.join(", ");
        let text = format!(
            "{source} says this is server {id}, which has no line among {known}; one that is to join has a line too"
        );
        return Err(report(text));
    }
    Ok(id)
}

/// The first line, as ZooKeeper reads the file; if that is no number, the line.
fn parse_myid(bytes: &[u8]) -> Result<u8, String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().next().unwrap_or_default().trim();
    let digits = line.bytes().all(|b| b.is_ascii_digit());
    line.parse().ok().filter(|id| digits && (1..=254).contains(id)).ok_or_else(|| line.to_owned())
}

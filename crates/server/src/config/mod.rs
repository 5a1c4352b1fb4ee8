//! Configuration: ZooKeeper's `zoo.cfg` in, a [`ServerConfig`] that cannot be inconsistent out.
//!
//! Settings come from a file, from ZooKeeper's arguments `port dataDir [tickTime] [maxClientCnxns]`, or are the
//! built-in ones of a server started without either; a few command-line options replace single settings. All
//! of them take the same way: key and value pairs are looked up in the [table](find), and every mistake found
//! is reported at once.
//!
//! ```
//! use ostler_server::config::{self, Overrides};
//!
//! let text = b"dataDir=/var/lib/zookeeper\nclientPort=2181\ntickTime=2000\nlocalSessionsEnabled=true\n";
//! let loaded = config::parse("zoo.cfg", text, &Overrides::default()).unwrap();
//! assert_eq!(loaded.config.sessions.timeouts.max_ms(), 40_000);
//! assert_eq!(
//!     loaded.notes[0].to_string(),
//!     "zoo.cfg:4: localSessionsEnabled has no effect: sessions are always global here, which is the stronger \
//!      promise; only read-only mode has local ones"
//! );
//!
//! let wrong = config::parse("zoo.cfg", b"dataDir=/d\nclientport=2181\n", &Overrides::default()).unwrap_err();
//! assert!(wrong.to_string().contains("zoo.cfg:2: clientport: unknown setting; the nearest known one is clientPort"));
//! ```

mod dynamic_file;
mod ensemble;
mod membership_files;
mod problem;
mod properties;
mod reader;
mod resolve;
mod server_config;
mod summary;
mod table;

pub use ensemble::EnsembleConfig;
pub use membership_files::MembershipFiles;
pub use problem::{ConfigError, Note, Problem};
pub use server_config::{
    AuthConfig, CleanerConfig, ConnectionThrottle, DataConfig, DigestAlgorithm, DigestAuth, ElectionTiming,
    ListenAddress, ListenConfig, MetricsConfig, PrometheusEndpoint, RequestLimits, ServerConfig,
    SessionConfig, SessionTimeouts, SuperDigest, TreeRules,
};
pub use table::{Class, Setting, find, sections};

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use ensemble::Around;
use reader::{Given, Origin, Reader};

/// Largest configuration file that is read, in bytes; ZooKeeper's have some hundred.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A configuration and what the operator should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: ServerConfig,
    /// Settings without effect, replaced or adjusted ones; one log line each at start.
    pub notes: Vec<Note>,
}

impl Loaded {
    /// Logs every note, a line each.
    pub fn log_notes(&self) {
        for note in &self.notes {
            tracing::warn!("{note}");
        }
    }
}

/// Settings given on the command line, which win over the others.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Instead of `dataDir`. `dataLogDir` is left alone.
    pub data_dir: Option<PathBuf>,
    /// Instead of `clientPortAddress` and `clientPort`.
    pub listen: Option<ListenAddress>,
    /// Instead of the file `myid`, with which it must agree if both are there. 1 to 254.
    pub server_id: Option<u8>,
}

/// How the files that a configuration refers to (`myid`, `dynamicConfigFile`) are read.
type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// The settings of a server started without a file: clients on this machine only, data in `./ostler-data`, old
/// data purged hourly, no limit on connections, every four-letter word.
pub fn standalone_default(overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let built_in = [
        ("dataDir", "./ostler-data"),
        ("clientPortAddress", "127.0.0.1"),
        ("clientPort", "2181"),
        ("maxClientCnxns", "0"),
        ("autopurge.purgeInterval", "1"),
        ("4lw.commands.whitelist", "*"),
    ];
    let given = built_in.map(|(key, value)| Given::new(Origin::BuiltIn, key, value));
    load("built-in settings", None, given.into(), Vec::new(), overrides, &read_bytes)
}

/// Reads a configuration file as [`parse`] does.
pub fn read_file(path: &Path, overrides: &Overrides) -> Result<Loaded, ConfigError> {
    let source = path.display().to_string();
    let bytes = read_bytes(path).map_err(|error| ConfigError::Unreadable { from: source.clone(), error })?;
    parse_with(&source, Some(path), &bytes, overrides, &read_bytes)
}

/// Reads the text of a configuration file; `source` is its name in messages. Where a key is given twice, the
/// later one wins, as in Java, and a note says so. With server lines the file `myid` in `dataDir` is read, and with
/// `dynamicConfigFile` that file.
pub fn parse(source: &str, bytes: &[u8], overrides: &Overrides) -> Result<Loaded, ConfigError> {
    parse_with(source, None, bytes, overrides, &read_bytes)
}

fn parse_with(
    source: &str,
    file: Option<&Path>,
    bytes: &[u8],
    overrides: &Overrides,
    read: ReadFile<'_>,
) -> Result<Loaded, ConfigError> {
    let mut given = Vec::new();
    let mut problems = Vec::new();
    for entry in properties::parse(bytes) {
        match entry {
            Ok(entry) => given.push(Given::new(Origin::Line(entry.line), entry.key, entry.value)),
            Err(bad) => {
                problems.push(Problem::new(source, Some(bad.line), reader::BAD_ESCAPE.to_owned()));
            }
        }
    }
    load(source, file, given, problems, overrides, read)
}

/// The file's contents, unless it is too large to be a configuration.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let text = format!("larger than {MAX_FILE_BYTES} bytes; not a configuration");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// ZooKeeper's arguments `port dataDir [tickTime] [maxClientCnxns]`, with ZooKeeper's defaults for that form: no
/// limit on connections per address.
pub fn from_arguments<S: AsRef<str>>(arguments: &[S], overrides: &Overrides) -> Result<Loaded, ConfigError> {
    if !(2..=4).contains(&arguments.len()) {
        let text =
            format!("{} arguments: expected port dataDir [tickTime] [maxClientCnxns]", arguments.len());
        return Err(one_problem("command line", text));
    }
    let keys = ["clientPort", "dataDir", "tickTime", "maxClientCnxns"];
    let unlimited = [Given::new(Origin::BuiltIn, "maxClientCnxns", "0")];
    let typed = keys.into_iter().zip(arguments);
    let given = unlimited
        .into_iter()
        .chain(typed.map(|(key, value)| Given::new(Origin::CommandLine, key, value.as_ref())))
        .collect();
    load("command line", None, given, Vec::new(), overrides, &read_bytes)
}

fn load(
    source: &str,
    config_file: Option<&Path>,
    mut given: Vec<Given>,
    problems: Vec<Problem>,
    overrides: &Overrides,
    read: ReadFile<'_>,
) -> Result<Loaded, ConfigError> {
    if let Some(dir) = &overrides.data_dir {
        match dir.to_str() {
            Some(dir) => given.push(Given::new(Origin::CommandLine, "dataDir", dir)),
            None => {
                return Err(one_problem("command line", "the data directory's name is not UTF-8".to_owned()));
            }
        }
    }
    if let Some(listen) = &overrides.listen {
        let host = listen.host.as_deref().unwrap_or_default();
        given.push(Given::new(Origin::CommandLine, "clientPortAddress", host));
        given.push(Given::new(Origin::CommandLine, "clientPort", listen.port.to_string()));
    }
    let mut reader = Reader::new(source, given, problems);
    dynamic_file::read(&mut reader, read);
    let around = Around { read, config_file, server_id: overrides.server_id };
    let config = resolve::resolve(&mut reader, &around);
    reader.finish(config)
}

fn one_problem(source: &str, text: String) -> ConfigError {
    ConfigError::Invalid { from: source.to_owned(), problems: vec![Problem::new(source, None, text)] }
}

#[cfg(test)]
mod ensemble_tests;
#[cfg(test)]
mod tests;

//! Every exchange recorded from Apache ZooKeeper (crates/testkit/golden), played to Ostler byte by byte: to one server, and
//! to a follower and the leader of an ensemble.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ostler_server::Server;
use ostler_server::config::{self, Overrides};
use ostler_testkit::golden::{self, Scenario, Side};

/// The settings a scenario asks for, as a zoo.cfg for an empty directory.
fn zoo_cfg(scenario: &Scenario, data_dir: &Path) -> String {
    let mut text = format!(
        "dataDir={}\nclientPort=0\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\npreAllocSize=64\ntickTime=2000\n",
        data_dir.display()
    );
    for setting in &scenario.settings {
        // What Apache ZooKeeper only takes as a JVM property is a line of the file here.
        let key = setting.key.strip_prefix("zookeeper.").unwrap_or(&setting.key);
        text += &format!("{key}={}\n", setting.value);
    }
    text
}

fn play(file: &Path) -> Result<usize, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let scenario = Scenario::parse(&text).map_err(|error| format!("{error:?}"))?;
    let data_dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let loaded =
        config::parse("zoo.cfg", zoo_cfg(&scenario, data_dir.path()).as_bytes(), &Overrides::default())
            .map_err(|error| error.to_string())?;
    let server = Server::start(loaded.config).map_err(|error| error.to_string())?;
    let played = golden::replay_as(Side::Ostler, server.address(), &text);
    server.stop();
    played.map(|report| report.frames_compared).map_err(|failure| failure.to_string())
}

fn recorded() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/golden");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("the golden exchanges are in the repository")
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() > 40, "only {} golden exchanges found", files.len());
    files
}

#[test]
fn ostler_answers_as_recorded() {
    let files = recorded();
    let mut failures = Vec::new();
    let mut frames = 0;
    for file in &files {
        match play(file) {
            Ok(compared) => frames += compared,
            Err(failure) => failures.push(format!("{}: {failure}", file.display())),
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
    assert!(frames > 500, "only {frames} frames compared");
}

/// Three servers of this process, and what is theirs.
struct Ensemble {
    servers: Vec<Server>,
    _data: Vec<tempfile::TempDir>,
}

impl Ensemble {
    fn start(scenario: &Scenario) -> Result<Ensemble, String> {
        let data: Vec<_> = (0..3)
            .map(|_| tempfile::tempdir())
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let ports: Vec<u16> = free_ports(6).map_err(|error| error.to_string())?;
        let members: String = (0..3)
            .map(|index| format!("server.{}=127.0.0.1:{}:{}\n", index + 1, ports[index], ports[3 + index]))
            .collect();
        let starts: Vec<_> = data
            .iter()
            .enumerate()
            .map(|(index, directory)| {
                std::fs::write(directory.path().join("myid"), format!("{}\n", index + 1))
                    .map_err(|error| error.to_string())?;
                let text = zoo_cfg(scenario, directory.path()) + "initLimit=10\nsyncLimit=5\n" + &members;
                let loaded = config::parse("zoo.cfg", text.as_bytes(), &Overrides::default())
                    .map_err(|error| error.to_string())?;
                // Each returns when all have met.
                Ok(std::thread::spawn(move || Server::start(loaded.config)))
            })
            .collect::<Result<_, String>>()?;
        let servers: Vec<Server> = starts
            .into_iter()
            .map(|start| start.join().expect("a start does not panic").map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?;
        for server in &servers {
            let started = Instant::now();
            if !server.wait_until_serving(|| started.elapsed() > PATIENCE) {
                return Err("the ensemble does not serve".into());
            }
        }
        Ok(Ensemble { servers, _data: data })
    }

    /// The address of the leader, or of a follower.
    fn address(&self, role: &str) -> Result<SocketAddr, String> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            for server in &self.servers {
                let mut answer = String::new();
                let mut stream = TcpStream::connect(server.address()).map_err(|error| error.to_string())?;
                stream.write_all(b"srvr").map_err(|error| error.to_string())?;
                stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
                if answer.contains(&format!("Mode: {role}\n")) {
                    return Ok(server.address());
                }
            }
        }
        Err(format!("nobody is the {role}"))
    }

    fn stop(self) {
        self.servers.into_iter().for_each(Server::stop);
    }
}

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ports that are free now, below those that the system gives to outgoing connections.
fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    let mut random = [0; 2];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let first = 10_240 + u16::from_le_bytes(random) % 20_000;
    let free = (first..32_000).filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    Ok(free.take(count).collect())
}

/// What is another in an ensemble, ZooKeeper's as Ostler's: `/zookeeper/config` has a transaction, members and version -1,
/// and a reconfig is a question of rights.
const OF_ONE_SERVER: [&str; 3] = ["builtin-tree", "reconfig-standalone", "super"];
/// A ping is answered at once, so it can overtake a sync that waits for the other servers (docs/compatibility.md).
const OVERTAKEN: &str = "ping-and-xids";

/// Plays everything to one server of an ensemble: at most one ensemble for each set of settings, unless a scenario needs a
/// fresh one.
fn an_ensemble_answers_as_recorded(role: &str) {
    let mut shared: Vec<(String, Ensemble)> = Vec::new();
    let (mut failures, mut frames, mut unlike) = (Vec::new(), 0, Vec::new());
    for file in recorded() {
        let name = file.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let scenario = Scenario::parse(&text).expect("a scenario");
        let settings = format!("{:?}", scenario.settings);
        let of_its_own = scenario.fresh_server.then(|| Ensemble::start(&scenario).expect("an ensemble"));
        if of_its_own.is_none() && !shared.iter().any(|(of, _)| *of == settings) {
            shared.push((settings.clone(), Ensemble::start(&scenario).expect("an ensemble")));
        }
        let known = shared.iter().find(|(of, _)| *of == settings).map(|(_, ensemble)| ensemble);
        let ensemble = of_its_own.as_ref().or(known).expect("one of the two");
        let played = ensemble.address(role).and_then(|address| {
            golden::replay_as(Side::Ostler, address, &text).map_err(|failure| failure.to_string())
        });
        match played {
            Ok(report) => frames += report.frames_compared,
            Err(_) if OF_ONE_SERVER.contains(&name.as_str()) => unlike.push(name),
            Err(_) if name == OVERTAKEN => {}
            Err(failure) => failures.push(format!("{name}: {failure}")),
        }
        of_its_own.into_iter().for_each(Ensemble::stop);
    }
    shared.into_iter().for_each(|(_, ensemble)| ensemble.stop());
    assert!(failures.is_empty(), "{} differ on a {role}:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(unlike, OF_ONE_SERVER, "these differ in any ensemble");
    assert!(frames > 500, "only {frames} frames compared");
}

#[test]
fn a_follower_answers_as_recorded() {
    an_ensemble_answers_as_recorded("follower");
}

#[test]
fn a_leader_answers_as_recorded() {
    an_ensemble_answers_as_recorded("leader");
}

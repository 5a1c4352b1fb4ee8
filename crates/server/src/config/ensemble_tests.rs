//! Ensembles: server lines, `myid`, dynamic files, and what must agree.

use std::collections::BTreeMap;
use std::io;

use ostler_types::member::ServerSpec;

use super::*;

const THREE: &str = "dataDir=/d\nclientPort=2181\ntickTime=2000\nserver.1=a:2888:3888\nserver.2=b:2888:3888\n\
                     server.3=c:2888:3888\n";

/// A configuration read with other files around it.
struct Case<'a> {
    text: &'a str,
    files: BTreeMap<&'a str, &'a str>,
    overrides: Overrides,
}

fn case(text: &str) -> Case<'_> {
    Case { text, files: BTreeMap::new(), overrides: Overrides::default() }
}

impl<'a> Case<'a> {
    fn file(mut self, name: &'a str, text: &'a str) -> Case<'a> {
        self.files.insert(name, text);
        self
    }

    fn myid(self, text: &'a str) -> Case<'a> {
        self.file("/d/myid", text)
    }

    fn id(mut self, id: u8) -> Case<'a> {
        self.overrides.server_id = Some(id);
        self
    }

    fn read(&self) -> Result<Loaded, ConfigError> {
        let read = |path: &Path| match self.files.get(path.to_str().unwrap()) {
            Some(&"unreadable") => Err(io::ErrorKind::PermissionDenied.into()),
            Some(text) => Ok(text.as_bytes().to_vec()),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        parse_with("zoo.cfg", Some(Path::new("zoo.cfg")), self.text.as_bytes(), &self.overrides, &read)
    }

    #[track_caller]
    fn loaded(&self) -> Loaded {
        self.read().unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn ensemble(&self) -> EnsembleConfig {
        self.loaded().config.ensemble.expect("there are server lines")
    }

    /// The only problem, without where it is.
    #[track_caller]
    fn complaint(&self) -> String {
        let text = self.read().expect_err("this should not be accepted").to_string();
        text.strip_prefix("zoo.cfg: 1 problem\n  ").unwrap_or_else(|| panic!("{text}")).to_owned()
    }

    #[track_caller]
    fn notes(&self) -> Vec<String> {
        self.loaded().notes.iter().map(Note::to_string).collect()
    }
}

#[test]
fn server_lines_and_myid_make_an_ensemble() {
    let loaded = case(THREE).myid("2\n").loaded();
    assert_eq!(loaded.notes, []);
    assert_eq!(loaded.config.listen.client.to_string(), "*:2181");
    let ensemble = loaded.config.ensemble.as_ref().unwrap();
    assert_eq!((ensemble.server_id, ensemble.servers.len(), ensemble.version.0), (2, 3, 0));
    assert_eq!(ensemble.this().to_string(), "b:2888:3888:participant");
    assert!(ensemble.client_is_static());
    assert_eq!(listening(ensemble), ["b:2888"]);
    assert_eq!(ensemble.config_file.as_deref(), Some(Path::new("zoo.cfg")));
    let shown = loaded.to_json();
    assert_eq!(shown["settings"]["server.3"], "c:2888:3888:participant");
    assert_eq!(shown["settings"]["myid"], 2);
}

fn listening(ensemble: &EnsembleConfig) -> Vec<String> {
    ensemble.quorum_listen().iter().map(ListenAddress::to_string).collect()
}

#[test]
fn servers_listen_for_each_other_on_their_addresses_or_on_all() {
    let with = |lines: &str| {
        let text = format!("dataDir=/d\nclientPort=1\nmultiAddress.enabled=true\n{lines}");
        listening(&case(&text).ensemble())
    };
    assert_eq!(with("server.1=a:1:2|b:1:2|[::1]:3:4"), ["[::1]:3", "a:1", "b:1"]);
    assert_eq!(with("server.1=a:1:2|b:1:2|c:3:4\nquorumListenOnAllIPs=true"), ["*:1", "*:3"]);
    assert_eq!(with("server.1=0.0.0.0:1:2"), ["*:1"]);
}

#[test]
fn a_server_without_lines_has_no_ensemble() {
    assert_eq!(case("dataDir=/d\nclientPort=1").myid("9").loaded().config.ensemble, None);
}

#[test]
fn a_line_may_say_where_clients_connect() {
    let text =
        "dataDir=/d\nserver.1=a:1:2;h:3\nserver.2=b:1:2:observer;4\nserver.4=d:1:2\nserver.3=c:1:2;4\n";
    let loaded = case(text).myid("1").loaded();
    assert_eq!(loaded.config.listen.client.to_string(), "h:3");
    assert!(!loaded.config.ensemble.unwrap().client_is_static());
    let observer = case(text).myid("2").loaded();
    assert_eq!(observer.config.listen.client.to_string(), "*:4");
    assert_eq!(observer.notes, []);
    assert_eq!(
        case(text).myid("4").complaint(),
        "zoo.cfg: clientPort is missing: nobody could connect; expected clientPort=2181 or the like"
    );
}

#[test]
fn a_single_line_names_its_server() {
    let one = "dataDir=/d\nclientPort=1\nserver.7=a:1:2\nweight.7=1\n";
    assert_eq!(case(one).ensemble().server_id, 7);
    assert_eq!(case(one).myid("7").ensemble().server_id, 7);
    assert_eq!(case(one).notes(), [""; 0]);
    assert!(case(one).myid("8").complaint().contains("this is server 8, which has no line among server.7"));
}

#[test]
fn the_number_comes_from_myid_or_the_command_line() {
    assert_eq!(case(THREE).id(3).ensemble().server_id, 3);
    assert_eq!(case(THREE).id(3).myid("3").ensemble().server_id, 3);
    assert_eq!(case(THREE).myid(" 1 \r\nleft over").ensemble().server_id, 1);
    for (case, expected) in [
        (
            case(THREE),
            "zoo.cfg:1: /d/myid is missing: expected a file that says which of the server.N lines this server is, or \
             --id N",
        ),
        (case(THREE).id(3).myid("1"), "zoo.cfg:1: --id 3, but /d/myid says 1: the data is server 1's"),
        (
            case(THREE).myid("9"),
            "zoo.cfg:1: /d/myid says this is server 9, which has no line among server.1, server.2, server.3; one that \
             is to join has a line too",
        ),
        (
            case(THREE).id(9),
            "zoo.cfg:1: --id says this is server 9, which has no line among server.1, server.2, server.3; one that is \
             to join has a line too",
        ),
        (case(THREE).myid("unreadable"), "zoo.cfg:1: cannot read /d/myid: permission denied"),
        (
            case("dataDir=/d\nclientPort=1").id(1),
            "zoo.cfg: --id is this server's number among server.N lines, and there are none",
        ),
    ] {
        assert_eq!(case.complaint(), expected);
    }
    for wrong in ["", "one", "0", "255", "-1", "+1", "1.0", "99999999999999999999"] {
        let complaint = case(THREE).myid(wrong).complaint();
        assert_eq!(
            complaint,
            format!(
                "zoo.cfg:1: /d/myid: `{wrong}`: expected a number from 1 to 254: it is the first byte of the session \
                 ids this server gives out, where 0 stands for no server and 255 marks nodes with a TTL"
            )
        );
    }
}

#[test]
fn lines_that_make_no_ensemble_are_errors() {
    let with = |lines: &str| format!("dataDir=/d\nclientPort=1\n{lines}");
    for (lines, expected) in [
        ("server.1=a:2888", format!("zoo.cfg:3: server.1=a:2888: expected {}", ServerSpec::EXPECTED)),
        (
            "server.1=a:1:2:observer\nserver.2=b:1:2:observer",
            "zoo.cfg:4: every server is an observer: nobody could decide; make at least one a participant"
                .to_owned(),
        ),
        (
            "server.1=a:1:2\nserver.2=a:1:3",
            "zoo.cfg:4: server.2 and server.1 have the same address a:1".to_owned(),
        ),
        ("server.1=a:1:2\nserver.01=b:1:2", "zoo.cfg:3: server.1: server 1 has another line".to_owned()),
        (
            "server.1=a:1:2|b:1:2",
            "zoo.cfg:3: server.1 has several addresses: that needs multiAddress.enabled=true".to_owned(),
        ),
        ("peerType=voter", "zoo.cfg:3: peerType=voter: expected participant or observer".to_owned()),
    ] {
        assert_eq!(case(&with(lines)).myid("1").complaint(), expected, "{lines}");
    }
    for name in ["server.one", "server.0", "server.255", "server.-1", "server.+1"] {
        let complaint = case(&with(&format!("{name}=a:1:2"))).complaint();
        assert!(
            complaint
                .starts_with(&format!("zoo.cfg:3: {name}: after `server.`, expected a number from 1 to 254")),
            "{complaint}"
        );
    }
    for line in ["group.1=1", "weight.1=2", "oraclePath=/x", "electionAlg=0"] {
        assert!(case(&with(line)).complaint().contains(" is refused: "), "{line}");
    }
    let several = with("server.1=a:1:2|b:1:2\nmultiAddress.enabled=true");
    assert_eq!(case(&several).ensemble().this().addresses.len(), 2);
}

#[test]
fn notes_tell_what_may_surprise() {
    let lines = |count: u8| {
        let servers = (1..=count).map(|id| format!("server.{id}=h{id}:1:2\n")).collect::<String>();
        format!("dataDir=/d\nclientPort=1\n{servers}")
    };
    let notes = |text: &str| case(text).myid("1").notes();
    assert_eq!(notes(&lines(2)), ["zoo.cfg:4: 2 participants survive no failure; 3 survive one"]);
    assert_eq!(notes(&lines(4)), ["zoo.cfg:6: 4 participants survive no more failures than 3"]);
    for odd in [1, 3, 5] {
        assert_eq!(notes(&lines(odd)), [""; 0]);
    }
    assert_eq!(
        notes(&format!("{}peerType=observer", lines(3))),
        ["zoo.cfg:6: peerType=observer, but the line of server.1 says participant; the line decides"]
    );
    assert_eq!(
        notes("dataDir=/d\nclientPort=1\npeerType=observer"),
        [
            "zoo.cfg:3: peerType=observer: there are no server lines, so there is nobody to observe; the server runs alone"
        ]
    );
    assert_eq!(
        notes(&format!("{}tickTime=200", lines(3))),
        [
            "zoo.cfg:6: a session timeout of 400 ms, the shortest granted, is too short to outlast every election: a \
          third of it, 133 ms, is less than the 800 ms an election may take, and such a client may lose its connection \
          to it; minSessionTimeout=2400 fits"
        ]
    );
    let everywhere = "dataDir=/d\nclientPort=1\nserver.1=0.0.0.0:1:2\nserver.2=b:1:2\nserver.3=c:1:2";
    assert_eq!(
        notes(everywhere),
        [
            "zoo.cfg:3: server.1 is this server and should have the name that the others use for it: they cannot be told \
          0.0.0.0; quorumListenOnAllIPs=true is how to listen on every interface"
        ]
    );
    assert_eq!(
        case(everywhere).myid("2").complaint(),
        "zoo.cfg:3: server.1 is another server: 0.0.0.0 is no address to find it at"
    );
    assert_eq!(notes(&format!("{}minSessionTimeout=2400", lines(3))), [""; 0]);
    assert_eq!(notes(&format!("{}tickTime=200", lines(1))), [""; 0], "there is nobody to elect");
    assert_eq!(notes(&format!("{}tickTime=200\nostler.tickMs=8", lines(3))), [""; 0]);
}

#[test]
fn a_dynamic_file_has_the_server_lines() {
    let text = "dataDir=/d\nclientPort=2181\ndynamicConfigFile=/e/zoo.cfg.dynamic.100000003\n";
    let dynamic = "server.1=a:1:2;2181\nserver.2=b:1:2;2182\nserver.3=c:1:2:observer\n";
    let name = "/e/zoo.cfg.dynamic.100000003";
    let ensemble = case(text).myid("1").file(name, dynamic).ensemble();
    assert_eq!((ensemble.servers.len(), ensemble.version.0), (3, 0x1_0000_0003));
    assert_eq!(ensemble.dynamic_file.as_deref(), Some(Path::new(name)));

    let read = |dynamic| case(text).myid("1").file(name, dynamic).read();
    let complaint = |dynamic| read(dynamic).unwrap_err().to_string();
    assert_eq!(
        complaint("server.1=a:1:2\nversion=5\nclientPort=3\nfoo=\\u1\nserver.2=b\ngroup.1=1\n"),
        format!(
            "zoo.cfg: 5 problems\n  \
             {name}:2: version: it belongs into the name of this file, after the last dot; remove the line\n  \
             {name}:3: clientPort: only server.N lines belong into this file\n  \
             {name}:4: a \\u must be followed by four hexadecimal digits; write \\\\u for a backslash and a u\n  \
             {name}:5: server.2=b: expected {}\n  \
             {name}:6: group.1=1 is refused: hierarchical and oracle quorums change how many failures are survived, and \
             are not implemented; remove it; a majority of servers decides",
            ServerSpec::EXPECTED
        )
    );
    assert_eq!(
        read("server.1=a:1:2\nserver.1=b:1:2\n").unwrap().notes[0].to_string(),
        format!("{name}:2: server.1 replaces line 1, which sets it too")
    );
    assert_eq!(
        case(text).complaint(),
        format!("zoo.cfg:3: dynamicConfigFile: cannot read {name}: entity not found")
    );
    let both = format!("{text}server.1=a:1:2\n");
    assert_eq!(
        case(&both).myid("1").file(name, dynamic).complaint(),
        format!("zoo.cfg:4: server.1 belongs into {name}, which dynamicConfigFile names")
    );
}

#[test]
fn timing_and_ports_of_our_own() {
    let with = |line: &str| format!("{THREE}{line}\n");
    let config = case(THREE).myid("1").loaded().config;
    assert_eq!(config.elections.longest_election(), std::time::Duration::from_millis(800));
    assert_eq!(config.snapshot_bytes_per_second.map(|rate| rate.get()), Some(100 << 20));
    assert_eq!((config.listen.linearizable, config.peer_versions), (None, None));

    let text = with(
        "ostler.tickMs=10\nostler.electionTicks=20\nostler.heartbeatTicks=10\nostler.snapshotBytesPerSecond=0\n\
         linearizableClientPort=2182\nclientPortAddress=h\nostler.test.peerVersions=1..3",
    );
    let config = case(&text).myid("1").loaded().config;
    assert_eq!((config.elections.election_ticks.get(), config.elections.heartbeat_ticks.get()), (20, 10));
    assert_eq!(config.snapshot_bytes_per_second, None);
    assert_eq!(config.listen.linearizable.unwrap().to_string(), "h:2182");
    assert_eq!(config.peer_versions, Some(1..=3));

    for (line, expected) in [
        (
            "linearizableClientPort=2181",
            "zoo.cfg:7: linearizableClientPort=2181 is the client port; it must be another one",
        ),
        (
            "ostler.heartbeatTicks=5",
            "zoo.cfg:7: ostler.heartbeatTicks=5 leaves no heartbeat to lose: expected at most half of \
             ostler.electionTicks, which is 8",
        ),
        (
            "ostler.electionTicks=3",
            "zoo.cfg:7: ostler.heartbeatTicks=2 leaves no heartbeat to lose: expected at most half of \
             ostler.electionTicks, which is 3",
        ),
        ("ostler.tickMs=0", "zoo.cfg:7: ostler.tickMs=0: expected a whole number from 1 to 10000 (ms)"),
        (
            "ostler.test.peerVersions=3..1",
            "zoo.cfg:7: ostler.test.peerVersions=3..1: expected OLDEST..NEWEST, two version numbers from 0 to 65535",
        ),
    ] {
        assert_eq!(case(&with(line)).myid("1").complaint(), expected);
    }
}

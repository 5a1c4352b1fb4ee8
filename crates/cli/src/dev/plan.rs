//! Which servers there are and where: made once for a directory, and kept in it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ostler_types::member::Role;
use serde::{Deserialize, Serialize};

use super::args::{DevArgs, Setting, bare};
use super::{DevError, Result, file, ports};

/// Voters if nothing else is asked for.
const DEFAULT_SERVERS: u8 = 3;

/// The servers of an ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    pub(super) members: Vec<Member>,
}

/// One server, and its file in the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) id: u8,
    pub(super) observer: bool,
    pub(super) client_port: u16,
    pub(super) quorum_port: u16,
    pub(super) election_port: u16,
}

/// What is set unless `--set` says otherwise: friendly to somebody who tries things out, on this machine only.
const SETTINGS: [(&str, &str); 6] = [
    ("tickTime", "2000"),
    ("maxClientCnxns", "0"),
    ("4lw.commands.whitelist", "*"),
    ("reconfigEnabled", "true"),
    ("autopurge.purgeInterval", "1"),
    ("preAllocSize", "4096"),
];

impl Plan {
    /// The ensemble that `dir` holds, or a new one there with its configuration files.
    pub(super) fn make(dir: &Path, args: &DevArgs) -> Result<Plan> {
        let plan = dir.join("ensemble.json");
        match fs::read(&plan) {
            Ok(bytes) => {
                let members: Vec<Member> =
                    serde_json::from_slice(&bytes).map_err(|source| DevError::Plan { path: plan, source })?;
                Plan { dir: dir.to_owned(), members }.must_be(args)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let members = new_members(args)?;
                let made = Plan { dir: dir.to_owned(), members };
                made.write_files(&args.settings)?;
                // Last: a directory with a plan is complete.
                let bytes = serde_json::to_vec_pretty(&made.members).expect("a plan is plain data");
                fs::write(&plan, bytes).map_err(|source| file(&plan, source))?;
                Ok(made)
            }
            Err(source) => Err(file(&plan, source)),
        }
    }

    /// This plan, if it is what the arguments ask for.
    fn must_be(self, args: &DevArgs) -> Result<Plan> {
        let observers = self.members.iter().filter(|member| member.observer).count() as u8;
        let servers = self.members.len() as u8 - observers;
        let same = |asked: Option<u8>, is| asked.is_none_or(|asked| asked == is);
        if !same(args.servers, servers) || !same(args.observers, observers) {
            return Err(DevError::OtherSize { dir: self.dir, servers, observers });
        }
        if args.base_port.is_some() || !args.settings.is_empty() {
            return Err(DevError::OtherSettings { dir: self.dir });
        }
        Ok(self)
    }

    pub(super) fn server_dir(&self, member: &Member) -> PathBuf {
        self.dir.join(format!("server-{}", member.id))
    }

    pub(super) fn data_dir(&self, member: &Member) -> PathBuf {
        self.server_dir(member).join("data")
    }

    pub(super) fn config_file(&self, member: &Member) -> PathBuf {
        self.server_dir(member).join("zoo.cfg")
    }

    pub(super) fn log_file(&self, member: &Member) -> PathBuf {
        self.server_dir(member).join("server.log")
    }

    /// What clients are given.
    pub(super) fn connection_string(&self) -> String {
        self.members.iter().map(Member::client_address).collect::<Vec<_>>().join(",")
    }

    fn write_files(&self, settings: &[Setting]) -> Result<()> {
        for member in &self.members {
            let data_dir = self.data_dir(member);
            fs::create_dir_all(&data_dir).map_err(|source| file(&data_dir, source))?;
            let myid = data_dir.join("myid");
            fs::write(&myid, format!("{}\n", member.id)).map_err(|source| file(&myid, source))?;
            let config_file = self.config_file(member);
            let text = self.config(member, settings)?;
            fs::write(&config_file, text).map_err(|source| file(&config_file, source))?;
        }
        Ok(())
    }

    /// A configuration file that ZooKeeper could read too.
    fn config(&self, member: &Member, settings: &[Setting]) -> Result<String> {
        let data_dir = self.data_dir(member);
        let name = data_dir.to_str().filter(|name| !name.contains(char::is_control));
        let name = name.ok_or_else(|| DevError::Name { dir: self.dir.clone() })?;
        let mut text =
            format!("# Written by `ostler dev`. Changes stay.\ndataDir={}\n", name.replace('\\', "\\\\"));
        let is_set = |key: &str| settings.iter().any(|setting| bare(&setting.key) == key);
        let ours = SETTINGS.iter().filter(|(key, _)| !is_set(key)).map(|(key, value)| (*key, *value));
        for (key, value) in ours.chain(settings.iter().map(|set| (set.key.as_str(), set.value.as_str()))) {
            let _ = writeln!(text, "{key}={value}");
        }
        for member in &self.members {
            let _ = writeln!(text, "{}", member.line());
        }
        Ok(text)
    }
}

impl Member {
    pub(super) fn role(&self) -> Role {
        if self.observer { Role::Observer } else { Role::Participant }
    }

    pub(super) fn client_address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    fn line(&self) -> String {
        let Member { id, quorum_port, election_port, .. } = self;
        let (role, client) = (self.role(), self.client_address());
        format!("server.{id}=127.0.0.1:{quorum_port}:{election_port}:{role};{client}")
    }
}

fn new_members(args: &DevArgs) -> Result<Vec<Member>> {
    let voters = args.servers.unwrap_or(DEFAULT_SERVERS);
    let count = usize::from(voters + args.observers.unwrap_or(0));
    let ports = match args.base_port {
        Some(base) => ports::from_base(base, 3 * count)?,
        None => ports::any(3 * count)?,
    };
    let member = |index: usize| Member {
        id: index as u8 + 1,
        observer: index >= usize::from(voters),
        client_port: ports[index],
        quorum_port: ports[count + index],
        election_port: ports[2 * count + index],
    };
    Ok((0..count).map(member).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> DevArgs {
        DevArgs {
            servers: None,
            observers: None,
            dir: None,
            keep: false,
            base_port: None,
            settings: Vec::new(),
            no_restart: false,
            json: false,
        }
    }

    #[test]
    fn every_server_has_the_same_lines_and_a_place_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let settings = ["tickTime=500", "zookeeper.snapCount=9"].map(|text| text.parse().unwrap());
        let args = DevArgs { observers: Some(1), settings: settings.into(), ..args() };
        let plan = Plan::make(dir.path(), &args).unwrap();
        let lines: String = plan.members.iter().map(|member| member.line() + "\n").collect();
        assert_eq!(plan.members.iter().map(|member| member.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
        for member in &plan.members {
            let (data, id) = (plan.data_dir(member), member.id);
            assert_eq!(
                fs::read_to_string(plan.config_file(member)).unwrap(),
                format!(
                    "# Written by `ostler dev`. Changes stay.\ndataDir={}\nmaxClientCnxns=0\n4lw.commands.whitelist=*\n\
                     reconfigEnabled=true\nautopurge.purgeInterval=1\npreAllocSize=4096\ntickTime=500\n\
                     zookeeper.snapCount=9\n{lines}",
                    data.display()
                )
            );
            assert_eq!(fs::read_to_string(data.join("myid")).unwrap(), format!("{id}\n"));
        }
        assert!(lines.lines().last().unwrap().contains(":observer;127.0.0.1:"));
        for line in lines.lines() {
            let spec = line.split_once('=').unwrap().1;
            assert!(ostler_types::member::ServerSpec::parse(spec).is_some(), "{line}");
        }
        let connection_string = plan.connection_string();
        assert_eq!(connection_string.matches("127.0.0.1:").count(), 4);
    }

    #[test]
    fn a_directory_keeps_its_ensemble() {
        let dir = tempfile::tempdir().unwrap();
        let first = Plan::make(dir.path(), &DevArgs { servers: Some(1), ..args() }).unwrap();
        let changed = first.config_file(&first.members[0]);
        fs::write(&changed, "changed").unwrap();
        assert_eq!(Plan::make(dir.path(), &args()).unwrap(), first);
        assert_eq!(fs::read_to_string(&changed).unwrap(), "changed");
        for (args, expected) in [
            (DevArgs { servers: Some(3), ..args() }, "holds an ensemble of 1 servers and 0 observers"),
            (DevArgs { observers: Some(1), ..args() }, "holds an ensemble of 1 servers and 0 observers"),
            (DevArgs { base_port: Some(2181), ..args() }, "ports and settings of its own"),
            (DevArgs { settings: vec!["a=b".parse().unwrap()], ..args() }, "ports and settings of its own"),
        ] {
            let error = Plan::make(dir.path(), &args).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        fs::write(dir.path().join("ensemble.json"), "[{}]").unwrap();
        assert!(matches!(Plan::make(dir.path(), &args()), Err(DevError::Plan { .. })));
    }
}

//! What a reconfiguration writes back into the configuration files, so that a restart begins with what is true.
//!
//! As in ZooKeeper: the server lines go into `<file>.dynamic.<version>`, the file itself loses them and names that
//! one; before the first time it is kept as `<file>.bak`; a change that is proposed and not yet decided stands in
//! `<file>.dynamic.next`. Every file is replaced as a whole, so a crash between any two steps leaves a configuration
//! that can be read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ostler_types::Zxid;
use ostler_types::member::ServerSpec;

use super::{ServerConfig, properties, table};

/// The files of one server's configuration.
#[derive(Clone, Debug)]
pub struct MembershipFiles {
    config_file: PathBuf,
    server_id: u8,
}

/// One step of a change. In this order, each leaves files that can be started from.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Write { path: PathBuf, bytes: Vec<u8> },
    Remove(PathBuf),
}

impl MembershipFiles {
    /// The files to keep; `None` if there are none to write: `reconfigEnabled=false`, no server lines, or settings that
    /// come from no file.
    pub fn of(config: &ServerConfig) -> Option<MembershipFiles> {
        let ensemble = config.ensemble.as_ref().filter(|_| config.reconfig_enabled)?;
        Some(MembershipFiles { config_file: ensemble.config_file.clone()?, server_id: ensemble.server_id })
    }

    /// Writes down that `members` are proposed: `<file>.dynamic.next`.
    ///
    /// # Errors
    /// What the system says, with the file's name.
    pub fn propose<'a>(
        &self,
        members: impl IntoIterator<Item = (u8, &'a ServerSpec)>,
        version: Zxid,
    ) -> io::Result<()> {
        let file = self.real_file()?;
        let mut lines = lines(members.into_iter());
        lines.push_str(&format!("version={:x}\n", version.0));
        perform(&file, &[Step::Write { path: beside(&file, ".dynamic.next"), bytes: lines.into_bytes() }])
    }

    /// Writes down that `members` are the ensemble as of `version`, and that nothing is proposed any more.
    ///
    /// # Errors
    /// What the system says, with the file's name. Steps before it are done; doing all of it again does no harm.
    pub fn commit<'a>(
        &self,
        members: impl IntoIterator<Item = (u8, &'a ServerSpec)>,
        version: Zxid,
    ) -> io::Result<()> {
        let file = self.real_file()?;
        let old = fs::read(&file).map_err(|error| about("read", &file, error))?;
        let members: Vec<_> = members.into_iter().collect();
        perform(&file, &commit_steps(&file, &old, self.server_id, &members, version)?)
    }

    /// Absolute, and the file itself rather than a link to it.
    fn real_file(&self) -> io::Result<PathBuf> {
        fs::canonicalize(&self.config_file).map_err(|error| about("find", &self.config_file, error))
    }
}

/// What to do so that `file`, which holds `old`, and those beside it say `members`.
fn commit_steps(
    file: &Path,
    old: &[u8],
    server_id: u8,
    members: &[(u8, &ServerSpec)],
    version: Zxid,
) -> io::Result<Vec<Step>> {
    let dynamic = beside(file, &format!(".dynamic.{:x}", version.0));
    let Some(dynamic_name) = dynamic.to_str() else {
        return Err(about("name", &dynamic, io::Error::other("the name is not UTF-8")));
    };
    let client_is_in_line = members.iter().any(|(id, spec)| *id == server_id && spec.client.is_some());
    let name_of = |key: &str| table::find(key).map_or("", |setting| setting.name);
    let is_split =
        properties::parse(old).iter().flatten().any(|entry| name_of(&entry.key) == "dynamicConfigFile");
    let mut new = properties::without(old, |key| match name_of(key) {
        "server.*" | "group.*" | "weight.*" | "dynamicConfigFile" | "peerType" => true,
        "clientPort" | "clientPortAddress" => client_is_in_line,
        _ => false,
    });
    new.extend_from_slice(properties::line("dynamicConfigFile", dynamic_name).as_bytes());
    let mut steps = Vec::new();
    if !is_split {
        steps.push(Step::Write { path: beside(file, ".bak"), bytes: old.to_vec() });
    }
    steps.push(Step::Write { bytes: lines(members.iter().copied()).into_bytes(), path: dynamic });
    steps.push(Step::Write { path: file.to_owned(), bytes: new });
    steps.push(Step::Remove(beside(file, ".dynamic.next")));
    Ok(steps)
}

fn lines<'a>(members: impl Iterator<Item = (u8, &'a ServerSpec)>) -> String {
    members.map(|(id, spec)| format!("server.{id}={spec}\n")).collect()
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Does the steps. New files get the permissions of `model`, which may hold secrets.
fn perform(model: &Path, steps: &[Step]) -> io::Result<()> {
    let permissions = fs::metadata(model).map_err(|error| about("read", model, error))?.permissions();
    for step in steps {
        match step {
            Step::Write { path, bytes } => {
                let temporary = beside(path, ".tmp");
                let write = || {
                    let mut options = OpenOptions::new();
                    let mut file =
                        options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
                    file.set_permissions(permissions.clone())?;
                    file.write_all(bytes)?;
                    file.sync_all()?;
                    fs::rename(&temporary, path)
                };
                write().map_err(|error| {
                    // It may not even be there.
                    let _ = fs::remove_file(&temporary);
                    about("write", path, error)
                })?;
            }
            Step::Remove(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(about("remove", path, error));
                }
                _ => {}
            },
        }
        // The next step counts on this one.
        let directory = model.parent().unwrap_or(Path::new("/"));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| about("sync", directory, error))?;
    }
    Ok(())
}

fn about(what: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::{Overrides, read_file};
    use super::*;

    fn spec(line: &str) -> ServerSpec {
        ServerSpec::parse(line).unwrap()
    }

    const OLD: &str = "# ours\ndataDir=/d\nclientPort=2181\nclientPortListenBacklog=9\nreconfigEnabled=true\n\
                       server.1=a:1:2\nserver.2=b:1:2\nzookeeper.peerType=participant\nweight.1=1\nsnapCount=7";

    fn steps(old: &str, version: i64) -> Vec<(String, String)> {
        let (one, three) = (spec("a:1:2;2181"), spec("c:1:2:observer;h:3"));
        let members = [(1, &one), (3, &three)];
        let steps =
            commit_steps(Path::new("/e/zoo.cfg"), old.as_bytes(), 1, &members, Zxid(version)).unwrap();
        let show = |step| match step {
            Step::Write { path, bytes } => (path.display().to_string(), String::from_utf8(bytes).unwrap()),
            Step::Remove(path) => (path.display().to_string(), "(removed)".to_owned()),
        };
        steps.into_iter().map(show).collect()
    }

    #[test]
    fn the_first_change_splits_the_file_and_keeps_it() {
        let new = "# ours\ndataDir=/d\nclientPortListenBacklog=9\nreconfigEnabled=true\nsnapCount=7\n\
                   dynamicConfigFile=/e/zoo.cfg.dynamic.100000002\n";
        let servers = "server.1=a:1:2:participant;0.0.0.0:2181\nserver.3=c:1:2:observer;h:3\n";
        let expected = [
            ("/e/zoo.cfg.bak", OLD),
            ("/e/zoo.cfg.dynamic.100000002", servers),
            ("/e/zoo.cfg", new),
            ("/e/zoo.cfg.dynamic.next", "(removed)"),
        ];
        let expected = expected.map(|(path, text)| (path.to_owned(), text.to_owned()));
        assert_eq!(steps(OLD, 0x1_0000_0002), expected);
        let again = steps(new, 0x1_0000_00ab);
        let paths: Vec<_> = again.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["/e/zoo.cfg.dynamic.1000000ab", "/e/zoo.cfg", "/e/zoo.cfg.dynamic.next"]);
        assert_eq!(again[1].1, new.replace("100000002", "1000000ab"));
    }

    #[test]
    fn the_client_port_stays_while_the_line_has_none() {
        let one = spec("a:1:2");
        let steps = commit_steps(Path::new("/e/zoo.cfg"), OLD.as_bytes(), 1, &[(1, &one)], Zxid(1)).unwrap();
        let Step::Write { bytes, .. } = &steps[2] else { panic!("{steps:?}") };
        assert!(std::str::from_utf8(bytes).unwrap().contains("\nclientPort=2181\n"));
    }

    /// What is written is what the next start reads; a link stays one, and nobody else may read more than before.
    #[test]
    fn what_is_written_is_read_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let real = dir.path().join("real.cfg");
        let link = dir.path().join("zoo.cfg");
        let text = format!("dataDir={}\n{}", data.display(), &OLD["# ours\ndataDir=/d\n".len()..]);
        fs::write(&real, &text).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let read = || {
            let overrides = Overrides { server_id: Some(1), ..Overrides::default() };
            read_file(&link, &overrides).unwrap_or_else(|error| panic!("{error}")).config
        };
        let files = MembershipFiles::of(&read()).unwrap();
        let (one, three) = (spec("a:1:2;2181"), spec("c:1:2:observer;4"));
        let members = || [(1, &one), (3, &three)];
        files.propose(members(), Zxid(0x1f)).unwrap();
        let next = fs::read_to_string(dir.path().join("real.cfg.dynamic.next")).unwrap();
        assert_eq!(
            next,
            "server.1=a:1:2:participant;0.0.0.0:2181\nserver.3=c:1:2:observer;0.0.0.0:4\nversion=1f\n"
        );
        assert_eq!(read().ensemble.unwrap().servers.len(), 2, "a proposal is not read");
        for version in [0x1f, 0x20, 0x20] {
            files.commit(members(), Zxid(version)).unwrap();
            let config = read();
            assert_eq!(config.listen.client.to_string(), "*:2181");
            let ensemble = config.ensemble.unwrap();
            assert_eq!(ensemble.version, Zxid(version));
            assert_eq!(ensemble.servers, members().map(|(id, spec)| (id, spec.clone())).into());
        }
        assert_eq!(fs::read_to_string(dir.path().join("real.cfg.bak")).unwrap(), text);
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap()).collect();
        names.sort_by_key(|entry| entry.file_name());
        for entry in &names {
            let mode = fs::metadata(entry.path()).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o640, "{:?}", entry.path());
        }
        let names: Vec<_> = names.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
        assert_eq!(
            names,
            ["real.cfg", "real.cfg.bak", "real.cfg.dynamic.1f", "real.cfg.dynamic.20", "zoo.cfg"]
        );
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn nothing_is_written_unless_reconfig_is_enabled() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zoo.cfg");
        fs::write(&file, "dataDir=/nonexistent\nclientPort=1\nserver.1=a:1:2\n").unwrap();
        let config = read_file(&file, &Overrides::default()).unwrap().config;
        assert!(config.ensemble.is_some() && MembershipFiles::of(&config).is_none());
    }

    #[test]
    fn a_failure_names_the_file() {
        let files = MembershipFiles { config_file: "/nonexistent/zoo.cfg".into(), server_id: 1 };
        let error = files.commit([], Zxid(1)).unwrap_err().to_string();
        assert!(error.starts_with("cannot find /nonexistent/zoo.cfg: "), "{error}");
    }
}

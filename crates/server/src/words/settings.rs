//! `conf` and `dirs`: settings in use and where the data is.

use std::path::PathBuf;

use ostler_types::member::PeerAddress;

use crate::config::ServerConfig;

/// Where the data is and how much of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataSizes {
    /// The directory that holds the snapshots.
    pub snapshot_dir: PathBuf,
    /// Bytes of the files in it.
    pub snapshot_bytes: u64,
    /// The directory that holds the log.
    pub log_dir: PathBuf,
    /// Bytes of the files in it.
    pub log_bytes: u64,
}

/// Text of `conf`. `client_port` is the one listened on, which the configuration may leave to the system;
/// `membership` is the data of `/zookeeper/config`, with which the text ends on a server of an ensemble.
pub fn conf(config: &ServerConfig, client_port: u16, data: &DataSizes, membership: &str) -> String {
    let or = |limit: Option<std::num::NonZeroU32>, none| limit.map_or(none, |limit| i64::from(limit.get()));
    let mut text = format!(
        "clientPort={client_port}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\n\
         tickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog={}\n\
         serverId={}\n",
        data.snapshot_dir.display(),
        data.snapshot_bytes,
        data.log_dir.display(),
        data.log_bytes,
        config.sessions.tick_ms,
        or(config.listen.max_connections_per_address, 0),
        config.sessions.timeouts.min_ms(),
        config.sessions.timeouts.max_ms(),
        or(config.listen.backlog, -1),
        config.ensemble.as_ref().map_or(0, |ensemble| ensemble.server_id),
    );
    if let Some(ensemble) = &config.ensemble {
        let this = ensemble.this();
        let ports = |port: fn(&PeerAddress) -> u16| {
            this.addresses.iter().map(|address| port(address).to_string()).collect::<Vec<_>>().join("|")
        };
        // ZooKeeper's initLimit and syncLimit have no counterpart.
        text += &format!(
            "electionAlg=3\nelectionPort={}\nquorumPort={}\npeerType={}\nmembership: \n{membership}",
            ports(|address| address.election_port),
            ports(|address| address.quorum_port),
            u8::from(!this.votes()),
        );
    }
    text
}

/// Text of `dirs`.
pub fn dirs(data: &DataSizes) -> String {
    format!("datadir_size: {}\nlogdir_size: {}\n", data.snapshot_bytes, data.log_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, parse};

    #[test]
    fn conf_and_dirs_are_zookeepers() {
        let file = b"dataDir=/d\nclientPort=0\ntickTime=2000\n";
        let config = parse("zoo.cfg", file, &Overrides::default()).unwrap().config;
        let data = DataSizes {
            snapshot_dir: "/d/ostler".into(),
            snapshot_bytes: 457,
            log_dir: "/l/ostler".into(),
            log_bytes: 67_109_358,
        };
        assert_eq!(
            conf(&config, 21821, &data, ""),
            "clientPort=21821\nsecureClientPort=-1\ndataDir=/d/ostler\ndataDirSize=457\ndataLogDir=/l/ostler\n\
             dataLogSize=67109358\ntickTime=2000\nmaxClientCnxns=60\nminSessionTimeout=4000\n\
             maxSessionTimeout=40000\nclientPortListenBacklog=-1\nserverId=0\n"
        );
        let file = b"dataDir=/d\nserver.7=a:1:2:participant;3\n";
        let config = parse("zoo.cfg", file, &Overrides::default()).unwrap().config;
        let text = conf(&config, 3, &data, "server.7=a:1:2:participant;0.0.0.0:3\nversion=0");
        let (_, text) = text.split_once("clientPortListenBacklog=-1\n").unwrap();
        assert_eq!(
            text,
            "serverId=7\nelectionAlg=3\nelectionPort=2\nquorumPort=1\npeerType=0\nmembership: \n\
             server.7=a:1:2:participant;0.0.0.0:3\nversion=0"
        );
        assert_eq!(dirs(&data), "datadir_size: 457\nlogdir_size: 67109358\n");
    }
}

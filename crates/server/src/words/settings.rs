//! `conf` and `dirs`: settings in use and where the data is.

use std::path::PathBuf;

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

/// Text of `conf` on a server that is no ensemble. `client_port` is the one listened on, which the configuration
/// may leave to the system.
pub fn conf(config: &ServerConfig, client_port: u16, data: &DataSizes) -> String {
    let or = |limit: Option<std::num::NonZeroU32>, none| limit.map_or(none, |limit| i64::from(limit.get()));
    format!(
        "clientPort={client_port}\nsecureClientPort=-1\ndataDir={}\ndataDirSize={}\ndataLogDir={}\ndataLogSize={}\n\
         tickTime={}\nmaxClientCnxns={}\nminSessionTimeout={}\nmaxSessionTimeout={}\nclientPortListenBacklog={}\n\
         serverId=0\n",
        data.snapshot_dir.display(),
        data.snapshot_bytes,
        data.log_dir.display(),
        data.log_bytes,
        config.sessions.tick_ms,
        or(config.listen.max_connections_per_address, 0),
        config.sessions.timeouts.min_ms(),
        config.sessions.timeouts.max_ms(),
        or(config.listen.backlog, -1),
    )
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
            conf(&config, 21821, &data),
            "clientPort=21821\nsecureClientPort=-1\ndataDir=/d/ostler\ndataDirSize=457\ndataLogDir=/l/ostler\n\
             dataLogSize=67109358\ntickTime=2000\nmaxClientCnxns=60\nminSessionTimeout=4000\n\
             maxSessionTimeout=40000\nclientPortListenBacklog=-1\nserverId=0\n"
        );
        assert_eq!(dirs(&data), "datadir_size: 457\nlogdir_size: 67109358\n");
    }
}

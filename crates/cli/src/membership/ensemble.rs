//! The data of `/zookeeper/config`, read.

use std::collections::BTreeMap;
use std::fmt;

use ostler_types::Zxid;
use ostler_types::member::{ClientAddress, ServerSpec};
use serde_json::{Value, json};

use super::{MembershipError, Result};

/// Who is in an ensemble. Prints as server lines and the version, as in `/zookeeper/config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ensemble {
    servers: BTreeMap<u8, ServerSpec>,
    version: Zxid,
}

impl Ensemble {
    pub(super) fn read(data: Option<&[u8]>) -> Result<Ensemble> {
        let text = String::from_utf8_lossy(data.unwrap_or_default());
        let (mut servers, mut version) = (BTreeMap::new(), Zxid(0));
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let mut read = || {
                let (key, value) = line.split_once('=')?;
                if key == "version" {
                    version = Zxid(i64::from_str_radix(value, 16).ok()?);
                } else {
                    servers.insert(key.strip_prefix("server.")?.parse().ok()?, ServerSpec::parse(value)?);
                }
                Some(())
            };
            read().ok_or_else(|| MembershipError::Text(line.chars().take(200).collect()))?;
        }
        if servers.is_empty() { Err(MembershipError::NoEnsemble) } else { Ok(Ensemble { servers, version }) }
    }

    pub(super) fn to_json(&self) -> Value {
        let servers = self.servers.iter().map(|(id, spec)| {
            let client = spec.client.as_ref().map(ClientAddress::to_string);
            let addresses = spec.addresses.iter().map(|address| {
                json!({
                    "host": address.host,
                    "quorum_port": address.quorum_port,
                    "election_port": address.election_port,
                })
            });
            json!({
                "id": id,
                "role": spec.role.to_string(),
                "addresses": addresses.collect::<Vec<_>>(),
                "client_address": client,
            })
        });
        json!({ "version": format!("{:x}", self.version.0), "servers": servers.collect::<Vec<_>>() })
    }
}

impl fmt::Display for Ensemble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, spec) in &self.servers {
            writeln!(f, "server.{id}={spec}")?;
        }
        writeln!(f, "version={:x}", self.version.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_shows_is_read_and_printed() {
        let text = "server.1=a:1:2:participant;0.0.0.0:3\nserver.2=b:1:2:observer\nversion=1000000ab";
        let ensemble = Ensemble::read(Some(text.as_bytes())).unwrap();
        assert_eq!(ensemble.to_string(), format!("{text}\n"));
        assert_eq!(
            ensemble.to_json(),
            json!({
                "version": "1000000ab",
                "servers": [
                    {
                        "id": 1, "role": "participant", "client_address": "0.0.0.0:3",
                        "addresses": [{ "host": "a", "quorum_port": 1, "election_port": 2 }],
                    },
                    {
                        "id": 2, "role": "observer", "client_address": null,
                        "addresses": [{ "host": "b", "quorum_port": 1, "election_port": 2 }],
                    },
                ],
            })
        );
    }

    #[test]
    fn other_data_is_an_error() {
        assert!(matches!(Ensemble::read(None), Err(MembershipError::NoEnsemble)));
        assert!(matches!(Ensemble::read(Some(b"version=0")), Err(MembershipError::NoEnsemble)));
        for text in ["x", "server.1=a", "server.x=a:1:2", "version=z", "group.1=1:2", "\u{1b}[2J=1"] {
            let error = Ensemble::read(Some(text.as_bytes())).unwrap_err();
            assert!(matches!(error, MembershipError::Text(_)));
            assert!(!error.to_string().contains('\u{1b}'));
        }
    }
}

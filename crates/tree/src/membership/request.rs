//! From a client's reconfig to the members it asks for (semantics, "reconfig").

use std::collections::BTreeMap;

use ostler_types::ErrorCode;
use ostler_types::member::{PeerAddress, ServerSpec};

use super::{Member, Membership};

/// What a client asks for, as sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReconfigRequest<'a> {
    /// `server.N=...` separated by commas.
    pub joining: Option<&'a str>,
    /// Server ids separated by commas; they leave before others join.
    pub leaving: Option<&'a str>,
    /// All members, separated by commas or newlines. Unless null, the other two do not count.
    pub new_members: Option<&'a str>,
    /// The version it starts from, -1 for any.
    pub config_version: i64,
}

impl Membership {
    /// The members after `request`, known nodes included, or ZooKeeper's error. At least `min_voters` of them
    /// must vote.
    pub(crate) fn target(
        &self,
        request: &ReconfigRequest<'_>,
        min_voters: usize,
    ) -> Result<BTreeMap<u8, Member>, ErrorCode> {
        if self.members.is_empty() {
            return Err(ErrorCode::Unimplemented);
        }
        if self.pending.is_some() {
            return Err(ErrorCode::ReconfigInProgress);
        }
        if request.config_version != -1 && request.config_version != self.version.0 {
            return Err(ErrorCode::BadVersion);
        }
        let specs = match request.new_members {
            Some(list) => all_members(list)?,
            None => self.changed_members(request)?,
        };
        if specs.values().filter(|spec| spec.votes()).count() < min_voters {
            return Err(ErrorCode::BadArguments);
        }
        let node = |server: u8| self.members.get(&server).and_then(|member| member.node);
        Ok(specs.into_iter().map(|(server, spec)| (server, Member { node: node(server), spec })).collect())
    }

    fn changed_members(&self, request: &ReconfigRequest<'_>) -> Result<BTreeMap<u8, ServerSpec>, ErrorCode> {
        let mut specs: BTreeMap<u8, ServerSpec> =
            self.members.iter().map(|(&server, member)| (server, member.spec.clone())).collect();
        for leaving in items(request.leaving.unwrap_or_default(), &[',']) {
            // A server that is not there has left.
            if let Ok(server) = u8::try_from(number(leaving)?) {
                specs.remove(&server);
            }
        }
        for joining in items(request.joining.unwrap_or_default(), &[',']) {
            let mut sides = items(joining, &['=']);
            let (Some(name), Some(spec), None) = (sides.next(), sides.next(), sides.next()) else {
                return Err(ErrorCode::BadArguments);
            };
            let server = number(name.rsplit('.').next().unwrap_or(name));
            let (server, spec) = member(server?, spec)?;
            let is_taken =
                |(&other, of_other): (&u8, &ServerSpec)| other != server && conflict(&spec, of_other);
            if spec.client.is_none() || specs.iter().any(is_taken) {
                return Err(ErrorCode::BadArguments);
            }
            specs.insert(server, spec);
        }
        Ok(specs)
    }
}

/// A list of properties: of Java's format what a membership can need.
fn all_members(list: &str) -> Result<BTreeMap<u8, ServerSpec>, ErrorCode> {
    let mut specs = BTreeMap::new();
    for line in items(list, &[',', '\n', '\r']) {
        if line.starts_with(['#', '!']) {
            continue;
        }
        let end = line.find(|c: char| matches!(c, '=' | ':') || c.is_whitespace()).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        let rest = rest.trim_start();
        let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
        if let Some(server) = name.strip_prefix("server.") {
            let (server, spec) = member(number(server)?, value)?;
            specs.insert(server, spec);
        } else if name == "version" {
            // ZooKeeper reads it and then sets its own.
            i64::from_str_radix(value, 16).map_err(|_| ErrorCode::MarshallingError)?;
        } else {
            return Err(ErrorCode::BadArguments);
        }
    }
    Ok(specs)
}

/// The items between `separators`, trimmed and without empty ones.
fn items<'a>(list: &'a str, separators: &'static [char]) -> impl Iterator<Item = &'a str> {
    list.split(separators).map(str::trim).filter(|item| !item.is_empty())
}

/// A number where ZooKeeper reads a long. That it is none surfaces there as a body that cannot be decoded.
fn number(text: &str) -> Result<i64, ErrorCode> {
    text.parse().map_err(|_| ErrorCode::MarshallingError)
}

fn member(server: i64, spec: &str) -> Result<(u8, ServerSpec), ErrorCode> {
    let server = u8::try_from(server).ok().filter(|server| (1..=254).contains(server));
    server.zip(ServerSpec::parse(spec)).ok_or(ErrorCode::BadArguments)
}

/// Whether two servers share an address. Loopback and wildcard addresses do not count, as in ZooKeeper; names
/// are compared as they are written, since apply resolves none.
fn conflict(a: &ServerSpec, b: &ServerSpec) -> bool {
    let b: Vec<_> = sockets(b).collect();
    sockets(a).any(|(host, port)| b.iter().any(|(other, at)| *at == port && host.eq_ignore_ascii_case(other)))
}

fn sockets(spec: &ServerSpec) -> impl Iterator<Item = (&str, u16)> {
    let peers = spec.addresses.iter().flat_map(|PeerAddress { host, quorum_port, election_port }| {
        [(host.as_str(), *quorum_port), (host.as_str(), *election_port)]
    });
    let client = spec.client.iter().filter_map(|client| Some((client.host.as_deref()?, client.port)));
    peers.chain(client).filter(|(host, _)| {
        let is_special = |ip: std::net::IpAddr| ip.is_loopback() || ip.is_unspecified();
        !host.eq_ignore_ascii_case("localhost") && !host.parse().is_ok_and(is_special)
    })
}

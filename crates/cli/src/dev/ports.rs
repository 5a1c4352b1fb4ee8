//! Ports that nobody listens on.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

use super::{DevError, Result};

/// Ports are looked for from here on; well below are those of other services.
const FIRST: u16 = 10_240;
/// And below the ports that Linux gives to outgoing connections, unless it says otherwise: one of those could be taken
/// while its server is down.
const USUAL_EPHEMERAL: u16 = 32_768;

/// `count` ports from `base` on, if they are free.
pub(super) fn from_base(base: u16, count: usize) -> Result<Vec<u16>> {
    let last = usize::from(base) + count - 1;
    let last = u16::try_from(last).map_err(|_| DevError::PortsEnd { base })?;
    for port in base..=last {
        try_listen(port).map_err(|source| DevError::PortTaken { port, source })?;
    }
    Ok((base..=last).collect())
}

/// Any `count` ports that are free now. They are looked for from a random one on, so that of several ensembles starting
/// at once each finds others.
pub(super) fn any(count: usize) -> Result<Vec<u16>> {
    let end =
        ephemeral().filter(|&end| usize::from(end) > usize::from(FIRST) + 1_000).unwrap_or(USUAL_EPHEMERAL);
    let range = end - FIRST;
    let start = (RandomState::new().build_hasher().finish() % u64::from(range)) as u16;
    let around = (0..range).map(|step| FIRST + (start + step) % range);
    let free: Vec<u16> = around.filter(|&port| try_listen(port).is_ok()).take(count).collect();
    if free.len() < count {
        return Err(DevError::NoPorts { wanted: count, first: FIRST, last: end - 1 });
    }
    Ok(free)
}

/// The first port that Linux gives to outgoing connections.
fn ephemeral() -> Option<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}

fn try_listen(port: u16) -> std::io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_different() {
        let mut ports = any(30).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 30);
        assert!(ports.iter().all(|&port| port >= FIRST));
    }

    #[test]
    fn a_port_in_use_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = from_base(port, 1).unwrap_err().to_string();
        assert!(error.starts_with(&format!("port {port} on 127.0.0.1 is not free: ")), "{error}");
        assert!(matches!(from_base(65_535, 2), Err(DevError::PortsEnd { .. })));
    }
}

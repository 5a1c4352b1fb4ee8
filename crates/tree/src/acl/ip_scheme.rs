//! Scheme `ip`: an address, or in ACLs a network as `address/bits`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ostler_types::AuthId;

/// The identity every connection from `address` starts with. An IPv4 address inside IPv6 is that IPv4 address.
pub fn ip_auth_id(address: IpAddr) -> AuthId {
    AuthId::new("ip", address.to_canonical().to_string())
}

pub(super) fn accepts(id: &str) -> bool {
    network(id).is_some()
}

/// Whether `identity` lies in the network `id`; an IPv4 address never lies in an IPv6 network.
pub(super) fn matches(identity: &str, id: &str) -> bool {
    match (address(identity), network(id)) {
        (Some(IpAddr::V4(own)), Some((IpAddr::V4(network), bits))) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            own.to_bits() & mask == network.to_bits() & mask
        }
        (Some(IpAddr::V6(own)), Some((IpAddr::V6(network), bits))) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            own.to_bits() & mask == network.to_bits() & mask
        }
        _ => false,
    }
}

/// Address and number of leading bits that count.
fn network(id: &str) -> Option<(IpAddr, u32)> {
    let (text, bits) = match id.split_once('/') {
        Some((text, bits)) => (text, Some(bits.parse::<u32>().ok()?)),
        None => (id, None),
    };
    let address = address(text)?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(width);
    (bits <= width).then_some((address, bits))
}

/// IPv4 with decimal parts, leading zeros allowed as in ZooKeeper, or IPv6.
fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(|address| IpAddr::from(address).to_canonical());
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        *octet = parts.next()?.parse::<u8>().ok()?;
    }
    parts.next().is_none().then_some(IpAddr::V4(Ipv4Addr::from(octets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_match_by_prefix_within_one_family() {
        for (identity, id, expected) in [
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "010.001.2.3", true),
            ("10.1.2.3", "10.0.0.0/8", true),
            ("10.1.2.3", "10.1.2.2/31", true),
            ("10.1.2.4", "10.1.2.2/31", false),
            ("11.1.2.3", "0.0.0.0/0", true),
            ("::1", "0.0.0.0/0", false),
            ("127.0.0.1", "::/0", false),
            ("2001:db8::5", "2001:db8::/32", true),
            ("2001:db9::5", "2001:db8::/32", false),
            ("2001:db9::5", "::/0", true),
            ("fe80::1", "fe80:0:0:0:0:0:0:1/128", true),
        ] {
            assert_eq!(matches(identity, id), expected, "{identity} in {id}");
        }
    }

    #[test]
    fn malformed_networks_are_rejected() {
        for id in [
            "",
            "10.1.2",
            "10.1.2.3.4",
            "10.1.2.256",
            "10.1.2.3/33",
            "10.1.2.3/-1",
            "10.1.2.3/",
            "::/129",
            "a.b.c.d",
            "host",
            "1.2.3.4/8/8",
        ] {
            assert!(!accepts(id), "{id:?}");
        }
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let id = ip_auth_id("::ffff:10.1.2.3".parse().unwrap());
        assert_eq!(id, AuthId::new("ip", "10.1.2.3"));
    }
}

//! The client address of a `server.N` line as an address to listen on.

use ostler_types::member::ClientAddress;

use super::ListenAddress;

impl From<&ClientAddress> for ListenAddress {
    /// All of IPv4 and all of IPv6 are every interface.
    fn from(client: &ClientAddress) -> ListenAddress {
        let host = client.host.clone().filter(|host| host != "::");
        ListenAddress { host, port: client.port }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_has_several_names() {
        for (host, printed) in
            [(None, "*:1"), (Some("::"), "*:1"), (Some("::1"), "[::1]:1"), (Some("h"), "h:1")]
        {
            let client = ClientAddress { host: host.map(str::to_owned), port: 1 };
            assert_eq!(ListenAddress::from(&client).to_string(), printed);
        }
    }
}

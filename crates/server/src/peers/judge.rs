//! Whether two servers may talk to each other. Both sides judge by the same rules; the words name both servers, so
//! that they are right in either one's log.

use super::hello::{Hello, Purpose, Refusal, RefusalCode};

/// Judges `them`, from the address `them_at`, by what `me` says of itself; returns the protocol version to speak.
/// What needs the membership, or other connections, is not judged here.
pub(crate) fn judge(me: &Hello, them: &Hello) -> Result<u16, Refusal> {
    let refuse = |code, reason: String| Err(Refusal { code, reason });
    let (my_id, their_id) = (me.from.server_id, them.from.server_id);
    if them.from.incarnation == me.from.incarnation && them.from.node_id == me.from.node_id {
        return refuse(
            RefusalCode::Itself,
            format!(
                "server {my_id} has reached itself: the address of server {} leads to it; remedy: correct that \
                 server.N line",
                if me.to_server_id == my_id { them.to_server_id } else { me.to_server_id }
            ),
        );
    }
    if them.from.node_id == me.from.node_id {
        return refuse(
            RefusalCode::Copied,
            format!(
                "server {my_id} and server {their_id} both run with the disk of node {:016x}: a data directory was \
                 copied; remedy: empty the copy's dataDir and dataLogDir and let it join as a new server",
                me.from.node_id
            ),
        );
    }
    if their_id == my_id {
        return refuse(
            RefusalCode::SameServerId,
            format!(
                "two servers have the id {my_id} (nodes {:016x} and {:016x}); remedy: give each server its own myid",
                me.from.node_id, them.from.node_id
            ),
        );
    }
    if them.to_server_id != my_id {
        return Err(Refusal::other_server(them, me));
    }
    if let (Some(mine), Some(theirs)) = (me.from.cluster_id, them.from.cluster_id)
        && mine != theirs
    {
        return refuse(
            RefusalCode::OtherCluster,
            format!(
                "server {my_id} belongs to cluster {mine:016x}, but server {their_id} to cluster {theirs:016x}; \
                 remedy: check the server.N lines for an address of another ensemble; a server joins this one only \
                 with an empty dataDir and dataLogDir"
            ),
        );
    }
    let Some(version) = me.versions.common(them.versions) else {
        return refuse(
            RefusalCode::Versions,
            format!(
                "server {my_id} ({}) speaks the peer protocol {}, but server {their_id} ({}) speaks {}; remedy: \
                 upgrade through a release that speaks both",
                me.software, me.versions, them.software, them.versions
            ),
        );
    };
    if me.from.features.common(them.from.features).is_none() {
        return refuse(
            RefusalCode::Features,
            format!(
                "server {my_id} ({}) applies feature levels {}, but server {their_id} ({}) applies {}; remedy: \
                 upgrade through a release that applies both",
                me.software, me.from.features, them.software, them.from.features
            ),
        );
    }
    if them.purpose == Purpose::Snapshot && (me.from.cluster_id.is_none() || them.from.cluster_id.is_none()) {
        return refuse(
            RefusalCode::Unborn,
            format!(
                "snapshots go only between members of a cluster, not between server {their_id} and server {my_id}"
            ),
        );
    }
    Ok(version)
}

impl Refusal {
    /// `dialing` has not found whom it looked for, but `found`.
    pub(super) fn other_server(dialing: &Hello, found: &Hello) -> Refusal {
        Refusal {
            code: RefusalCode::OtherServer,
            reason: format!(
                "server {} looked for server {} and found server {}; remedy: check myid there and the server.N \
                 lines here and there",
                dialing.from.server_id, dialing.to_server_id, found.from.server_id
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::hello::{Myself, Versions, tests::myself};
    use super::*;

    fn hello(from: Myself, to_server_id: u8) -> Hello {
        Hello {
            from,
            versions: Versions { oldest: 1, newest: 1 },
            to_server_id,
            purpose: Purpose::Link,
            software: "ostler 0.1".to_owned(),
        }
    }

    /// What server 1 says to server 2's Hello, after a change.
    fn judged(change: impl FnOnce(&mut Hello)) -> Result<u16, Refusal> {
        let mut them = hello(myself(2), 1);
        change(&mut them);
        judge(&hello(myself(1), 2), &them)
    }

    #[test]
    fn each_reason_names_both_servers_and_the_remedy() {
        let refused: [(RefusalCode, Result<u16, Refusal>, &str); 8] = [
            (
                RefusalCode::OtherCluster,
                judged(|them| them.from.cluster_id = Some(0xc2)),
                "server 1 belongs to cluster 00000000000000c1, but server 2 to cluster 00000000000000c2; remedy: \
                 check the server.N lines for an address of another ensemble; a server joins this one only with an \
                 empty dataDir and dataLogDir",
            ),
            (
                RefusalCode::Versions,
                judged(|them| {
                    them.versions = Versions { oldest: 2, newest: 3 };
                    them.software = "ostler 9".to_owned();
                }),
                "server 1 (ostler 0.1) speaks the peer protocol 1, but server 2 (ostler 9) speaks 2 to 3; remedy: \
                 upgrade through a release that speaks both",
            ),
            (
                RefusalCode::Features,
                judged(|them| them.from.features = Versions { oldest: 2, newest: 2 }),
                "server 1 (ostler 0.1) applies feature levels 1, but server 2 (ostler 0.1) applies 2; remedy: \
                 upgrade through a release that applies both",
            ),
            (
                RefusalCode::Itself,
                judged(|them| *them = hello(myself(1), 3)),
                "server 1 has reached itself: the address of server 2 leads to it; remedy: correct that server.N \
                 line",
            ),
            (
                RefusalCode::OtherServer,
                judged(|them| them.to_server_id = 3),
                "server 2 looked for server 3 and found server 1; remedy: check myid there and the server.N lines \
                 here and there",
            ),
            (
                RefusalCode::Copied,
                judged(|them| them.from.node_id = 0xd1),
                "server 1 and server 2 both run with the disk of node 00000000000000d1: a data directory was \
                 copied; remedy: empty the copy's dataDir and dataLogDir and let it join as a new server",
            ),
            (
                RefusalCode::SameServerId,
                judged(|them| them.from.server_id = 1),
                "two servers have the id 1 (nodes 00000000000000d1 and 00000000000000d2); remedy: give each server \
                 its own myid",
            ),
            (
                RefusalCode::Unborn,
                judged(|them| {
                    them.from.cluster_id = None;
                    them.purpose = Purpose::Snapshot;
                }),
                "snapshots go only between members of a cluster, not between server 2 and server 1",
            ),
        ];
        for (code, judged, reason) in refused {
            assert_eq!(judged, Err(Refusal { code, reason: reason.to_owned() }));
        }
    }

    #[test]
    fn the_highest_common_version_is_spoken_and_unborn_servers_are_heard() {
        assert_eq!(judged(|them| them.versions = Versions { oldest: 1, newest: 9 }), Ok(1));
        assert_eq!(judged(|them| them.from.cluster_id = None), Ok(1));
    }
}

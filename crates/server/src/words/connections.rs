//! `cons`, and the connection lines of `stat`.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use ostler_types::{SessionId, Zxid};

use super::number::Summary;

/// One client connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectionReport {
    /// The client's address.
    pub peer: SocketAddr,
    /// Whether the server reads from the socket; it does not while the connection asks for this report, or is held
    /// back.
    pub reading: bool,
    /// Whether replies wait for room in the socket.
    pub writing: bool,
    /// Requests received and not yet answered.
    pub queued: u64,
    /// Packets received.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// The session it belongs to, once there is one.
    pub session: Option<SessionReport>,
}

/// What is known of a connection that has a session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SessionReport {
    /// Its id.
    pub id: SessionId,
    /// The last request answered.
    pub last_operation: LastOperation,
    /// When the connection was made: milliseconds since 1970.
    pub established_unix_ms: u64,
    /// The timeout granted, in milliseconds.
    pub timeout_ms: u32,
    /// xid of the last request answered, the handshake counting as 0; negative ones (heartbeats, for one) are not
    /// shown. `None` after `crst`.
    pub last_cxid: Option<i32>,
    /// zxid of the last reply. `None` after `crst`.
    pub last_zxid: Option<Zxid>,
    /// When the last reply was sent: milliseconds since any fixed moment, 0 if there was none.
    pub last_response_ms: u64,
    /// Latency of the last request, in milliseconds.
    pub last_latency_ms: u64,
    /// Latency of all requests, in milliseconds.
    pub latency_ms: Summary,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $variant:ident = $code:literal,)*) => {
        /// A request, as `cons` abbreviates it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the variants are the protocol's operations, and what is printed follows")]
        pub enum LastOperation {
            $($(#[$doc])* $variant,)*
        }

        impl fmt::Display for LastOperation {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(LastOperation::$variant => $code,)*
                })
            }
        }
    };
}

operations! {
    /// No request yet, or one without an abbreviation.
    None = "NA",
    CreateSession = "SESS",
    Ping = "PING",
    Create = "CREA",
    Delete = "DELE",
    Exists = "EXIS",
    GetData = "GETD",
    SetData = "SETD",
    GetAcl = "GETA",
    SetAcl = "SETA",
    GetChildren = "GETC",
    GetAllChildrenNumber = "GETACN",
    Sync = "SYNC",
    Multi = "MULT",
    MultiRead = "MLTR",
    Check = "CHEC",
    Reconfig = "RECO",
    SetWatches = "SETW",
    SetWatches2 = "STW2",
    AddWatch = "ADDW",
    CheckWatches = "CHKW",
    RemoveWatches = "REMW",
    GetEphemerals = "GETE",
    WhoAmI = "HOMI",
    CloseSession = "CLOS",
}

/// Text of `cons`.
pub fn cons(connections: &[ConnectionReport]) -> String {
    let mut out = String::new();
    for connection in connections {
        write_connection(&mut out, connection, Detail::Full);
    }
    out.push('\n');
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Brief,
    Full,
}

pub(super) fn write_connection(out: &mut String, connection: &ConnectionReport, detail: Detail) {
    let ConnectionReport { peer, reading, writing, queued, received, sent, session } = connection;
    // java.nio.channels.SelectionKey: OP_READ is 1, OP_WRITE is 4.
    let interest = u8::from(*reading) | (u8::from(*writing) << 2);
    let _ =
        write!(out, " {}[{interest:x}](queued={queued},recved={received},sent={sent}", JavaAddress(*peer));
    if let (Detail::Full, Some(session)) = (detail, session) {
        let _ = write!(
            out,
            ",sid={},lop={},est={},to={}",
            session.id, session.last_operation, session.established_unix_ms, session.timeout_ms
        );
        if let Some(cxid) = session.last_cxid.filter(|&cxid| cxid >= 0) {
            let _ = write!(out, ",lcxid={cxid:#x}");
        }
        let latency = &session.latency_ms;
        let _ = write!(
            out,
            ",lzxid={},lresp={},llat={},minlat={},avglat={},maxlat={}",
            session.last_zxid.unwrap_or(Zxid(-1)),
            session.last_response_ms,
            session.last_latency_ms,
            latency.min,
            latency.sum.checked_div(latency.count).unwrap_or(0),
            latency.max
        );
    }
    out.push_str(")\n");
}

/// An address as Java prints an unresolved one.
pub(super) struct JavaAddress(pub(super) SocketAddr);

impl fmt::Display for JavaAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.ip().to_canonical() {
            IpAddr::V4(ip) => write!(f, "/{ip}")?,
            IpAddr::V6(ip) => {
                let groups = ip.segments().map(|group| format!("{group:x}"));
                write!(f, "/[{}]", groups.join(":"))?;
            }
        }
        write!(f, ":{}", self.0.port())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::words) fn fresh() -> ConnectionReport {
        ConnectionReport {
            peer: "127.0.0.1:43200".parse().unwrap(),
            reading: false,
            writing: false,
            queued: 0,
            received: 1,
            sent: 0,
            session: None,
        }
    }

    pub(in crate::words) fn working() -> ConnectionReport {
        ConnectionReport {
            peer: "127.0.0.1:43164".parse().unwrap(),
            reading: true,
            received: 309,
            sent: 311,
            session: Some(SessionReport {
                id: SessionId(0x1000011441c0000),
                last_operation: LastOperation::GetData,
                established_unix_ms: 1_795_199_810_615,
                timeout_ms: 30_000,
                last_cxid: Some(0x134),
                last_zxid: Some(Zxid(0x132)),
                last_response_ms: 2_109_731,
                last_latency_ms: 0,
                latency_ms: Summary { count: 309, sum: 200, min: 0, max: 10 },
            }),
            ..fresh()
        }
    }

    #[test]
    fn cons_is_zookeepers() {
        assert_eq!(
            cons(&[fresh(), working()]),
            " /127.0.0.1:43200[0](queued=0,recved=1,sent=0)\n \
             /127.0.0.1:43164[1](queued=0,recved=309,sent=311,sid=0x1000011441c0000,lop=GETD,est=1795199810615,\
             to=30000,lcxid=0x134,lzxid=0x132,lresp=2109731,llat=0,minlat=0,avglat=0,maxlat=10)\n\n"
        );
        assert_eq!(cons(&[]), "\n");
    }

    #[test]
    fn after_crst_there_is_no_cxid_and_no_zxid() {
        let mut reset = working();
        reset.session.as_mut().unwrap().last_cxid = None;
        reset.session.as_mut().unwrap().last_zxid = None;
        reset.session.as_mut().unwrap().last_operation = LastOperation::None;
        let text = cons(&[reset]);
        assert!(text.contains(",lop=NA,est=1795199810615,to=30000,lzxid=0xffffffffffffffff,"), "{text}");
    }

    #[test]
    fn addresses_print_as_in_java_and_negative_xids_do_not() {
        let peer = |text: &str| JavaAddress(text.parse().unwrap()).to_string();
        assert_eq!(peer("[::1]:2181"), "/[0:0:0:0:0:0:0:1]:2181");
        assert_eq!(peer("[::ffff:10.0.0.1]:7"), "/10.0.0.1:7");
        let mut pinged = working();
        pinged.session.as_mut().unwrap().last_cxid = Some(-2);
        pinged.writing = true;
        let text = cons(&[pinged]);
        assert!(!text.contains("lcxid") && text.contains("[5]("), "{text}");
    }
}

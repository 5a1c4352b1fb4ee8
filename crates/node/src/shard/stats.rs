//! Counters, per shard and per connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use ostler_types::{SessionId, Xid, Zxid};
use ostler_wire::OpCode;

use crate::Millis;

/// A number one thread writes and others read.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to the value. Only the shard's own thread writes, so this need not be one atomic step.
    pub fn add(&self, value: u64) {
        self.set(self.get() + value);
    }

    fn raise_to(&self, value: u64) {
        if value > self.get() {
            self.set(value);
        }
    }
}

/// What a shard counts, read by the administrative commands of the whole server.
#[derive(Debug, Default)]
pub struct ShardStats {
    /// Requests received, handshakes and pings included.
    pub received: Gauge,
    /// Replies and events sent.
    pub sent: Gauge,
    /// Bytes received.
    pub bytes_received: Gauge,
    /// Connections now.
    pub connections: Gauge,
    /// Requests received and not yet answered now.
    pub outstanding: Gauge,
    /// Data watches now.
    pub watches: Gauge,
    /// Requests in the latency figures.
    pub latency_count: Gauge,
    /// Sum of their latencies, milliseconds.
    pub latency_total_ms: Gauge,
    /// Largest latency, milliseconds.
    pub latency_max_ms: Gauge,
    /// Smallest latency plus one, milliseconds; 0 is none yet.
    pub latency_min_ms_plus_one: Gauge,
    /// Frames larger than the limit, answered and discarded.
    pub oversized: Gauge,
    /// Requests refused for lack of room in the log.
    pub refused_full: Gauge,
    /// Sessions opened.
    pub sessions_created: Gauge,
    /// Sessions attached to a new connection.
    pub sessions_attached: Gauge,
    /// Authentication packets refused.
    pub auth_failed: Gauge,
}

impl ShardStats {
    /// Sets the counters that `srst` resets back.
    pub fn reset(&self) {
        for gauge in [
            &self.received,
            &self.sent,
            &self.bytes_received,
            &self.latency_count,
            &self.latency_total_ms,
            &self.latency_max_ms,
            &self.latency_min_ms_plus_one,
        ] {
            gauge.set(0);
        }
    }

    pub(super) fn answered(&self, latency: Millis) {
        self.sent.add(1);
        self.latency_count.add(1);
        self.latency_total_ms.add(latency);
        self.latency_max_ms.raise_to(latency);
        let min = self.latency_min_ms_plus_one.get();
        if min == 0 || latency + 1 < min {
            self.latency_min_ms_plus_one.set(latency + 1);
        }
    }
}

/// What a connection counts. 32-bit latencies keep an idle connection small.
#[derive(Debug)]
pub(super) struct ConnectionStats {
    pub(super) established: Millis,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) last_op: Option<OpCode>,
    pub(super) last_xid: Option<Xid>,
    pub(super) last_zxid: Zxid,
    pub(super) last_response: Millis,
    last_latency_ms: u32,
    min_latency_ms: Option<u32>,
    max_latency_ms: u32,
    total_latency_ms: u64,
    answered: u64,
}

impl ConnectionStats {
    pub(super) fn new(now: Millis) -> Self {
        ConnectionStats {
            established: now,
            received: 0,
            sent: 0,
            last_op: None,
            last_xid: None,
            last_zxid: Zxid(-1),
            last_response: 0,
            last_latency_ms: 0,
            min_latency_ms: None,
            max_latency_ms: 0,
            total_latency_ms: 0,
            answered: 0,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = ConnectionStats { last_op: None, ..ConnectionStats::new(self.established) };
    }

    pub(super) fn answered(&mut self, op: OpCode, xid: Xid, zxid: Zxid, latency: Millis, now: Millis) {
        let latency_ms = u32::try_from(latency).unwrap_or(u32::MAX);
        self.sent += 1;
        self.answered += 1;
        self.last_op = Some(op);
        if xid.0 >= 0 {
            self.last_xid = Some(xid);
        }
        if zxid.0 >= 0 {
            self.last_zxid = zxid;
        }
        self.last_response = now;
        self.last_latency_ms = latency_ms;
        self.min_latency_ms = Some(self.min_latency_ms.map_or(latency_ms, |min| min.min(latency_ms)));
        self.max_latency_ms = self.max_latency_ms.max(latency_ms);
        self.total_latency_ms += latency;
    }
}

/// One connection as `cons` shows it.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// The client's address.
    pub peer: SocketAddr,
    /// Its session; [`SessionId::NONE`] before one is established.
    pub session: SessionId,
    /// Negotiated session timeout, milliseconds.
    pub timeout_ms: u32,
    /// Requests received and not yet answered.
    pub outstanding: usize,
    /// Requests received.
    pub received: u64,
    /// Frames sent.
    pub sent: u64,
    /// Milliseconds since it was accepted.
    pub age_ms: Millis,
    /// The last operation answered.
    pub last_op: Option<OpCode>,
    /// xid of the last reply.
    pub last_xid: Option<Xid>,
    /// zxid of the last reply.
    pub last_zxid: Zxid,
    /// Milliseconds since the last reply; none before the first.
    pub last_response_ago_ms: Option<Millis>,
    /// Latency of the last reply, milliseconds.
    pub last_latency_ms: u32,
    /// Smallest latency.
    pub min_latency_ms: u32,
    /// Sum of all latencies.
    pub total_latency_ms: u64,
    /// Requests in the latency figures.
    pub answered: u64,
    /// When it was last heard from.
    pub last_heard: Millis,
    /// Largest latency.
    pub max_latency_ms: u32,
    /// Whether it is read from now.
    pub reading: bool,
    /// Whether it has unsent output.
    pub writing: bool,
}

impl super::Connection {
    pub(super) fn facts(&self, now: Millis) -> ConnectionFacts {
        let stats = &self.stats;
        ConnectionFacts {
            peer: self.peer,
            session: self.session,
            timeout_ms: self.timeout_ms,
            outstanding: self.outstanding(),
            received: stats.received,
            sent: stats.sent,
            age_ms: now.saturating_sub(stats.established),
            last_op: stats.last_op,
            last_xid: stats.last_xid,
            last_zxid: stats.last_zxid,
            last_response_ago_ms: (stats.answered > 0).then(|| now.saturating_sub(stats.last_response)),
            last_latency_ms: stats.last_latency_ms,
            min_latency_ms: stats.min_latency_ms.unwrap_or(0),
            total_latency_ms: stats.total_latency_ms,
            answered: stats.answered,
            last_heard: self.last_heard,
            max_latency_ms: stats.max_latency_ms,
            reading: self.paused.is_none() && !matches!(self.phase, super::Phase::Text),
            writing: self.output.len() > 0,
        }
    }
}

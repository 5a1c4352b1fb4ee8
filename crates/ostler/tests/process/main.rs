//! The server as a process: killed, stopped, stalled, out of disk, started on what it must not touch.

mod content;
mod dev;
mod disk_full;
mod ensemble;
mod ensemble_clients;
mod ensemble_disks;
mod ensemble_failover;
mod kill;
mod linearizable;
mod member_servers;
mod membership;
mod read_only;
mod reconfig;
mod recover;
mod refusals;
mod server;
mod stall;
mod stop;

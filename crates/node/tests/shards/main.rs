//! A replica and its session shards together, without sockets, disks or clocks.

mod limits;
mod order;
mod read_only;
mod reconfig;
mod scale;
mod scripts;
mod sessions;
mod watches;
mod world;

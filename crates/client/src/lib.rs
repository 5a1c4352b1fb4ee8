//! A client for ZooKeeper's protocol, for tests and the benchmark: one connection, which does not reconnect by
//! itself and leaves re-arming watches to its user. What it has is meant to stay when those arrive.
//!
//! [`exchange`] pairs replies with requests and is pure; [`Client`] runs it on a tokio socket; [`raw`] is a
//! socket without any manners, for tests that must send what no client sends.
//!
//! **Connection loss is not failure.** A request that was on its way when the connection ended may or may not
//! have been carried out: [`Error::OutcomeUnknown`]. Only [`Error::NotSent`] and [`Error::Server`] say that it
//! was not.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ostler_client::{Client, ConnectOptions};
//! use ostler_types::{CreateMode, open_acl};
//!
//! let (client, mut events) = Client::connect("127.0.0.1:2181", &ConnectOptions::default()).await?;
//! client.create("/app", b"v1", &open_acl(), CreateMode::Persistent).await?;
//! let (data, stat) = client.get_data("/app", true).await?;
//! assert_eq!((data.as_deref(), stat.version), (Some(&b"v1"[..]), 0));
//!
//! client.set_data("/app", b"v2", 0).await?;
//! // The event of a client's own write arrives before the write's reply.
//! assert_eq!(events.try_recv()?.path, "/app");
//! client.close().await?;
//! # Ok(()) }
//! ```

mod client;
mod connection;
mod error;
pub mod exchange;
mod handshake;
mod operations;
pub mod raw;

pub use client::{Client, ConnectOptions, Event, Pending, Reply};
pub use error::{ConnectError, Error, LossCause};
pub use handshake::Session;

//! One method per operation of the protocol. Each sends its request and waits for the reply; to keep several
//! under way use [`Client::start`].
//!
//! `version` arguments expect that version of the znode, or any if they are -1. `watch` leaves a one-shot watch
//! on the server, whose event arrives on the channel that [`Client::connect`] returned.

use std::borrow::Cow;

use ostler_types::{Acl, AddWatchMode, CreateMode, ErrorCode, Stat, WatcherKind};
use ostler_wire::multi::{OpResult, ReadOp, WriteOp};
use ostler_wire::{AclEntry, Create, CreateForm, Request, Response, SetWatches};

use crate::client::Client;
use crate::error::Error;

/// The reply's body, which decoding has made to fit the request.
macro_rules! expect {
    ($reply:expr, $pattern:pat => $value:expr) => {
        match $reply.response {
            $pattern => Ok($value),
            other => unreachable!("decoding chose {other:?} by another operation"),
        }
    };
}

fn entries(acl: &[Acl]) -> Option<Vec<AclEntry<'_>>> {
    Some(acl.iter().map(AclEntry::from).collect())
}

fn borrow(path: &str) -> Cow<'_, str> {
    Cow::Borrowed(path)
}

/// # Errors
/// Every method: [`Error`].
impl Client {
    /// Creates a plain or ephemeral znode and returns its path, which for a sequential mode has a number added.
    pub async fn create(
        &self,
        path: &str,
        data: &[u8],
        acl: &[Acl],
        mode: CreateMode,
    ) -> Result<String, Error> {
        let reply = self.create_as(CreateForm::Create, path, data, acl, mode as i32).await?;
        expect!(reply, Response::Path { path } => path)
    }

    /// As [`create`](Self::create), and returns the Stat.
    pub async fn create2(
        &self,
        path: &str,
        data: &[u8],
        acl: &[Acl],
        mode: CreateMode,
    ) -> Result<(String, Stat), Error> {
        let reply = self.create_as(CreateForm::Create2, path, data, acl, mode as i32).await?;
        expect!(reply, Response::PathAndStat { path, stat } => (path, stat))
    }

    /// Creates a container.
    pub async fn create_container(
        &self,
        path: &str,
        data: &[u8],
        acl: &[Acl],
    ) -> Result<(String, Stat), Error> {
        let flags = CreateMode::Container as i32;
        let reply = self.create_as(CreateForm::Container, path, data, acl, flags).await?;
        expect!(reply, Response::PathAndStat { path, stat } => (path, stat))
    }

    /// Creates a znode that goes when it is childless and unmodified for `ttl_ms`.
    pub async fn create_ttl(
        &self,
        path: &str,
        data: &[u8],
        acl: &[Acl],
        mode: CreateMode,
        ttl_ms: i64,
    ) -> Result<(String, Stat), Error> {
        let reply = self.create_as(CreateForm::Ttl(ttl_ms), path, data, acl, mode as i32).await?;
        expect!(reply, Response::PathAndStat { path, stat } => (path, stat))
    }

    async fn create_as(
        &self,
        form: CreateForm,
        path: &str,
        data: &[u8],
        acl: &[Acl],
        flags: i32,
    ) -> Result<crate::client::Reply, Error> {
        let create = Create { form, path: borrow(path), data: Some(data), acl: entries(acl), flags };
        self.call(&Request::Create(create)).await
    }

    /// Deletes a znode without children.
    pub async fn delete(&self, path: &str, version: i32) -> Result<(), Error> {
        let reply = self.call(&Request::Delete { path: borrow(path), version }).await?;
        expect!(reply, Response::Empty => ())
    }

    /// The Stat of a znode, or `None` if there is none; the watch is left in both cases.
    pub async fn exists(&self, path: &str, watch: bool) -> Result<Option<Stat>, Error> {
        match self.call(&Request::Exists { path: borrow(path), watch }).await {
            Ok(reply) => expect!(reply, Response::Stat { stat } => Some(stat)),
            Err(Error::Server(ErrorCode::NoNode)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Data, which may be null, and Stat.
    pub async fn get_data(&self, path: &str, watch: bool) -> Result<(Option<Vec<u8>>, Stat), Error> {
        let reply = self.call(&Request::GetData { path: borrow(path), watch }).await?;
        expect!(reply, Response::DataAndStat { data, stat } => (data, stat))
    }

    /// Replaces the data.
    pub async fn set_data(&self, path: &str, data: &[u8], version: i32) -> Result<Stat, Error> {
        let reply = self.call(&Request::SetData { path: borrow(path), data: Some(data), version }).await?;
        expect!(reply, Response::Stat { stat } => stat)
    }

    /// ACL and Stat.
    pub async fn get_acl(&self, path: &str) -> Result<(Vec<Acl>, Stat), Error> {
        let reply = self.call(&Request::GetAcl { path: borrow(path) }).await?;
        expect!(reply, Response::AclAndStat { acl, stat } => (acl, stat))
    }

    /// Replaces the ACL; `version` is the ACL's.
    pub async fn set_acl(&self, path: &str, acl: &[Acl], version: i32) -> Result<Stat, Error> {
        let reply = self.call(&Request::SetAcl { path: borrow(path), acl: entries(acl), version }).await?;
        expect!(reply, Response::Stat { stat } => stat)
    }

    /// Names of the children, in no order.
    pub async fn get_children(&self, path: &str, watch: bool) -> Result<Vec<String>, Error> {
        let reply = self.call(&Request::GetChildren { path: borrow(path), watch }).await?;
        expect!(reply, Response::Strings { strings } => strings)
    }

    /// Names of the children, in no order, and Stat.
    pub async fn get_children2(&self, path: &str, watch: bool) -> Result<(Vec<String>, Stat), Error> {
        let reply = self.call(&Request::GetChildren2 { path: borrow(path), watch }).await?;
        expect!(reply, Response::ChildrenAndStat { children, stat } => (children, stat))
    }

    /// Number of all descendants.
    pub async fn get_all_children_number(&self, path: &str) -> Result<i32, Error> {
        let reply = self.call(&Request::GetAllChildrenNumber { path: borrow(path) }).await?;
        expect!(reply, Response::Int { value } => value)
    }

    /// Ephemeral znodes of this session whose paths begin with `prefix`.
    pub async fn get_ephemerals(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let reply = self.call(&Request::GetEphemerals { prefix: Some(borrow(prefix)) }).await?;
        expect!(reply, Response::Strings { strings } => strings)
    }

    /// Waits until the server has caught up with the leader.
    pub async fn sync(&self, path: &str) -> Result<(), Error> {
        let reply = self.call(&Request::Sync { path: Some(borrow(path)) }).await?;
        expect!(reply, Response::Path { .. } => ())
    }

    /// Carries out all of `ops` or none; one result each.
    ///
    /// # Errors
    /// [`Error::Multi`] if one failed.
    pub async fn multi(&self, ops: Vec<WriteOp<'_>>) -> Result<Vec<OpResult>, Error> {
        let reply = self.call(&Request::Multi(ops)).await?;
        let results = expect!(reply, Response::Multi { results } => results)?;
        let failed = |result: &OpResult| matches!(result, OpResult::Error(code) if *code != 0);
        match results.iter().position(failed) {
            Some(index) => {
                let OpResult::Error(code) = results[index] else { unreachable!("just matched") };
                Err(Error::Multi { index, code, results })
            }
            None => Ok(results),
        }
    }

    /// Carries out all of `ops`; one result or error each.
    pub async fn multi_read(&self, ops: Vec<ReadOp<'_>>) -> Result<Vec<OpResult>, Error> {
        let reply = self.call(&Request::MultiRead(ops)).await?;
        expect!(reply, Response::Multi { results } => results)
    }

    /// Changes the ensemble's membership by difference; returns the new configuration.
    pub async fn reconfig(
        &self,
        joining: Option<&str>,
        leaving: Option<&str>,
        config_id: i64,
    ) -> Result<(Option<Vec<u8>>, Stat), Error> {
        let request = Request::Reconfig {
            joining: joining.map(borrow),
            leaving: leaving.map(borrow),
            new_members: None,
            config_id,
        };
        let reply = self.call(&request).await?;
        expect!(reply, Response::DataAndStat { data, stat } => (data, stat))
    }

    /// Leaves a watch that stays.
    pub async fn add_watch(&self, path: &str, mode: AddWatchMode) -> Result<(), Error> {
        let reply = self.call(&Request::AddWatch { path: borrow(path), mode }).await?;
        expect!(reply, Response::Int { .. } => ())
    }

    /// Whether this connection has such a watch; if not, the error is `NOWATCHER`.
    pub async fn check_watches(&self, path: &str, kind: WatcherKind) -> Result<(), Error> {
        let reply = self.call(&Request::CheckWatches { path: borrow(path), kind }).await?;
        expect!(reply, Response::Empty => ())
    }

    /// Removes watches from the server; if there are none, the error is `NOWATCHER`.
    pub async fn remove_watches(&self, path: &str, kind: WatcherKind) -> Result<(), Error> {
        let reply = self.call(&Request::RemoveWatches { path: borrow(path), kind }).await?;
        expect!(reply, Response::Empty => ())
    }

    /// Leaves one-shot watches again on a new connection.
    pub async fn set_watches(&self, watches: SetWatches<'_>) -> Result<(), Error> {
        let reply = self.call(&Request::SetWatches(watches)).await?;
        expect!(reply, Response::Empty => ())
    }

    /// Leaves watches again on a new connection, also those that stay.
    pub async fn set_watches2(
        &self,
        one_shot: SetWatches<'_>,
        persistent: &[&str],
        persistent_recursive: &[&str],
    ) -> Result<(), Error> {
        let request = Request::SetWatches2 {
            one_shot,
            persistent: persistent.iter().copied().map(borrow).collect(),
            persistent_recursive: persistent_recursive.iter().copied().map(borrow).collect(),
        };
        let reply = self.call(&request).await?;
        expect!(reply, Response::Empty => ())
    }

    /// Adds an identity to this connection.
    pub async fn add_auth(&self, scheme: &str, auth: &[u8]) -> Result<(), Error> {
        let reply = self.call(&Request::Auth { scheme: Some(borrow(scheme)), auth: Some(auth) }).await?;
        expect!(reply, Response::Empty => ())
    }

    /// One step of a SASL exchange.
    pub async fn sasl(&self, token: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let reply = self.call(&Request::Sasl { token: Some(token) }).await?;
        expect!(reply, Response::Token { token } => token)
    }

    /// Scheme and name of each identity of this connection.
    pub async fn who_am_i(&self) -> Result<Vec<(String, String)>, Error> {
        let reply = self.call(&Request::WhoAmI).await?;
        expect!(reply, Response::WhoAmI { identities } => identities)
    }

    /// A heartbeat, besides those sent automatically.
    pub async fn ping(&self) -> Result<(), Error> {
        let reply = self.call(&Request::Ping).await?;
        expect!(reply, Response::Empty => ())
    }

    /// Ends the session: its ephemeral znodes go, and the server closes the connection.
    pub async fn close(&self) -> Result<(), Error> {
        let reply = self.call(&Request::CloseSession).await?;
        self.disconnect().await;
        expect!(reply, Response::Empty => ())
    }
}

//! The znodes a load works on: made before it, removed after it.

use ostler_client::{Client, ConnectOptions, Error, Pending};
use ostler_types::{CreateMode, ErrorCode, open_acl};
use ostler_wire::{AclEntry, Create, CreateForm, Request};

use super::args::LoadArgs;
use super::workload::{is_session_znode, session_path, value, znode_path};
use super::{BenchError, Result};

/// Data of the root: what does not hold it is not ours to remove.
pub(super) const MARK: &[u8] = b"made and removed by ostler bench";
/// Requests sent before the first reply is waited for.
const BATCH: usize = 1000;

/// Makes what the load needs, after removing what an earlier run may have left.
pub(super) fn prepare(args: &LoadArgs) -> Result<()> {
    let root = args.common.root.as_str();
    let value = value(args.common.value_bytes);
    let mut paths: Vec<String> = (0..args.common.znodes).map(|number| znode_path(root, number)).collect();
    if args.mix.creates() {
        paths.extend((0..args.sessions).map(|session| session_path(root, session)));
    }
    with_client(&args.server, async |client| {
        remove_all(client, root).await?;
        let acl = open_acl();
        client.create(root, MARK, &acl, CreateMode::Persistent).await?;
        let entries: Vec<_> = acl.iter().map(AclEntry::from).collect();
        for batch in paths.chunks(BATCH) {
            let mut pending = Vec::new();
            for path in batch {
                let create = Create {
                    form: CreateForm::Create,
                    path: path.into(),
                    data: Some(&value),
                    acl: Some(entries.clone()),
                    flags: CreateMode::Persistent as i32,
                };
                pending.push(client.start(&Request::Create(create)).await);
            }
            all(pending).await?;
        }
        Ok(())
    })
}

/// Removes everything a load has made or left.
pub(super) fn remove(server: &str, root: &str) -> Result<()> {
    with_client(server, async |client| remove_all(client, root).await)
}

fn with_client(server: &str, work: impl AsyncFnOnce(&Client) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(BenchError::Poll)?.block_on(async {
        // Any of them will do.
        let server = server.split(',').next().unwrap_or(server);
        let (client, _events) = Client::connect(server, &ConnectOptions::default()).await?;
        work(&client).await?;
        Ok(client.close().await?)
    })
}

/// Whether the root is there. One that no benchmark has made is an error.
pub(super) async fn is_ours(client: &Client, root: &str) -> Result<bool> {
    match client.get_data(root, false).await {
        Ok((data, _)) if data.as_deref() == Some(MARK) => Ok(true),
        Ok(_) => Err(BenchError::ForeignRoot { root: root.into() }),
        Err(Error::Server(ErrorCode::NoNode)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn remove_all(client: &Client, root: &str) -> Result<()> {
    if !is_ours(client, root).await? {
        return Ok(());
    }
    let children = client.get_children(root, false).await?;
    for child in children.iter().filter(|child| is_session_znode(child)) {
        let parent = format!("{root}/{child}");
        let created = client.get_children(&parent, false).await?;
        delete(client, &parent, &created).await?;
    }
    delete(client, root, &children).await?;
    Ok(client.delete(root, -1).await?)
}

async fn delete(client: &Client, parent: &str, names: &[String]) -> Result<(), Error> {
    for batch in names.chunks(BATCH) {
        let mut pending = Vec::new();
        for name in batch {
            let path = format!("{parent}/{name}");
            pending.push(client.start(&Request::Delete { path: path.into(), version: -1 }).await);
        }
        all(pending).await?;
    }
    Ok(())
}

async fn all(pending: Vec<Pending>) -> Result<(), Error> {
    for reply in pending {
        reply.await?;
    }
    Ok(())
}

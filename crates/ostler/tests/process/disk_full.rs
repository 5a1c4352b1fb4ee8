//! A real file system without space: writes are refused, everything else goes on, and space makes it well again.

use std::path::{Path, PathBuf};
use std::process::Command;

use ostler_client::{Client, ConnectOptions, Error};
use ostler_types::{CreateMode, ErrorCode, open_acl};
use ostler_wire::Request;

use crate::server::{Server, block_on, write_config};

/// A server whose data directory is a file system of a few MiB, in a mount namespace of its own; nothing if this
/// user may not make one.
fn start_on_small_disk(dir: &Path, mount: &Path, settings: &str) -> Option<Server> {
    // As root, or as anybody where user namespaces are allowed.
    let namespace = ["-m", "-rm"].into_iter().find(|how| {
        let probe = format!("mount -t tmpfs none {}", mount.display());
        Command::new("unshare").args([how, "sh", "-c", &probe]).output().is_ok_and(|o| o.status.success())
    })?;
    let config = write_config(dir, settings);
    let script = format!(
        "mount -t tmpfs -o size=4m none {} && exec {} serve {}",
        mount.display(),
        env!("CARGO_BIN_EXE_ostler"),
        config.display()
    );
    Some(Server::spawn(Command::new("unshare").args([namespace, "sh", "-c", &script])))
}

const NOT_ALLOWED: &str = "this user may not mount a file system in a namespace (unshare -m)";

#[test]
fn a_full_disk_refuses_writes_and_nothing_else_until_there_is_space() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("data");
    std::fs::create_dir(&mount).unwrap();
    let settings = "preAllocSize=512\nsnapCount=100000\ntickTime=500";
    let Some(server) = start_on_small_disk(dir.path(), &mount, settings) else {
        eprintln!("skipped: {NOT_ALLOWED}");
        return;
    };
    let inside = PathBuf::from(format!("/proc/{}/root{}", server.pid(), mount.display()));
    let ballast = inside.join("ballast");
    block_on(async {
        let (client, mut events) = server.connect(4_000, None).await;
        let (other, _) = server.connect(4_000, None).await;
        let other = other.session().clone();
        let acl = open_acl();
        client.create("/a", b"", &acl, CreateMode::Ephemeral).await.unwrap();
        client.create("/kept", b"", &acl, CreateMode::Persistent).await.unwrap();
        fill(&ballast);
        let mut written = 0;
        loop {
            match client.set_data("/kept", &vec![b'x'; 20_000], -1).await {
                Ok(_) => written += 1,
                Err(error) if error.code() == Some(ErrorCode::ThrottledOp) => break,
                Err(error) => panic!("after {written} writes: {error}"),
            }
            assert!(written < 1_000, "the disk never fills");
        }
        let version = client.exists("/kept", true).await.unwrap().unwrap().version;
        // Refused, not executed, in every form.
        for _ in 0..20 {
            let refused = client.create("/never", b"", &acl, CreateMode::Persistent).await;
            assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::ThrottledOp));
        }
        client.ping().await.unwrap();
        client.sync("/").await.unwrap();
        // New sessions would use up what is kept for those there are, which return.
        assert!(Client::connect(server.address, &ConnectOptions::default()).await.is_err());
        server.wait_for_log("disk of dataLogDir is full and only sessions that return are taken");
        let (back, _) = server.connect(4_000, Some(other)).await;
        assert!(back.exists("/never", false).await.unwrap().is_none());
        assert_eq!(back.exists("/kept", false).await.unwrap().unwrap().version, version);
        back.close().await.unwrap();
        server.wait_for_log("is full");

        // Space again: no restart, and the same session goes on.
        std::fs::remove_file(&ballast).unwrap();
        while let Err(error) = client.set_data("/kept", b"again", -1).await {
            assert_eq!(error.code(), Some(ErrorCode::ThrottledOp), "{error}");
        }
        assert_eq!(events.recv().await.unwrap().path, "/kept");
        server.wait_for_log("has space again");
        assert!(client.exists("/a", false).await.unwrap().is_some());
        client.close().await.unwrap();
    });
    server.stop();
}

#[test]
fn a_write_that_was_let_in_waits_for_space_and_holds_up_neither_reads_nor_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("data");
    std::fs::create_dir(&mount).unwrap();
    let Some(server) = start_on_small_disk(dir.path(), &mount, "preAllocSize=64\ntickTime=500") else {
        eprintln!("skipped: {NOT_ALLOWED}");
        return;
    };
    let inside = PathBuf::from(format!("/proc/{}/root{}", server.pid(), mount.display()));
    let ballast = inside.join("ballast");
    block_on(async {
        let (writer, reader) = (server.client().await, server.client().await);
        writer.create("/a", b"", &open_acl(), CreateMode::Persistent).await.unwrap();
        // Larger than what is left of any segment. Until one is needed nobody knows that the disk is full.
        let large = Request::SetData { path: "/a".into(), data: Some(&[b'x'; 500_000]), version: -1 };
        fill(&ballast);
        let waiting = writer.start(&large).await;
        // Answered at once, so what was sent before it has been let in.
        writer.ping().await.unwrap();
        server.wait_for_log("is full");
        for _ in 0..10 {
            assert_eq!(reader.exists("/a", false).await.unwrap().unwrap().data_length, 0);
            reader.ping().await.unwrap();
            let refused = reader.set_data("/a", b"", -1).await.unwrap_err();
            assert_eq!(refused.code(), Some(ErrorCode::ThrottledOp));
        }
        std::fs::remove_file(&ballast).unwrap();
        waiting.await.unwrap();
        assert_eq!(reader.exists("/a", false).await.unwrap().unwrap().data_length, 500_000);

        while reader.set_data("/a", b"", -1).await.is_err() {}
        fill(&ballast);
        let waiting = writer.start(&large).await;
        writer.ping().await.unwrap();
        server.signal(rustix::process::Signal::TERM);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("none of them acknowledged, are given up"), "{log}");
        assert!(matches!(waiting.await, Err(Error::OutcomeUnknown(_))));
    });
}

/// Takes all the space there is.
fn fill(file: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(file).unwrap();
    let mut size = 64 << 10;
    while size > 0 {
        if file.write_all(&vec![1; size]).is_err() {
            size /= 2;
        }
    }
}

use super::*;

fn disk() -> (SimDisk, PathBuf) {
    let disk = SimDisk::new(1);
    let dir = PathBuf::from("/d");
    disk.create_dir_all(&dir).unwrap();
    (disk, dir)
}

fn synced_file(disk: &SimDisk, path: &Path, bytes: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(parent(path)).unwrap();
    file
}

#[test]
fn what_was_synced_survives_and_what_was_not_may_be_torn() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let (disk, dir) = disk();
        let path = dir.join("f");
        let file = synced_file(&disk, &path, &[1; 1024]);
        file.write_all_at(&[2; 1024], 512).unwrap();
        file.write_all_at(&[3; 512], 512).unwrap();
        disk.power_cut(seed);
        let bytes = disk.contents(&path).unwrap();
        assert!(bytes[..512] == [1; 512], "sectors that were not written to stay");
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|b| *b == sector[0])), "sectors are whole");
        outcomes.insert(bytes.chunks(512).map(|sector| sector[0]).collect::<Vec<_>>());
        assert!(file.len().is_err(), "handles die with the machine");
    }
    for expected in [vec![1, 1], vec![1, 2, 2], vec![1, 3, 2], vec![1, 3, 0], vec![1, 1, 2], vec![1, 3]] {
        assert!(outcomes.contains(&expected), "{expected:?} never happened: {outcomes:?}");
    }
}

#[test]
fn names_are_durable_only_after_a_directory_sync() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let (disk, dir) = disk();
        synced_file(&disk, &dir.join("old"), b"x");
        synced_file(&disk, &dir.join("kept"), b"y");
        disk.rename(&dir.join("old"), &dir.join("new")).unwrap();
        disk.remove(&dir.join("kept")).unwrap();
        assert_eq!(disk.list(&dir).unwrap(), ["new"]);
        disk.power_cut(seed);
        outcomes.insert(disk.list(&dir).unwrap().join(" "));
    }
    let all = ["kept new", "kept old", "new", "old"].map(str::to_owned);
    assert_eq!(outcomes, BTreeSet::from(all));
}

#[test]
fn a_kill_loses_nothing_but_makes_nothing_durable() {
    let (disk, dir) = disk();
    let path = dir.join("f");
    let file = synced_file(&disk, &path, &[1; 512]);
    file.write_all_at(&[2; 512], 0).unwrap();
    disk.kill();
    assert_eq!(disk.contents(&path).unwrap(), [2; 512]);
    assert!(file.read_at(&mut [0; 1], 0).is_err());
    let lost = (0..20).any(|seed| {
        let copy = disk.fork();
        copy.power_cut(seed);
        copy.contents(&path).unwrap() == [1; 512]
    });
    assert!(lost);
}

#[test]
fn after_a_failed_sync_readers_see_what_the_medium_does_not_hold() {
    let lies = (0..20).filter(|seed| {
        let disk = SimDisk::new(*seed);
        disk.create_dir_all(Path::new("/d")).unwrap();
        let path = Path::new("/d/f");
        let file = synced_file(&disk, path, &[1; 512]);
        file.write_all_at(&[2; 512], 0).unwrap();
        disk.fail_at(0, Fault::Eio);
        assert!(file.sync_data().is_err());
        file.sync_data().unwrap();
        assert_eq!(disk.contents(path).unwrap(), [2; 512]);
        disk.power_cut(*seed);
        disk.contents(path).unwrap() == [1; 512]
    });
    assert!(lies.count() > 0);
}

#[test]
fn faults_come_at_the_operation_they_were_planned_for() {
    let (disk, dir) = disk();
    let file = synced_file(&disk, &dir.join("f"), b"");
    disk.fail_at(1, Fault::Eio);
    file.write_all_at(b"a", 0).unwrap();
    assert!(file.write_all_at(b"b", 1).is_err());
    file.write_all_at(b"c", 2).unwrap();
    disk.fail_from(0, Fault::Enospc);
    assert_eq!(file.write_all_at(b"d", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.write_all_at(b"d", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    file.sync_data().unwrap();
    disk.clear_faults();
    disk.set_capacity(Some(disk.used() + 2));
    assert!(file.write_all_at(b"123456", 3).is_err());
    assert_eq!(file.len().unwrap(), 5, "what fits is written");
    disk.fail_at(0, Fault::Crash);
    assert!(file.write_all_at(b"e", 0).is_err() && disk.crashed());
    assert!(file.read_at(&mut [0; 1], 0).is_err() && disk.list(&dir).is_err());
    disk.kill();
    assert_eq!(disk.list(&dir).unwrap(), ["f"]);
}

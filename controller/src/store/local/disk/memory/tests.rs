//! The disk of tests does what a real one may do, and no more.

use super::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

fn file(name: &str) -> PathBuf {
    Path::new("/d").join(name)
}

#[test]
fn what_was_synced_with_its_name_is_there_and_the_rest_may_be_lost() {
    let (mut whole, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let disk = MemoryDisk::default();
        let kept = disk.create(&file("kept")).unwrap();
        kept.write_all_at(&[1; 2000], 0).unwrap();
        kept.sync_data().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        kept.write_all_at(&[2; 2000], 1000).unwrap();
        disk.create(&file("lost")).unwrap().sync_all().unwrap();

        let after = disk.power_cut(&mut StdRng::seed_from_u64(seed));
        assert!(kept.sync_data().is_err());
        let bytes = super::super::read(&after, &file("kept")).unwrap();
        assert_eq!(bytes[..1000], [1; 1000]);
        match bytes.len() {
            2000 if bytes[1000..] == [1; 1000] => lost += 1,
            3000 if bytes[1000..] == [2; 2000] => whole += 1,
            _ => torn += 1,
        }
        assert!(after.list(Path::new("/d")).unwrap().len() <= 2);
    }
    assert!(whole > 20 && lost > 20 && torn > 20);
}

#[test]
fn a_removal_is_undone_unless_its_directory_was_synced() {
    let mut undone = 0;
    for seed in 0..50 {
        let disk = MemoryDisk::default();
        for name in ["a", "b"] {
            disk.create(&file(name)).unwrap();
        }
        disk.unlink(&file("a")).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.unlink(&file("b")).unwrap();
        let after = disk.power_cut(&mut StdRng::seed_from_u64(seed));
        assert!(after.open(&file("a")).is_err());
        undone += u32::from(after.open(&file("b")).is_ok());
    }
    assert!((5..45).contains(&undone), "{undone}");
}

#[test]
fn what_a_failed_sync_left_is_never_made_durable() {
    let disk = MemoryDisk::default();
    let kept = disk.create(&file("kept")).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    kept.write_all_at(b"x", 0).unwrap();
    disk.at(disk.operations() + 1, Fault::Once(io::ErrorKind::Other));
    assert!(kept.sync_data().is_err());
    kept.sync_data().unwrap();
    let after = disk.power_cut(&mut StdRng::seed_from_u64(1));
    assert_eq!(super::super::read(&after, &file("kept")).unwrap(), b"");
}

#[test]
fn a_full_disk_refuses_what_is_new_and_a_kill_loses_nothing() {
    let disk = MemoryDisk::default();
    disk.set_capacity(10);
    let kept = disk.create(&file("kept")).unwrap();
    kept.write_all_at(&[1; 10], 0).unwrap();
    let full = kept.write_all_at(b"x", 10).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(
        (disk.used(), disk.room(Path::new("/d")).unwrap().free),
        (10, 0)
    );
    disk.at(disk.operations() + 1, Fault::FromThen(io::ErrorKind::Other));
    assert!(kept.set_len(5).is_err() && kept.set_len(5).is_err());
    disk.heal();
    kept.set_len(5).unwrap();

    let after = disk.killed();
    assert!(kept.set_len(4).is_err());
    after.damage(&file("kept"), |bytes| bytes.resize(5, 7));
    assert_eq!(super::super::read(&after, &file("kept")).unwrap(), [1; 5]);
}

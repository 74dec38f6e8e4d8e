//! File systems by the kernel's table of mounts, room, and speeds.

use std::fs;
use std::path::Path;

use qwen_fp8::checkpoint::Shard;
use qwen_fp8::checkpoint::source::SourceFile;
use qwen_fp8::doctor::{FileSystemClass, Judgement, Mount, OutputPlace, PageCache, ReadSample, source_place};
use qwen_fp8::run::bytes_left_by;

use super::{advised, read};

const MOUNTS: &str = r"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
25 22 0:22 / /tmp rw,nosuid - tmpfs tmpfs rw
31 22 0:46 / /mnt/c rw,noatime - 9p C:\134 rw,dirsync,aname=drvfs;path=C:\;uid=1000
32 22 0:47 / /data rw - nfs4 host:/models rw,vers=4.2
33 32 0:48 / /data/my\040disk rw - ext4 /dev/sdb1 rw
34 33 0:49 / /data/my\040disk rw - vfat /dev/sdc1 rw
35 22 0:50 / /remote rw - fuse.sshfs me@host: rw
36 22 0:51 / /gdrive rw - fuse.ocamlfuse drive rw
a line that is none
37 22 0:52 / /box rw - overlay overlay rw,lowerdir=/a
";

fn mount(path: &str) -> Mount {
    Mount::of(Path::new(path), MOUNTS).unwrap()
}

#[test]
fn a_path_lies_on_the_nearest_mount_that_is_not_covered() {
    for (path, point, kind) in [
        ("/srv/models", "/", "ext4"),
        ("/tmpfile", "/", "ext4"),
        ("/tmp/x", "/tmp", "tmpfs"),
        ("/data", "/data", "nfs4"),
        ("/data/my disk/model", "/data/my disk", "vfat"),
    ] {
        let mount = mount(path);
        assert_eq!((mount.point.to_str().unwrap(), mount.kind.as_str()), (point, kind), "{path}");
    }
    assert_eq!(mount("/mnt/c/models").device, r"C:\");
    assert_eq!(Mount::of(Path::new("/x"), ""), None);
    assert!(Mount::read(Path::new(env!("CARGO_MANIFEST_DIR"))).is_some());
}

#[test]
fn file_systems_are_told_by_where_files_are() {
    use FileSystemClass::{Container, Disk, Host, Memory, Network, Program, Windows};
    for (path, class) in [
        ("/srv", Disk),
        ("/mnt/c", Host),
        ("/data", Network),
        ("/remote", Network),
        ("/gdrive", Program),
        ("/tmp", Memory),
        ("/box", Container),
        ("/data/my disk", Disk),
    ] {
        assert_eq!(mount(path).class(false), class, "{path}");
    }
    assert_eq!(mount("/mnt/c").class(true), Windows);
}

#[test]
fn a_source_on_a_disk_of_windows_is_said_to_be_slow() {
    let line = source_place(Path::new("/mnt/c/model"), &mount("/mnt/c/model"), true);
    assert_eq!(
        read(std::slice::from_ref(&line)),
        [r"note source-disk: 9p (C:\) at `/mnt/c`: a disk of Windows, and every read crosses into Windows"]
    );
    assert!(line.advice.unwrap().contains("copy `/mnt/c/model` to the Linux side"));
    for (path, judgement) in [("/srv/m", Judgement::Ok), ("/data/m", Judgement::Note), ("/box/m", Judgement::Ok)] {
        assert_eq!(source_place(Path::new(path), &mount(path), false).judgement, judgement, "{path}");
    }
}

fn place(path: &str, free: u64, needed: u64, largest: u64) -> Vec<String> {
    let mount = Some(mount(path));
    let place =
        OutputPlace { path: Path::new(path), free, left: 0, needed: Some(needed), largest, mount, is_taken: false };
    let lines = place.lines(true);
    advised(&lines);
    read(&lines)
}

#[test]
fn an_output_needs_room_and_a_disk_that_takes_its_files() {
    assert_eq!(
        place("/srv/out", 20_000_000_000, 10_600_000_000, 5_000_000_000),
        [
            "ok room: the output takes 10.60 GB, and 20.00 GB are free for `/srv/out`",
            "ok output-disk: ext4 (/dev/sda1) at `/`"
        ]
    );
    assert_eq!(
        place("/srv/out", 999, 1_000, 5)[0],
        "problem room: the output takes 1.00 kB, and 999 B are free for `/srv/out`"
    );
    let fat = place("/data/my disk/out", u64::MAX, 9_000_000_000, (4 << 30) - 1);
    assert!(fat[1].starts_with("ok output-disk: vfat"), "{fat:?}");
    let fat = place("/data/my disk/out", u64::MAX, 9_000_000_000, 4 << 30);
    assert!(fat[1].starts_with("problem output-disk: vfat") && fat[1].contains("no file above 4 GiB"), "{fat:?}");
    for (path, words) in [
        ("/mnt/c/out", "note output-disk: 9p"),
        ("/tmp/out", "gone when the machine goes down"),
        ("/box/out", "goes with the container"),
        ("/data/out", "no disk of this machine"),
    ] {
        assert!(place(path, 10, 1, 1)[1].contains(words), "{path}");
    }
}

#[test]
fn what_an_interrupted_run_takes_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    assert_eq!(bytes_left_by(&path), 0);
    fs::create_dir_all(dir.path().join(".out.partial/checkpoint")).unwrap();
    fs::write(dir.path().join(".out.partial/checkpoint/model.safetensors"), vec![1; 100_000]).unwrap();
    let left = bytes_left_by(&path);
    assert!((100_000..1_000_000).contains(&left), "{left}");
    let place =
        |left| OutputPlace { free: 0, needed: Some(90_000), ..OutputPlace::read(&path, Some(&[1]), left).unwrap() };
    assert_eq!(place(0).lines(false)[0].judgement, Judgement::Problem);
    let line = &place(left).lines(false)[0];
    assert!(line.judgement == Judgement::Ok && line.fact.ends_with("that an interrupted run takes"), "{line:?}");
}

#[test]
fn a_place_is_read_where_its_folder_is_still_to_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/out");
    let read = OutputPlace::read(&path, Some(&[3, 7, 5]), 0).unwrap();
    assert_eq!((read.needed, read.largest, read.is_taken), (Some(15), 7, false));
    assert!(read.free > 0 && read.mount.is_some());
    fs::create_dir_all(&path).unwrap();
    assert!(!OutputPlace::read(&path, Some(&[1]), 0).unwrap().is_taken);
    fs::write(path.join("x"), "").unwrap();
    let taken = OutputPlace::read(&path, Some(&[1]), 0).unwrap().lines(false);
    assert!(taken.iter().any(|line| line.judgement == Judgement::Problem && line.fact.ends_with("is there already")));
    // Without a plan there is nothing that it could stand in the way of.
    assert!(!OutputPlace::read(&path, None, 0).unwrap().is_taken);
}

#[test]
fn a_speed_is_told_with_what_it_is_worth() {
    let said = |bytes, seconds, cache| {
        let line = ReadSample { bytes, seconds, threads: 4, cache }.line(17_500_000_000);
        advised(std::slice::from_ref(&line));
        read(&[line]).remove(0)
    };
    let left_out = |cached| PageCache::LeftOut { cached, pieces: 64 };
    assert_eq!(
        said(256_000_000, 0.5, left_out(0)),
        "ok reading: 512.00 MB/s (256.00 MB in 0.50 s with 4 at once): all 17.50 GB in about 34 s"
    );
    let slow = said(50_000_000, 1.0, left_out(3));
    assert!(slow.starts_with("note reading: 50.00 MB/s") && slow.contains("about 6 min"), "{slow}");
    assert!(slow.ends_with("; 3 of 64 samples were in the page cache and were left out"), "{slow}");
    let passed = said(256_000_000, 0.5, PageCache::Passed { cached: 7, pieces: 64 });
    assert!(passed.ends_with("; 7 of 64 samples are in the page cache, from which a run reads faster"), "{passed}");
    assert!(said(256_000_000, 0.01, PageCache::All).ends_with("so that this is memory's speed"));
    assert!(said(256_000_000, 0.5, PageCache::Unknown).contains("may come from the page cache"));
    assert!(said(1_000_000, 0.5, left_out(0)).ends_with("too little to tell the disk's speed"));
}

#[test]
fn a_sample_is_spread_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let shard = |name: &str, size: u64| {
        let path = dir.path().join(name);
        fs::write(&path, vec![1; size as usize]).unwrap();
        let stamp = SourceFile::open(&path).unwrap().stamp();
        Shard { name: name.to_owned(), path, size, header: String::new(), stamp, remote: None }
    };
    let mut shards = vec![shard("a", 9 << 20), shard("b", 1), shard("c", 3 << 20)];
    let sample = ReadSample::measure(&shards, 3).unwrap();
    // Three pieces of at most 4 MiB, the last of which is cut short by the end of its shard.
    assert!(sample.bytes > 0 && sample.bytes <= 13 << 20, "{sample:?}");
    assert!(sample.threads >= 1 && sample.threads <= 3);
    shards[0].stamp.size += 1;
    assert!(ReadSample::measure(&shards, 1).unwrap_err().to_string().contains("changed while it was being read"));
    assert_eq!(ReadSample::measure(&[], 4).unwrap().bytes, 0);
}

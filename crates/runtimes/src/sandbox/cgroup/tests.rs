//! Limits written to files that look like the kernel's, and a cgroup of this system.

use super::*;

const LIMITS: Limits = Limits {
    memory_bytes: 64 << 20,
    cpus: 0.5,
    processes: 8,
};

#[test]
fn version_2_is_limited_by_its_files() {
    // A folder that looks like the kernel's: version 2 cannot be had on every system.
    let fake = tempfile::tempdir().unwrap();
    let folder = fake.path();
    let files = ["memory.max", "memory.swap.max", "cpu.max", "pids.max"];
    for file in files {
        std::fs::write(folder.join(file), "").unwrap();
    }
    let hierarchy = Hierarchy {
        folder: folder.to_owned(),
        unified: true,
        layers: vec![Layer::CgroupMemory, Layer::CgroupCpu, Layer::CgroupPids],
    };
    hierarchy.limit(folder, &LIMITS).unwrap();
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
    assert_eq!(files.map(read), ["67108864", "0", "50000 100000", "8"]);
    assert!(!folder.join("memory.oom.group").exists());
}

#[test]
fn version_2_passes_its_controllers_on() {
    let fake = tempfile::tempdir().unwrap();
    let own = fake.path().join("own");
    let ours = own.join("mote-test");
    std::fs::create_dir_all(&ours).unwrap();
    std::fs::write(own.join("cgroup.controllers"), "cpuset cpu memory\n").unwrap();
    for folder in [&own, &ours] {
        std::fs::write(folder.join("cgroup.subtree_control"), "").unwrap();
    }
    assert_eq!(make_unified(&own, "mote-test"), Some(ours.clone()));
    for folder in [&own, &ours] {
        let passed = std::fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap();
        assert_eq!(passed, "+memory +cpu");
    }
    assert_eq!(unified_parent(&own.join("node")), own);

    std::fs::write(own.join("cgroup.controllers"), "hugetlb\n").unwrap();
    assert_eq!(make_unified(&own, "mote-test"), None);
}

#[test]
fn nothing_is_killed_outside_of_our_folders() {
    let fake = tempfile::tempdir().unwrap();
    let mut bystander = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let folder = fake.path().join("other/name");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("cgroup.procs"), bystander.id().to_string()).unwrap();
    kill(&folder);
    assert!(bystander.try_wait().unwrap().is_none());

    let folder = fake.path().join("mote-test/name");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("cgroup.procs"), bystander.id().to_string()).unwrap();
    kill(&folder);
    assert!(!bystander.wait().unwrap().success());
}

#[test]
fn names_lead_nowhere_else() {
    for bad in ["", ".", "..", "a/b", ".hidden", "a b"] {
        assert!(check_name(bad).is_err(), "{bad}");
    }
    assert!(check_name("light.home-1_2").is_ok());
}

#[test]
fn a_cgroup_of_this_system_kills_and_goes() {
    let tag = format!("unit-{}", std::process::id());
    let cgroups = Cgroups::open(&tag).unwrap();
    if cgroups.tier() == Tier::default() {
        eprintln!("skipped: this system lets us have no cgroup");
        return;
    }
    let cgroup = cgroups.create("one", &LIMITS).unwrap();
    let folders: Vec<PathBuf> = cgroup
        .folders
        .iter()
        .map(|(_, path)| path.clone())
        .collect();
    let mut inside = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    for folder in &folders {
        write(folder, "cgroup.procs", &inside.id().to_string()).unwrap();
    }
    assert!(
        cgroup
            .memory_bytes()
            .is_some_and(|bytes| bytes < LIMITS.memory_bytes)
    );
    cgroup.kill_all();
    assert!(!inside.wait().unwrap().success());
    drop(cgroup);

    let mut left = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let forgotten = cgroups.create("two", &LIMITS).unwrap();
    for (_, folder) in &forgotten.folders {
        write(folder, "cgroup.procs", &left.id().to_string()).unwrap();
    }
    // As after the death of a node: nobody drops it.
    std::mem::forget(forgotten);
    Cgroups::clear(&tag).unwrap();
    assert!(!left.wait().unwrap().success());
    assert!(folders.iter().all(|folder| !folder.exists()));
    let tags = cgroups
        .hierarchies
        .iter()
        .map(|hierarchy| &hierarchy.folder);
    assert!(tags.into_iter().all(|folder| !folder.exists()));
}

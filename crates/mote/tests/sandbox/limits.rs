//! What programs may use, and how long it takes to start one.

use std::time::Instant;

use mote_runtimes::sandbox::cgroup::{Cgroup, Cgroups, Limits};
use mote_runtimes::sandbox::process::Exit;
use mote_runtimes::sandbox::tier::Layer;

use super::app::{App, nothing, read, said};

fn cgroups(test: &str) -> Option<(Cgroups, Cgroup)> {
    let cgroups = Cgroups::open(&format!("{test}-{}", std::process::id())).unwrap();
    let tier = cgroups.tier();
    if !tier.has(Layer::CgroupMemory) || !tier.has(Layer::CgroupPids) {
        eprintln!("skipped: this system lets us have no cgroups");
        return None;
    }
    let limits = Limits {
        memory_bytes: 32 << 20,
        cpus: 1.0,
        processes: 16,
    };
    let cgroup = cgroups.create("one", &limits).unwrap();
    Some((cgroups, cgroup))
}

#[tokio::test]
async fn limits_hold() {
    let Some((cgroups, cgroup)) = cgroups("limits") else {
        return;
    };
    let app = App::start("limits").await;
    assert_eq!(cgroup.oom_kills(), 0);
    let (output, stdout) = std::io::pipe().unwrap();
    let mut spawn = app.probing("eat", stdout.into());
    spawn.cgroup = Some(&cgroup);
    let (exit, text) = app.finish(spawn, output).await;
    assert_eq!((exit, said(&text).len()), (Exit::Signal(9), 0), "{text}");
    assert_eq!(cgroup.oom_kills(), 1);

    let (output, stdout) = std::io::pipe().unwrap();
    let mut spawn = app.probing("fork", stdout.into());
    spawn.cgroup = Some(&cgroup);
    let (_, text) = app.finish(spawn, output).await;
    let forks: u32 = said(&text)[0].parse().unwrap();
    assert!((1..16).contains(&forks), "{forks}");

    let (_output, stdout) = std::io::pipe().unwrap();
    let mut spawn = app.spawn(&["sh", "-c", "while :; do :; done"], stdout.into());
    spawn.cpu_seconds = Some(1);
    let process = app.sandbox.spawn(spawn).await.unwrap();
    assert_eq!(process.exited().await, Exit::Signal(9));

    let (output, stdout) = std::io::pipe().unwrap();
    let bomb = "b() { b | b & }; b; sleep 1000";
    let mut spawn = app.spawn(&["sh", "-c", bomb], stdout.into());
    spawn.cgroup = Some(&cgroup);
    let process = app.sandbox.spawn(spawn).await.unwrap();
    tokio::task::spawn_blocking(move || {
        cgroup.kill_all();
        assert_eq!(read(output).matches("nonsense").count(), 0);
        drop(cgroup);
        cgroups.close();
    })
    .await
    .unwrap();
    process.exited().await;
}

/// How long a program takes from the request to the news of its end. To be run by itself, without
/// load: `cargo test -p mote --release --test sandbox -- --ignored --nocapture speed`.
#[tokio::test]
#[ignore = "a measurement"]
async fn speed() {
    let app = App::start("speed").await;
    let setup = cgroups("speed");
    let cgroup = setup.as_ref().map(|(_, cgroup)| cgroup);
    for (name, cgroup) in [("without a cgroup", None), ("with a cgroup", cgroup)] {
        let mut times = Vec::new();
        for _ in 0..200 {
            let mut spawn = app.spawn(&["/bin/true"], nothing());
            spawn.cgroup = cgroup;
            let start = Instant::now();
            let process = app.sandbox.spawn(spawn).await.unwrap();
            let started = start.elapsed();
            assert_eq!(process.exited().await, Exit::Code(0));
            times.push((start.elapsed(), started));
        }
        times.sort();
        let (p50, started) = times[times.len() / 2];
        let (p90, _) = times[times.len() * 9 / 10];
        eprintln!(
            "{name}: p50 {p50:?} (running after {started:?}), p90 {p90:?}, min {:?}",
            times[0].0
        );
    }
    if let Some((cgroups, cgroup)) = setup {
        drop(cgroup);
        cgroups.close();
    }
}

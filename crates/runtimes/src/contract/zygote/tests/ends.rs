//! How workers and zygotes end, and how fast they begin.

use super::*;

#[tokio::test]
async fn a_dropped_call_takes_its_processes_along() {
    let Some(running) = start("handler.py", TREE, once()).await else {
        return;
    };
    let (base, stray) = (running.file("pid"), running.file("pid1"));
    let mut pids = Vec::new();
    {
        let call = running.call("/hang", base.to_str().unwrap().as_bytes());
        tokio::pin!(call);
        tokio::select! {
            _ = &mut call => panic!("it hangs"),
            pid = pid_in(&stray) => pids.push(pid),
        }
        pids.push(pid_in(&running.file("pid0")).await);
    }
    until("the process of the call's group is gone", || {
        !alive(pids[1])
    })
    .await;
    // Without a PID namespace of the zygote the other one is nobody's child: the test ends it.
    let stray = rustix::process::Pid::from_raw(pids[0]).unwrap();
    rustix::process::kill_process(stray, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn as_process_one_it_reaps_everything() {
    let before = ["unshare", "-p", "-f", "--kill-child", "--mount-proc"];
    let probe = std::process::Command::new("unshare")
        .args(["-p", "-f", "true"])
        .output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("skipped: this user may not make PID namespaces");
        return;
    }
    // With a /proc of its own namespace, and with one of the outer.
    for before in [&before[..], &before[..4]] {
        let code = format!("{TREE}\n    return ''\n")
            .replace("return \"\"", "return sorted(os.listdir('/proc'))");
        let Some(mut running) = start_with(before, "handler.py", &code, once()) else {
            return;
        };
        running.zygote.ready(Duration::from_secs(20)).await.unwrap();
        let base = running.file("pid");
        running
            .call("/", base.to_str().unwrap().as_bytes())
            .await
            .unwrap();
        let zygote = running.process.id().unwrap();
        let descendants = || descendants(i32::try_from(zygote).unwrap());
        // `unshare` itself, and the zygote.
        until("nothing is left of the call", || descendants().len() == 1).await;

        let mut errors = running.process.stderr.take().unwrap();
        let Running {
            zygote,
            mut process,
            ..
        } = running;
        drop(zygote);
        let ended = tokio::time::timeout(Duration::from_secs(20), process.wait()).await;
        assert!(
            ended.is_ok_and(|status| status.is_ok()),
            "it ends with its control socket"
        );
        let mut said = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut errors, &mut said)
            .await
            .unwrap();
        assert_eq!(said, "");
    }
}

fn descendants(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    let children: Vec<i32> = children
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    let deeper: Vec<i32> = children
        .iter()
        .flat_map(|child| descendants(*child))
        .collect();
    [children, deeper].concat()
}

#[tokio::test]
async fn the_end_of_the_zygote_ends_its_calls() {
    let code = "import os, time\ndef handle(request):\n    open(request.text(), 'w').close()\n    time.sleep(300)";
    let Some(mut running) = start("handler.py", code, once()).await else {
        return;
    };
    let mark = running.file("mark");
    let error = {
        let path = mark.to_str().unwrap().to_owned();
        let call = running.call("/", path.as_bytes());
        tokio::pin!(call);
        tokio::select! {
            _ = &mut call => panic!("it sleeps"),
            () = until("the call has begun", || mark.exists()) => {}
        }
        let pid =
            rustix::process::Pid::from_raw(running.process.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        call.await.unwrap_err()
    };
    assert_eq!(error.kind(), ErrorKind::FunctionFailed);
    assert!(error.message().contains("ended"), "{error}");
    let ended = tokio::time::timeout(Duration::from_secs(5), running.process.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}

#[tokio::test]
async fn the_loader_ends_when_the_node_does_not_even_read() {
    let Some((mut process, control, _folder)) = loader(&[], "handler.py", ANSWERS) else {
        return;
    };
    let first = tokio::task::spawn_blocking(move || {
        let mut packet = [0; 1024];
        let (length, _) =
            rustix::net::recv(&control, &mut packet, rustix::net::RecvFlags::PEEK).unwrap();
        // Closed with its first message unread, which the other side sees as a reset.
        drop(control);
        String::from_utf8(packet[..length].to_vec()).unwrap()
    });
    assert!(first.await.unwrap().contains("\"ready\""));
    let ended = tokio::time::timeout(Duration::from_secs(5), process.wait()).await;
    assert!(ended.unwrap().unwrap().success());
}

#[tokio::test]
async fn workers_join_their_cgroups_first() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let settings = Settings {
        cgroups: vec![file.reopen().unwrap().into()],
        ..once()
    };
    let code = "def handle(request): return open(request.text()).read()";
    let Some(running) = start("handler.py", code, settings).await else {
        return;
    };
    // A plain file stands for `cgroup.procs`, where 0 means whoever writes it.
    let path = file.path().to_str().unwrap().as_bytes();
    assert_eq!(running.text("/", path).await, "0");
}

/// `cargo test --release -- --ignored --nocapture fork_speed`
#[tokio::test]
#[ignore = "a measurement"]
async fn fork_speed() {
    let code = "import json, http.server, asyncio\ndef handle(request): return 'hello'";
    for spares in [0, 1] {
        let begin = Instant::now();
        let Some(running) = start("handler.py", code, Settings { spares, ..once() }).await else {
            return;
        };
        let ready = begin.elapsed();
        let mut times = Vec::new();
        for _ in 0..300 {
            let begin = Instant::now();
            assert_eq!(running.text("/", b"").await, "hello");
            times.push(begin.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        times.sort();
        println!(
            "spares {spares}: ready {ready:?}, call p50 {:?}, p90 {:?}, min {:?}, {:?}",
            times[150],
            times[270],
            times[0],
            running.zygote.counts()
        );
    }
    let mut times = Vec::new();
    for _ in 0..40 {
        let begin = Instant::now();
        let done = Command::new("python3")
            .args(["-c", &format!("{code}\nprint(handle(0))")])
            .output()
            .await
            .unwrap();
        assert!(done.status.success());
        times.push(begin.elapsed());
    }
    times.sort();
    println!("cold python3: p50 {:?}, min {:?}", times[20], times[0]);
}

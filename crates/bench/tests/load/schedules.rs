//! Steps, chance and traces over real sockets, to one target and to several.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use mote_bench::load::{self, Format, Spacing};
use tempfile::NamedTempFile;

use crate::servers::{Baseline, all_ok, http_responder, options};

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn chance_keeps_the_number_of_requests() {
    let server = Baseline::coap();
    let mut options = options(&server.target, 4, 50);
    options.rate = Some(2000.0);
    options.arrivals = Some(Spacing::Poisson);
    options.threads = 2;
    let report = load::run(&options).unwrap();
    all_ok(&report, 200);
    assert_eq!(report.arrivals.as_deref(), Some("poisson"));
}

#[test]
fn steps_are_sent_one_after_the_other() {
    let server = Baseline::http();
    let mut options = options(&server.target, 4, 0);
    options.requests = None;
    options.steps = Some("500:100ms,0:20ms,3000:50ms".into());
    let report = load::run(&options).unwrap();
    all_ok(&report, 50 + 150);
    assert!((report.seconds - 0.17).abs() < 1e-6, "{report}");
    assert!(report.to_string().contains("(3 steps)"), "{report}");
}

#[test]
fn targets_take_turns_and_are_counted_apart() {
    for servers in [
        [Baseline::http(), Baseline::http(), Baseline::http()],
        [Baseline::coap(), Baseline::coap(), Baseline::coap()],
    ] {
        for rate in [None, Some(3000.0)] {
            let mut options = options("", 4, 30);
            options.targets = servers.iter().map(|server| server.target.clone()).collect();
            options.rate = rate;
            options.threads = 2;
            let report = load::run(&options).unwrap();
            all_ok(&report, 120);
            let sent: Vec<_> = report
                .targets
                .iter()
                .map(|part| (part.sent, part.ok))
                .collect();
            assert_eq!(sent, [(40, 40); 3], "{report}");
            let counts = report.targets.iter().flat_map(|part| &part.histogram);
            assert_eq!(counts.map(|(_, count)| count).sum::<u64>(), 120);
            assert!(report.to_string().contains(&servers[2].target), "{report}");
        }
    }
}

#[test]
fn one_of_several_targets_that_is_down_is_named() {
    let free = std::net::TcpListener::bind(crate::servers::LOCAL)
        .unwrap()
        .local_addr()
        .unwrap();
    let server = Baseline::http();
    let mut options = options(&server.target, 1, 1);
    options.targets.push(format!("http://{free}/"));
    let error = format!("{:#}", load::run(&options).unwrap_err());
    assert!(error.contains(&free.to_string()), "{error}");
}

#[test]
fn a_trace_calls_each_function_as_often_as_recorded() {
    let minutes = file(
        "HashOwner,HashApp,HashFunction,Trigger,1,2,3\n\
         o,a,f,http,1,20,4\n\
         o,a,g,timer,100,0,0\n\
         o,a,h,queue,0,7,9\n",
    );
    let calls = file(
        "app,func,end_timestamp,duration\n\
         a,f,61,0.5\na,g,70,100\na,h,175,1\na,f,99.5,0.25\n",
    );
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    let paths = Arc::clone(&seen);
    let target = crate::servers::http_paths(move |path| {
        *paths.lock().unwrap().entry(path.to_owned()).or_insert(0) += 1;
    });
    for (trace, format, expected) in [
        (
            &minutes,
            Format::Azure2019,
            [("/f0/x", 24), ("/f2/x", 16)].as_slice(),
        ),
        (&minutes, Format::Invitro, &[("/f0/x", 24), ("/f2/x", 16)]),
        (&calls, Format::Azure2021, &[("/f0/x", 2), ("/f2/x", 1)]),
    ] {
        for spacing in [Spacing::Constant, Spacing::Poisson] {
            seen.lock().unwrap().clear();
            let mut options = options(&format!("{target}f{{function}}/x"), 3, 0);
            options.requests = None;
            options.trace = Some(trace.path().to_owned());
            options.trace_format = Some(format);
            options.trace_minutes = Some(1..3);
            options.trace_speed = 1000.0;
            options.arrivals = Some(spacing);
            options.threads = 2;
            let report = load::run(&options).unwrap();
            let total = expected.iter().map(|(_, count)| *count).sum();
            all_ok(&report, total);
            let seen: Vec<_> = seen.lock().unwrap().clone().into_iter().collect();
            let seen: Vec<_> = seen
                .iter()
                .map(|(path, count)| (path.as_str(), *count))
                .collect();
            assert_eq!(seen, expected);
        }
    }
}

#[test]
fn functions_of_a_trace_go_to_targets_in_order() {
    let trace = file("HashFunction,1\nf,5\ng,6\nh,7\n");
    let mut options = options("", 2, 0);
    options.targets = vec![
        http_responder(|_| b"hello, world".to_vec()),
        http_responder(|_| b"hello, world".to_vec()),
    ];
    options.requests = None;
    options.trace = Some(trace.path().to_owned());
    options.trace_format = Some(Format::Invitro);
    options.trace_speed = 600.0;
    let report = load::run(&options).unwrap();
    all_ok(&report, 18);
    let sent: Vec<_> = report.targets.iter().map(|part| part.sent).collect();
    assert_eq!(sent, [12, 6], "{report}");
}

#[test]
fn a_broken_trace_is_refused_with_its_line() {
    let server = Baseline::http();
    let trace = file("HashFunction,1,2\nf,5,5\ng,6\n");
    let mut options = options(&server.target, 2, 0);
    options.requests = None;
    options.trace = Some(trace.path().to_owned());
    options.trace_format = Some(Format::Azure2019);
    let error = format!("{:#}", load::run(&options).unwrap_err());
    assert!(
        error.contains("line 3") && error.contains(&trace.path().display().to_string()),
        "{error}"
    );
    let trace = file("HashFunction,1\nf,4000000\n");
    options.trace = Some(trace.path().to_owned());
    options.trace_speed = 1e6;
    let error = format!("{:#}", load::run(&options).unwrap_err());
    assert!(error.contains("lower --trace-speed"), "{error}");
    options.trace = Some("/nonexistent.csv".into());
    let error = format!("{:#}", load::run(&options).unwrap_err());
    assert!(error.contains("/nonexistent.csv"), "{error}");
}

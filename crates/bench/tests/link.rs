//! An emulated link as sockets see it. Needs root and `/dev/net/tun`; where they are missing, a line says so.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use mote_bench::link::{Impairments, Link, Preset};

const FAR: &str = "10.77.0.2:7000";
/// A thousand packets a second.
const EVERY: Duration = Duration::from_millis(1);
/// Longer than any delay here.
const PATIENCE: Duration = Duration::from_millis(500);
/// On a busy machine a link is late; what is tested is that it can be right.
const ATTEMPTS: usize = 3;

/// A link, or `None` with the reason on a line.
fn up(impairments: &Impairments) -> Option<Link> {
    match Link::up([impairments.clone(), impairments.clone()], 1) {
        Ok(link) => Some(link),
        Err(error) => {
            let required = std::env::var_os("MOTE_REQUIRE_TOOLS").is_some();
            assert!(!required, "{error:#}");
            eprintln!("skipped: {error:#}");
            None
        }
    }
}

/// Sends packets from the near host to the far one: the milliseconds that each took, in order of arrival.
fn one_way(link: &Link, packets: u32) -> Vec<f64> {
    let far = link.far.within(|| UdpSocket::bind(FAR).unwrap()).unwrap();
    let near = link
        .near
        .within(|| UdpSocket::bind("10.77.0.1:0").unwrap())
        .unwrap();
    far.set_read_timeout(Some(PATIENCE)).unwrap();
    near.connect(FAR).unwrap();
    let base = Instant::now();
    let receiver = thread::spawn(move || {
        let mut delays = Vec::new();
        let mut packet = [0; 16];
        loop {
            match far.recv(&mut packet) {
                Ok(length) => {
                    let sent = u64::from_le_bytes(packet[..length].try_into().unwrap());
                    let took = base.elapsed() - Duration::from_nanos(sent);
                    delays.push(took.as_secs_f64() * 1e3);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return delays,
                Err(error) => panic!("{error}"),
            }
        }
    });
    for number in 0..packets {
        thread::sleep((EVERY * number).saturating_sub(base.elapsed()));
        let now = u64::try_from(base.elapsed().as_nanos()).unwrap();
        near.send(&now.to_le_bytes()).unwrap();
    }
    receiver.join().unwrap()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / values.len() as f64).sqrt()
}

#[test]
fn delay_deviation_and_loss_are_as_asked() {
    const PACKETS: u32 = 4000;
    let cloud = Preset::Cld.impairments();
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let Some(link) = up(&cloud) else { return };
        let delays = one_way(&link, PACKETS);
        let report = link.down().unwrap();
        let lost = f64::from(PACKETS) - delays.len() as f64;
        // What the link says is what sockets saw.
        assert_eq!(report.there.sent, u64::from(PACKETS));
        assert_eq!(report.there.arrived, delays.len() as u64);
        assert_eq!(report.there.lost as f64, lost);
        // Four standard deviations of a binomial distribution.
        let expected = f64::from(PACKETS) * cloud.loss;
        assert!(
            (lost - expected).abs() < 4.0 * expected.sqrt(),
            "{lost} lost"
        );
        let (mean, deviation) = (mean(&delays), deviation(&delays));
        if (mean / 25.0 - 1.0).abs() < 0.05 && (deviation / 5.0 - 1.0).abs() < 0.1 {
            return;
        }
        last = format!("{mean:.2} ± {deviation:.2} ms, {report}");
    }
    panic!("not 25 ± 5 ms in {ATTEMPTS} attempts, the last: {last}");
}

#[test]
fn what_runs_on_a_host_sees_its_network_alone() {
    let Some(link) = up(&Preset::Loc.impairments()) else {
        return;
    };
    let mut command = Command::new("ip");
    command
        .args(["-brief", "address"])
        .stdout(std::process::Stdio::piped());
    let output = link
        .near
        .spawn(command)
        .unwrap()
        .wait_with_output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("10.77.0.1"), "{shown}");
    let devices = shown.lines().filter(|line| !line.starts_with("lo")).count();
    assert_eq!(devices, 1, "{shown}");
    // And this thread's own network is what it was.
    assert!(UdpSocket::bind("10.77.0.1:0").is_err());
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let Some(link) = up(&Preset::Loc.impairments()) else {
        return;
    };
    let error = link
        .near
        .spawn(Command::new("no-such-program"))
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("`no-such-program`"),
        "{error:#}"
    );
}

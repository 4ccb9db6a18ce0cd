//! What sockets on both sides of a link see of it, held against what was asked for.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};

use mote_bench::link::{Direction, Impairments, Preset, Report};

/// A thousand packets a second.
const EVERY: Duration = Duration::from_millis(1);
/// Longer than any delay here.
const PATIENCE: Duration = Duration::from_millis(500);
/// On a busy machine a link is late; what is tested is that it can be right.
const ATTEMPTS: usize = 3;
const PACKETS: u32 = 4000;

/// Sends packets from a connected socket to another: the milliseconds that each took, in order of arrival.
pub(crate) fn one_way(near: &UdpSocket, far: UdpSocket, packets: u32) -> Vec<f64> {
    far.set_read_timeout(Some(PATIENCE)).unwrap();
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

/// Holds a link with the delay and loss of the cloud against that. `send`: what each of so many packets took through a
/// new link, and its report; nothing where there is none.
pub(crate) fn is_the_cloud(send: impl Fn(&Impairments, u32) -> Option<(Vec<f64>, Report)>) {
    let cloud = Preset::Cld.impairments();
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let Some((delays, report)) = send(&cloud, PACKETS) else {
            return;
        };
        let lost = f64::from(PACKETS) - delays.len() as f64;
        // What the link says is what sockets saw.
        let Direction {
            sent,
            arrived,
            lost: said,
            ..
        } = report.there;
        assert_eq!(
            (sent, arrived, said as f64),
            (u64::from(PACKETS), delays.len() as u64, lost)
        );
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

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / values.len() as f64).sqrt()
}

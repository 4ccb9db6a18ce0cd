//! Links between hosts. Where they cannot be had, a line says so.

use std::net::UdpSocket;
use std::process::Command;

use mote_bench::link::{Abilities, Choice, Host, Impairments, Kind, Link, Preset};

use crate::accuracy::{is_the_cloud, one_way};

const FAR: &str = "10.77.0.2:7000";

/// Two hosts and a link between TUN devices, or `None` with the reason on a line.
fn up(impairments: &Impairments) -> Option<(Host, Host, Link)> {
    let up = || {
        let (near, far) = (Host::new("10.77.0.1")?, Host::new("10.77.0.2")?);
        let both = [impairments.clone(), impairments.clone()];
        let link = Link::between(&near, &far, Kind::Tun, both, 1)?;
        Ok((near, far, link))
    };
    match up() {
        Ok(up) => Some(up),
        Err(error) => {
            skipped(&error);
            None
        }
    }
}

fn skipped(why: &anyhow::Error) {
    let required = std::env::var_os("MOTE_REQUIRE_TOOLS").is_some();
    assert!(!required, "{why:#}");
    eprintln!("skipped: {why:#}");
}

fn bound(host: &Host, address: &str) -> UdpSocket {
    host.within(|| UdpSocket::bind(address).unwrap()).unwrap()
}

#[test]
fn delay_deviation_and_loss_are_as_asked() {
    is_the_cloud(|cloud, packets| {
        let (near, far, link) = up(cloud)?;
        let (from, to) = (bound(&near, "10.77.0.1:0"), bound(&far, FAR));
        from.connect(FAR).unwrap();
        let delays = one_way(&from, to, packets);
        Some((delays, link.down().unwrap()))
    });
}

/// Three hosts, of which one has two links: a device for each, and one address.
#[test]
fn a_host_may_have_several_links() {
    let Some((near, far, link)) = up(&Preset::Loc.impairments()) else {
        return;
    };
    let third = Host::new("10.77.0.3").unwrap();
    let slow = Impairments {
        delay: std::time::Duration::from_millis(20),
        ..Preset::Loc.impairments()
    };
    let second = Link::between(&far, &third, Kind::Tun, [slow.clone(), slow], 1).unwrap();
    let middle = bound(&far, FAR);
    for (host, slower) in [(&near, false), (&third, true)] {
        let from = bound(host, &format!("{}:0", host.address()));
        from.connect(FAR).unwrap();
        let delays = one_way(&from, middle.try_clone().unwrap(), 20);
        assert_eq!(delays.len(), 20);
        // One that is not slow may be late, and one that is slow not early.
        let fastest = delays.iter().copied().fold(f64::INFINITY, f64::min);
        assert_eq!(fastest >= 20.0, slower, "{delays:?}");
    }
    // Nobody forwards: the first and the third do not know of each other.
    let alone = bound(&near, "10.77.0.1:0");
    assert!(alone.connect("10.77.0.3:7000").is_err());
    assert_eq!(link.down().unwrap().there.arrived, 20);
    let report = second.down().unwrap();
    assert_eq!((report.there.arrived, report.back.arrived), (0, 20));
}

/// On a kernel with netem the same packets have the same delays; on others the reason is told.
#[test]
fn netem_is_the_cloud_where_there_is_one() {
    let abilities = Abilities::probe();
    if let Err(error) = abilities.kind(Choice::Netem, false) {
        assert!(abilities.why_not_netem().is_some());
        eprintln!("skipped: {error:#}");
        return;
    }
    is_the_cloud(|cloud, packets| {
        let (near, far) = (
            Host::new("10.77.0.1").unwrap(),
            Host::new("10.77.0.2").unwrap(),
        );
        let both = [cloud.clone(), cloud.clone()];
        let link = Link::between(&near, &far, Kind::Netem, both, 1).unwrap();
        let (from, to) = (bound(&near, "10.77.0.1:0"), bound(&far, FAR));
        from.connect(FAR).unwrap();
        let delays = one_way(&from, to, packets);
        Some((delays, link.down().unwrap()))
    });
}

#[test]
fn what_runs_on_a_host_sees_its_network_alone() {
    let Some((near, _far, _link)) = up(&Preset::Loc.impairments()) else {
        return;
    };
    let mut command = Command::new("ip");
    command
        .args(["-brief", "address"])
        .stdout(std::process::Stdio::piped());
    let output = near.spawn(command).unwrap().wait_with_output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("10.77.0.1"), "{shown}");
    let devices = shown.lines().filter(|line| !line.starts_with("lo")).count();
    assert_eq!(devices, 1, "{shown}");
    // And this thread's own network is what it was.
    assert!(UdpSocket::bind("10.77.0.1:0").is_err());
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let Some((near, _far, _link)) = up(&Preset::Loc.impairments()) else {
        return;
    };
    let error = near.spawn(Command::new("no-such-program")).unwrap_err();
    assert!(
        format!("{error:#}").contains("`no-such-program`"),
        "{error:#}"
    );
}

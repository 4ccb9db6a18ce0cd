//! What `tc` is told, and the devices with a queueing discipline that every kernel has.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use super::*;

fn told(impairments: &Impairments) -> String {
    discipline(impairments).join(" ")
}

#[test]
fn each_preset_has_its_words() {
    let words = |preset: Preset| told(&preset.impairments());
    assert_eq!(words(Preset::Loc), "netem limit 1000");
    assert_eq!(
        words(Preset::Cld),
        "netem limit 1000 delay 25000us 5000us distribution normal loss 0.4%"
    );
    assert_eq!(
        words(Preset::Ewst),
        "netem limit 1000 delay 12500us 2500us distribution normal loss 0.2%"
    );
    assert_eq!(
        words(Preset::Etyp),
        "netem limit 1000 delay 8333us 1666us distribution normal loss 0.133333%"
    );
    assert_eq!(
        words(Preset::Eopt),
        "netem limit 1000 delay 5000us 1000us distribution normal loss 0.08%"
    );
}

#[test]
fn everything_that_can_be_asked_for_has_its_words() {
    let mut link = Impairments {
        correlation: 0.25,
        duplicate: 0.01,
        reorder: 0.5,
        rate: Some(1.5e6),
        queue: 50,
        ..Preset::Cld.impairments()
    };
    assert_eq!(
        told(&link),
        "netem limit 50 delay 25000us 5000us 25% distribution normal loss 0.4% duplicate 1% reorder 50% rate 1500000bit"
    );
    link.deviation = Duration::ZERO;
    assert!(told(&link).contains("delay 25000us loss"));
    link.delay = Duration::ZERO;
    assert!(!told(&link).contains("reorder"), "{}", told(&link));
}

#[test]
fn a_kernel_without_netem_says_so() {
    let Err(error) = probe() else {
        // A kernel with it; what it does to packets is not asked here.
        return;
    };
    let error = format!("{error:#}");
    let root = rustix::process::geteuid().is_root();
    let says = if root { "netem" } else { "need root" };
    assert!(error.contains(says), "{error}");
}

/// `tc` reads the words before it asks the kernel, which may have no netem.
#[test]
fn the_tool_understands_the_words() {
    let host = match Host::new("10.77.0.1") {
        Ok(host) => host,
        Err(error) => return skipped(&error),
    };
    let everything = Impairments {
        correlation: 0.25,
        duplicate: 0.01,
        reorder: 0.5,
        rate: Some(1.5e6),
        ..Preset::Cld.impairments()
    };
    let presets = [
        Preset::Loc,
        Preset::Cld,
        Preset::Ewst,
        Preset::Etyp,
        Preset::Eopt,
    ];
    for link in presets.map(Preset::impairments).iter().chain([&everything]) {
        let words = discipline(link);
        let attached = host.within(|| {
            // Whatever the link before has left.
            let _removed = run("tc", &["qdisc", "del", "dev", "lo", "root"]);
            attach("lo", &words)
        });
        if let Err(error) = attached.unwrap() {
            let error = error.to_string();
            assert!(error.contains("qdisc kind is unknown"), "{error}");
        }
    }
}

fn skipped(why: &anyhow::Error) {
    let required = std::env::var_os("MOTE_REQUIRE_TOOLS").is_some();
    assert!(!required, "{why:#}");
    eprintln!("skipped: {why:#}");
}

/// Without netem in the kernel, everything around it can be tried.
#[test]
fn hosts_are_connected_and_packets_counted() {
    const BYTES: usize = 1 << 20;
    let hosts = Host::new("10.77.0.1").and_then(|near| Ok((near, Host::new("10.77.0.2")?)));
    let plain = || ["pfifo", "limit", "1000"].map(str::to_owned).to_vec();
    let wired = hosts.and_then(|(near, far)| {
        let devices = wire(&near, &far, &[plain(), plain()])?;
        Ok((near, far, devices))
    });
    let (near, far, devices) = match wired {
        Ok(wired) => wired,
        Err(error) => return skipped(&error),
    };
    let listener = far
        .within(|| TcpListener::bind("10.77.0.2:7000").unwrap())
        .unwrap();
    let reader = std::thread::spawn(move || {
        let mut received = Vec::new();
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_to_end(&mut received).unwrap();
        received.len()
    });
    let connect = || TcpStream::connect("10.77.0.2:7000").unwrap();
    let mut stream = near.within(connect).unwrap();
    stream.write_all(&vec![7; BYTES]).unwrap();
    drop(stream);
    assert_eq!(reader.join().unwrap(), BYTES);
    let there = counted(&near, &devices[0]).unwrap();
    // Each segment is a packet of its own.
    assert!(there.arrived >= (BYTES / 1460) as u64, "{there:?}");
    assert_eq!((there.lost, there.sent), (0, there.arrived));
    assert!(counted(&far, &devices[1]).unwrap().arrived > 0);
}

//! Machines with networks of their own, and what becomes of them without root.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use mote_bench::link::Abilities;

use crate::{BENCH, Place, SERVER, SMALL, said};

/// Who may do nothing.
const NOBODY: u32 = 65534;

/// A server and the load on it on two machines, with a link between them that has these words.
fn apart(link: &str) -> String {
    let machines = format!(
        "[machines.board]\nkind = \"namespace\"\n[machines.client]\nkind = \"namespace\"\n\
         [links.wan]\nbetween = [\"client\", \"board\"]\n{link}"
    );
    SMALL
        .replace("[machines.board]\nkind = \"process\"", &machines)
        .replace("127.0.0.1:0", "{board}:0")
        .replace("from = \"board\"", "from = \"client\"")
}

/// Whether networks can be made here; says so when not.
fn can_have_networks() -> bool {
    let can = rustix::process::geteuid().is_root() && Path::new("/dev/net/tun").exists();
    let required = std::env::var_os("MOTE_REQUIRE_TOOLS").is_some();
    assert!(
        can || !required,
        "emulated networks need root and /dev/net/tun"
    );
    if !can {
        eprintln!("skipped: emulated networks need root and /dev/net/tun");
    }
    can
}

#[test]
fn machines_with_networks_of_their_own_are_as_far_apart_as_asked_for() {
    if !can_have_networks() {
        return;
    }
    let text = apart("there = \"cld\"\nloss = 0").replace(
        "[machines.board]\nkind = \"namespace\"",
        "[machines.board]\nkind = \"namespace\"\nsize = \"vm.small\"",
    );
    let place = Place::with(&text);
    let output = place.run(&["--quick"]);
    assert!(output.status.success(), "{}", said(&output));
    for run in place.runs() {
        let fastest = run["measured"]["latency"][0][0].as_f64().unwrap();
        // Five standard deviations below the mean.
        assert!(fastest > 1_000.0, "{run}");
        let network = run["environment"]["network"].as_str().unwrap();
        assert!(["tun", "netem"].contains(&network), "{run}");
    }
    let left = fs::read_dir("/sys/fs/cgroup/cpu")
        .into_iter()
        .flatten()
        .flatten();
    let left = left.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .starts_with("mote-bench-")
    });
    let left: Vec<_> = left.map(|entry| entry.path()).collect();
    // Other tests have none.
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn without_root_a_relay_is_the_network() {
    let place = Place::with(&apart("there = \"cld\"\nloss = 0"));
    let folder = place.folder.path();
    let mut command = place.command(&["--quick"]);
    if rustix::process::geteuid().is_root() {
        // Where it can read them, whatever rights the way to this program asks for.
        let own = folder.join("mote-bench");
        fs::copy(BENCH, &own).unwrap();
        fs::copy(SERVER, folder.join("server")).unwrap();
        let file = folder.join("experiment.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(SERVER, "./server")).unwrap();
        std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let mut other = std::process::Command::new(own);
        other.args(words).uid(NOBODY).gid(NOBODY).current_dir("/");
        command = other;
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let runs = place.runs();
    assert_eq!(runs.len(), 2);
    for run in runs {
        assert_eq!(run["environment"]["network"], "relay");
        assert_eq!(run["measured"]["ok"], 5);
        let fastest = run["measured"]["latency"][0][0].as_f64().unwrap();
        // Far below the mean of two ways.
        assert!(fastest > 1_000.0, "{run}");
        assert!(run["measured"]["values"]["packets"].as_f64().unwrap() > 10.0);
    }
    let page = fs::read_to_string(place.out().join("report.html")).unwrap();
    assert!(page.contains("<dt>Emulated network</dt><dd>relay</dd>"));
    assert!(page.contains("is a relay") && page.contains("need root"));
    let table = fs::read_to_string(place.out().join("runs.csv")).unwrap();
    assert!(table.contains(",relay,bare,"), "{table}");
}

/// A user, a node near it and one behind that; all links of one kind, which is an axis.
#[test]
fn a_chain_of_machines_is_linked_one_by_one() {
    let kinds = if can_have_networks() {
        "[\"relay\", \"tun\"]"
    } else {
        "[\"relay\"]"
    };
    let text = SMALL
        .replace("system = [\"one\", \"two\"]", &format!("kind = {kinds}"))
        .replace("series = \"system\"", "series = \"kind\"")
        .replace("[1, 3]", "[1]");
    let (head, rest) = text.split_once("[machines.board]").unwrap();
    let (_, figures) = rest.split_once("[[figures]]").unwrap();
    let machines: String = ["user", "near", "far"]
        .map(|name| format!("[machines.{name}]\nkind = \"namespace\"\n"))
        .concat();
    let links: String = [("one", "user", "near", "20ms"), ("two", "near", "far", "60ms")]
        .map(|(name, from, to, delay)| {
            format!(
                "[links.{name}]\nbetween = [\"{from}\", \"{to}\"]\nkind = \"{{kind}}\"\ndelay = \"{delay}\"\n"
            )
        })
        .concat();
    let platforms: String = ["near", "far"]
        .map(|on| {
            format!(
                "[platforms.on-{on}]\nkind = \"command\"\non = \"{on}\"\ncommand = [\"SERVER\", \"--address\", \
                 \"{{{on}}}:0\"]\nready = {{ line = \"http \" }}\n"
            )
        })
        .concat();
    let tests: String = [("user", "near"), ("near", "far"), ("far", "near"), ("user", "far")]
        .map(|(from, to)| {
            format!(
                "[[tests]]\nname = \"{from}-{to}\"\nfrom = \"{from}\"\nplatform = \"on-{to}\"\ntarget = \"{{http}}/\"\n\
                 clients = 1\nrequests = 2\ntimeout = \"2s\"\n"
            )
        })
        .concat();
    let place = Place::with(&format!(
        "{head}{machines}{links}{platforms}{tests}[[figures]]{figures}"
    ));
    let output = place.run(&["--quick"]);
    let mut seen = 0;
    for run in place.runs() {
        assert_eq!(run["environment"]["network"], run["axes"]["kind"], "{run}");
        let delay_us = match run["test"].as_str().unwrap() {
            "user-near" => 20_000.0,
            "near-far" | "far-near" => 60_000.0,
            // Nobody forwards.
            _ => {
                assert!(run["failure"].is_string(), "{run}");
                continue;
            }
        };
        assert_eq!(run["measured"]["ok"], 2, "{run}, {}", said(&output));
        // A round trip; it may take longer, and not shorter.
        let fastest = run["measured"]["latency"][0][0].as_f64().unwrap();
        assert!(fastest >= 2.0 * delay_us * 0.999, "{run}");
        seen += 1;
    }
    assert_eq!(seen % 3, 0);
    assert!(seen > 0, "{}", said(&output));
}

#[test]
fn a_relay_does_not_let_programs_go_around_it() {
    let text = apart("kind = \"relay\"").replace(
        "[platforms.bare]",
        "[platforms.other]\nkind = \"command\"\non = \"client\"\ncommand = [\"SERVER\", \"{board}:80\"]\n\n[platforms.bare]",
    );
    let place = Place::with(&text);
    assert_eq!(place.run(&["--quick"]).status.code(), Some(1));
    let failure = place.runs()[0]["failure"].to_string();
    assert!(
        failure.contains("`board`") && failure.contains("http://"),
        "{failure}"
    );
}

#[test]
fn a_kind_of_link_that_cannot_be_is_said_before_anything_starts() {
    Place::with(&apart("kind = \"wire\"")).fails(&[], &["line ", "wire"]);
    let abilities = Abilities::probe();
    if let Some(why) = abilities.why_not_netem() {
        Place::with(&apart("kind = \"netem\"")).fails(&[], &["link `wan`", "`netem`", why]);
    }
    Place::with(&apart("kind = \"netem\"\nin_order = true")).fails(&[], &["in order"]);
    let second = "kind = \"relay\"\n[links.lan]\nbetween = [\"board\", \"client\"]";
    Place::with(&apart(second)).fails(&[], &["`lan`", "`wan`", "the same machines"]);
}

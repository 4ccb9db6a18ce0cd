//! A node is killed at random moments while functions are deployed, twenty times over the same data
//! directory. Each time it starts again, with every deploy that was acknowledged, and nothing half.
//!
//! What a power cut adds to a kill, writes that were not synced, is tested in the store.

#![expect(
    clippy::unwrap_used,
    reason = "this is test code: it stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mote_api::client::Client;
use mote_api::spec::FunctionSpec;
use mote_api::wire;
use mote_tests::deploy::digest;
use mote_tests::guest;
use mote_tests::node::Node;
use tokio::task::JoinSet;

const KILLS: usize = 20;
/// Deploys under way at once, each of functions of its own.
const DEPLOYERS: usize = 3;
/// Functions of each.
const FUNCTIONS: usize = 3;
/// A deploy takes some milliseconds: some kills come before the first, some after many.
const KILLED_AFTER_MS_MAX: u64 = 250;

/// What is known of one function: the text that each version says.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The newest version that was acknowledged.
    acknowledged: Option<(u32, String)>,
    /// A deploy whose answer never came: it happened, or it did not.
    attempted: Option<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_being_killed() {
    let seed = match std::env::var("MOTE_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs(),
    };
    // What a test prints is shown when it fails.
    println!("to repeat: MOTE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);

    let mut node = Node::start();
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    let mut acknowledged = 0;
    for kill in 1..=KILLS {
        let mut deployers = JoinSet::new();
        for deployer in 0..DEPLOYERS {
            let own = (0..FUNCTIONS).map(|number| format!("f{number}-{deployer}"));
            let own = own.map(|name| (name.clone(), known.remove(&name).unwrap_or_default()));
            deployers.spawn(deploy_until_it_fails(node.client(), own.collect(), kill));
        }
        // Not waiting for anything: the moment is what is random.
        tokio::time::sleep(Duration::from_millis(random.u64(..KILLED_AFTER_MS_MAX))).await;
        node.kill();
        while let Some(ended) = deployers.join_next().await {
            let (own, count) = ended.unwrap();
            acknowledged += count;
            known.extend(own);
        }

        node.restart();
        check(&node, &mut known, kill);
    }
    println!("{KILLS} kills, {acknowledged} deploys acknowledged");
    assert!(
        acknowledged > KILLS,
        "the node was killed while it deployed"
    );
    node.stop();
    node.restart();
    check(&node, &mut known, KILLS + 1);
}

/// Deploys its functions in turn, a new version each time, until the node does not answer.
async fn deploy_until_it_fails(
    client: Client,
    mut own: Vec<(String, Known)>,
    kill: usize,
) -> (Vec<(String, Known)>, usize) {
    for count in 0.. {
        let place = count % own.len();
        let (name, known) = &mut own[place];
        let text = format!("{name} {kill} {count}");
        known.attempted = Some(text.clone());
        match deploy(&client, name, &text).await {
            Ok(info) => {
                let before = known.acknowledged.take().map_or(0, |(version, _)| version);
                assert!(
                    info.version > before,
                    "{name}: {} after {before}",
                    info.version
                );
                *known = Known {
                    acknowledged: Some((info.version, text)),
                    attempted: None,
                };
            }
            // Nothing but the kill may fail it.
            Err(said) => {
                let gone = ["connection", "reset", "refused", "no node"];
                assert!(
                    gone.iter().any(|word| said.contains(word)),
                    "{name}: {said}"
                );
                return (own, count);
            }
        }
    }
    unreachable!("a loop without an end");
}

/// The error is what the client says, with its hint.
async fn deploy(client: &Client, name: &str, text: &str) -> Result<wire::FunctionInfo, String> {
    let code = guest::says(text);
    let deploy = wire::Deploy {
        spec: FunctionSpec::default(),
        artifact: digest(&code),
    };
    let digest = deploy.digest().unwrap();
    let uploaded = client.put_artifact(&digest, code.into(), |_| ()).await;
    let deployed = match uploaded {
        Ok(_) => client.deploy(&name.parse().unwrap(), &deploy).await,
        Err(error) => Err(error),
    };
    deployed.map_err(|error| format!("{error} ({:?})", error.hint()))
}

/// Every function that was acknowledged is there, in that version or in the one whose answer never
/// came, and says what that version says; and no other function is there.
fn check(node: &Node, known: &mut BTreeMap<String, Known>, kill: usize) {
    let listed = node.ask("GET", "/v1/functions", &[]).expect(200).json();
    let listed: BTreeMap<String, wire::FunctionInfo> = listed["functions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|info| serde_json::from_value(info.clone()).unwrap())
        .map(|info: wire::FunctionInfo| (info.name.clone(), info))
        .collect();
    for name in listed.keys() {
        assert!(
            known.contains_key(name),
            "kill {kill}: nobody deployed {name}"
        );
    }
    for (name, known) in known {
        let Some(info) = listed.get(name) else {
            assert_eq!(known.acknowledged, None, "kill {kill}: {name} is lost");
            continue;
        };
        let said = node.get(&format!("/{name}")).expect(200).text();
        let live = (info.version, said);
        let expect = known.acknowledged.clone();
        let next = expect.as_ref().map_or(0, |(version, _)| *version) + 1;
        let attempted = known.attempted.take().map(|text| (next, text));
        assert!(
            Some(&live) == expect.as_ref() || Some(&live) == attempted.as_ref(),
            "kill {kill}: {name} is {live:?}, and should be {expect:?} or {attempted:?}"
        );
        let versions: Vec<_> = info.versions.iter().filter(|kept| kept.live).collect();
        assert_eq!(versions.len(), 1, "kill {kill}: {info:?}");
        assert_eq!(
            versions[0].artifact,
            digest(&guest::says(&live.1)),
            "kill {kill}: {name}"
        );
        known.acknowledged = Some(live);
    }
}

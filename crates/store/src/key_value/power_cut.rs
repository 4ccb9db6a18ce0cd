//! Key-value data on storage that loses what was not synced, cut off at every single operation, and
//! on storage that fails once and goes on.

use std::collections::BTreeMap;
use std::io;

use fastrand::Rng;

use super::tests::{QUOTAS, app, contents, start};
use super::*;
use crate::power_cut::{Fault, Simulated};

const CHANGES: usize = 22;

/// What is kept, by row.
type State = BTreeMap<String, Vec<u8>>;

/// One change, and what it makes of a state.
#[derive(Clone, Debug)]
enum Step {
    Set(u8, usize),
    Delete(u8),
    Increment(i64),
    Clear,
    Sync,
}

impl Step {
    fn random(rng: &mut Rng, count: usize) -> Self {
        match rng.u8(..20) {
            0..11 => Self::Set(rng.u8(..6), (count * 997) % 5000),
            11..14 => Self::Delete(rng.u8(..6)),
            14..17 => Self::Increment(rng.i64(-9..10)),
            17 => Self::Clear,
            _ => Self::Sync,
        }
    }

    async fn make(&self, data: &RedbKeyValue) -> Result<(), Error> {
        let home = app("home");
        match self {
            Self::Set(key, length) => {
                let value = Bytes::from(vec![*key; *length]);
                data.set(&home, "default", &format!("k{key}"), value).await
            }
            Self::Delete(key) => {
                let deleted = data.delete(&home, "default", &format!("k{key}")).await;
                deleted.map(drop)
            }
            Self::Increment(by) => data.increment(&home, "sums", "n", *by).await.map(drop),
            Self::Clear => data.clear(&home, Some("default")).await.map(drop),
            Self::Sync => data.sync().await,
        }
    }

    fn apply(&self, state: &mut State) {
        let row = |key: &u8| format!("home\0default\0k{key}");
        match self {
            Self::Set(key, length) => drop(state.insert(row(key), vec![*key; *length])),
            Self::Delete(key) => drop(state.remove(&row(key))),
            Self::Increment(by) => {
                let sum = state.entry("home\0sums\0n".to_owned()).or_default();
                let before: i64 = String::from_utf8(sum.clone()).unwrap().parse().unwrap_or(0);
                *sum = (before + by).to_string().into_bytes();
            }
            Self::Clear => state.retain(|row, _| row.contains("sums")),
            Self::Sync => {}
        }
    }
}

/// What may be found: the last state that is surely on the disk, and every one since, in order.
#[derive(Clone, Debug)]
struct Allowed(Vec<State>);

impl Allowed {
    fn last(&self) -> &State {
        self.0.last().unwrap()
    }

    #[track_caller]
    fn check(&self, data: &RedbKeyValue, when: &str) -> State {
        let found: State = contents(data).into_iter().collect();
        assert!(
            self.0.contains(&found),
            "{when}: {found:?} is none of {self:?}"
        );
        found
    }
}

fn config(synced: bool) -> Config {
    Config {
        quotas: QUOTAS,
        synced: if synced { Synced::All } else { Synced::None },
    }
}

/// Makes changes until one fails, and returns what may be there afterwards.
async fn work(data: &RedbKeyValue, seed: u64, synced: bool) -> Allowed {
    let mut rng = Rng::with_seed(seed);
    let mut allowed = Allowed(vec![State::new()]);
    for count in 0..CHANGES {
        let step = Step::random(&mut rng, count);
        let made = step.make(data).await;
        let mut state = allowed.last().clone();
        step.apply(&mut state);
        match made {
            Ok(()) if synced || matches!(step, Step::Clear | Step::Sync) => {
                allowed = Allowed(vec![state]);
            }
            Ok(()) => allowed.0.push(state),
            Err(_) => {
                allowed.0.push(state);
                return allowed;
            }
        }
    }
    allowed
}

/// How many operations the same work takes when nothing fails.
async fn undisturbed(seed: u64, synced: bool) -> usize {
    let storage = Simulated::default();
    let data = start(&storage, config(synced), None).unwrap();
    let allowed = work(&data, seed, synced).await;
    assert_eq!(&allowed.check(&data, "undisturbed"), allowed.last());
    drop(data);
    storage.operations()
}

/// A file as it is after its creation, which has its own way of being whole: see
/// [`crate::database`].
fn created() -> Simulated {
    let storage = Simulated::default();
    let file = redb::Builder::new().create_with_backend(storage.clone());
    drop(file.unwrap());
    storage
}

#[tokio::test]
async fn a_power_cut_takes_what_the_app_chose_to_risk() {
    let created = created();
    for (seed, synced) in [(0, true), (1, false), (2, false)] {
        let operations = undisturbed(seed, synced).await;
        assert!(operations > 100, "the work reaches the disk: {operations}");
        let mut lost = 0;
        for cut in 0..=operations {
            let storage = created.failing(Fault::Cut(cut));
            let allowed = match start(&storage, config(synced), None) {
                Ok(data) => work(&data, seed, synced).await,
                Err(_) => Allowed(vec![State::new()]),
            };
            let mut rng = Rng::with_seed(seed << 32 | cut as u64);
            let rebooted = storage.boot(&mut rng);
            let when = format!("seed {seed}, synced {synced}, cut at {cut}");
            let data = start(&rebooted, config(synced), None)
                .unwrap_or_else(|error| panic!("{when}: {error}"));
            let found = allowed.check(&data, &when);
            lost += usize::from(found != *allowed.last());
            let again = Step::Set(0, 10).make(&data).await;
            assert!(again.is_ok(), "{when}: {again:?}");
        }
        assert!(lost > 0, "some cuts come before the last write is safe");
    }
}

#[tokio::test]
async fn a_disk_that_fails_once_takes_no_more_than_a_power_cut() {
    let created = created();
    let kinds = [
        (io::ErrorKind::StorageFull, ErrorKind::StorageFull),
        (io::ErrorKind::Other, ErrorKind::Internal),
    ];
    for (seed, synced) in [(3, true), (4, false)] {
        let operations = undisturbed(seed, synced).await;
        let mut failed = 0;
        for at in 1..=operations {
            let (kind, expected) = kinds[at % 2];
            let storage = created.failing(Fault::Once(at, kind));
            let when = format!("seed {seed}, synced {synced}, failure at {at}");
            let Ok(data) = start(&storage, config(synced), None) else {
                continue;
            };
            let mut rng = Rng::with_seed(seed);
            let mut allowed = Allowed(vec![State::new()]);
            let mut failures = 0;
            for count in 0..CHANGES {
                let step = Step::random(&mut rng, count);
                let made = step.make(&data).await;
                let mut state = allowed.last().clone();
                step.apply(&mut state);
                allowed.0.push(state);
                match made {
                    Ok(()) if synced => allowed.0 = vec![allowed.last().clone()],
                    Ok(()) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), expected, "{when}: {error}");
                        failures += 1;
                        // From here on, what is there now is what was.
                        allowed.0 = vec![allowed.check(&data, &when)];
                    }
                }
            }
            assert!(failures <= 1, "{when}: {failures} failures");
            failed += failures;
            // Not every failure is one of a request: a file may be closed, and synced, on its own.
            allowed.check(&data, &when);
            assert!(!synced || data.counts().lost == 0, "{when}");
        }
        assert!(
            failed > 20,
            "failures hit commits, not only the opening: {failed}"
        );
    }
}

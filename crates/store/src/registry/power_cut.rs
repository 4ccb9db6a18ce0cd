//! The registry on storage that loses what was not synced, cut off at every single operation, and
//! on storage that fails once and goes on.

use std::collections::BTreeMap;
use std::io;

use fastrand::Rng;
use mote_core::digest::Digest;
use mote_core::error::ErrorKind;
use mote_core::registry::Version;
use mote_core::spec::FunctionSpec;

use super::*;
use crate::database::Opener;
use crate::power_cut::{Fault, Simulated, join_all};

fn start(storage: &Simulated) -> Result<RedbRegistry, Error> {
    let storage = storage.clone();
    let opener: Opener = Box::new(move || {
        redb::Builder::new()
            .set_cache_size(64 << 10)
            .create_with_backend(storage.clone())
    });
    let commits = Arc::new(Commits::start(opener, None)?);
    Ok(RedbRegistry { commits })
}

/// A file as it is after its creation, which has its own way of being whole: see `database::file`.
fn created() -> Simulated {
    let storage = Simulated::default();
    drop(start(&storage).unwrap());
    storage
}

fn name(function: u8) -> FunctionName {
    format!("f{function}").parse().unwrap()
}

/// The record that save number `count` of a function writes. All of it follows from these two, so
/// half of one and half of another is seen.
fn record(function: u8, count: u32) -> FunctionRecord {
    let mut spec = FunctionSpec::new(name(function));
    let length = 1 + (count as usize * 997) % 9000;
    spec.env
        .insert("TEXT".to_owned(), format!("{count:0length$}"));
    FunctionRecord {
        name: name(function),
        live: count,
        versions: vec![Version {
            number: count,
            spec,
            artifact: Digest::from_bytes([function; 32]),
            image: None,
            deployed_ms: u64::from(count),
        }],
    }
}

/// What may be found of a function: what was acknowledged last, and what was asked for since.
/// Number 0 is no record.
type Allowed = BTreeMap<u8, Vec<u32>>;

const FUNCTIONS: u8 = 6;
const ROUNDS: u32 = 12;

fn nothing() -> Allowed {
    (0..FUNCTIONS).map(|function| (function, vec![0])).collect()
}

/// Saves and removes, several at once, and returns what may be there afterwards.
async fn work(registry: &RedbRegistry, seed: u64) -> (Allowed, Vec<ErrorKind>) {
    let mut rng = Rng::with_seed(seed);
    let mut allowed = nothing();
    let mut failures = Vec::new();
    for round in 1..=ROUNDS {
        let functions: Vec<u8> = (0..FUNCTIONS).filter(|_| rng.f32() < 0.4).collect();
        let asked = functions.iter().map(|function| {
            let count = if rng.f32() < 0.2 { 0 } else { round };
            (*function, count)
        });
        let asked: Vec<_> = asked.collect();
        let changes = asked.iter().map(|(function, count)| match count {
            0 => registry.remove(name(*function)),
            count => registry.save(record(*function, *count)),
        });
        let outcomes = join_all(changes.collect()).await;
        for ((function, count), outcome) in asked.into_iter().zip(outcomes) {
            let allowed = allowed.get_mut(&function).unwrap();
            match outcome {
                Ok(()) => *allowed = vec![count],
                Err(error) => {
                    failures.push(error.kind());
                    allowed.push(count);
                }
            }
        }
    }
    (allowed, failures)
}

#[track_caller]
fn check(found: &[FunctionRecord], allowed: &Allowed, when: &str) {
    for (function, counts) in allowed {
        let found = found.iter().find(|record| record.name == name(*function));
        let fits = counts.iter().any(|count| match (count, found) {
            (0, found) => found.is_none(),
            (_, None) => false,
            (count, Some(found)) => *found == record(*function, *count),
        });
        let found = found.map(|record| record.live);
        assert!(
            fits,
            "{when}: f{function} is {found:?}, and may be one of {counts:?}"
        );
    }
}

/// How many operations the same work takes when nothing fails. Batches depend on how the threads
/// run, so it is only about as many each time.
async fn undisturbed(created: &Simulated, seed: u64) -> usize {
    let storage = created.copy();
    let registry = start(&storage).unwrap();
    let (allowed, failures) = work(&registry, seed).await;
    assert_eq!(failures, []);
    check(
        &registry.functions().await.unwrap(),
        &allowed,
        "undisturbed",
    );
    drop(registry);
    storage.operations()
}

#[tokio::test]
async fn acknowledged_records_survive_a_power_cut_at_any_operation() {
    let created = created();
    for seed in 0..3 {
        let operations = undisturbed(&created, seed).await;
        assert!(operations > 100, "the work reaches the disk");
        for cut in 0..=operations {
            let storage = created.failing(Fault::Cut(cut));
            let allowed = match start(&storage) {
                Ok(registry) => work(&registry, seed).await.0,
                Err(_) => nothing(),
            };
            let mut rng = Rng::with_seed(seed << 32 | cut as u64);
            let rebooted = storage.boot(&mut rng);
            let when = format!("seed {seed}, cut at {cut}");
            let registry = start(&rebooted).unwrap_or_else(|error| panic!("{when}: {error}"));
            let found = registry
                .functions()
                .await
                .unwrap_or_else(|error| panic!("{when}: {error}"));
            check(&found, &allowed, &when);
            let again = registry.save(record(0, 1000)).await;
            assert!(again.is_ok(), "{when}: {again:?}");
        }
    }
}

#[tokio::test]
async fn one_failed_operation_fails_what_it_fails_and_nothing_else() {
    let created = created();
    for (seed, kind) in [(0, io::ErrorKind::StorageFull), (1, io::ErrorKind::Other)] {
        let operations = undisturbed(&created, seed).await;
        let mut failed = 0;
        for at in 1..=operations {
            let storage = created.failing(Fault::Once(at, kind));
            let when = format!("seed {seed}, failure at {at}");
            let Ok(registry) = start(&storage) else {
                continue;
            };
            let (allowed, failures) = work(&registry, seed).await;
            // All of one round at most.
            assert!(
                failures.len() <= usize::from(FUNCTIONS),
                "{when}: {failures:?}"
            );
            let expected = match kind {
                io::ErrorKind::StorageFull => ErrorKind::StorageFull,
                _ => ErrorKind::Internal,
            };
            assert!(
                failures.iter().all(|kind| *kind == expected),
                "{when}: {failures:?}"
            );
            failed += usize::from(!failures.is_empty());
            // The failure may come as late as now; the time after that it is over.
            let found = match registry.functions().await {
                Ok(found) => found,
                Err(_) => registry.functions().await.unwrap(),
            };
            check(&found, &allowed, &when);
        }
        assert!(failed > 20, "failures hit commits, not only the opening");
    }
}

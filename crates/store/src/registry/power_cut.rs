//! Storage that loses what was not synced, cut off at every single operation, and storage that
//! fails once and goes on.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard};

use fastrand::Rng;
use mote_core::digest::Digest;
use mote_core::registry::Version;
use mote_core::spec::FunctionSpec;
use redb::StorageBackend;

use super::*;

/// Smallest piece of a write that lasts or is lost as a whole.
const SECTOR: usize = 512;

/// A file in memory with two states: what the database sees, and what a power cut leaves of it.
#[derive(Clone, Debug, Default)]
struct Simulated(Arc<Mutex<Machine>>);

#[derive(Debug, Default)]
struct Machine {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
    operations: usize,
    fault: Option<Fault>,
}

#[derive(Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Everything fails from this operation on.
    Cut(usize),
    /// This one operation fails.
    Once(usize, io::ErrorKind),
}

impl Simulated {
    fn operate(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let mut machine = self.0.lock().unwrap();
        machine.operations += 1;
        match machine.fault {
            Some(Fault::Cut(at)) if machine.operations > at => Err(io::Error::other("no power")),
            Some(Fault::Once(at, kind)) if machine.operations == at => Err(kind.into()),
            _ => Ok(machine),
        }
    }

    /// The file as the next boot finds it: any of the unsynced writes may have happened, in any
    /// order, and each of them in part.
    fn boot(&self, rng: &mut Rng) -> Self {
        let machine = self.0.lock().unwrap();
        let luck = rng.f64();
        let mut left = machine.durable.clone();
        for pending in &machine.pending {
            match pending {
                Pending::Length(length) if rng.f64() < luck => left.resize(*length, 0),
                Pending::Length(_) => {}
                Pending::Write(at, bytes) => {
                    for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                        if rng.f64() < luck {
                            put(&mut left, at + number * SECTOR, sector);
                        }
                    }
                }
            }
        }
        Self::with(left)
    }

    fn with(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Machine {
            seen: bytes.clone(),
            durable: bytes,
            ..Machine::default()
        })))
    }

    fn failing(&self, fault: Fault) -> Self {
        let copy = Self::with(self.0.lock().unwrap().durable.clone());
        copy.0.lock().unwrap().fault = Some(fault);
        copy
    }

    fn operations(&self) -> usize {
        self.0.lock().unwrap().operations
    }
}

fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

impl StorageBackend for Simulated {
    fn len(&self) -> io::Result<u64> {
        Ok(self.operate()?.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let machine = self.operate()?;
        let at = usize::try_from(offset).unwrap();
        let bytes = machine.seen.get(at..at + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut machine = self.operate()?;
        let length = usize::try_from(len).unwrap();
        machine.seen.resize(length, 0);
        machine.pending.push(Pending::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut machine = self.operate()?;
        machine.durable = machine.seen.clone();
        machine.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut machine = self.operate()?;
        let at = usize::try_from(offset).unwrap();
        put(&mut machine.seen, at, data);
        machine.pending.push(Pending::Write(at, data.to_vec()));
        Ok(())
    }
}

fn start(storage: &Simulated) -> Result<RedbRegistry, Error> {
    let storage = storage.clone();
    RedbRegistry::start(Box::new(move || {
        redb::Builder::new()
            .set_cache_size(64 << 10)
            .create_with_backend(storage.clone())
    }))
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

/// Polls all of them, so that they wait for the same commit.
async fn join_all(mut futures: Vec<BoxFuture<'_, Result<(), Error>>>) -> Vec<Result<(), Error>> {
    let mut outcomes: Vec<_> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, outcome) in futures.iter_mut().zip(&mut outcomes) {
            if outcome.is_none()
                && let std::task::Poll::Ready(done) = future.as_mut().poll(cx)
            {
                *outcome = Some(done);
            }
        }
        if outcomes.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outcomes.into_iter().map(Option::unwrap).collect()
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
    let storage = Simulated::with(created.0.lock().unwrap().durable.clone());
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

//! Storage for tests: a file in memory that loses what was not synced, or fails once and goes on.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;
use mote_core::runtime::BoxFuture;
use redb::StorageBackend;

/// Smallest piece of a write that lasts or is lost as a whole.
const SECTOR: usize = 512;

/// A file in memory with two states: what the database sees, and what a power cut leaves of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Simulated(Arc<Mutex<Machine>>);

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
pub(crate) enum Fault {
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
    pub(crate) fn boot(&self, rng: &mut Rng) -> Self {
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

    /// The durable part as a file of its own.
    pub(crate) fn copy(&self) -> Self {
        Self::with(self.0.lock().unwrap().durable.clone())
    }

    /// A copy that fails so.
    pub(crate) fn failing(&self, fault: Fault) -> Self {
        let copy = self.copy();
        copy.0.lock().unwrap().fault = Some(fault);
        copy
    }

    /// How many operations there were.
    pub(crate) fn operations(&self) -> usize {
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

/// Polls all of them, so that they wait for the same commit.
pub(crate) async fn join_all<T>(mut futures: Vec<BoxFuture<'_, T>>) -> Vec<T> {
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

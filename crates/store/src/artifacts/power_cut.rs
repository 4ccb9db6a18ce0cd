//! A disk that loses what was not synced, cut off at every single operation.

use std::collections::BTreeMap;
use std::path::Path;

use fastrand::Rng;

use super::*;

/// A file system in memory with two states: what programs see, and what a power cut leaves.
#[derive(Clone, Debug, Default)]
struct Simulated(Arc<Mutex<Machine>>);

#[derive(Debug, Default)]
struct Machine {
    files: Vec<Contents>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names since the last sync of the folder: `None` is a deletion.
    pending: Vec<(PathBuf, Option<usize>)>,
    operations: usize,
    cut_at: Option<usize>,
}

#[derive(Debug)]
struct Contents {
    seen: Vec<u8>,
    durable: Option<Vec<u8>>,
}

impl Simulated {
    /// One operation that reaches the disk. Nothing does any more once the power is cut.
    fn operate(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let mut machine = self.0.lock().unwrap();
        machine.operations += 1;
        if machine.cut_at.is_some_and(|at| machine.operations > at) {
            return Err(io::Error::other("no power"));
        }
        Ok(machine)
    }

    /// The disk as the next boot finds it.
    fn boot(&self, rng: &mut Rng) -> Self {
        let machine = self.0.lock().unwrap();
        // A file system may have written any of the names and any part of the bytes by itself.
        let luck = rng.f64();
        let mut names = machine.durable_names.clone();
        for (path, file) in &machine.pending {
            if rng.f64() < luck {
                match file {
                    Some(file) => names.insert(path.clone(), *file),
                    None => names.remove(path),
                };
            }
        }
        let files = machine.files.iter().map(|file| {
            let left = file.durable.clone().unwrap_or_else(|| {
                let mut bytes = file.seen.clone();
                match rng.u8(..3) {
                    0 => bytes.truncate(rng.usize(..=bytes.len())),
                    1 => bytes.fill(0),
                    _ => {}
                }
                bytes
            });
            Contents {
                seen: left.clone(),
                durable: Some(left),
            }
        });
        Self(Arc::new(Mutex::new(Machine {
            files: files.collect(),
            durable_names: names.clone(),
            names,
            ..Machine::default()
        })))
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Disk for Simulated {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut machine = self.operate()?;
        let file = machine.files.len();
        machine.files.push(Contents {
            seen: bytes.to_vec(),
            durable: None,
        });
        machine.names.insert(path.to_owned(), file);
        machine.pending.push((path.to_owned(), Some(file)));
        Ok(())
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.operate()?;
        let file = *machine.names.get(path).ok_or_else(missing)?;
        machine.files[file].durable = Some(machine.files[file].seen.clone());
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut machine = self.operate()?;
        let file = machine.names.remove(from).ok_or_else(missing)?;
        machine.names.insert(to.to_owned(), file);
        machine.pending.push((to.to_owned(), Some(file)));
        machine.pending.push((from.to_owned(), None));
        Ok(())
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        let mut machine = self.operate()?;
        machine.durable_names = machine.names.clone();
        machine.pending.clear();
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.operate()?;
        machine.names.remove(path).ok_or_else(missing)?;
        machine.pending.push((path.to_owned(), None));
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.lock().unwrap().names.contains_key(path)
    }

    fn hash(&self, path: &Path) -> io::Result<Digest> {
        let machine = self.0.lock().unwrap();
        let file = *machine.names.get(path).ok_or_else(missing)?;
        let hash = blake3::hash(&machine.files[file].seen);
        Ok(Digest::from_bytes(*hash.as_bytes()))
    }

    fn list(&self, _folder: &Path) -> io::Result<Vec<(String, SystemTime)>> {
        let machine = self.operate()?;
        let names = machine.names.keys().map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            (name.to_owned(), SystemTime::UNIX_EPOCH)
        });
        Ok(names.collect())
    }
}

fn start(disk: &Simulated) -> Result<Artifacts, Error> {
    Artifacts::start(PathBuf::from("/artifacts"), Box::new(disk.clone()), None)
}

/// Uploads, uploads again, and sweeps. Returns what was acknowledged and may not be lost.
fn work(disk: &Simulated, seed: u64) -> HashSet<Digest> {
    let mut rng = Rng::with_seed(seed);
    let mut promised = HashSet::new();
    let Ok(artifacts) = start(disk) else {
        return promised;
    };
    let start = artifacts.0.opened;
    for step in 0..12 {
        let now = start + GRACE * step;
        let bytes = vec![rng.u8(..6); 10_000];
        if let Ok(digest) = artifacts.0.put(&bytes, now) {
            promised.insert(digest);
        }
        if step % 4 == 3 {
            let Ok(mut unused) = artifacts.0.list() else {
                continue;
            };
            unused.retain(|_| rng.bool());
            // Whether a deletion lasts is open; that it may happen is not.
            let gone = unused.iter().map(|(digest, _)| *digest);
            let gone: Vec<_> = gone
                .filter(|d| artifacts.0.state().recent[d] + GRACE <= now)
                .collect();
            let _ = artifacts.0.delete(&unused, now);
            promised.retain(|digest| !gone.contains(digest));
        }
    }
    promised
}

/// After every possible cut: what was acknowledged is here, and whatever is here is whole.
#[test]
fn acknowledged_artifacts_survive_a_power_cut_at_any_operation() {
    for seed in 0..20 {
        let whole_run = Simulated::default();
        assert!(!work(&whole_run, seed).is_empty());
        let operations = whole_run.0.lock().unwrap().operations;
        assert!(operations > 20, "the work reaches the disk");
        for cut_at in 0..=operations {
            let disk = Simulated::default();
            disk.0.lock().unwrap().cut_at = Some(cut_at);
            let promised = work(&disk, seed);
            let mut rng = Rng::with_seed(seed << 32 | cut_at as u64);
            let artifacts = start(&disk.boot(&mut rng)).unwrap();
            let here = artifacts.0.list().unwrap();
            for (digest, _) in &here {
                let whole = artifacts.0.verify(digest);
                assert!(whole.is_ok(), "seed {seed}, cut at {cut_at}: {whole:?}");
            }
            for digest in promised {
                let kept = here.iter().any(|(found, _)| *found == digest);
                assert!(
                    kept,
                    "seed {seed}, cut at {cut_at}: `{}` is lost",
                    digest.short()
                );
            }
        }
    }
}

//! The system that a start sees: no arguments, no variables, no files, standard output and error of the build, a
//! clock that counts how often it is asked, and random numbers that are the same in every build.
//!
//! A call of the world, or of anything else of WASI 0.1, ends the start: there is no call yet to ask about.

use std::io::Write as _;

use mote_core::error::{Error, ErrorKind};
use wasmi::{Caller, Linker, Memory, StoreLimits, StoreLimitsBuilder, Val};

/// The adapter's name of WASI 0.1.
const WASI: &str = "wasi_snapshot_preview1";
/// Most bytes that one write is taken for.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// Most pieces that one write is taken for.
const PIECES_MAX: usize = 64;

/// `errno` of WASI 0.1.
const SUCCESS: i32 = 0;
const BAD_DESCRIPTOR: i32 = 8;
const INVALID: i32 = 28;

/// What a start changes outside of its memory.
pub(super) struct System {
    pub(super) limits: StoreLimits,
    time: u64,
    random: u64,
}

impl System {
    pub(super) fn new(memory_bytes_max: usize) -> Self {
        let limits = StoreLimitsBuilder::new().memory_size(memory_bytes_max);
        Self {
            limits: limits.build(),
            time: 0,
            // Anything but 0.
            random: 0x6d6f_7465,
        }
    }

    /// Never the same, and never 0, which some take for none.
    fn time(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    /// xorshift64: nobody is to rely on these.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Gives the module all that it imports.
pub(super) fn define(module: &wasmi::Module, linker: &mut Linker<System>) -> Result<(), Error> {
    // A module may name a function twice.
    linker.allow_shadowing(true);
    for import in module.imports() {
        let (from, name) = (import.module().to_owned(), import.name().to_owned());
        let kind = import.ty().func().expect("it imports functions only");
        let is_errno = kind.results() == [wasmi::ValType::I32];
        let defined = linker.func_new(
            import.module(),
            import.name(),
            kind.clone(),
            move |caller, arguments, results| {
                let known = from == WASI && is_errno;
                let errno = known.then(|| Call { caller, arguments }.answer(&name));
                match (errno.flatten(), results) {
                    (Some(errno), [result]) => {
                        *result = Val::I32(errno);
                        Ok(())
                    }
                    _ => Err(wasmi::Error::new(format!("it calls `{name}` of `{from}`"))),
                }
            },
        );
        defined.map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))?;
    }
    Ok(())
}

/// A call of WASI 0.1.
struct Call<'a> {
    caller: Caller<'a, System>,
    arguments: &'a [Val],
}

impl Call<'_> {
    /// The `errno`; nothing for what a start may not ask.
    fn answer(mut self, name: &str) -> Option<i32> {
        let done = match name {
            "args_sizes_get" | "environ_sizes_get" => {
                self.put(0, &[0; 4]).and_then(|()| self.put(1, &[0; 4]))
            }
            "args_get" | "environ_get" | "sched_yield" | "fd_fdstat_set_flags" => Some(()),
            "clock_time_get" => {
                let time = self.caller.data_mut().time();
                self.put(2, &time.to_le_bytes())
            }
            "clock_res_get" => self.put(1, &1_u64.to_le_bytes()),
            "random_get" => self.random(),
            // A character device that may be written.
            "fd_fdstat_get" if self.number(0) <= 2 => {
                let mut about = [0; 24];
                about[0] = 2;
                self.put(1, &about)
            }
            "fd_write" if (1..=2).contains(&self.number(0)) => self.write(),
            // No folder was opened beforehand.
            "fd_prestat_get" | "fd_fdstat_get" | "fd_write" => return Some(BAD_DESCRIPTOR),
            _ => return None,
        };
        Some(if done.is_some() { SUCCESS } else { INVALID })
    }

    fn number(&self, argument: usize) -> u32 {
        match self.arguments.get(argument) {
            Some(Val::I32(value)) => value.cast_unsigned(),
            _ => u32::MAX,
        }
    }

    fn memory(&self) -> Option<Memory> {
        self.caller.get_export(super::MEMORY)?.into_memory()
    }

    /// Writes to where an argument says.
    fn put(&mut self, argument: usize, bytes: &[u8]) -> Option<()> {
        let at = self.number(argument) as usize;
        self.memory()?.write(&mut self.caller, at, bytes).ok()
    }

    fn random(&mut self) -> Option<()> {
        let memory = self.memory()?;
        let (at, length) = (self.number(0) as usize, self.number(1) as usize);
        let mut bytes = vec![0; length.min(WRITE_BYTES_MAX)];
        for piece in bytes.chunks_mut(8) {
            let random = self.caller.data_mut().random().to_le_bytes();
            piece.copy_from_slice(&random[..piece.len()]);
        }
        memory.write(&mut self.caller, at, &bytes).ok()
    }

    /// What a start writes is for whoever builds.
    fn write(&mut self) -> Option<()> {
        let memory = self.memory()?;
        let (at, count) = (self.number(1) as usize, self.number(2) as usize);
        let mut text = Vec::new();
        for piece in 0..count.min(PIECES_MAX) {
            let mut place = [0; 8];
            memory
                .read(&self.caller, at.checked_add(piece * 8)?, &mut place)
                .ok()?;
            let (start, length) = place.split_at(4);
            let word = |bytes: &[u8]| Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize);
            let length = word(length)?.min(WRITE_BYTES_MAX - text.len());
            let start = word(start)?;
            let bytes = memory
                .data(&self.caller)
                .get(start..start.checked_add(length)?)?;
            text.extend_from_slice(bytes);
        }
        // Nobody who listens is no reason to fail.
        let _ = std::io::stderr().write_all(&text);
        let written = u32::try_from(text.len()).ok()?;
        self.put(3, &written.to_le_bytes())
    }
}

//! For which machine a program was built, by the head of its file.
//!
//! A program of another architecture fails at its first call with an error that few understand;
//! found at deploy, it can be named.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use mote_core::error::Error;

use super::failure::{bad, system};

/// Bytes of a file that tell what it is: an ELF header, or the `#!` line of a script.
pub(super) const HEAD_BYTES: usize = 256;

/// What an ELF file says it runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `e_machine` of its header.
    pub code: u16,
    /// Width of addresses: 32 or 64.
    pub bits: u8,
    /// Byte order.
    pub big_endian: bool,
}

/// Architectures by ELF code, width and byte order: the name that people use, and the one in images
/// (Go's `GOARCH`).
const NAMES: &[(u16, u8, bool, &str, &str)] = &[
    (62, 64, false, "x86_64", "amd64"),
    (62, 32, false, "x32", "amd64p32"),
    (3, 32, false, "x86", "386"),
    (183, 64, false, "aarch64", "arm64"),
    (40, 32, false, "arm", "arm"),
    (243, 64, false, "riscv64", "riscv64"),
    (243, 32, false, "riscv32", "riscv32"),
    (21, 64, false, "powerpc64le", "ppc64le"),
    (21, 64, true, "powerpc64", "ppc64"),
    (22, 64, true, "s390x", "s390x"),
    (8, 32, false, "mipsel", "mipsle"),
    (8, 32, true, "mips", "mips"),
    (258, 64, false, "loongarch64", "loong64"),
];

impl Machine {
    /// The name for people, as `uname -m` has it.
    pub fn name(self) -> Option<&'static str> {
        NAMES
            .iter()
            .find(|(code, bits, big, ..)| {
                (*code, *bits, *big) == (self.code, self.bits, self.big_endian)
            })
            .map(|row| row.3)
    }

    /// Whether programs for it run here: the same machine, or its 32-bit ancestor.
    pub fn runs_here(self) -> bool {
        let this = this_machine();
        match self.name() {
            Some("x86") => matches!(this, "x86" | "x86_64"),
            Some("arm") => matches!(this, "arm" | "aarch64"),
            Some(name) => name == this,
            None => false,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "machine {} with {} bits", self.code, self.bits),
        }
    }
}

/// The machine this node was built for.
pub(super) fn this_machine() -> &'static str {
    match (std::env::consts::ARCH, cfg!(target_endian = "little")) {
        ("powerpc64", true) => "powerpc64le",
        ("mips", true) => "mipsel",
        (name, _) => name,
    }
}

/// The same, by its name in images.
pub(super) fn this_architecture() -> &'static str {
    let this = this_machine();
    NAMES
        .iter()
        .find(|row| row.3 == this)
        .map_or(this, |row| row.4)
}

/// The machine of an ELF file whose first bytes these are; 20 are enough. `None` if it is none.
pub fn machine_of(bytes: &[u8]) -> Option<Machine> {
    let head = bytes.get(..20)?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let bits = match head[4] {
        1 => 32,
        2 => 64,
        _ => return None,
    };
    let big_endian = match head[5] {
        1 => false,
        2 => true,
        _ => return None,
    };
    let code = [head[18], head[19]];
    let code = if big_endian {
        u16::from_be_bytes(code)
    } else {
        u16::from_le_bytes(code)
    };
    Some(Machine {
        code,
        bits,
        big_endian,
    })
}

/// Whether an ELF file is something to execute, and no object file or core dump.
pub(super) fn is_executable(bytes: &[u8]) -> bool {
    const EXEC: u16 = 2;
    const DYN: u16 = 3;
    let kind = bytes.get(16..18).map(|pair| match bytes[5] {
        2 => u16::from_be_bytes([pair[0], pair[1]]),
        _ => u16::from_le_bytes([pair[0], pair[1]]),
    });
    matches!(kind, Some(EXEC | DYN))
}

/// Fails when the file at `path` is an ELF program of another machine; says which machine it is
/// for, and `None` for everything that is not ELF. Follows symlinks: `path` is the caller's own.
pub fn check_machine(path: &Path) -> Result<Option<Machine>, Error> {
    let told = path.display();
    let head = File::open(path)
        .and_then(|file| head(&file))
        .map_err(|error| system(format!("read `{told}`"), &error))?;
    check_head(&told.to_string(), &head)
}

/// The same for bytes that were read already.
pub(super) fn check_head(name: &str, head: &[u8]) -> Result<Option<Machine>, Error> {
    let machine = machine_of(head);
    if let Some(machine) = machine.filter(|machine| !machine.runs_here()) {
        return Err(bad(format!(
            "exec format error: `{name}` is for {machine}, this machine is {}",
            this_machine()
        ))
        .with_hint("build it for this machine, or deploy it to a node of that kind"));
    }
    Ok(machine)
}

/// The first bytes of a file, at most [`HEAD_BYTES`].
pub(super) fn head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The interpreter that the first line of a script names.
pub(super) fn interpreter(head: &[u8]) -> Option<&[u8]> {
    let line = head.strip_prefix(b"#!")?;
    let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii();
    line.split(u8::is_ascii_whitespace)
        .next()
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_for_this_machine() {
        let me = std::env::current_exe().unwrap();
        let machine = check_machine(&me).unwrap().expect("a test is an ELF file");
        assert!(machine.runs_here());
        assert_eq!(machine.name(), Some(this_machine()));
    }

    #[test]
    fn a_program_for_another_machine_is_named() {
        let other: u16 = if cfg!(target_arch = "aarch64") {
            62
        } else {
            183
        };
        let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
        head.extend(other.to_le_bytes());
        let error = check_head("x", &head).unwrap_err();
        let expect = if other == 183 {
            "`x` is for aarch64"
        } else {
            "`x` is for x86_64"
        };
        assert!(error.message().starts_with("exec format error"), "{error}");
        assert!(error.message().contains(expect), "{error}");
        assert!(error.message().contains(this_machine()), "{error}");
    }

    #[test]
    fn heads_that_are_none() {
        assert_eq!(machine_of(b"\x7fELF\x02\x01"), None);
        assert_eq!(
            machine_of(b"\x7fELF\x09\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0"),
            None
        );
        assert_eq!(machine_of(&[0; 64]), None);
        let big = machine_of(b"\x7fELF\x02\x02\x01\0\0\0\0\0\0\0\0\0\0\x02\0\x16").unwrap();
        assert_eq!(big.to_string(), "s390x");
        assert_eq!(
            interpreter(b"#! /usr/bin/env python3\nx"),
            Some(&b"/usr/bin/env"[..])
        );
        assert_eq!(interpreter(b"#!\n"), None);
        assert_eq!(interpreter(b"\x7fELF"), None);
    }
}

//! From what the linker leaves to what is committed: the component around the module, nothing to spare.
//!
//! A module that carries a description of its world becomes a component of that world; one that
//! does not is a WASI command and stays a module.
//! Names, producers and debug sections are dropped: they are a third of a small guest.

use anyhow::{Context, Result, bail, ensure};
use wit_component::ComponentEncoder;

/// Sections by this prefix hold the world a module was compiled for.
const WORLD_PREFIX: &[u8] = b"component-type";
/// Every module and component starts with four bytes of magic and four of version and layer.
const HEADER_BYTES: usize = 8;
/// In a component these sections hold a module and a component, each with a header of its own.
const NESTED: [u8; 2] = [1, 4];
const CUSTOM: u8 = 0;
const TABLE: u8 = 4;
const ELEMENT: u8 = 9;

/// Encodes and strips what the linker wrote.
pub(super) fn finish(linked: &[u8]) -> Result<Vec<u8>> {
    let has_world = sections(linked)?.iter().any(|section| {
        section
            .name()
            .is_some_and(|name| name.starts_with(WORLD_PREFIX))
    });
    if !has_world {
        return strip(linked);
    }
    // Bindings leave a function table behind that nothing calls through, and an instance with a
    // table takes longer to make. Where something does use it, the smaller module is not valid.
    let component = encode(&without(&[TABLE, ELEMENT], linked)?).or_else(|_| encode(linked))?;
    let component = strip(&component)?;
    wit_component::decode(&component).context("stripping broke the component")?;
    Ok(component)
}

fn encode(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default()
        .module(module)?
        .validate(true)
        .encode()
}

/// One section, its header included in `whole`.
struct Section<'a> {
    id: u8,
    whole: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Section<'a> {
    /// The name of a custom section.
    fn name(&self) -> Option<&'a [u8]> {
        let (length, rest) = leb128(self.payload).ok()?;
        (self.id == CUSTOM).then(|| rest.get(..length)).flatten()
    }
}

/// A copy without custom sections, at any depth.
fn strip(binary: &[u8]) -> Result<Vec<u8>> {
    let mut out = header(binary)?.to_vec();
    let is_component = out[4..] != [1, 0, 0, 0];
    for section in sections(binary)? {
        if section.id == CUSTOM {
            continue;
        }
        if is_component && NESTED.contains(&section.id) {
            let nested = strip(section.payload)?;
            out.push(section.id);
            push_leb128(&mut out, nested.len());
            out.extend(nested);
        } else {
            out.extend(section.whole);
        }
    }
    Ok(out)
}

/// A copy of a module without the sections named.
fn without(ids: &[u8], module: &[u8]) -> Result<Vec<u8>> {
    let mut out = header(module)?.to_vec();
    for section in sections(module)? {
        if !ids.contains(&section.id) {
            out.extend(section.whole);
        }
    }
    Ok(out)
}

fn header(binary: &[u8]) -> Result<&[u8]> {
    let header = binary.get(..HEADER_BYTES).unwrap_or_default();
    ensure!(header.starts_with(b"\0asm"), "not a wasm file");
    Ok(header)
}

fn sections(binary: &[u8]) -> Result<Vec<Section<'_>>> {
    header(binary)?;
    let mut rest = &binary[HEADER_BYTES..];
    let mut sections = Vec::new();
    while let Some((id, after_id)) = rest.split_first() {
        let (length, after_length) = leb128(after_id)?;
        let Some(payload) = after_length.get(..length) else {
            bail!(
                "section {id} claims {length} bytes and has {}",
                after_length.len()
            );
        };
        let next = &after_length[length..];
        sections.push(Section {
            id: *id,
            whole: &rest[..rest.len() - next.len()],
            payload,
        });
        rest = next;
    }
    Ok(sections)
}

/// An unsigned number of at most 32 bits, and what follows it.
fn leb128(bytes: &[u8]) -> Result<(usize, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((usize::try_from(value)?, &bytes[index + 1..]));
        }
    }
    bail!("a length that does not end")
}

fn push_leb128(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit in eight");
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const NAME: &[u8] = b"\0\x06\x04namex";
    const TYPES: &[u8] = b"\x01\x01\0";

    #[test]
    fn custom_sections_are_dropped_at_any_depth() {
        let module = [MODULE, NAME, TYPES, NAME].concat();
        let nested = u8::try_from(module.len()).unwrap();
        let component = [COMPONENT, NAME, &[1, nested], &module].concat();
        assert_eq!(strip(&module).unwrap(), [MODULE, TYPES].concat());
        assert_eq!(
            strip(&component).unwrap(),
            [COMPONENT, &[1, 11], MODULE, TYPES].concat()
        );
    }

    #[test]
    fn a_command_stays_a_module() {
        let finished = finish(&[MODULE, TYPES, NAME].concat()).unwrap();
        assert_eq!(finished, [MODULE, TYPES].concat());
    }

    #[test]
    fn broken_files_are_refused() {
        for broken in [
            b"" as &[u8],
            b"\0asm",
            b"#!/bin/sh",
            b"\0asm\x01\0\0\0\x01",
            b"\0asm\x01\0\0\0\x01\x05\0",
            b"\0asm\x01\0\0\0\x01\xff\xff\xff\xff\xff\0",
        ] {
            finish(broken).unwrap_err();
        }
    }

    #[test]
    fn lengths_survive_a_round_trip() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 200 * 1024] {
            let mut bytes = Vec::new();
            push_leb128(&mut bytes, length);
            assert_eq!(leb128(&bytes).unwrap(), (length, &[][..]));
        }
    }
}

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
    let component = ComponentEncoder::default()
        .module(linked)?
        .validate(true)
        .encode()?;
    let component = strip(&component)?;
    wit_component::decode(&component).context("stripping broke the component")?;
    Ok(component)
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
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

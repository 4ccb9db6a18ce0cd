//! The initial memory of a module in few pieces.
//!
//! Compilers leave out zeros, and some leave out each run of eight: a Go program has 60,000 data segments. A node sets
//! them up for every call, which costs a nanosecond for each, more than the rest of a small call. Joining those with
//! little between them costs the zeros in between, in the file alone.

use std::ops::Range;

use mote_core::error::{Error, ErrorKind};
use wasm_encoder::RawSection;
use wasmparser::{DataKind, Operator, Parser, Payload};

/// Segments with fewer zeros than this between them are joined. Half of a page of memory: what is joined wrongly
/// costs at most as much again as what it is joined to.
const GAP_BYTES: usize = 2048;
/// A module with fewer segments is left as it is.
const SEGMENTS_FEW: usize = 64;

/// The parts of a memory that are not zeros.
pub(crate) fn spans(memory: &[u8]) -> Vec<Range<usize>> {
    let mut spans: Vec<Range<usize>> = Vec::new();
    for (number, piece) in memory.chunks(16).enumerate() {
        if piece.iter().all(|byte| *byte == 0) {
            continue;
        }
        let start = number * 16;
        let end = start + piece.len();
        match spans.last_mut() {
            Some(last) if start - last.end < GAP_BYTES => last.end = end,
            _ => spans.push(start..end),
        }
    }
    spans
}

/// Joins the segments of a module, or of all modules in a component. Nothing else changes.
pub(crate) fn join(wasm: &[u8]) -> Result<Vec<u8>, Error> {
    join_any(wasm).map_err(|error| {
        Error::new(
            ErrorKind::BadRequest,
            format!("not a WebAssembly file: {error}"),
        )
    })
}

fn join_any(wasm: &[u8]) -> Result<Vec<u8>, wasmparser::BinaryReaderError> {
    if Parser::is_core_wasm(wasm) {
        return Ok(join_module(wasm)?.unwrap_or_else(|| wasm.to_vec()));
    }
    let mut component = wasm_encoder::Component::new();
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        // What is nested is parsed as well, and is part of a section that was taken whole.
        let nested = match &payload {
            Payload::ModuleSection {
                unchecked_range, ..
            }
            | Payload::ComponentSection {
                unchecked_range, ..
            } => Some(unchecked_range.clone()),
            _ => None,
        };
        if matches!(payload, Payload::End(_)) && depth > 0 {
            depth -= 1;
            continue;
        }
        if depth == 0
            && let Some((id, range)) = payload.as_section()
        {
            let joined = nested
                .clone()
                .map(|range| join_any(&wasm[range]))
                .transpose()?;
            component.section(&RawSection {
                id,
                data: joined.as_deref().unwrap_or(&wasm[range]),
            });
        }
        if nested.is_some() {
            depth += 1;
        }
    }
    Ok(component.finish())
}

/// Nothing when the module has few segments, or uses them in a way that needs each.
fn join_module(wasm: &[u8]) -> Result<Option<Vec<u8>>, wasmparser::BinaryReaderError> {
    let mut segments: Vec<(u32, &[u8])> = Vec::new();
    let mut sections = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        if let Some((id, range)) = payload.as_section() {
            sections.push((id, &wasm[range]));
        }
        match payload {
            // There for instructions that name a segment.
            Payload::DataCountSection { .. } => return Ok(None),
            Payload::DataSection(section) => {
                for data in section {
                    let data = data?;
                    let DataKind::Active {
                        memory_index: 0,
                        offset_expr,
                    } = &data.kind
                    else {
                        return Ok(None);
                    };
                    let mut offset = offset_expr.get_operators_reader();
                    let Operator::I32Const { value } = offset.read()? else {
                        return Ok(None);
                    };
                    if !matches!(offset.read()?, Operator::End) {
                        return Ok(None);
                    }
                    segments.push((value.cast_unsigned(), data.data));
                }
            }
            _ => {}
        }
    }
    if segments.len() < SEGMENTS_FEW {
        return Ok(None);
    }
    // Their order means nothing but where they overlap, and those are left alone.
    segments.sort_by_key(|(at, _)| *at);
    let Some(joined) = joined(&segments) else {
        return Ok(None);
    };
    let mut module = wasm_encoder::Module::new();
    for (id, body) in sections {
        if id == wasm_encoder::SectionId::Data as u8 {
            module.section(&joined);
        } else {
            module.section(&RawSection { id, data: body });
        }
    }
    Ok(Some(module.finish()))
}

/// Nothing when two segments overlap.
fn joined(segments: &[(u32, &[u8])]) -> Option<wasm_encoder::DataSection> {
    let mut section = wasm_encoder::DataSection::new();
    let mut add = |at: u32, bytes: &[u8]| {
        let at = wasm_encoder::ConstExpr::i32_const(at.cast_signed());
        section.active(0, &at, bytes.iter().copied());
    };
    let mut current: Option<(u32, Vec<u8>)> = None;
    for (at, bytes) in segments {
        if bytes.is_empty() {
            continue;
        }
        if let Some((start, content)) = &mut current {
            let end = usize::try_from(*start).ok()?.checked_add(content.len())?;
            let gap = usize::try_from(*at).ok()?.checked_sub(end)?;
            if gap < GAP_BYTES {
                content.resize(content.len() + gap, 0);
                content.extend_from_slice(bytes);
                continue;
            }
            add(*start, content);
        }
        current = Some((*at, bytes.to_vec()));
    }
    if let Some((start, content)) = current {
        add(start, &content);
    }
    Some(section)
}

#[cfg(test)]
mod tests;

//! One core module of the many that a component is made of.
//!
//! What makes components of Python and JavaScript links libraries dynamically: each is a module of its own, with the
//! memory and the table of another. A node instantiates them for every call: fourteen modules with thousands of
//! exports, and the table filled entry by entry, since it is not of the module whose segments fill it. That is a third
//! of a small call. In one module everything is known beforehand: addresses are constants, calls are direct, the table
//! is filled when an entry is asked for, and what nobody uses is left out.
//!
//! What is not understood with certainty stays as it is: a module that is instantiated twice, several memories, code
//! that runs while half of the modules are there. What comes of the rest is validated.

mod compose;
mod forward;
mod link;
mod live;
mod module;
mod outer;
mod write;

use std::borrow::Cow;

use wasm_encoder::{Component, RawSection};
use wasmparser::{Parser, Payload, Validator};

use self::outer::Outer;

/// A component that does the same, in which the core modules of a level are one. What cannot be merged, or is no
/// component, is given back.
pub(crate) fn merge(wasm: &[u8]) -> Cow<'_, [u8]> {
    if Parser::is_component(wasm)
        && is_valid(wasm)
        && let Some(merged) = merged(wasm)
        && is_valid(&merged)
    {
        return Cow::Owned(merged);
    }
    Cow::Borrowed(wasm)
}

fn is_valid(wasm: &[u8]) -> bool {
    Validator::new().validate_all(wasm).is_ok()
}

/// Nothing when nothing is merged. Validation has bounded how deep components are nested.
fn merged(wasm: &[u8]) -> Option<Vec<u8>> {
    let inside = nested(wasm)?;
    let whole = inside.as_deref().unwrap_or(wasm);
    let composed = Outer::read(whole).and_then(|outer| compose::compose(&outer));
    composed.or(inside)
}

/// The component with what is nested in it merged, or nothing in place of it when that changes nothing.
fn nested(wasm: &[u8]) -> Option<Option<Vec<u8>>> {
    let mut component = Component::new();
    let mut is_changed = false;
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.ok()?;
        if matches!(payload, Payload::End(_)) && depth > 0 {
            depth -= 1;
            continue;
        }
        if depth == 0
            && let Some((id, range)) = payload.as_section()
        {
            let data = wasm.get(range)?;
            let inside = match payload {
                Payload::ComponentSection { .. } => merged(data),
                _ => None,
            };
            is_changed |= inside.is_some();
            component.section(&RawSection {
                id,
                data: inside.as_deref().unwrap_or(data),
            });
        }
        if matches!(
            payload,
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. }
        ) {
            depth += 1;
        }
    }
    Some(is_changed.then(|| component.finish()))
}

#[cfg(test)]
mod tests;

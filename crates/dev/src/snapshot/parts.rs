//! A module taken to pieces: its sections, and the few things in them that a snapshot changes.

use mote_core::error::{Error, ErrorKind};
use wasm_encoder::{Encode as _, ExportKind, ExportSection, MemorySection, MemoryType};
use wasmi::Val;
use wasmparser::{DataKind, ExternalKind, Parser, Payload, TypeRef};

pub(super) const MEMORY: u8 = 5;
pub(super) const GLOBAL: u8 = 6;
pub(super) const EXPORT: u8 = 7;
pub(super) const START: u8 = 8;
pub(super) const DATA: u8 = 11;
pub(super) const DATA_COUNT: u8 = 12;

/// Bytes of a page.
const PAGE: usize = 64 << 10;

/// A module.
pub(super) struct Parts<'a> {
    pub(super) sections: Vec<Section<'a>>,
    exports: Vec<wasmparser::Export<'a>>,
    globals: Vec<Global<'a>>,
    memory: wasmparser::MemoryType,
}

/// One section, as it is.
pub(super) struct Section<'a> {
    pub(super) id: u8,
    pub(super) body: &'a [u8],
}

/// A global, as it is.
struct Global<'a> {
    mutable: bool,
    whole: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(super) fn read(module: &'a [u8]) -> Result<Self, Error> {
        let mut sections = Vec::new();
        let mut exports = Vec::new();
        let mut globals = Vec::new();
        let mut memories = Vec::new();
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload.map_err(|error| broken(&error))?;
            if let Some((id, range)) = payload.as_section() {
                sections.push(Section {
                    id,
                    body: &module[range],
                });
            }
            match payload {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.map_err(|error| broken(&error))?;
                        if !matches!(import.ty, TypeRef::Func(_)) {
                            return Err(refused(&format!(
                                "it imports `{}`, which is no function",
                                import.name
                            )));
                        }
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        memories.push(memory.map_err(|error| broken(&error))?);
                    }
                }
                Payload::GlobalSection(section) => {
                    let end = section.range().end;
                    let found: Result<Vec<_>, _> = section.into_iter_with_offsets().collect();
                    let found = found.map_err(|error| broken(&error))?;
                    let ends = found.iter().skip(1).map(|(at, _)| *at).chain([end]);
                    globals = found
                        .iter()
                        .zip(ends)
                        .map(|((at, global), end)| Global {
                            mutable: global.ty.mutable,
                            whole: &module[*at..end],
                        })
                        .collect();
                }
                Payload::ExportSection(section) => {
                    let all: Result<_, _> = section.into_iter().collect();
                    exports = all.map_err(|error| broken(&error))?;
                }
                Payload::DataSection(section) => {
                    for data in section {
                        let data = data.map_err(|error| broken(&error))?;
                        if matches!(data.kind, DataKind::Passive) {
                            return Err(refused("it has passive data segments"));
                        }
                    }
                }
                _ => {}
            }
        }
        let [memory] = memories.as_slice() else {
            return Err(refused(&format!(
                "it has {} memories, not one",
                memories.len()
            )));
        };
        if memory.memory64 || memory.shared {
            return Err(refused("its memory is shared or has 64-bit addresses"));
        }
        Ok(Self {
            sections,
            exports,
            globals,
            memory: *memory,
        })
    }

    pub(super) fn has_export(&self, name: &str) -> bool {
        self.exports.iter().any(|export| export.name == name)
    }

    /// The exports whose name is wanted.
    pub(super) fn exports(&self, wanted: impl Fn(&str) -> bool) -> ExportSection {
        let mut section = ExportSection::new();
        for export in self.exports.iter().filter(|export| wanted(export.name)) {
            let kind = match export.kind {
                ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
                ExternalKind::Table => ExportKind::Table,
                ExternalKind::Memory => ExportKind::Memory,
                ExternalKind::Global => ExportKind::Global,
                ExternalKind::Tag => ExportKind::Tag,
            };
            section.export(export.name, kind, export.index);
        }
        section
    }

    /// Their numbers. None are imported, so they are counted from 0.
    pub(super) fn mutable_globals(&self) -> impl Iterator<Item = u32> {
        let numbered = (0..).zip(&self.globals);
        numbered
            .filter(|(_, global)| global.mutable)
            .map(|(number, _)| number)
    }

    /// The memory, at least so large.
    pub(super) fn memory_of(&self, bytes: usize) -> MemorySection {
        let mut section = MemorySection::new();
        section.memory(MemoryType {
            minimum: bytes.div_ceil(PAGE) as u64,
            maximum: self.memory.maximum,
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        section
    }

    /// The body of the section of globals, where these have these values.
    pub(super) fn globals_with(&self, values: &[(u32, Val)]) -> Vec<u8> {
        let mut body = Vec::new();
        self.globals.len().encode(&mut body);
        for (number, global) in (0..).zip(&self.globals) {
            match values.iter().find(|(changed, _)| *changed == number) {
                Some((_, value)) => encode(value, &mut body),
                None => body.extend_from_slice(global.whole),
            }
        }
        body
    }
}

/// A mutable global that begins with a value.
fn encode(value: &Val, body: &mut Vec<u8>) {
    use wasm_encoder::{ConstExpr, GlobalType, Ieee32, Ieee64, ValType};
    let (kind, begin) = match value {
        Val::I32(value) => (ValType::I32, ConstExpr::i32_const(*value)),
        Val::I64(value) => (ValType::I64, ConstExpr::i64_const(*value)),
        Val::F32(value) => (
            ValType::F32,
            ConstExpr::f32_const(Ieee32::new(value.to_bits())),
        ),
        Val::F64(value) => (
            ValType::F64,
            ConstExpr::f64_const(Ieee64::new(value.to_bits())),
        ),
        _ => {
            unreachable!("the interpreter has no vectors, and no reference is in a mutable global")
        }
    };
    let kind = GlobalType {
        val_type: kind,
        mutable: true,
        shared: false,
    };
    kind.encode(body);
    begin.encode(body);
}

fn refused(why: &str) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("the module cannot be started while it is built: {why}"),
    )
}

fn broken(error: &wasmparser::BinaryReaderError) -> Error {
    Error::new(
        ErrorKind::BadRequest,
        format!("not a WebAssembly module: {error}"),
    )
}

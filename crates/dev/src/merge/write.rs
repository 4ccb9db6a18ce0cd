//! The one module, and the one that hands it the functions that need its memory.

mod contents;

use std::collections::{BTreeSet, HashMap};

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Elements, EntityType,
    ExportKind, ExportSection, FunctionSection, GlobalSection, ImportSection, Instruction,
    MemorySection, NameMap, NameSection, RefType, StartSection, TableSection, TableType,
    TypeSection,
};
use wasmparser::{ElementKind, FuncType};

use super::link::{Constant, Linked, Origin};
use super::live::Live;
use super::module::Kind;

/// The export of the table that the module's imports come in, and the import of the other module.
pub(super) const TABLE: &str = "imports";
/// The same of the function that the other module calls at the start, when everything is there.
pub(super) const START: &str = "start";

/// More of them a node does not take in a module.
const TABLES_MAX: u32 = 8;

/// What the component instantiates instead.
pub(super) struct Written {
    pub(super) module: Vec<u8>,
    /// The functions it imports, by the names `0`, `1`, …
    pub(super) early: Vec<u32>,
    /// The functions that the other module imports by such names.
    pub(super) late: Vec<u32>,
    /// That module, when there are such functions: it fills a table of the first.
    pub(super) filler: Vec<u8>,
    /// It calls the first at the start.
    pub(super) is_started: bool,
}

/// Exports get their position as a name. Functions that the component has made before it needs the module are imported;
/// the others are called through a table.
pub(super) fn write(
    linked: &Linked<'_>,
    live: &Live,
    exports: &[(Kind, Origin)],
    is_early: impl Fn(u32) -> bool,
) -> Option<Written> {
    let (early, late): (Vec<u32>, Vec<u32>) =
        live.canonical.iter().partition(|index| is_early(**index));
    let mut writer = Writer::new(linked, live);
    writer.imports(&early)?;
    let defined = writer.number_functions(&late)?;
    writer.number_others(&late)?;
    if writer.table_section.len() > TABLES_MAX {
        return None;
    }
    writer.code(&defined, &late)?;
    writer.elements()?;
    writer.data()?;
    for (name, (kind, origin)) in exports.iter().enumerate() {
        let (kind, index) = match kind {
            Kind::Function => (ExportKind::Func, *writer.functions.get(origin)?),
            Kind::Memory => (ExportKind::Memory, 0),
            Kind::Table | Kind::Global => return None,
        };
        writer.exports.export(&name.to_string(), kind, index);
    }
    let start = match linked.start()? {
        Some(origin) => Some(*writer.functions.get(&origin)?),
        None => None,
    };
    let (own, others) = match late.is_empty() {
        true => (start, None),
        false => (None, start),
    };
    if let Some(start) = others {
        writer.exports.export(START, ExportKind::Func, start);
    }
    Some(Written {
        filler: filler(linked, &late, others.is_some())?,
        is_started: others.is_some(),
        module: writer.finish(own),
        early,
        late,
    })
}

/// The types that are used, each once.
#[derive(Default)]
struct Types {
    section: TypeSection,
    indices: HashMap<FuncType, u32>,
}

impl Types {
    fn index(&mut self, ty: &FuncType) -> Option<u32> {
        if let Some(index) = self.indices.get(ty) {
            return Some(*index);
        }
        let encoded = RoundtripReencoder.func_type(ty.clone()).ok()?;
        self.section.ty().func_type(&encoded);
        let index = u32::try_from(self.indices.len()).ok()?;
        self.indices.insert(ty.clone(), index);
        Some(index)
    }
}

struct Writer<'a> {
    linked: &'a Linked<'a>,
    live: &'a Live,
    types: Types,
    functions: HashMap<Origin, u32>,
    tables: HashMap<Origin, u32>,
    globals: HashMap<Origin, u32>,
    /// The segments by module and index there.
    segments: HashMap<(usize, u32), u32>,
    /// The first segment of data of each module.
    data_firsts: Vec<u32>,
    /// Code names segments of data.
    is_data_named: bool,
    /// The functions that code takes references of.
    referred: BTreeSet<u32>,
    import_section: ImportSection,
    function_section: FunctionSection,
    table_section: TableSection,
    memory_section: MemorySection,
    global_section: GlobalSection,
    exports: ExportSection,
    element_section: ElementSection,
    code_section: CodeSection,
    data_section: DataSection,
    names: NameMap,
}

impl<'a> Writer<'a> {
    fn new(linked: &'a Linked<'a>, live: &'a Live) -> Self {
        Self {
            linked,
            live,
            types: Types::default(),
            functions: HashMap::new(),
            tables: HashMap::new(),
            globals: HashMap::new(),
            segments: HashMap::new(),
            data_firsts: Vec::new(),
            is_data_named: false,
            referred: BTreeSet::new(),
            import_section: ImportSection::new(),
            function_section: FunctionSection::new(),
            table_section: TableSection::new(),
            memory_section: MemorySection::new(),
            global_section: GlobalSection::new(),
            exports: ExportSection::new(),
            element_section: ElementSection::new(),
            code_section: CodeSection::new(),
            data_section: DataSection::new(),
            names: NameMap::new(),
        }
    }

    fn imports(&mut self, early: &[u32]) -> Option<()> {
        for (name, canonical) in (0_u32..).zip(early) {
            let origin = Origin::Canonical(*canonical);
            let ty = self.types.index(self.linked.function_type(origin)?)?;
            self.import_section
                .import("", &name.to_string(), EntityType::Function(ty));
            self.functions.insert(origin, name);
        }
        Some(())
    }

    /// Gives every function its index, in the order in which their code is written.
    fn number_functions(&mut self, late: &[u32]) -> Option<Vec<Origin>> {
        let mut defined = Vec::new();
        for (number, module) in self.linked.modules.iter().enumerate() {
            let first = module.imported(Kind::Function);
            for index in first..first + module.functions.len() {
                let index = u32::try_from(index).ok()?;
                let origin = Origin::Defined {
                    module: number,
                    index,
                };
                if self.live.functions.contains(&origin) {
                    defined.push(origin);
                }
            }
        }
        let calls = late.iter().map(|index| Origin::Canonical(*index));
        for origin in defined.iter().copied().chain(calls) {
            let ty = self.types.index(self.linked.function_type(origin)?)?;
            self.function_section.function(ty);
            let index = u32::try_from(self.functions.len()).ok()?;
            self.functions.insert(origin, index);
            if let Origin::Defined { module, index: old } = origin
                && let Some(name) = self.linked.modules[module].names.get(&old)
            {
                self.names.append(index, name);
            }
        }
        Some(defined)
    }

    fn number_others(&mut self, late: &[u32]) -> Option<()> {
        let mut data: u32 = 0;
        for (number, module) in self.linked.modules.iter().enumerate() {
            for (table, defined) in module.tables.iter().zip(module.imported(Kind::Table)..) {
                let index = u32::try_from(defined).ok()?;
                let origin = Origin::Defined {
                    module: number,
                    index,
                };
                if self.live.tables.contains(&origin) {
                    self.tables.insert(origin, self.table_section.len());
                    let table = RoundtripReencoder.table_type(*table).ok()?;
                    self.table_section.table(table);
                }
            }
            for memory in &module.memories {
                let memory = RoundtripReencoder.memory_type(*memory).ok()?;
                self.memory_section.memory(memory);
            }
            for (global, defined) in module.globals.iter().zip(module.imported(Kind::Global)..) {
                let index = u32::try_from(defined).ok()?;
                let origin = Origin::Defined {
                    module: number,
                    index,
                };
                if self.instruction_of(origin).is_none() {
                    self.globals.insert(origin, self.global_section.len());
                    let ty = RoundtripReencoder.global_type(global.ty).ok()?;
                    let init = self.expression(self.linked.constant(origin)?)?;
                    self.global_section.global(ty, &init);
                }
            }
            self.data_firsts.push(data);
            data = data.checked_add(u32::try_from(module.data.len()).ok()?)?;
        }
        if !late.is_empty() {
            self.exports
                .export(TABLE, ExportKind::Table, self.table_section.len());
            self.table_section.table(table_of(late)?);
        }
        let mut next = 0;
        for (number, module) in self.linked.modules.iter().enumerate() {
            for (index, element) in (0_u32..).zip(&module.elements) {
                if let ElementKind::Active { table_index, .. } = &element.kind {
                    let table = table_index.unwrap_or(0);
                    let table = self.linked.origin(number, Kind::Table, table)?;
                    if !self.tables.contains_key(&table) {
                        continue;
                    }
                }
                self.segments.insert((number, index), next);
                next += 1;
            }
        }
        Some(())
    }

    /// The instruction that gives the value of a global that never changes.
    fn instruction_of(&self, global: Origin) -> Option<Instruction<'static>> {
        if self.live.changed_globals.contains(&global) {
            return None;
        }
        Some(match self.linked.constant(global)? {
            Constant::I32(value) => Instruction::I32Const(value),
            Constant::I64(value) => Instruction::I64Const(value),
            Constant::F32(bits) => Instruction::F32Const(wasm_encoder::Ieee32::new(bits)),
            Constant::F64(bits) => Instruction::F64Const(wasm_encoder::Ieee64::new(bits)),
            Constant::V128(_) | Constant::Null(_) | Constant::Function(_) => return None,
        })
    }

    fn expression(&self, constant: Constant) -> Option<ConstExpr> {
        Some(match constant {
            Constant::I32(value) => ConstExpr::i32_const(value),
            Constant::I64(value) => ConstExpr::i64_const(value),
            Constant::F32(bits) => ConstExpr::f32_const(wasm_encoder::Ieee32::new(bits)),
            Constant::F64(bits) => ConstExpr::f64_const(wasm_encoder::Ieee64::new(bits)),
            Constant::V128(value) => ConstExpr::v128_const(value),
            Constant::Null(ty @ wasmparser::HeapType::Abstract { .. }) => {
                ConstExpr::ref_null(RoundtripReencoder.heap_type(ty).ok()?)
            }
            Constant::Null(_) => return None,
            Constant::Function(origin) => ConstExpr::ref_func(*self.functions.get(&origin)?),
        })
    }

    fn finish(self, start: Option<u32>) -> Vec<u8> {
        let mut module = wasm_encoder::Module::new();
        module
            .section(&self.types.section)
            .section(&self.import_section)
            .section(&self.function_section)
            .section(&self.table_section)
            .section(&self.memory_section)
            .section(&self.global_section)
            .section(&self.exports);
        if let Some(function_index) = start {
            module.section(&StartSection { function_index });
        }
        module.section(&self.element_section);
        if self.is_data_named {
            module.section(&DataCountSection {
                count: self.data_section.len(),
            });
        }
        module
            .section(&self.code_section)
            .section(&self.data_section);
        if !self.names.is_empty() {
            let mut names = NameSection::new();
            names.functions(&self.names);
            module.section(&names);
        }
        module.finish()
    }
}

/// The table that the functions come in, which the module calls through.
fn table_of(late: &[u32]) -> Option<TableType> {
    let size = u64::try_from(late.len()).ok()?;
    Some(TableType {
        element_type: RefType::FUNCREF,
        table64: false,
        minimum: size,
        maximum: Some(size),
        shared: false,
    })
}

/// The module that fills the table.
fn filler(linked: &Linked<'_>, late: &[u32], is_started: bool) -> Option<Vec<u8>> {
    let mut types = Types::default();
    let mut imports = ImportSection::new();
    imports.import("", TABLE, table_of(late)?);
    for (name, canonical) in late.iter().enumerate() {
        let ty = types.index(linked.function_type(Origin::Canonical(*canonical))?)?;
        imports.import("", &name.to_string(), EntityType::Function(ty));
    }
    let count = u32::try_from(late.len()).ok()?;
    if is_started {
        let ty = types.index(&FuncType::new([], []))?;
        imports.import("", START, EntityType::Function(ty));
    }
    let mut elements = ElementSection::new();
    elements.active(
        None,
        &ConstExpr::i32_const(0),
        Elements::Functions((0..count).collect()),
    );
    let mut module = wasm_encoder::Module::new();
    module.section(&types.section).section(&imports);
    if is_started {
        module.section(&StartSection {
            function_index: count,
        });
    }
    module.section(&elements);
    Some(module.finish())
}

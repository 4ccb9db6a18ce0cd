//! A core module, read as far as linking needs it, and what each of its functions refers to.

use std::collections::HashMap;
use std::convert::Infallible;

use wasm_encoder::reencode::{self, Reencode};
use wasmparser::{
    CompositeInnerType, Data, Element, ExternalKind, FuncType, FunctionBody, Global, Import,
    KnownCustom, MemoryType, Name, Operator, Parser, Payload, RefType, TableInit, TableType,
    TypeRef, ValType,
};

/// What modules share with each other, as positions in an array of four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Function,
    Table,
    Memory,
    Global,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Function, Self::Table, Self::Memory, Self::Global];

    /// Nothing for what is not merged.
    pub(super) fn of(kind: ExternalKind) -> Option<Self> {
        Some(match kind {
            ExternalKind::Func => Self::Function,
            ExternalKind::Table => Self::Table,
            ExternalKind::Memory => Self::Memory,
            ExternalKind::Global => Self::Global,
            ExternalKind::Tag | ExternalKind::FuncExact => return None,
        })
    }
}

/// A module of a component. Indices in it are those of the module: what it imports comes first.
#[derive(Default)]
pub(super) struct Module<'a> {
    pub(super) types: Vec<FuncType>,
    /// The imports of each kind.
    pub(super) imports: [Vec<Import<'a>>; 4],
    /// The types of the functions it defines.
    pub(super) functions: Vec<u32>,
    pub(super) tables: Vec<TableType>,
    pub(super) memories: Vec<MemoryType>,
    pub(super) globals: Vec<Global<'a>>,
    pub(super) exports: HashMap<&'a str, (Kind, u32)>,
    pub(super) start: Option<u32>,
    pub(super) elements: Vec<Element<'a>>,
    pub(super) data: Vec<Data<'a>>,
    pub(super) bodies: Vec<FunctionBody<'a>>,
    /// What the functions it defines refer to.
    pub(super) uses: Vec<Uses>,
    pub(super) names: HashMap<u32, &'a str>,
}

impl<'a> Module<'a> {
    /// Nothing when it has something that is not merged.
    pub(super) fn read(wasm: &'a [u8]) -> Option<Self> {
        let mut module = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.ok()? {
                Payload::Version { .. }
                | Payload::CodeSectionStart { .. }
                // There when an instruction names a segment, which is found out anew.
                | Payload::DataCountSection { .. }
                | Payload::End(_) => {}
                Payload::TypeSection(section) => {
                    for group in section {
                        let group = group.ok()?;
                        let is_single = group.types().len() == 1;
                        let ty = group.types().next().filter(|_| is_single)?;
                        let is_plain = ty.is_final
                            && ty.supertype_idx.is_none()
                            && !ty.composite_type.shared;
                        match &ty.composite_type.inner {
                            CompositeInnerType::Func(function)
                                if is_plain && names_no_type(function) =>
                            {
                                module.types.push(function.clone());
                            }
                            _ => return None,
                        }
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.ok()?;
                        let kind = match import.ty {
                            TypeRef::Func(_) => Kind::Function,
                            TypeRef::Table(_) => Kind::Table,
                            TypeRef::Memory(_) => Kind::Memory,
                            TypeRef::Global(_) => Kind::Global,
                            TypeRef::Tag(_) | TypeRef::FuncExact(_) => return None,
                        };
                        module.imports[kind as usize].push(import);
                    }
                }
                Payload::FunctionSection(section) => {
                    module.functions = section.into_iter().collect::<Result<_, _>>().ok()?;
                }
                Payload::TableSection(section) => {
                    for table in section {
                        let table = table.ok()?;
                        if table.ty.table64
                            || table.ty.shared
                            || matches!(table.init, TableInit::Expr(_))
                        {
                            return None;
                        }
                        module.tables.push(table.ty);
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        let memory = memory.ok()?;
                        if memory.memory64 || memory.shared || memory.page_size_log2.is_some() {
                            return None;
                        }
                        module.memories.push(memory);
                    }
                }
                Payload::GlobalSection(section) => {
                    module.globals = section.into_iter().collect::<Result<_, _>>().ok()?;
                    if module.globals.iter().any(|global| global.ty.shared) {
                        return None;
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export.ok()?;
                        let kind = Kind::of(export.kind)?;
                        module.exports.insert(export.name, (kind, export.index));
                    }
                }
                Payload::StartSection { func, .. } => module.start = Some(func),
                Payload::ElementSection(section) => {
                    module.elements = section.into_iter().collect::<Result<_, _>>().ok()?;
                }
                Payload::DataSection(section) => {
                    module.data = section.into_iter().collect::<Result<_, _>>().ok()?;
                }
                Payload::CodeSectionEntry(body) => module.bodies.push(body),
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        module.names = function_names(names);
                    }
                }
                _ => return None,
            }
        }
        module.uses = module
            .bodies
            .iter()
            .map(Uses::read)
            .collect::<Option<_>>()?;
        Some(module)
    }

    /// How many of a kind are imported, which is the index of the first that is defined.
    pub(super) fn imported(&self, kind: Kind) -> usize {
        self.imports[kind as usize].len()
    }

    /// Where among those it defines, of those of a kind.
    pub(super) fn defined(&self, kind: Kind, index: u32) -> usize {
        index as usize - self.imported(kind)
    }

    pub(super) fn function_type(&self, index: u32) -> Option<&FuncType> {
        let ty = match self.imports[Kind::Function as usize].get(index as usize) {
            Some(import) => match import.ty {
                TypeRef::Func(ty) => ty,
                _ => return None,
            },
            None => *self.functions.get(self.defined(Kind::Function, index))?,
        };
        self.types.get(ty as usize)
    }
}

/// For people who read a trace. What cannot be read has none.
fn function_names(section: wasmparser::NameSectionReader<'_>) -> HashMap<u32, &str> {
    let mut names = HashMap::new();
    for part in section.into_iter().map_while(Result::ok) {
        if let Name::Function(map) = part {
            names.extend(
                map.into_iter()
                    .map_while(Result::ok)
                    .map(|naming| (naming.index, naming.name)),
            );
        }
    }
    names
}

/// What a function refers to, by the indices of its module.
#[derive(Default)]
pub(super) struct Uses {
    pub(super) functions: Vec<u32>,
    pub(super) tables: Vec<u32>,
    /// Of these, what else than a call, a read or a look at the size is done to.
    pub(super) changed_tables: Vec<u32>,
    pub(super) changed_globals: Vec<u32>,
    /// It does nothing but hand its parameters on.
    pub(super) forward: Option<Forward>,
    is_change: bool,
}

/// A call with all parameters of what stands in a table.
#[derive(Clone, Copy)]
pub(super) struct Forward {
    pub(super) parameters: u32,
    pub(super) table: u32,
    pub(super) entry: u32,
    pub(super) ty: u32,
}

impl Uses {
    fn read(body: &FunctionBody<'_>) -> Option<Self> {
        let mut uses = Self {
            forward: forward(body),
            ..Self::default()
        };
        let mut operators = body.get_operators_reader().ok()?;
        while !operators.eof() {
            let operator = operators.read().ok()?;
            uses.is_change = !matches!(
                operator,
                Operator::GlobalGet { .. }
                    | Operator::CallIndirect { .. }
                    | Operator::ReturnCallIndirect { .. }
                    | Operator::TableGet { .. }
                    | Operator::TableSize { .. }
            );
            // What comes of it is thrown away: it calls the methods below for all it names.
            uses.instruction(operator).ok()?;
        }
        for list in [
            &mut uses.functions,
            &mut uses.tables,
            &mut uses.changed_tables,
        ] {
            list.sort_unstable();
            list.dedup();
        }
        Some(uses)
    }
}

impl Reencode for Uses {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        self.functions.push(index);
        Ok(index)
    }

    fn table_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        self.tables.push(index);
        if self.is_change {
            self.changed_tables.push(index);
        }
        Ok(index)
    }

    fn global_index(&mut self, index: u32) -> Result<u32, reencode::Error> {
        if self.is_change {
            self.changed_globals.push(index);
        }
        Ok(index)
    }
}

fn forward(body: &FunctionBody<'_>) -> Option<Forward> {
    if body.get_locals_reader().ok()?.get_count() > 0 {
        return None;
    }
    let mut operators = body.get_operators_reader().ok()?;
    let mut parameters = 0;
    loop {
        match operators.read().ok()? {
            Operator::LocalGet { local_index } if local_index == parameters => parameters += 1,
            Operator::I32Const { value } => {
                let Operator::CallIndirect {
                    type_index,
                    table_index,
                } = operators.read().ok()?
                else {
                    return None;
                };
                let is_all = matches!(operators.read().ok()?, Operator::End) && operators.eof();
                return is_all.then_some(Forward {
                    parameters,
                    table: table_index,
                    entry: value.cast_unsigned(),
                    ty: type_index,
                });
            }
            _ => return None,
        }
    }
}

/// Types are told apart by their content, which an index in it is not.
fn names_no_type(function: &FuncType) -> bool {
    let mut types = function.params().iter().chain(function.results());
    types.all(|ty| match ty {
        ValType::Ref(reference) => [RefType::FUNCREF, RefType::EXTERNREF].contains(reference),
        _ => true,
    })
}

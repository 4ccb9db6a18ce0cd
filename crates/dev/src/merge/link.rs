//! Which definition every index of every module stands for, and what it is when the component is instantiated.

use std::collections::{HashMap, HashSet};

use wasmparser::{ConstExpr, Element, ElementItems, FuncType, HeapType, Operator};

use super::module::{Kind, Module};
use super::outer::{Instance, Item, Outer};

/// A shim leads to an adapter and that, at most, to another shim.
const FORWARDS_MAX: usize = 8;

/// What an index stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// A module's own, by its index there.
    Defined { module: usize, index: u32 },
    /// The core function with that index that the component makes.
    Canonical(u32),
}

/// What a constant expression comes to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Constant {
    I32(i32),
    I64(i64),
    F32(u32),
    F64(u64),
    V128(i128),
    Null(HeapType),
    Function(Origin),
}

/// The modules of a component, in the order in which they are instantiated.
pub(super) struct Linked<'a> {
    pub(super) modules: Vec<Module<'a>>,
    /// By module, kind and index.
    origins: Vec<[Vec<Origin>; 4]>,
    /// By module, of the globals it defines.
    pub(super) constants: Vec<Vec<Constant>>,
    /// Functions that only hand on to another.
    pub(super) forwards: HashMap<Origin, Origin>,
    /// The modules by the core instances of the component.
    numbers: HashMap<u32, usize>,
}

impl<'a> Linked<'a> {
    /// Nothing when there is something that is not merged.
    pub(super) fn new(outer: &Outer<'a>) -> Option<Self> {
        let mut linked = Self {
            modules: Vec::new(),
            origins: Vec::new(),
            constants: Vec::new(),
            forwards: HashMap::new(),
            numbers: HashMap::new(),
        };
        let mut taken = HashSet::new();
        for (index, instance) in (0_u32..).zip(&outer.instances) {
            let Instance::Of { module, with } = instance else {
                continue;
            };
            // A second instance has a memory and globals of its own.
            if !taken.insert(*module) {
                return None;
            }
            let module = Module::read(outer.modules.get(*module as usize)?)?;
            let mut origins: [Vec<Origin>; 4] = Default::default();
            for kind in Kind::ALL {
                for import in &module.imports[kind as usize] {
                    let (_, from) = with.iter().find(|(name, _)| *name == import.module)?;
                    let origin = linked.export(outer, *from, import.name, kind)?;
                    origins[kind as usize].push(origin);
                }
                let first = module.imported(kind);
                let count = match kind {
                    Kind::Function => module.functions.len(),
                    Kind::Table => module.tables.len(),
                    Kind::Memory => module.memories.len(),
                    Kind::Global => module.globals.len(),
                };
                for defined in first..first + count {
                    origins[kind as usize].push(Origin::Defined {
                        module: linked.modules.len(),
                        index: u32::try_from(defined).ok()?,
                    });
                }
            }
            let number = linked.modules.len();
            linked.numbers.insert(index, number);
            linked.modules.push(module);
            linked.origins.push(origins);
            linked.constants.push(Vec::new());
            for global in 0..linked.modules[number].globals.len() {
                let init = linked.modules[number].globals[global].init_expr.clone();
                let constant = linked.evaluate(number, &init)?;
                linked.constants[number].push(constant);
            }
        }
        // Only the last that is instantiated can run code at that, or it would run too late.
        let (_, others) = linked.modules.split_last()?;
        let memories: usize = linked
            .modules
            .iter()
            .map(|module| module.memories.len())
            .sum();
        if memories > 1 || others.iter().any(|module| module.start.is_some()) {
            return None;
        }
        linked.forwards = linked.forwards()?;
        Some(linked)
    }

    /// What an export of a core instance stands for.
    fn export(&self, outer: &Outer<'a>, instance: u32, name: &str, kind: Kind) -> Option<Origin> {
        let (mut instance, mut name) = (instance, name);
        // An item is of an instance before it, so this ends.
        loop {
            match outer.instances.get(instance as usize)? {
                Instance::Of { .. } => {
                    let number = *self.numbers.get(&instance)?;
                    let (found, index) = *self.modules[number].exports.get(name)?;
                    let origins = &self.origins[number][kind as usize];
                    return (found == kind).then(|| origins[index as usize]);
                }
                Instance::Names(names) => {
                    let export = names.iter().find(|export| export.name == name)?;
                    if Kind::of(export.kind)? != kind {
                        return None;
                    }
                    match outer.items[kind as usize].get(export.index as usize)? {
                        Item::Canonical => return Some(Origin::Canonical(export.index)),
                        Item::Export {
                            instance: before, ..
                        } if *before >= instance => return None,
                        Item::Export {
                            instance: before,
                            name: found,
                        } => (instance, name) = (*before, found),
                    }
                }
            }
        }
    }

    /// What a core item of the component stands for.
    pub(super) fn item(&self, outer: &Outer<'a>, kind: Kind, index: u32) -> Option<Origin> {
        let origin = match outer.items[kind as usize].get(index as usize)? {
            Item::Canonical => Origin::Canonical(index),
            Item::Export { instance, name } => self.export(outer, *instance, name, kind)?,
        };
        self.beyond(kind, origin)
    }

    /// What an index of a module stands for.
    pub(super) fn origin(&self, module: usize, kind: Kind, index: u32) -> Option<Origin> {
        let origin = *self.origins[module][kind as usize].get(index as usize)?;
        self.beyond(kind, origin)
    }

    /// What runs when all modules are there.
    pub(super) fn start(&self) -> Option<Option<Origin>> {
        let last = self.modules.len().checked_sub(1)?;
        match self.modules[last].start {
            Some(index) => self.origin(last, Kind::Function, index).map(Some),
            None => Some(None),
        }
    }

    /// What functions that only hand on lead to.
    fn beyond(&self, kind: Kind, origin: Origin) -> Option<Origin> {
        if kind != Kind::Function {
            return Some(origin);
        }
        let mut origin = origin;
        for _ in 0..FORWARDS_MAX {
            match self.forwards.get(&origin) {
                Some(next) => origin = *next,
                None => return Some(origin),
            }
        }
        None
    }

    /// The value of a global when the component is instantiated.
    pub(super) fn constant(&self, global: Origin) -> Option<Constant> {
        let Origin::Defined { module, index } = global else {
            return None;
        };
        let defined = self.modules[module].defined(Kind::Global, index);
        self.constants[module].get(defined).copied()
    }

    /// Nothing for an expression that is not known.
    pub(super) fn evaluate(&self, module: usize, expression: &ConstExpr<'_>) -> Option<Constant> {
        let mut stack = Vec::new();
        for operator in expression.get_operators_reader() {
            let mut i32s = |with: fn(i32, i32) -> i32| match (stack.pop()?, stack.pop()?) {
                (Constant::I32(right), Constant::I32(left)) => {
                    Some(Constant::I32(with(left, right)))
                }
                _ => None,
            };
            let constant = match operator.ok()? {
                Operator::I32Const { value } => Constant::I32(value),
                Operator::I64Const { value } => Constant::I64(value),
                Operator::F32Const { value } => Constant::F32(value.bits()),
                Operator::F64Const { value } => Constant::F64(value.bits()),
                Operator::V128Const { value } => Constant::V128(value.i128()),
                Operator::RefNull { hty } => Constant::Null(hty),
                Operator::RefFunc { function_index } => {
                    Constant::Function(self.origin(module, Kind::Function, function_index)?)
                }
                Operator::GlobalGet { global_index } => {
                    self.constant(self.origin(module, Kind::Global, global_index)?)?
                }
                Operator::I32Add => i32s(i32::wrapping_add)?,
                Operator::I32Sub => i32s(i32::wrapping_sub)?,
                Operator::I32Mul => i32s(i32::wrapping_mul)?,
                Operator::End => break,
                _ => return None,
            };
            stack.push(constant);
        }
        let constant = stack.pop()?;
        stack.is_empty().then_some(constant)
    }

    /// Where a segment begins.
    pub(super) fn offset(&self, module: usize, expression: &ConstExpr<'_>) -> Option<u32> {
        match self.evaluate(module, expression)? {
            Constant::I32(offset) => Some(offset.cast_unsigned()),
            _ => None,
        }
    }

    /// What stands in a segment.
    pub(super) fn content(&self, module: usize, element: &Element<'_>) -> Option<Vec<Constant>> {
        match &element.items {
            ElementItems::Functions(functions) => functions
                .clone()
                .into_iter()
                .map(|index| {
                    let origin = self.origin(module, Kind::Function, index.ok()?)?;
                    Some(Constant::Function(origin))
                })
                .collect(),
            ElementItems::Expressions(_, expressions) => expressions
                .clone()
                .into_iter()
                .map(|expression| self.evaluate(module, &expression.ok()?))
                .collect(),
        }
    }

    /// The type of a function, from a module that knows it.
    pub(super) fn function_type(&self, origin: Origin) -> Option<&FuncType> {
        if let Origin::Defined { module, index } = origin {
            return self.modules[module].function_type(index);
        }
        for (module, origins) in self.modules.iter().zip(&self.origins) {
            let functions = &origins[Kind::Function as usize];
            let index = functions.iter().position(|found| *found == origin);
            if let Some(index) = index {
                return module.function_type(u32::try_from(index).ok()?);
            }
        }
        None
    }
}

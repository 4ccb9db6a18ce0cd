//! The component anew, around the one module.

use std::collections::{HashMap, HashSet};

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, Component, ComponentAliasSection, ComponentTypeSection,
    ExportKind, InstanceSection, ModuleArg, RawSection,
};

use super::link::{Linked, Origin};
use super::module::Kind;
use super::outer::{Outer, Unit};
use super::write::{self, START, TABLE, Written};

/// Nothing when the component is to stay as it is.
pub(super) fn compose(outer: &Outer<'_>) -> Option<Vec<u8>> {
    let is_instance = |unit: &Unit<'_>| matches!(unit, Unit::Instance);
    let first = outer.units.iter().position(is_instance)?;
    let last = outer.units.iter().rposition(is_instance)?;
    // Nothing may run while some of the modules are there and others are not.
    let is_running = |unit: &Unit<'_>| {
        matches!(
            unit,
            Unit::Section {
                is_running: true,
                ..
            }
        )
    };
    if first == last || outer.units[first..last].iter().any(is_running) {
        return None;
    }
    let linked = Linked::new(outer)?;
    let mut exports: Vec<(Kind, Origin)> = Vec::new();
    let mut place = last;
    let mut moved = Moved::default();
    let mut kept = HashSet::new();
    for (number, unit) in outer.units.iter().enumerate() {
        let mut needs = Needs::default();
        encode(unit, &mut Component::new(), &mut needs)?;
        for (kind, index) in needs.items {
            match linked.item(outer, kind, index)? {
                Origin::Canonical(canonical) => {
                    kept.insert(canonical);
                    moved.canonical.insert(index, canonical);
                }
                origin @ Origin::Defined { .. } => {
                    place = place.min(number);
                    if !exports.contains(&(kind, origin)) {
                        exports.push((kind, origin));
                    }
                }
            }
        }
    }
    let functions = exports.iter().filter(|(kind, _)| *kind == Kind::Function);
    let functions: Vec<Origin> = functions.map(|(_, origin)| *origin).collect();
    let live = linked.live(&functions)?;
    kept.extend(&live.canonical);
    let made = outer.units[..place].iter().filter_map(Unit::makes);
    let early: HashSet<u32> = made.collect();
    let written = write::write(&linked, &live, &exports, |index| early.contains(&index))?;
    let composer = Composer {
        outer,
        linked: &linked,
        written: &written,
        exports: &exports,
        component: Component::new(),
        moved,
        functions: 0,
        modules: 0,
        instances: 0,
        start: None,
    };
    composer.compose(place, last, &kept)
}

/// Writes what is not about instances of core modules.
fn encode<T: ReencodeComponent>(
    unit: &Unit<'_>,
    component: &mut Component,
    reencode: &mut T,
) -> Option<()> {
    match unit {
        Unit::Section { id, data, .. } => {
            component.section(&RawSection { id: *id, data });
        }
        Unit::Types(types) => {
            let mut section = ComponentTypeSection::new();
            reencode
                .parse_component_type_section(&mut section, types.clone())
                .ok()?;
            component.section(&section);
        }
        Unit::Alias(alias) => {
            let mut section = ComponentAliasSection::new();
            section.alias(reencode.component_alias(alias.clone()).ok()?);
            component.section(&section);
        }
        Unit::Canonical { function, .. } => {
            let mut section = CanonicalFunctionSection::new();
            reencode
                .parse_component_canonical(&mut section, function.clone())
                .ok()?;
            component.section(&section);
        }
        Unit::Instance => {}
    }
    Some(())
}

/// The core items that a part of the component names.
#[derive(Default)]
struct Needs {
    items: Vec<(Kind, u32)>,
}

impl Needs {
    fn add(&mut self, kind: Kind, index: u32) -> Result<u32, Error> {
        self.items.push((kind, index));
        Ok(index)
    }
}

impl Reencode for Needs {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error> {
        self.add(Kind::Function, index)
    }

    fn table_index(&mut self, index: u32) -> Result<u32, Error> {
        self.add(Kind::Table, index)
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, Error> {
        self.add(Kind::Memory, index)
    }

    fn global_index(&mut self, index: u32) -> Result<u32, Error> {
        self.add(Kind::Global, index)
    }
}

impl ReencodeComponent for Needs {}

/// Where core functions and memories are now.
#[derive(Default)]
struct Moved {
    functions: HashMap<u32, u32>,
    /// Functions that the component makes, by what it calls them.
    canonical: HashMap<u32, u32>,
    memories: HashMap<u32, u32>,
}

/// There is none such now.
#[derive(Debug)]
struct Lost;

impl Reencode for Moved {
    type Error = Lost;

    fn function_index(&mut self, index: u32) -> Result<u32, Error<Lost>> {
        let index = self.canonical.get(&index).unwrap_or(&index);
        let moved = self.functions.get(index).copied();
        moved.ok_or(Error::UserError(Lost))
    }

    fn table_index(&mut self, _: u32) -> Result<u32, Error<Lost>> {
        Err(Error::UserError(Lost))
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, Error<Lost>> {
        let moved = self.memories.get(&index).copied();
        moved.ok_or(Error::UserError(Lost))
    }
}

impl ReencodeComponent for Moved {}

struct Composer<'a> {
    outer: &'a Outer<'a>,
    linked: &'a Linked<'a>,
    written: &'a Written,
    exports: &'a [(Kind, Origin)],
    component: Component,
    moved: Moved,
    functions: u32,
    modules: u32,
    instances: u32,
    /// What the filler calls at the start.
    start: Option<u32>,
}

impl Composer<'_> {
    fn compose(mut self, place: usize, last: usize, kept: &HashSet<u32>) -> Option<Vec<u8>> {
        for (number, unit) in self.outer.units.iter().enumerate() {
            if number == place {
                self.module()?;
            }
            let makes = unit.makes();
            if makes.is_none_or(|index| kept.contains(&index)) {
                encode(unit, &mut self.component, &mut self.moved)?;
            }
            if let Some(index) = makes.filter(|index| kept.contains(index)) {
                self.moved.functions.insert(index, self.functions);
                self.functions += 1;
            }
            if number == last && !self.written.late.is_empty() {
                self.filler()?;
            }
        }
        Some(self.component.finish())
    }

    /// The module, its instance, and what the component needs of that.
    fn module(&mut self) -> Option<()> {
        let instance = self.instantiate(&self.written.module, &self.written.early, Vec::new())?;
        let mut aliases = ComponentAliasSection::new();
        let mut places: HashMap<(Kind, Origin), u32> = HashMap::new();
        let mut memories = 0;
        for (name, (kind, origin)) in self.exports.iter().enumerate() {
            let (export, next) = match kind {
                Kind::Function => (ExportKind::Func, &mut self.functions),
                Kind::Memory => (ExportKind::Memory, &mut memories),
                Kind::Table | Kind::Global => return None,
            };
            aliases.alias(Alias::CoreInstanceExport {
                instance,
                kind: export,
                name: &name.to_string(),
            });
            places.insert((*kind, *origin), *next);
            *next += 1;
        }
        if !self.written.late.is_empty() {
            aliases.alias(Alias::CoreInstanceExport {
                instance,
                kind: ExportKind::Table,
                name: TABLE,
            });
        }
        if self.written.is_started {
            aliases.alias(Alias::CoreInstanceExport {
                instance,
                kind: ExportKind::Func,
                name: START,
            });
            self.start = Some(self.functions);
            self.functions += 1;
        }
        if !aliases.is_empty() {
            self.component.section(&aliases);
        }
        for kind in [Kind::Function, Kind::Memory] {
            for index in 0..u32::try_from(self.outer.items[kind as usize].len()).ok()? {
                let origin = self.linked.item(self.outer, kind, index)?;
                let Some(place) = places.get(&(kind, origin)) else {
                    continue;
                };
                match kind {
                    Kind::Function => self.moved.functions.insert(index, *place),
                    _ => self.moved.memories.insert(index, *place),
                };
            }
        }
        Some(())
    }

    fn filler(&mut self) -> Option<()> {
        // The only table that the component names.
        let mut with = vec![(TABLE.to_owned(), ExportKind::Table, 0)];
        with.extend(
            self.start
                .map(|index| (START.to_owned(), ExportKind::Func, index)),
        );
        self.instantiate(&self.written.filler, &self.written.late, with)?;
        Some(())
    }

    /// Instantiates a module with functions and what else it imports.
    fn instantiate(
        &mut self,
        module: &[u8],
        functions: &[u32],
        with: Vec<(String, ExportKind, u32)>,
    ) -> Option<u32> {
        self.component.section(&RawSection {
            id: wasm_encoder::ComponentSectionId::CoreModule as u8,
            data: module,
        });
        let mut items = with;
        for (name, index) in functions.iter().enumerate() {
            let moved = *self.moved.functions.get(index)?;
            items.push((name.to_string(), ExportKind::Func, moved));
        }
        let mut instances = InstanceSection::new();
        let mut with = Vec::new();
        if !items.is_empty() {
            let items = items.iter();
            instances.export_items(items.map(|(name, kind, index)| (name.as_str(), *kind, *index)));
            with.push(("", ModuleArg::Instance(self.instances)));
            self.instances += 1;
        }
        instances.instantiate(self.modules, with);
        self.component.section(&instances);
        let instance = self.instances;
        self.instances += 1;
        self.modules += 1;
        Some(instance)
    }
}

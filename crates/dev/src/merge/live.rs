//! What can be reached. Libraries export thousands of functions and addresses that nobody uses.

use std::collections::{BTreeSet, HashSet};

use wasmparser::ElementKind;

use super::link::{Constant, Linked, Origin};
use super::module::Kind;

/// What can be reached.
#[derive(Default)]
pub(super) struct Live {
    pub(super) functions: HashSet<Origin>,
    pub(super) tables: HashSet<Origin>,
    pub(super) canonical: BTreeSet<u32>,
    /// Those that change after they were initialised.
    pub(super) changed_globals: HashSet<Origin>,
}

impl Linked<'_> {
    /// What can be reached from the functions that the component needs.
    pub(super) fn live(&self, needed: &[Origin]) -> Option<Live> {
        let mut live = Live::default();
        let mut left: Vec<Origin> = needed.to_vec();
        for (number, module) in self.modules.iter().enumerate() {
            if let Some(start) = module.start {
                left.push(self.origin(number, Kind::Function, start)?);
            }
            for element in &module.elements {
                if !matches!(element.kind, ElementKind::Active { .. }) {
                    left.extend(functions(&self.content(number, element)?));
                }
            }
            left.extend(functions(&self.constants[number]));
        }
        while let Some(origin) = left.pop() {
            let (module, index) = match origin {
                Origin::Canonical(index) => {
                    live.canonical.insert(index);
                    continue;
                }
                Origin::Defined { module, index } => (module, index),
            };
            if !live.functions.insert(origin) {
                continue;
            }
            let defined = self.modules[module].defined(Kind::Function, index);
            let uses = self.modules[module].uses.get(defined)?;
            for index in &uses.functions {
                left.push(self.origin(module, Kind::Function, *index)?);
            }
            for index in &uses.changed_globals {
                live.changed_globals
                    .insert(self.origin(module, Kind::Global, *index)?);
            }
            for index in &uses.tables {
                let table = self.origin(module, Kind::Table, *index)?;
                if live.tables.insert(table) {
                    self.reach_content(table, &mut left)?;
                }
            }
        }
        Some(live)
    }

    /// What stands in a table can be called.
    fn reach_content(&self, table: Origin, left: &mut Vec<Origin>) -> Option<()> {
        for (number, module) in self.modules.iter().enumerate() {
            for element in &module.elements {
                let ElementKind::Active { table_index, .. } = &element.kind else {
                    continue;
                };
                if self.origin(number, Kind::Table, table_index.unwrap_or(0))? == table {
                    left.extend(functions(&self.content(number, element)?));
                }
            }
        }
        Some(())
    }
}

fn functions(constants: &[Constant]) -> impl Iterator<Item = Origin> + '_ {
    constants.iter().filter_map(|constant| match constant {
        Constant::Function(origin) => Some(*origin),
        _ => None,
    })
}

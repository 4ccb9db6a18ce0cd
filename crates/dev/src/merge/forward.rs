//! What stands in the tables, and the functions of shims, which do nothing but call that.

use std::collections::{HashMap, HashSet};

use wasmparser::{DataKind, ElementKind};

use super::link::{Constant, Linked, Origin};
use super::module::Kind;

const PAGE_BYTES: u64 = 65_536;

impl Linked<'_> {
    /// The functions of shims, which lead to what stands in a table that nobody changes. All segments are looked at:
    /// they lie within their memory or table.
    pub(super) fn forwards(&self) -> Option<HashMap<Origin, Origin>> {
        let mut changed = HashSet::new();
        let mut contents: HashMap<Origin, Vec<Option<Origin>>> = HashMap::new();
        for (number, module) in self.modules.iter().enumerate() {
            for index in module.uses.iter().flat_map(|uses| &uses.changed_tables) {
                changed.insert(self.origin(number, Kind::Table, *index)?);
            }
            for element in &module.elements {
                let ElementKind::Active {
                    table_index,
                    offset_expr,
                } = &element.kind
                else {
                    continue;
                };
                let table = self.origin(number, Kind::Table, table_index.unwrap_or(0))?;
                let size = usize::try_from(self.table_size(table)?).ok()?;
                let at = self.offset(number, offset_expr)? as usize;
                let content = self.content(number, element)?;
                if at.checked_add(content.len())? > size {
                    return None;
                }
                let entries = contents.entry(table).or_default();
                if entries.len() < at + content.len() {
                    entries.resize(at + content.len(), None);
                }
                for (entry, constant) in entries[at..].iter_mut().zip(content) {
                    *entry = match constant {
                        Constant::Function(origin) => Some(origin),
                        _ => None,
                    };
                }
            }
            for data in &module.data {
                if let DataKind::Active {
                    memory_index,
                    offset_expr,
                } = &data.kind
                {
                    let memory = self.origin(number, Kind::Memory, *memory_index)?;
                    let end = u64::from(self.offset(number, offset_expr)?)
                        .checked_add(u64::try_from(data.data.len()).ok()?)?;
                    if end > self.memory_bytes(memory)? {
                        return None;
                    }
                }
            }
        }
        let mut forwards = HashMap::new();
        for (number, module) in self.modules.iter().enumerate() {
            let first = u32::try_from(module.imported(Kind::Function)).ok()?;
            for (index, uses) in (first..).zip(&module.uses) {
                let Some(forward) = uses.forward else {
                    continue;
                };
                let table = self.origin(number, Kind::Table, forward.table)?;
                let entry = contents
                    .get(&table)
                    .and_then(|content| *content.get(forward.entry as usize)?);
                let (false, Some(target)) = (changed.contains(&table), entry) else {
                    continue;
                };
                let own = module.function_type(index)?;
                let is_same = module.types.get(forward.ty as usize) == Some(own)
                    && self.function_type(target) == Some(own)
                    && own.params().len() == forward.parameters as usize;
                if is_same {
                    let own = Origin::Defined {
                        module: number,
                        index,
                    };
                    forwards.insert(own, target);
                }
            }
        }
        Some(forwards)
    }

    fn table_size(&self, table: Origin) -> Option<u64> {
        let Origin::Defined { module, index } = table else {
            return None;
        };
        let module = &self.modules[module];
        let defined = module.defined(Kind::Table, index);
        Some(module.tables.get(defined)?.initial)
    }

    fn memory_bytes(&self, memory: Origin) -> Option<u64> {
        let Origin::Defined { module, index } = memory else {
            return None;
        };
        let module = &self.modules[module];
        let defined = module.defined(Kind::Memory, index);
        module
            .memories
            .get(defined)?
            .initial
            .checked_mul(PAGE_BYTES)
    }
}

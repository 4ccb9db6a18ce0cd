//! A component run by hand, as far as its core modules go: what it imports says what it is called with.

use std::collections::HashMap;

use wasmi::{Caller, Engine, Extern, ExternType, Func, Memory, Module, Store, Val};
use wasmparser::{CanonicalFunction, CanonicalOption};

use crate::merge::module::Kind;
use crate::merge::outer::{Instance, Item, Outer, Unit};

/// What the imports know and have said.
#[derive(Default)]
struct Host {
    said: Vec<String>,
    memories: HashMap<u32, Memory>,
    reallocs: HashMap<u32, Func>,
}

struct Run<'a> {
    outer: &'a Outer<'a>,
    store: Store<Host>,
    instances: HashMap<u32, wasmi::Instance>,
    canonical: HashMap<u32, Func>,
}

/// Calls everything that the component lifts, twice, and gives what was said, what came of it, and the memory.
pub(super) fn run(component: &[u8]) -> (Vec<String>, Vec<Vec<u8>>) {
    let outer = Outer::read(component).unwrap();
    let mut run = Run {
        outer: &outer,
        store: Store::new(&Engine::default(), Host::default()),
        instances: HashMap::new(),
        canonical: HashMap::new(),
    };
    for (index, instance) in (0..).zip(&outer.instances) {
        if let Instance::Of { module, with } = instance {
            run.instantiate(index, outer.modules[*module as usize], with);
        }
    }
    let mut memories = HashMap::new();
    let made = run.canonical.keys().copied().collect::<Vec<_>>();
    for index in made {
        for option in options(&outer, index) {
            match option {
                CanonicalOption::Memory(at) => {
                    let memory = run.memory(at);
                    run.store.data_mut().memories.insert(index, memory);
                }
                CanonicalOption::Realloc(at) => {
                    let realloc = run.item(Kind::Function, at, None).into_func().unwrap();
                    run.store.data_mut().reallocs.insert(index, realloc);
                }
                _ => {}
            }
        }
    }
    for _ in 0..2 {
        for unit in &outer.units {
            let Unit::Canonical { function, .. } = unit else {
                continue;
            };
            let CanonicalFunction::Lift {
                core_func_index,
                options,
                ..
            } = function
            else {
                continue;
            };
            for option in options {
                if let CanonicalOption::Memory(at) = option {
                    memories.insert(*at, run.memory(*at));
                }
            }
            run.call(*core_func_index);
        }
    }
    let mut contents: Vec<Vec<u8>> = memories
        .values()
        .map(|memory| memory.data(&run.store).to_vec())
        .collect();
    contents.sort_unstable();
    (std::mem::take(&mut run.store.data_mut().said), contents)
}

fn options(outer: &Outer<'_>, index: u32) -> Vec<CanonicalOption> {
    let unit = outer.units.iter().find(|unit| unit.makes() == Some(index));
    match unit {
        Some(Unit::Canonical {
            function: CanonicalFunction::Lower { options, .. },
            ..
        }) => options.to_vec(),
        _ => Vec::new(),
    }
}

impl Run<'_> {
    fn instantiate(&mut self, index: u32, module: &[u8], with: &[(&str, u32)]) {
        let module = Module::new(self.store.engine(), module).unwrap();
        let mut externs = Vec::new();
        for import in module.imports() {
            let (_, from) = with
                .iter()
                .find(|(name, _)| *name == import.module())
                .unwrap();
            externs.push(self.export(*from, import.name(), import.ty()));
        }
        let instance = wasmi::Instance::new(&mut self.store, &module, &externs).unwrap();
        self.instances.insert(index, instance);
    }

    fn export(&mut self, instance: u32, name: &str, ty: &ExternType) -> Extern {
        match &self.outer.instances[instance as usize] {
            Instance::Of { .. } => self.instances[&instance]
                .get_export(&self.store, name)
                .unwrap(),
            Instance::Names(names) => {
                let export = names.iter().find(|export| export.name == name).unwrap();
                self.item(Kind::of(export.kind).unwrap(), export.index, Some(ty))
            }
        }
    }

    fn item(&mut self, kind: Kind, index: u32, ty: Option<&ExternType>) -> Extern {
        match &self.outer.items[kind as usize][index as usize] {
            Item::Export { instance, name } => match &self.outer.instances[*instance as usize] {
                Instance::Of { .. } => self.instances[instance]
                    .get_export(&self.store, name)
                    .unwrap(),
                Instance::Names(_) => self.export(*instance, name, ty.unwrap()),
            },
            Item::Canonical => {
                if let Some(function) = self.canonical.get(&index) {
                    return Extern::Func(*function);
                }
                let Some(ExternType::Func(ty)) = ty else {
                    panic!("not a function");
                };
                let function = self.host(index, ty.clone());
                self.canonical.insert(index, function);
                Extern::Func(function)
            }
        }
    }

    fn memory(&mut self, index: u32) -> Memory {
        self.item(Kind::Memory, index, None).into_memory().unwrap()
    }

    /// Says its parameters, what memory has at the first, and what realloc gives; changes memory there.
    fn host(&mut self, index: u32, ty: wasmi::FuncType) -> Func {
        let unit = self.outer.units.iter();
        let unit = unit.clone().find(|unit| unit.makes() == Some(index));
        let name = match unit {
            Some(Unit::Canonical { function, .. }) => match function {
                CanonicalFunction::Lower { func_index, .. } => format!("lower {func_index}"),
                other => format!("{other:?}"),
            },
            _ => panic!("made by nothing"),
        };
        Func::new(
            &mut self.store,
            ty,
            move |mut caller: Caller<'_, Host>, parameters, results| {
                let mut said = format!("{name} {parameters:?}");
                if let Some(memory) = caller.data().memories.get(&index).copied()
                    && let Some(Val::I32(at)) = parameters.first()
                {
                    let byte = &mut memory.data_mut(&mut caller)[*at as usize];
                    said += &format!(" has {byte}");
                    *byte = byte.wrapping_add(1);
                }
                if let Some(realloc) = caller.data().reallocs.get(&index).copied() {
                    let mut place = [Val::I32(0)];
                    let four = [0, 0, 1, 4].map(Val::I32);
                    realloc.call(&mut caller, &four, &mut place)?;
                    said += &format!(" gets {place:?}");
                }
                caller.data_mut().said.push(said);
                for result in results {
                    *result = Val::I32(7);
                }
                Ok(())
            },
        )
    }

    fn call(&mut self, index: u32) {
        let function = self.item(Kind::Function, index, None).into_func().unwrap();
        let ty = function.ty(&self.store);
        let parameters: Vec<Val> = (3..).take(ty.params().len()).map(Val::I32).collect();
        let mut results: Vec<Val> = ty.results().iter().map(|ty| Val::default(*ty)).collect();
        let outcome = function.call(&mut self.store, &parameters, &mut results);
        let outcome = outcome.map_err(|error| error.as_trap_code());
        let said = format!("came {outcome:?} {results:?}");
        self.store.data_mut().said.push(said);
    }
}

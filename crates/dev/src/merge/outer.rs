//! The level of a component on which its core modules are instantiated.

use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentType, ComponentTypeRef, ComponentTypeSectionReader, Export,
    Parser, Payload,
};

use super::module::Kind;

/// A component, without what is nested in it.
#[derive(Default)]
pub(super) struct Outer<'a> {
    /// All of it, in order.
    pub(super) units: Vec<Unit<'a>>,
    pub(super) modules: Vec<&'a [u8]>,
    pub(super) instances: Vec<Instance<'a>>,
    /// The core functions, tables, memories and globals.
    pub(super) items: [Vec<Item<'a>>; 4],
}

pub(super) enum Unit<'a> {
    /// A section that names nothing of core modules.
    Section {
        id: u8,
        data: &'a [u8],
        /// Code can run at that point.
        is_running: bool,
    },
    /// Types that name a function of a core module.
    Types(ComponentTypeSectionReader<'a>),
    /// Of a component's instance, or of what is outside.
    Alias(ComponentAlias<'a>),
    Canonical {
        function: CanonicalFunction,
        /// The core function that it makes.
        makes: Option<u32>,
    },
    /// A core module is instantiated.
    Instance,
}

impl Unit<'_> {
    /// The core function that it makes.
    pub(super) fn makes(&self) -> Option<u32> {
        match self {
            Self::Canonical { makes, .. } => *makes,
            _ => None,
        }
    }
}

pub(super) enum Instance<'a> {
    /// Of the module with that index.
    Of {
        module: u32,
        /// Names and instances.
        with: Vec<(&'a str, u32)>,
    },
    /// Nothing but names for items.
    Names(Vec<Export<'a>>),
}

pub(super) enum Item<'a> {
    /// An export of a core instance.
    Export { instance: u32, name: &'a str },
    /// A function that the component makes.
    Canonical,
}

impl<'a> Outer<'a> {
    /// Nothing when modules are used in another way than to be instantiated.
    pub(super) fn read(wasm: &'a [u8]) -> Option<Self> {
        let mut outer = Self::default();
        let mut depth = 0;
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.ok()?;
            if depth > 0 {
                match payload {
                    Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                    Payload::End(_) => depth -= 1,
                    Payload::ComponentAliasSection(section) => {
                        for alias in section {
                            refuse_module(&alias.ok()?)?;
                        }
                    }
                    _ => {}
                }
                continue;
            }
            if matches!(
                payload,
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. }
            ) {
                depth += 1;
            }
            let section = payload.as_section();
            let section = section.and_then(|(id, range)| Some((id, wasm.get(range)?)));
            outer.add(payload, section)?;
        }
        Some(outer)
    }

    fn add(&mut self, payload: Payload<'a>, section: Option<(u8, &'a [u8])>) -> Option<()> {
        let mut is_running = false;
        match payload {
            Payload::Version { .. } | Payload::End(_) => return Some(()),
            Payload::ModuleSection { .. } => {
                self.modules.push(section?.1);
                return Some(());
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    self.instance(instance.ok()?);
                }
                return Some(());
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.alias(alias.ok()?)?;
                }
                return Some(());
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    self.canonical(function.ok()?)?;
                }
                return Some(());
            }
            Payload::ComponentTypeSection(section) => {
                for ty in section.clone() {
                    if let ComponentType::Resource { dtor: Some(_), .. } = ty.ok()? {
                        self.units.push(Unit::Types(section));
                        return Some(());
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    match instance.ok()? {
                        ComponentInstance::Instantiate { args, .. } => {
                            is_running = true;
                            if args.iter().any(|arg| is_module(arg.kind)) {
                                return None;
                            }
                        }
                        ComponentInstance::FromExports(exports) => {
                            if exports.iter().any(|export| is_module(export.kind)) {
                                return None;
                            }
                        }
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    if matches!(import.ok()?.ty, ComponentTypeRef::Module(_)) {
                        return None;
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    if is_module(export.ok()?.kind) {
                        return None;
                    }
                }
            }
            Payload::ComponentStartSection { .. } => is_running = true,
            // Names of core items by their indices, which change.
            Payload::CustomSection(section) if section.name() == "component-name" => {
                return Some(());
            }
            Payload::CustomSection(_)
            | Payload::ComponentSection { .. }
            | Payload::CoreTypeSection(_) => {}
            _ => return None,
        }
        let (id, data) = section?;
        self.units.push(Unit::Section {
            id,
            data,
            is_running,
        });
        Some(())
    }

    fn instance(&mut self, instance: wasmparser::Instance<'a>) {
        self.instances.push(match instance {
            wasmparser::Instance::Instantiate { module_index, args } => {
                self.units.push(Unit::Instance);
                Instance::Of {
                    module: module_index,
                    with: args.iter().map(|arg| (arg.name, arg.index)).collect(),
                }
            }
            wasmparser::Instance::FromExports(exports) => Instance::Names(exports.into_vec()),
        });
    }

    fn alias(&mut self, alias: ComponentAlias<'a>) -> Option<()> {
        refuse_module(&alias)?;
        if let ComponentAlias::CoreInstanceExport {
            kind,
            instance_index,
            name,
        } = alias
        {
            self.items[Kind::of(kind)? as usize].push(Item::Export {
                instance: instance_index,
                name,
            });
        } else {
            self.units.push(Unit::Alias(alias));
        }
        Some(())
    }

    fn canonical(&mut self, function: CanonicalFunction) -> Option<()> {
        let mut makes = None;
        if !matches!(function, CanonicalFunction::Lift { .. }) {
            let functions = &mut self.items[Kind::Function as usize];
            makes = Some(u32::try_from(functions.len()).ok()?);
            functions.push(Item::Canonical);
        }
        self.units.push(Unit::Canonical { function, makes });
        Some(())
    }
}

fn is_module(kind: ComponentExternalKind) -> bool {
    kind == ComponentExternalKind::Module
}

/// Nothing when the alias is one of a core module.
fn refuse_module(alias: &ComponentAlias<'_>) -> Option<()> {
    let is_of_module = match alias {
        ComponentAlias::InstanceExport { kind, .. } => is_module(*kind),
        ComponentAlias::Outer { kind, .. } => *kind == ComponentOuterAliasKind::CoreModule,
        ComponentAlias::CoreInstanceExport { .. } => false,
    };
    (!is_of_module).then_some(())
}

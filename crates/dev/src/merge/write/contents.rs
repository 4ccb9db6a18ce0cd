//! The code and the segments, with the indices of the one module.

use std::borrow::Cow;

use wasm_encoder::reencode::{Error, Reencode, RoundtripReencoder};
use wasm_encoder::{ConstExpr, ElementMode, ElementSegment, Elements, Function, Instruction};
use wasmparser::{DataKind, ElementItems, ElementKind, FunctionBody, Operator};

use super::Writer;
use crate::merge::link::{Constant, Origin};
use crate::merge::module::Kind;

impl Writer<'_> {
    pub(super) fn code(&mut self, defined: &[Origin], late: &[u32]) -> Option<()> {
        let linked = self.linked;
        for origin in defined {
            let Origin::Defined { module, index } = *origin else {
                continue;
            };
            let code = &linked.modules[module];
            let body = code.bodies.get(code.defined(Kind::Function, index))?;
            let mut recode = Recode {
                writer: self,
                module,
            };
            let function = recode.function(body).ok()?;
            self.code_section.function(&function);
        }
        for (entry, canonical) in (0_i32..).zip(late) {
            let ty = linked.function_type(Origin::Canonical(*canonical))?;
            let mut function = Function::new([]);
            for parameter in 0..u32::try_from(ty.params().len()).ok()? {
                function.instruction(&Instruction::LocalGet(parameter));
            }
            function.instruction(&Instruction::I32Const(entry));
            function.instruction(&Instruction::CallIndirect {
                type_index: self.types.index(ty)?,
                table_index: self.table_section.len().checked_sub(1)?,
            });
            function.instruction(&Instruction::End);
            self.code_section.function(&function);
        }
        Some(())
    }

    pub(super) fn elements(&mut self) -> Option<()> {
        for (number, module) in self.linked.modules.iter().enumerate() {
            for (index, element) in (0_u32..).zip(&module.elements) {
                if !self.segments.contains_key(&(number, index)) {
                    continue;
                }
                let content = self.linked.content(number, element)?;
                let functions: Option<Vec<u32>> = content
                    .iter()
                    .map(|constant| match constant {
                        Constant::Function(origin) => self.functions.get(origin).copied(),
                        _ => None,
                    })
                    .collect();
                let elements = match (&element.items, functions) {
                    (ElementItems::Functions(_), functions) => {
                        Elements::Functions(Cow::Owned(functions?))
                    }
                    // So a node can fill the table when an entry is asked for.
                    (ElementItems::Expressions(ty, _), Some(functions))
                        if *ty == wasmparser::RefType::FUNCREF =>
                    {
                        Elements::Functions(Cow::Owned(functions))
                    }
                    (ElementItems::Expressions(ty, _), _) => {
                        let expressions = content
                            .iter()
                            .map(|constant| self.expression(*constant))
                            .collect::<Option<Vec<_>>>()?;
                        let ty = RoundtripReencoder.ref_type(*ty).ok()?;
                        Elements::Expressions(ty, Cow::Owned(expressions))
                    }
                };
                let offset;
                let mode = match &element.kind {
                    ElementKind::Passive => ElementMode::Passive,
                    ElementKind::Declared => ElementMode::Declared,
                    ElementKind::Active {
                        table_index,
                        offset_expr,
                    } => {
                        let table = table_index.unwrap_or(0);
                        let table = self.linked.origin(number, Kind::Table, table)?;
                        let at = self.linked.offset(number, offset_expr)?;
                        offset = ConstExpr::i32_const(at.cast_signed());
                        let table = *self.tables.get(&table)?;
                        ElementMode::Active {
                            table: (table > 0).then_some(table),
                            offset: &offset,
                        }
                    }
                };
                self.element_section
                    .segment(ElementSegment { mode, elements });
            }
        }
        if !self.referred.is_empty() {
            let referred = self.referred.iter().copied().collect();
            self.element_section.declared(Elements::Functions(referred));
        }
        Some(())
    }

    pub(super) fn data(&mut self) -> Option<()> {
        for (number, module) in self.linked.modules.iter().enumerate() {
            for data in &module.data {
                let bytes = data.data.iter().copied();
                match &data.kind {
                    DataKind::Passive => self.data_section.passive(bytes),
                    DataKind::Active { offset_expr, .. } => {
                        let at = self.linked.offset(number, offset_expr)?;
                        let at = ConstExpr::i32_const(at.cast_signed());
                        self.data_section.active(0, &at, bytes)
                    }
                };
            }
        }
        Some(())
    }
}

/// The code of one of the modules anew.
struct Recode<'w, 'a> {
    writer: &'w mut Writer<'a>,
    module: usize,
}

/// There is no index for something, which ends it all.
#[derive(Debug)]
struct Lost;

type Recoded<T> = Result<T, Error<Lost>>;

impl Recode<'_, '_> {
    fn function(&mut self, body: &FunctionBody<'_>) -> Recoded<Function> {
        let mut function = self.new_function_with_parsed_locals(body)?;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            let known = match operator {
                Operator::GlobalGet { global_index } => {
                    let origin = self.origin(Kind::Global, global_index)?;
                    self.writer.instruction_of(origin)
                }
                _ => None,
            };
            if let Operator::RefFunc { function_index } = operator {
                let referred = self.function_index(function_index)?;
                self.writer.referred.insert(referred);
            }
            let instruction = match known {
                Some(instruction) => instruction,
                None => self.instruction(operator)?,
            };
            function.instruction(&instruction);
        }
        Ok(function)
    }

    fn origin(&self, kind: Kind, index: u32) -> Recoded<Origin> {
        found(self.writer.linked.origin(self.module, kind, index))
    }
}

fn found<T>(found: Option<T>) -> Recoded<T> {
    found.ok_or(Error::UserError(Lost))
}

impl Reencode for Recode<'_, '_> {
    type Error = Lost;

    fn type_index(&mut self, index: u32) -> Recoded<u32> {
        let linked = self.writer.linked;
        let ty = found(linked.modules[self.module].types.get(index as usize))?;
        found(self.writer.types.index(ty))
    }

    fn function_index(&mut self, index: u32) -> Recoded<u32> {
        let origin = self.origin(Kind::Function, index)?;
        found(self.writer.functions.get(&origin).copied())
    }

    fn table_index(&mut self, index: u32) -> Recoded<u32> {
        let origin = self.origin(Kind::Table, index)?;
        found(self.writer.tables.get(&origin).copied())
    }

    /// There is one, at most.
    fn memory_index(&mut self, _: u32) -> Recoded<u32> {
        Ok(0)
    }

    fn global_index(&mut self, index: u32) -> Recoded<u32> {
        let origin = self.origin(Kind::Global, index)?;
        found(self.writer.globals.get(&origin).copied())
    }

    fn tag_index(&mut self, _: u32) -> Recoded<u32> {
        Err(Error::UserError(Lost))
    }

    fn data_index(&mut self, index: u32) -> Recoded<u32> {
        self.writer.is_data_named = true;
        found(self.writer.data_firsts[self.module].checked_add(index))
    }

    fn element_index(&mut self, index: u32) -> Recoded<u32> {
        found(self.writer.segments.get(&(self.module, index)).copied())
    }
}

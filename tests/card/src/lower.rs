//! From instructions as written to instructions made ready: names become rows, opcodes functions.

use std::collections::HashMap;

use crate::access::{Atomic, space_number};
use crate::alu::{Class, Recipe};
use crate::lanes::{LANES, Value};
use crate::machine::{Block, Execute, Fault, Op, Program, Run, Special, Warp};
use crate::matrix::{Element, Fragment, space_of};
use crate::memory::{LOCAL, PARAM, SHARED};
use crate::ptx::{Function, Instruction, Operand, Space, Variable, type_size};
use crate::{access, alu, convert, matrix, mbarrier, tensor};

/// What a name outside registers means: its space and where it lies there.
type Places = HashMap<String, (Space, u64)>;

struct Lowering<'a> {
    function: &'a Function,
    places: Places,
    registers: HashMap<String, (usize, Class)>,
    rows: usize,
    constants: HashMap<(u32, Option<u32>), usize>,
    specials: HashMap<Special, usize>,
    code: Vec<Op>,
    guard: Option<(usize, bool)>,
    line: usize,
    repeatable: bool,
}

/// Makes a kernel ready. `globals`: where the module's variables in global memory were put.
///
/// # Errors
///
/// One line about the first instruction that is not known, with its line number.
pub fn lower(
    function: &Function,
    shared: &[Variable],
    globals: &HashMap<String, u64>,
) -> Result<Program, Fault> {
    let mut places: Places =
        globals.iter().map(|(name, &address)| (name.clone(), (Space::Global, address))).collect();
    let mut params = Vec::new();
    let mut end = 0usize;
    for param in &function.params {
        end = end.next_multiple_of(param.align.max(1));
        places.insert(param.name.clone(), (Space::Param, end as u64));
        params.push((end, param.size));
        end += param.size;
    }
    let (mut static_shared, mut local) = (0usize, 0usize);
    // What the launch sizes comes behind everything else in shared memory.
    let (fixed, dynamic): (Vec<&Variable>, Vec<&Variable>) = shared
        .iter()
        .chain(&function.variables)
        .filter(|v| v.space == Space::Shared)
        .partition(|v| v.size > 0);
    for variable in fixed.iter().chain(&dynamic) {
        static_shared = static_shared.next_multiple_of(variable.align);
        places.insert(variable.name.clone(), (Space::Shared, static_shared as u64));
        static_shared += variable.size;
    }
    for variable in function.variables.iter().filter(|v| v.space == Space::Local) {
        local = local.next_multiple_of(variable.align);
        places.insert(variable.name.clone(), (Space::Local, local as u64));
        local += variable.size;
    }
    let mut lowering = Lowering {
        function,
        places,
        registers: HashMap::new(),
        // Row 0 is nobody's: 0 means none.
        rows: 1,
        constants: HashMap::new(),
        specials: HashMap::new(),
        code: Vec::new(),
        guard: None,
        line: 0,
        repeatable: true,
    };
    let mut starts = Vec::with_capacity(function.body.len());
    let mut branches = Vec::new();
    for instruction in &function.body {
        starts.push(lowering.code.len());
        let at = |fault: Fault| {
            format!("{}, line {}: {fault}: {}", function.name, instruction.line, written(instruction))
        };
        lowering.line = instruction.line;
        lowering.guard = None;
        if let Some((name, negated)) = &instruction.guard {
            lowering.guard = Some((lowering.register(name).map_err(at)?.0, *negated));
        }
        if instruction.opcode.split('.').next() == Some("bra") {
            let Some(Operand::Name(label)) = instruction.operands.first() else {
                return Err(at("a branch to nowhere".to_owned()));
            };
            branches.push((lowering.code.len(), label.clone()));
            lowering.push(Run::Branch(0), [0; 5], 0, Vec::new());
        } else {
            lowering.instruction(instruction).map_err(at)?;
        }
    }
    starts.push(lowering.code.len());
    // A kernel's end is an exit, even where none is written.
    lowering.guard = None;
    lowering.push(Run::Exit, [0; 5], 0, Vec::new());
    for (at, label) in branches {
        let target = starts[function.labels[&label]];
        lowering.code[at].run = Run::Branch(target);
    }
    let mut constants = Vec::new();
    for (&(low, high), &row) in &lowering.constants {
        constants.push((row, low));
        if let Some(high) = high {
            constants.push((row + 1, high));
        }
    }
    Ok(Program {
        name: function.name.clone(),
        code: lowering.code,
        rows: lowering.rows,
        constants,
        specials: lowering.specials.iter().map(|(&special, &row)| (row, special)).collect(),
        params,
        shared: static_shared,
        local,
        repeatable: lowering.repeatable,
    })
}

fn written(instruction: &Instruction) -> String {
    format!("{} {:?}", instruction.opcode, instruction.operands)
}

impl Lowering<'_> {
    fn push(&mut self, run: Run, r: [usize; 5], imm: i64, list: Vec<usize>) {
        self.code.push(Op { run, guard: self.guard, r, imm, list, line: self.line });
    }

    fn compute(&mut self, run: Execute, r: [usize; 5], imm: i64, list: Vec<usize>) {
        self.push(Run::Compute(run), r, imm, list);
    }

    /// What the lanes of a mask, all if there is no operand for it, do together.
    fn together(
        &mut self,
        run: Execute,
        mask: Option<&Operand>,
        r: [usize; 5],
        imm: i64,
        list: Vec<usize>,
    ) -> Result<(), Fault> {
        let row = match mask {
            Some(mask) => self.source(mask, Class::Word, "b32")?,
            None => self.constant(u64::from(u32::MAX), Class::Word),
        };
        self.push(Run::Meet(run, row), r, imm, list);
        Ok(())
    }

    fn new_rows(&mut self, class: Class) -> usize {
        let row = self.rows;
        self.rows += if class == Class::Wide { 2 } else { 1 };
        row
    }

    fn register(&mut self, name: &str) -> Result<(usize, Class), Fault> {
        if let Some(&found) = self.registers.get(name) {
            return Ok(found);
        }
        let kind = self.function.registers.get(name).ok_or_else(|| format!("there is no register {name}"))?;
        let class = match (kind.as_str(), type_size(kind)) {
            ("pred", _) => Class::Predicate,
            (_, Some(8)) => Class::Wide,
            (_, Some(1 | 2 | 4)) => Class::Word,
            _ => return Err(format!("registers of type {kind} are not known")),
        };
        let found = (self.new_rows(class), class);
        self.registers.insert(name.to_owned(), found);
        Ok(found)
    }

    fn constant(&mut self, value: u64, class: Class) -> usize {
        let key = (value as u32, (class == Class::Wide).then_some((value >> 32) as u32));
        if let Some(&row) = self.constants.get(&key) {
            return row;
        }
        let row = self.new_rows(class);
        self.constants.insert(key, row);
        row
    }

    fn special(&mut self, name: &str) -> Option<usize> {
        let axis = |name: &str| ["x", "y", "z"].iter().position(|&a| a == name);
        let special = match name.split_once('.') {
            Some(("%tid", a)) => Special::Thread(axis(a)?),
            Some(("%ntid", a)) => Special::Threads(axis(a)?),
            Some(("%ctaid", a)) => Special::Block(axis(a)?),
            Some(("%nctaid", a)) => Special::Blocks(axis(a)?),
            None if name == "%laneid" => Special::Lane,
            None if name == "%lanemask_lt" => Special::LanesBelow,
            None if name == "%warpid" => Special::Warp,
            _ => return None,
        };
        if let Some(&row) = self.specials.get(&special) {
            return Some(row);
        }
        let row = self.new_rows(Class::Word);
        self.specials.insert(special, row);
        Some(row)
    }

    /// The rows of an operand that is read as `class`, in an instruction of type `kind`.
    fn source(&mut self, operand: &Operand, class: Class, kind: &str) -> Result<usize, Fault> {
        match operand {
            Operand::Name(name) if self.function.registers.contains_key(name) => {
                let (row, held) = self.register(name)?;
                // The low half of a wide register may be read alone.
                let fits = held == class || held == Class::Wide && class == Class::Word;
                if fits { Ok(row) } else { Err(format!("{name} is {held:?} where {class:?} is read")) }
            }
            Operand::Name(name) => {
                if let Some(&(_, at)) = self.places.get(name) {
                    return Ok(self.constant(at, class));
                }
                if name == "WARP_SZ" {
                    return Ok(self.constant(LANES as u64, class));
                }
                self.special(name).ok_or_else(|| format!("{name} is not known"))
            }
            Operand::Int(value) => {
                let value = match kind {
                    "f32" => u64::from((*value as f32).to_bits()),
                    "f64" => (*value as f64).to_bits(),
                    _ => *value as u64,
                };
                Ok(if class == Class::Predicate {
                    self.constant(if value == 0 { 0 } else { u64::from(u32::MAX) }, Class::Word)
                } else {
                    self.constant(value, class)
                })
            }
            Operand::F32(bits) => Ok(self.constant(u64::from(*bits), Class::Word)),
            Operand::F64(bits) => Ok(self.constant(*bits, Class::Wide)),
            _ => Err("an operand of another kind was expected".to_owned()),
        }
    }

    /// The rows of an operand that is written; `_` is written to rows that nobody reads.
    fn target(&mut self, operand: &Operand, class: Class) -> Result<usize, Fault> {
        match operand {
            Operand::Name(name) if name == "_" => Ok(self.new_rows(class)),
            Operand::Name(name) => {
                let (row, held) = self.register(name)?;
                if held == class {
                    Ok(row)
                } else {
                    Err(format!("{name} is {held:?} where {class:?} is written"))
                }
            }
            _ => Err("a register was expected".to_owned()),
        }
    }

    /// Base row, whether it is one row only, and what is added.
    fn address(&mut self, operand: &Operand) -> Result<(usize, bool, i64), Fault> {
        let Operand::Address { base, offset, .. } = operand else {
            return Err("an address was expected".to_owned());
        };
        match base.as_ref() {
            Operand::Name(name) if self.function.registers.contains_key(name) => {
                let (row, class) = self.register(name)?;
                Ok((row, class == Class::Word, *offset))
            }
            Operand::Name(name) => {
                let &(_, at) = self.places.get(name).ok_or_else(|| format!("{name} is not known"))?;
                Ok((self.constant(at, Class::Wide), false, *offset))
            }
            Operand::Int(at) => Ok((self.constant(*at as u64, Class::Wide), false, *offset)),
            _ => Err("an address was expected".to_owned()),
        }
    }

    fn vector(operand: &Operand) -> Vec<&Operand> {
        match operand {
            Operand::Vector(parts) => parts.iter().collect(),
            one => vec![one],
        }
    }

    fn apply(&mut self, recipe: Recipe, operands: &[Operand], kind: &str, imm: i64) -> Result<(), Fault> {
        if operands.len() != recipe.sources.len() + 1 {
            return Err("another number of operands was expected".to_owned());
        }
        let mut r = [0; 5];
        for (at, (operand, &class)) in operands[1..].iter().zip(&recipe.sources).enumerate() {
            r[at + 1] = self.source(operand, class, kind)?;
        }
        r[0] = self.target(&operands[0], recipe.target)?;
        self.compute(recipe.run, r, imm, Vec::new());
        Ok(())
    }

    fn instruction(&mut self, instruction: &Instruction) -> Result<(), Fault> {
        let parts: Vec<&str> = instruction.opcode.split('.').collect();
        let operands = &instruction.operands;
        let unknown = || Err("this instruction is not known".to_owned());
        let (base, kind) = (parts[0], parts[parts.len() - 1]);
        let has = |modifier: &str| parts[1..].contains(&modifier);
        match base {
            "ret" | "exit" => {
                self.push(Run::Exit, [0; 5], 0, Vec::new());
                Ok(())
            }
            "trap" => {
                self.compute(|_, _, _, _| Err("the kernel stops (trap)".to_owned()), [0; 5], 0, Vec::new());
                Ok(())
            }
            // All memory is in order here.
            "membar" | "fence" | "nanosleep" | "prefetch" | "griddepcontrol" => Ok(()),
            "mov" => self.mov(operands, kind),
            "cvta" => self.cvta(&parts, operands),
            "cvt" => {
                let (recipe, imm) = convert::recipe(&parts).ok_or("this conversion is not known")?;
                // `cvt.u16.u8` and its like keep both in a word; a wide register read as a word is its low half.
                self.apply(recipe, operands, kind, imm)
            }
            "setp" => self.setp(&parts, operands),
            "selp" => {
                let class = if type_size(kind) == Some(8) { Class::Wide } else { Class::Word };
                let rows = if class == Class::Wide { 2 } else { 1 };
                let r = [
                    self.target(&operands[0], class)?,
                    self.source(&operands[1], class, kind)?,
                    self.source(&operands[2], class, kind)?,
                    self.source(&operands[3], Class::Predicate, "pred")?,
                    0,
                ];
                self.compute(alu::select, r, rows, Vec::new());
                Ok(())
            }
            "lop3" if kind == "b32" => {
                let Operand::Int(table) = operands[4] else { return unknown() };
                let mut r = [self.target(&operands[0], Class::Word)?, 0, 0, 0, 0];
                for at in 1..4 {
                    r[at] = self.source(&operands[at], Class::Word, kind)?;
                }
                self.compute(alu::three_bits, r, table as i64, Vec::new());
                Ok(())
            }
            "bfi" if kind == "b32" => {
                let mut r = [self.target(&operands[0], Class::Word)?, 0, 0, 0, 0];
                for at in 1..5 {
                    r[at] = self.source(&operands[at], Class::Word, kind)?;
                }
                self.compute(alu::insert_bits, r, 0, Vec::new());
                Ok(())
            }
            "ld" | "ldu" => self.load(&parts, operands),
            "st" => self.store(&parts, operands),
            "atom" | "red" if !has("async") => self.atomic(&parts, operands),
            "bar" if parts[1..] == ["warp", "sync"] => {
                self.together(|_, _, _, _| Ok(()), operands.first(), [0; 5], 0, Vec::new())
            }
            "bar" | "barrier" if has("sync") && !has("cluster") => {
                let number = |operand: Option<&Operand>| match operand {
                    None => Ok(0),
                    Some(Operand::Int(value)) => Ok(*value as i64),
                    Some(_) => Err("a barrier whose number is not written".to_owned()),
                };
                let imm = number(operands.first())? | number(operands.get(1))? << 8;
                self.push(Run::Barrier, [0; 5], imm, Vec::new());
                Ok(())
            }
            "shfl" => {
                let mode =
                    ["up", "down", "bfly", "idx"].iter().position(|&m| has(m)).ok_or("a mode is missing")?;
                let (value, predicate) = match &operands[0] {
                    Operand::Pair(value, predicate) => (value.as_ref(), Some(predicate.as_ref())),
                    value => (value, None),
                };
                let r = [
                    self.target(value, Class::Word)?,
                    self.source(&operands[1], Class::Word, kind)?,
                    self.source(&operands[2], Class::Word, kind)?,
                    self.source(&operands[3], Class::Word, kind)?,
                    0,
                ];
                let list = match predicate {
                    Some(predicate) => vec![self.target(predicate, Class::Predicate)?],
                    None => Vec::new(),
                };
                self.together(alu::shuffle, operands.get(4), r, mode as i64, list)
            }
            "vote" => {
                let mode = ["all", "any", "ballot", "uni"]
                    .iter()
                    .position(|&m| has(m))
                    .ok_or("a mode is missing")?;
                let class = if mode == 2 { Class::Word } else { Class::Predicate };
                let (source, negated) = match &operands[1] {
                    Operand::Name(name) if name.starts_with('!') => {
                        (Operand::Name(name[1..].to_owned()), vec![1])
                    }
                    other => (other.clone(), Vec::new()),
                };
                let r = [
                    self.target(&operands[0], class)?,
                    self.source(&source, Class::Predicate, "pred")?,
                    0,
                    0,
                    0,
                ];
                self.together(alu::vote, operands.get(2), r, mode as i64, negated)
            }
            "activemask" => {
                let r = [self.target(&operands[0], Class::Word)?, 0, 0, 0, 0];
                self.compute(alu::active, r, 0, Vec::new());
                Ok(())
            }
            "elect" => {
                let Operand::Pair(_, predicate) = &operands[0] else { return unknown() };
                let r = [self.target(predicate, Class::Predicate)?, 0, 0, 0, 0];
                self.together(alu::elect, operands.get(1), r, 0, Vec::new())
            }
            "mma" => self.mma(&parts, operands),
            "wmma" => self.wmma(&parts, operands),
            "ldmatrix" | "stmatrix" => self.eight_by_eight(&parts, operands),
            "cp" if has("bulk") => tensor_copy(self, &parts, operands),
            "cp" => self.copy(&parts, operands),
            "mbarrier" => self.mbarrier(&parts, operands),
            _ => {
                let recipe = alu::recipe(&parts).ok_or("this instruction is not known")?;
                self.apply(recipe, operands, kind, 0)
            }
        }
    }

    fn mov(&mut self, operands: &[Operand], kind: &str) -> Result<(), Fault> {
        let size = type_size(kind);
        match (&operands[0], &operands[1]) {
            (target, Operand::Name(name)) if matches!(name.as_str(), "%globaltimer" | "%clock64") => {
                let r = [self.target(target, Class::Wide)?, 0, 0, 0, 0];
                self.repeatable = false;
                self.compute(now, r, 0, Vec::new());
                Ok(())
            }
            _ if kind == "pred" => {
                let r = [
                    self.target(&operands[0], Class::Predicate)?,
                    self.source(&operands[1], Class::Predicate, kind)?,
                    0,
                    0,
                    0,
                ];
                let run = |w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32| {
                    w.set_predicate(op.r[0], w.predicate(op.r[1]), mask);
                    Ok(())
                };
                self.compute(run, r, 0, Vec::new());
                Ok(())
            }
            // Two halves out of one register.
            (Operand::Vector(targets), source) if targets.len() == 2 && size == Some(8) => {
                let from = self.source(source, Class::Wide, kind)?;
                for (half, target) in targets.iter().enumerate() {
                    let r = [self.target(target, Class::Word)?, from + half, 0, 0, 0];
                    self.compute(copy_row, r, 0, Vec::new());
                }
                Ok(())
            }
            (target, Operand::Vector(sources)) if sources.len() == 2 && size == Some(8) => {
                // Through rows of its own: a half may be read after the other was written.
                let held = self.new_rows(Class::Wide);
                for (half, source) in sources.iter().enumerate() {
                    let r = [held + half, self.source(source, Class::Word, "b32")?, 0, 0, 0];
                    self.compute(copy_row, r, 0, Vec::new());
                }
                let to = self.target(target, Class::Wide)?;
                for half in 0..2 {
                    self.compute(copy_row, [to + half, held + half, 0, 0, 0], 0, Vec::new());
                }
                Ok(())
            }
            (Operand::Vector(targets), source) if targets.len() == 2 && size == Some(4) => {
                let from = self.source(source, Class::Word, kind)?;
                for (half, target) in targets.iter().enumerate() {
                    let r = [self.target(target, Class::Word)?, from, 0, 0, 0];
                    self.compute(if half == 0 { low_half } else { high_half }, r, 0, Vec::new());
                }
                Ok(())
            }
            (target, Operand::Vector(sources)) if sources.len() == 2 && size == Some(4) => {
                let low = self.source(&sources[0], Class::Word, "b16")?;
                let high = self.source(&sources[1], Class::Word, "b16")?;
                let r = [self.target(target, Class::Word)?, low, high, 0, 0];
                self.compute(two_halves, r, 0, Vec::new());
                Ok(())
            }
            (Operand::Vector(_), _) | (_, Operand::Vector(_)) => {
                Err("this instruction is not known".to_owned())
            }
            _ => {
                let recipe = alu::recipe(&["mov", kind]).ok_or("this instruction is not known")?;
                self.apply(recipe, operands, kind, 0)
            }
        }
    }

    fn cvta(&mut self, parts: &[&str], operands: &[Operand]) -> Result<(), Fault> {
        let to = parts[1] == "to";
        let space = parts[if to { 2 } else { 1 }];
        let window = match space {
            "shared" | "shared::cta" => SHARED,
            "local" => LOCAL,
            "param" => PARAM,
            _ => 0,
        };
        let name = if to { "and" } else { "or" };
        let value = if to && window != 0 {
            !window
        } else if to {
            u64::MAX
        } else {
            window
        };
        let recipe = alu::recipe(&[name, "b64"]).ok_or("this instruction is not known")?;
        let operands = [operands[0].clone(), operands[1].clone(), Operand::Int(i128::from(value))];
        self.apply(recipe, &operands, "b64", 0)
    }

    fn setp(&mut self, parts: &[&str], operands: &[Operand]) -> Result<(), Fault> {
        let kind = parts[parts.len() - 1];
        let recipe = alu::comparison(parts[1], kind).ok_or("this comparison is not known")?;
        let combined = parts[2..parts.len() - 1].iter().find(|p| matches!(**p, "and" | "or" | "xor"));
        let (first, second) = match &operands[0] {
            Operand::Pair(first, second) => (first.as_ref().clone(), Some(second.as_ref().clone())),
            one => (one.clone(), None),
        };
        if second.is_some() && combined.is_some() {
            return Err("this comparison is not known".to_owned());
        }
        let found = self.new_rows(Class::Predicate);
        let r = [
            found,
            self.source(&operands[1], recipe.sources[0], kind)?,
            self.source(&operands[2], recipe.sources[1], kind)?,
            0,
            0,
        ];
        self.compute(recipe.run, r, 0, Vec::new());
        let logic = |name: &str| alu::recipe(&[name, "pred"]).ok_or("this comparison is not known");
        let mut other = found;
        let mut run = logic("and")?.run;
        if let Some(name) = combined {
            run = logic(name)?.run;
            other = match operands.get(3) {
                Some(Operand::Name(name)) if name.starts_with('!') => {
                    let name = name[1..].to_owned();
                    let row = self.new_rows(Class::Predicate);
                    let from = self.source(&Operand::Name(name), Class::Predicate, "pred")?;
                    self.compute(logic("not")?.run, [row, from, from, 0, 0], 0, Vec::new());
                    row
                }
                Some(operand) => self.source(operand, Class::Predicate, "pred")?,
                None => return Err("a predicate is missing".to_owned()),
            };
        }
        let target = self.target(&first, Class::Predicate)?;
        self.compute(run, [target, found, other, 0, 0], 0, Vec::new());
        if let Some(second) = second {
            let target = self.target(&second, Class::Predicate)?;
            self.compute(logic("not")?.run, [target, found, found, 0, 0], 0, Vec::new());
        }
        Ok(())
    }

    /// Space, bytes of an element, and the flags that `access` reads, without that of a narrow address.
    fn shape(parts: &[&str]) -> Result<(Space, usize, usize), Fault> {
        let kind = parts[parts.len() - 1];
        let size = type_size(kind).filter(|&s| s <= 8).ok_or("a type that is not known")?;
        let space = match parts
            .iter()
            .find(|p| matches!(p.split("::").next(), Some("global" | "shared" | "local" | "param" | "const")))
        {
            Some(&"global") | Some(&"const") => Space::Global,
            Some(&"local") => Space::Local,
            Some(part) if part.starts_with("shared") => Space::Shared,
            Some(part) if part.starts_with("param") => Space::Param,
            _ => Space::Generic,
        };
        Ok((space, size, usize::from(kind.starts_with('s')) << 1))
    }

    fn load(&mut self, parts: &[&str], operands: &[Operand]) -> Result<(), Fault> {
        let (space, size, mut flags) = Self::shape(parts)?;
        self.repeatable &= parts.contains(&"nc") || !matches!(space, Space::Global | Space::Generic);
        let mut list = Vec::new();
        for target in Self::vector(&operands[0]) {
            let class = match target {
                Operand::Name(name) if name != "_" => self.register(name)?.1,
                _ => Class::Word,
            };
            if class == Class::Wide {
                flags |= 4;
            }
            list.push(self.target(target, class)?);
        }
        if space == Space::Param {
            let Operand::Address { base, offset, .. } = &operands[1] else {
                return Err("an address was expected".to_owned());
            };
            if let Operand::Name(name) = base.as_ref()
                && let Some(&(Space::Param, at)) = self.places.get(name)
            {
                self.compute(access::load_param, [0, 0, 0, size, flags], at as i64 + offset, list);
                return Ok(());
            }
        }
        let (row, narrow, offset) = self.address(&operands[1])?;
        let r = [0, row, space_number(space), size, flags | usize::from(narrow)];
        self.compute(access::load, r, offset, list);
        Ok(())
    }

    fn store(&mut self, parts: &[&str], operands: &[Operand]) -> Result<(), Fault> {
        let (space, size, mut flags) = Self::shape(parts)?;
        let kind = parts[parts.len() - 1];
        let class = if size == 8 { Class::Wide } else { Class::Word };
        if class == Class::Wide {
            flags |= 4;
        }
        let mut list = Vec::new();
        for source in Self::vector(&operands[1]) {
            list.push(self.source(source, class, kind)?);
        }
        let (row, narrow, offset) = self.address(&operands[0])?;
        let r = [0, row, space_number(space), size, flags | usize::from(narrow)];
        self.compute(access::store, r, offset, list);
        Ok(())
    }

    fn atomic(&mut self, parts: &[&str], operands: &[Operand]) -> Result<(), Fault> {
        let (space, size, mut flags) = Self::shape(parts)?;
        self.repeatable &= space == Space::Shared;
        let kind = parts[parts.len() - 1];
        let what = parts[1..].iter().find_map(|name| Atomic::of(name, kind));
        let what = what.ok_or("this operation is not known")?;
        let at = Atomic::ALL.iter().position(|&a| a as usize == what as usize).unwrap_or(0);
        let class = if size == 8 { Class::Wide } else { Class::Word };
        if class == Class::Wide {
            flags |= 4;
        }
        let wanted = parts[0] == "atom";
        let rest = if wanted { &operands[1..] } else { operands };
        let (row, narrow, offset) = self.address(&rest[0])?;
        let given: Vec<Vec<&Operand>> = rest[1..].iter().map(Self::vector).collect();
        let targets = if wanted { Self::vector(&operands[0]) } else { Vec::new() };
        // Vectors: one after another, as the definition allows.
        for element in 0..given[0].len() {
            let mut list = vec![at | if wanted { 256 } else { 0 }];
            for operand in &given {
                list.push(self.source(operand[element], class, kind)?);
            }
            let target = match targets.get(element) {
                Some(target) => self.target(target, class)?,
                None => 0,
            };
            let r = [target, row, space_number(space), size, flags | usize::from(narrow)];
            self.compute(access::atomic, r, offset + (element * size) as i64, list);
        }
        Ok(())
    }

    fn copy(&mut self, parts: &[&str], operands: &[Operand]) -> Result<(), Fault> {
        let has = |modifier: &str| parts.contains(&modifier);
        if has("commit_group") || has("wait_group") || has("wait_all") {
            return Ok(());
        }
        if has("mbarrier") {
            let (row, narrow, offset) = self.address(&operands[0])?;
            let space = space_number(space_of(parts));
            let r = [0, row, space, 0, usize::from(narrow)];
            if !has("noinc") {
                return Ok(());
            }
            self.compute(mbarrier::act, r, offset, vec![mbarrier::Act::Arrive as usize]);
            return Ok(());
        }
        let (to, narrow, offset) = self.address(&operands[0])?;
        let (from, narrow_source, from_offset) = self.address(&operands[1])?;
        let Operand::Int(size) = operands[2] else { return Err("a size was expected".to_owned()) };
        if narrow_source || !matches!(size, 4 | 8 | 16) {
            return Err("this copy is not known".to_owned());
        }
        let count = match operands.get(3) {
            Some(operand) => self.source(operand, Class::Word, "b32")?,
            None => 0,
        };
        let r = [to, from, count, size as usize, usize::from(narrow)];
        self.compute(access::copy, r, offset, vec![from_offset as usize]);
        Ok(())
    }

    fn mbarrier(&mut self, parts: &[&str], operands: &[Operand]) -> Result<(), Fault> {
        let has = |modifier: &str| parts.contains(&modifier);
        let space = space_number(space_of(parts));
        if has("inval") {
            return Ok(());
        }
        if has("test_wait") || has("try_wait") {
            let (row, narrow, offset) = self.address(&operands[1])?;
            let parity = has("parity");
            let class = if parity { Class::Word } else { Class::Wide };
            let r = [
                self.target(&operands[0], Class::Predicate)?,
                row,
                space,
                self.source(&operands[2], class, "b32")?,
                usize::from(narrow) | usize::from(parity) << 1,
            ];
            self.push(Run::Ask(mbarrier::test), r, offset, Vec::new());
            return Ok(());
        }
        let act = if has("init") {
            mbarrier::Act::Init
        } else if has("expect_tx") && has("arrive") {
            mbarrier::Act::ArriveExpect
        } else if has("arrive") {
            mbarrier::Act::Arrive
        } else if has("expect_tx") {
            mbarrier::Act::Expect
        } else if has("complete_tx") {
            mbarrier::Act::Complete
        } else {
            return Err("this instruction is not known".to_owned());
        };
        let gives_state = has("arrive");
        let rest = if gives_state { &operands[1..] } else { operands };
        let (row, narrow, offset) = self.address(&rest[0])?;
        let number = match rest.get(1) {
            Some(operand) => self.source(operand, Class::Word, "b32")?,
            None => 0,
        };
        let mut list = vec![act as usize];
        if gives_state {
            list.push(self.target(&operands[0], Class::Wide)?);
        }
        self.compute(mbarrier::act, [0, row, space, number, usize::from(narrow)], offset, list);
        Ok(())
    }

    fn words(&mut self, operand: &Operand, written: bool, list: &mut Vec<usize>) -> Result<usize, Fault> {
        let parts = Self::vector(operand);
        for part in &parts {
            list.push(if written {
                self.target(part, Class::Word)?
            } else {
                self.source(part, Class::Word, "b32")?
            });
        }
        Ok(parts.len())
    }

    fn mma(&mut self, parts: &[&str], operands: &[Operand]) -> Result<(), Fault> {
        // mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32
        let unknown = || "this matrix product is not known".to_owned();
        let [_, "sync", "aligned", shape, "row", "col", d, a, b, c] = parts else { return Err(unknown()) };
        let k: usize = shape.strip_prefix("m16n8k").and_then(|k| k.parse().ok()).ok_or_else(unknown)?;
        let factors = Element::of(a).filter(|e| *e != Element::F32).ok_or_else(unknown)?;
        let sums = Element::of(c).ok_or_else(unknown)?;
        if a != b || c != d || k > 16 {
            return Err(unknown());
        }
        let mut list = Vec::new();
        self.words(&operands[0], true, &mut list)?;
        for operand in &operands[1..4] {
            self.words(operand, false, &mut list)?;
        }
        self.together(matrix::multiply, None, [0; 5], matrix::pack(k, factors, sums), list)
    }

    fn wmma(&mut self, parts: &[&str], operands: &[Operand]) -> Result<(), Fault> {
        let unknown = || "this matrix instruction is not known".to_owned();
        let shape = parts.iter().find_map(|part| {
            let (m, rest) = part.strip_prefix('m')?.split_once('n')?;
            let (n, k) = rest.split_once('k')?;
            Some([m.parse::<usize>().ok()?, n.parse().ok()?, k.parse().ok()?])
        });
        let [m, n, k] = shape.ok_or_else(unknown)?;
        if parts[1] == "mma" {
            // wmma.mma.sync.aligned.alayout.blayout.shape.dtype[.atype.btype].ctype
            let kinds: Vec<&str> = parts[7..].to_vec();
            let (d, a, c) = match kinds[..] {
                [d, a, b, c] if a == b => (d, a, c),
                [d, c] => (d, "f16", c),
                _ => return Err(unknown()),
            };
            let code = |kind: &str| {
                let element = Element::of(kind).ok_or_else(unknown)?;
                Ok::<i64, Fault>(Element::ALL.iter().position(|&e| e == element).unwrap_or(0) as i64)
            };
            let imm = m as i64
                | (n as i64) << 8
                | (k as i64) << 16
                | code(a)? << 24
                | code(d)? << 28
                | code(c)? << 32;
            let mut rows = Vec::new();
            let d = self.words(&operands[0], true, &mut rows)?;
            let a = self.words(&operands[1], false, &mut rows)?;
            let b = self.words(&operands[2], false, &mut rows)?;
            let c = self.words(&operands[3], false, &mut rows)?;
            let mut list = vec![a, b, c, d];
            list.extend(rows);
            return self.together(matrix::multiply_fragments, None, [0; 5], imm, list);
        }
        // wmma.load.a.sync.aligned.layout.shape.space.type r, [p], stride
        let kind = Element::of(parts[parts.len() - 1]).ok_or_else(unknown)?;
        let (rows, columns) = match parts[2] {
            "a" => (m, k),
            "b" => (k, n),
            "c" | "d" => (m, n),
            _ => return Err(unknown()),
        };
        let stores = parts[1] == "store";
        self.repeatable &= stores || space_of(parts) == Space::Shared;
        let (registers, address, stride) = if stores {
            (&operands[1], &operands[0], operands.get(2))
        } else {
            (&operands[0], &operands[1], operands.get(2))
        };
        let by_rows = parts.contains(&"row");
        let mut list = vec![Fragment { rows, columns, by_rows, kind }.pack()];
        self.words(registers, !stores, &mut list)?;
        let (row, narrow, offset) = self.address(address)?;
        let stride = match stride {
            Some(stride) => self.source(stride, Class::Word, "b32")?,
            None => self.constant(if by_rows { columns } else { rows } as u64, Class::Word),
        };
        let r = [usize::from(stores), row, space_number(space_of(parts)), stride, usize::from(narrow)];
        self.together(matrix::fragment, None, r, offset, list)
    }

    fn eight_by_eight(&mut self, parts: &[&str], operands: &[Operand]) -> Result<(), Fault> {
        if !parts.contains(&"m8n8") || parts[parts.len() - 1] != "b16" {
            return Err("this matrix instruction is not known".to_owned());
        }
        let stores = parts[0] == "stmatrix";
        let (registers, address) =
            if stores { (&operands[1], &operands[0]) } else { (&operands[0], &operands[1]) };
        let mut list = Vec::new();
        self.words(registers, !stores, &mut list)?;
        let (row, narrow, offset) = self.address(address)?;
        let flags = usize::from(narrow) | usize::from(parts.contains(&"trans")) << 1;
        let r = [usize::from(stores), row, space_number(space_of(parts)), 0, flags];
        self.together(matrix::eight_by_eight, None, r, offset, list)
    }
}

/// `cp.async.bulk.tensor`: the tensor's map, coordinates, and the barrier to tell.
fn tensor_copy(lowering: &mut Lowering<'_>, parts: &[&str], operands: &[Operand]) -> Result<(), Fault> {
    let has = |modifier: &str| parts.contains(&modifier);
    if has("commit_group") || has("wait_group") {
        return Ok(());
    }
    let loads = has("mbarrier::complete_tx::bytes");
    if !has("tensor") || !loads || has("im2col") {
        return Err("this copy is not known".to_owned());
    }
    let (to, narrow_to, to_offset) = lowering.address(&operands[0])?;
    let (map, narrow_map, map_offset) = lowering.address(&operands[1])?;
    let (barrier, narrow_barrier, barrier_offset) = lowering.address(&operands[2])?;
    let Operand::Address { rest, .. } = &operands[1] else { return Err("a map was expected".to_owned()) };
    let coordinates = rest.first().ok_or("coordinates were expected")?;
    if narrow_map || map_offset != 0 || to_offset != 0 || barrier_offset != 0 {
        return Err("this copy is not known".to_owned());
    }
    let mut list = Vec::new();
    lowering.words(coordinates, false, &mut list)?;
    let flags = usize::from(narrow_to) | usize::from(narrow_barrier) << 1;
    lowering.compute(tensor::copy, [to, map, barrier, 0, flags], 0, list);
    Ok(())
}

/// Nanoseconds since the first kernel asked.
fn now(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    let time = START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64;
    w.put::<u64>(op.r[0], [time; LANES], mask);
    Ok(())
}

fn copy_row(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let values = w.rows[op.r[1]];
    w.put::<u32>(op.r[0], values, mask);
    Ok(())
}

fn low_half(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let values = w.rows[op.r[1]].map(|bits| bits & 0xFFFF);
    w.put::<u32>(op.r[0], values, mask);
    Ok(())
}

fn high_half(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let values = w.rows[op.r[1]].map(|bits| bits >> 16);
    w.put::<u32>(op.r[0], values, mask);
    Ok(())
}

fn two_halves(w: &mut Warp, _: &mut Block<'_>, op: &Op, mask: u32) -> Result<(), Fault> {
    let (low, high) = (u16::get(&w.rows, op.r[1]), u16::get(&w.rows, op.r[2]));
    let values: [u32; LANES] = std::array::from_fn(|l| u32::from(low[l]) | u32::from(high[l]) << 16);
    w.put::<u32>(op.r[0], values, mask);
    Ok(())
}

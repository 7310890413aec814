//! Reading PTX text: variables, functions, statements. What an instruction means is `lower`'s business.
//!
//! PTX ISA 9.0, chapters 4 and 5 (syntax, state spaces). Names that are declared in a nested scope get that scope's
//! number, so that every name of a function is unique.

use std::collections::HashMap;

/// Where a variable lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Param,
}

/// A variable outside registers.
#[derive(Clone, Debug)]
pub struct Variable {
    pub name: String,
    pub space: Space,
    pub align: usize,
    /// Bytes; 0: as much as the launch says (`extern .shared x[]`).
    pub size: usize,
    pub init: Vec<u8>,
}

/// One instruction.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// Predicate and whether it is negated.
    pub guard: Option<(String, bool)>,
    pub opcode: String,
    pub operands: Vec<Operand>,
    pub line: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    Name(String),
    Int(i128),
    F32(u32),
    F64(u64),
    Vector(Vec<Operand>),
    /// `[base + offset]`, and what else stands in the brackets (a tensor's coordinates).
    Address {
        base: Box<Operand>,
        offset: i64,
        rest: Vec<Operand>,
    },
    /// `p|q`: a value and a predicate.
    Pair(Box<Operand>, Box<Operand>),
}

/// An entry: a kernel.
#[derive(Clone, Debug, Default)]
pub struct Function {
    pub name: String,
    pub params: Vec<Variable>,
    /// Type of every register by its unique name.
    pub registers: HashMap<String, String>,
    pub variables: Vec<Variable>,
    pub body: Vec<Instruction>,
    /// Label, and the index of the instruction after it.
    pub labels: HashMap<String, usize>,
}

#[derive(Clone, Debug, Default)]
pub struct Module {
    pub variables: Vec<Variable>,
    pub functions: Vec<Function>,
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn line(&self) -> usize {
        1 + self.text[..self.at].iter().filter(|&&byte| byte == b'\n').count()
    }

    fn skip(&mut self) {
        loop {
            match self.text.get(self.at) {
                Some(byte) if byte.is_ascii_whitespace() => self.at += 1,
                Some(b'/') if self.text.get(self.at + 1) == Some(&b'/') => self.skip_line(),
                _ => return,
            }
        }
    }

    fn skip_line(&mut self) {
        while self.text.get(self.at).is_some_and(|&byte| byte != b'\n') {
            self.at += 1;
        }
    }

    fn starts_with(&self, word: &str) -> bool {
        self.text[self.at..].starts_with(word.as_bytes())
    }

    /// Up to one of the bytes `ends`, which is consumed; comments become spaces.
    fn until(&mut self, ends: &[u8]) -> Result<(String, u8), String> {
        let mut found = String::new();
        while let Some(&byte) = self.text.get(self.at) {
            if byte == b'/' && self.text.get(self.at + 1) == Some(&b'/') {
                self.skip_line();
                found.push(' ');
                continue;
            }
            self.at += 1;
            if ends.contains(&byte) {
                return Ok((found, byte));
            }
            found.push(byte as char);
        }
        Err("the text ends within a statement".to_owned())
    }

    /// Past the brace that closes the one just consumed.
    fn skip_block(&mut self) {
        let mut depth = 1;
        while depth > 0 && self.at < self.text.len() {
            match self.text[self.at] {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            self.at += 1;
        }
    }
}

/// Reads a module.
///
/// # Errors
///
/// One line that says what was not understood, with its line number.
pub fn parse(text: &str) -> Result<Module, String> {
    let mut reader = Reader { text: text.as_bytes(), at: 0 };
    let mut module = Module::default();
    loop {
        reader.skip();
        if reader.at >= reader.text.len() {
            return Ok(module);
        }
        let line = reader.line();
        let at_line = |error: String| format!("line {line}: {error}");
        if [".version", ".target", ".address_size", ".file", ".loc"].iter().any(|w| reader.starts_with(w)) {
            reader.skip_line();
            continue;
        }
        if reader.starts_with(".section") {
            reader.until(b"{").map_err(at_line)?;
            reader.skip_block();
            continue;
        }
        // A variable ends with `;`, a function's head with `{`; an initializer's brace follows `=`.
        let (mut head, mut end) = reader.until(b"{;").map_err(at_line)?;
        if end == b'{' && head.contains('=') {
            let (values, _) = reader.until(b"}").map_err(at_line)?;
            head = format!("{head}{values}");
            end = reader.until(b";").map_err(at_line)?.1;
        }
        let words: Vec<&str> = head.split_whitespace().collect();
        if words.contains(&".entry") {
            if end == b'{' {
                module.functions.push(function(&head, &mut reader).map_err(at_line)?);
            }
        } else if words.contains(&".func") {
            if end == b'{' {
                return Err(at_line(format!("functions that are called are not known: {}", words.join(" "))));
            }
        } else if words.iter().any(|w| matches!(*w, ".global" | ".const" | ".shared")) {
            module.variables.push(variable(&head).map_err(at_line)?);
        } else {
            return Err(at_line(format!("not known: {}", words.join(" "))));
        }
    }
}

/// Bytes of a fundamental type.
pub fn type_size(name: &str) -> Option<usize> {
    Some(match name.trim_start_matches('.') {
        "b8" | "u8" | "s8" => 1,
        "b16" | "u16" | "s16" | "f16" | "bf16" => 2,
        "b32" | "u32" | "s32" | "f32" | "f16x2" | "bf16x2" => 4,
        "b64" | "u64" | "s64" | "f64" => 8,
        "b128" => 16,
        _ => return None,
    })
}

/// `.global .align 4 .b8 name[12] = {1, 2}` and its like.
fn variable(head: &str) -> Result<Variable, String> {
    let (declared, values) = match head.split_once('=') {
        Some((declared, values)) => (declared, Some(values)),
        None => (head, None),
    };
    let declared = declared.replace('[', " [").replace(']', "] ");
    let mut found =
        Variable { name: String::new(), space: Space::Global, align: 1, size: 0, init: Vec::new() };
    let mut element = 0;
    let mut count = 1;
    let mut words = declared.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            ".global" | ".const" => found.space = Space::Global,
            ".shared" => found.space = Space::Shared,
            ".local" => found.space = Space::Local,
            ".param" => found.space = Space::Param,
            ".align" => {
                let align = words.next().and_then(|w| w.parse().ok());
                found.align = align.ok_or_else(|| format!("an alignment is missing: {head}"))?;
            }
            ".extern" | ".visible" | ".weak" | ".ptr" | ".attribute" => {}
            _ if word.starts_with('[') => {
                let inner = word.trim_matches(['[', ']']);
                count *=
                    if inner.is_empty() { 0 } else { inner.parse::<usize>().map_err(|e| e.to_string())? };
            }
            _ if type_size(word).is_some_and(|_| word.starts_with('.')) => {
                element = type_size(word).unwrap_or(1);
                found.align = found.align.max(element);
            }
            _ if word.starts_with('.') => return Err(format!("`{word}` is not known in: {head}")),
            _ => found.name = word.to_owned(),
        }
    }
    found.size = element * count;
    for value in values.unwrap_or("").split(',').map(str::trim).filter(|v| !v.is_empty()) {
        match operand(value, &|name| name.to_owned())? {
            Operand::Int(value) => found.init.extend_from_slice(&value.to_le_bytes()[..element]),
            Operand::F32(bits) => found.init.extend_from_slice(&bits.to_le_bytes()),
            Operand::F64(bits) => found.init.extend_from_slice(&bits.to_le_bytes()),
            _ => return Err(format!("an initial value is not known: {value}")),
        }
    }
    Ok(found)
}

/// Names that each open scope declares: as written, and unique.
type Scopes = Vec<(usize, HashMap<String, String>)>;

fn function(head: &str, reader: &mut Reader<'_>) -> Result<Function, String> {
    let mut found = Function::default();
    let after = head.split_once(".entry").map_or("", |(_, after)| after);
    let (name, rest) = after.split_once('(').unwrap_or((after, ""));
    found.name = name.trim().to_owned();
    let params = rest.rsplit_once(')').map_or("", |(params, _)| params);
    for param in params.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        // `.ptr .align 16` says what it points to.
        let param = match param.split_once(".ptr") {
            Some((before, after)) => format!("{before} {}", after.split_whitespace().last().unwrap_or("")),
            None => param.to_owned(),
        };
        found.params.push(variable(&param)?);
    }
    let mut scopes: Scopes = vec![(0, HashMap::new())];
    let mut opened = 0;
    // Branches are resolved at the end: a label may come later.
    let mut branches: Vec<(usize, Vec<usize>, String)> = Vec::new();
    let mut labels: HashMap<(usize, String), usize> = HashMap::new();
    loop {
        reader.skip();
        let line = reader.line();
        if reader.starts_with("{") {
            reader.at += 1;
            opened += 1;
            scopes.push((opened, HashMap::new()));
            continue;
        }
        if reader.starts_with("}") {
            reader.at += 1;
            scopes.pop();
            if scopes.is_empty() {
                break;
            }
            continue;
        }
        if reader.starts_with(".loc") && !reader.starts_with(".local") {
            reader.skip_line();
            continue;
        }
        let scope = scopes.last().map_or(0, |s| s.0);
        if reader.starts_with(".") {
            let (text, _) = reader.until(b";")?;
            declare(&text, scope, &mut scopes, &mut found)?;
            continue;
        }
        // A label is a name followed by one colon.
        let rest = &reader.text[reader.at..];
        let word = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$')).count();
        if word > 0 && rest.get(word) == Some(&b':') && rest.get(word + 1) != Some(&b':') {
            let name = String::from_utf8_lossy(&rest[..word]).into_owned();
            labels.insert((scope, name), found.body.len());
            reader.at += word + 1;
            continue;
        }
        let (text, _) = reader.until(b";")?;
        let instruction =
            instruction(&text, line, &scopes).map_err(|error| format!("{error} in `{}`", text.trim()))?;
        if instruction.opcode.split('.').next() == Some("bra")
            && let Some(Operand::Name(target)) = instruction.operands.first()
        {
            let chain = scopes.iter().rev().map(|s| s.0).collect();
            branches.push((found.body.len(), chain, target.clone()));
        }
        found.body.push(instruction);
    }
    for (at, chain, target) in branches {
        let to = chain.iter().find_map(|&scope| labels.get(&(scope, target.clone())));
        let to = *to.ok_or_else(|| format!("there is no label {target}"))?;
        let unique = format!("{target}@{to}");
        found.labels.insert(unique.clone(), to);
        found.body[at].operands = vec![Operand::Name(unique)];
    }
    Ok(found)
}

/// `.reg .b32 %r<9>`, `.local …`, `.shared …`; other directives say nothing that matters here.
fn declare(text: &str, scope: usize, scopes: &mut Scopes, found: &mut Function) -> Result<(), String> {
    let unique = |name: &str| if scope == 0 { name.to_owned() } else { format!("{name}#{scope}") };
    let Some((_, names)) = scopes.last_mut() else { return Err("a scope is missing".to_owned()) };
    if let Some(rest) = text.strip_prefix(".reg") {
        let (kind, list) = rest.trim().split_once(char::is_whitespace).ok_or("a register has no name")?;
        let kind = kind.trim_start_matches('.').to_owned();
        for name in list.split(',').map(str::trim) {
            let mut add = |name: &str| {
                names.insert(name.to_owned(), unique(name));
                found.registers.insert(unique(name), kind.clone());
            };
            match name.split_once('<') {
                Some((prefix, count)) => {
                    let count: usize =
                        count.trim_end_matches('>').parse().map_err(|_| "a count of registers")?;
                    (0..count).for_each(|index| add(&format!("{prefix}{index}")));
                }
                None => add(name),
            }
        }
        return Ok(());
    }
    if text.starts_with(".local") || text.starts_with(".shared") {
        let mut variable = variable(text)?;
        names.insert(variable.name.clone(), unique(&variable.name));
        variable.name = unique(&variable.name);
        found.variables.push(variable);
    } else if !text.starts_with(".pragma") {
        return Err(format!("`{}` is not known", text.trim()));
    }
    Ok(())
}

fn instruction(text: &str, line: usize, scopes: &Scopes) -> Result<Instruction, String> {
    let resolve = |name: &str| {
        let found = scopes.iter().rev().find_map(|(_, names)| names.get(name));
        found.cloned().unwrap_or_else(|| name.to_owned())
    };
    let mut text = text.trim();
    let mut guard = None;
    if let Some(rest) = text.strip_prefix('@') {
        let (name, rest) = rest.split_once(char::is_whitespace).ok_or("a guard without an instruction")?;
        let (negated, name) = name.strip_prefix('!').map_or((false, name), |name| (true, name));
        guard = Some((resolve(name), negated));
        text = rest.trim();
    }
    let (opcode, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let operands = split(rest).iter().map(|o| operand(o, &resolve)).collect::<Result<_, _>>()?;
    Ok(Instruction { guard, opcode: opcode.to_owned(), operands, line })
}

/// Splits at commas outside of brackets.
fn split(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut depth = 0;
    let mut part = String::new();
    for c in text.chars() {
        match c {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part).trim().to_owned());
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    if !part.trim().is_empty() {
        parts.push(part.trim().to_owned());
    }
    parts
}

fn operand(text: &str, resolve: &dyn Fn(&str) -> String) -> Result<Operand, String> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('{') {
        let inner = inner.strip_suffix('}').ok_or("a brace is not closed")?;
        return Ok(Operand::Vector(
            split(inner).iter().map(|part| operand(part, resolve)).collect::<Result<_, _>>()?,
        ));
    }
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or("a bracket is not closed")?;
        let parts = split(inner);
        let first = parts.first().ok_or("an address is empty")?;
        let (base, offset) = match first.split_once('+') {
            Some((base, offset)) => (base, offset.trim().parse::<i64>().map_err(|_| "an offset")?),
            None => (first.as_str(), 0),
        };
        let rest = parts[1..].iter().map(|part| operand(part, resolve)).collect::<Result<_, _>>()?;
        return Ok(Operand::Address { base: Box::new(operand(base, resolve)?), offset, rest });
    }
    if let Some((value, predicate)) = text.split_once('|') {
        return Ok(Operand::Pair(Box::new(operand(value, resolve)?), Box::new(operand(predicate, resolve)?)));
    }
    if let Some(hex) = text.strip_prefix("0f").or_else(|| text.strip_prefix("0F")).filter(|h| h.len() == 8) {
        return u32::from_str_radix(hex, 16).map(Operand::F32).map_err(|e| e.to_string());
    }
    if let Some(hex) = text.strip_prefix("0d").or_else(|| text.strip_prefix("0D")).filter(|h| h.len() == 16) {
        return u64::from_str_radix(hex, 16).map(Operand::F64).map_err(|e| e.to_string());
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if digits.starts_with(|c: char| c.is_ascii_digit()) {
        let digits = digits.trim_end_matches('U');
        let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hex) => i128::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        let value = value.map_err(|_| format!("`{text}` is no number"))?;
        return Ok(Operand::Int(if negative { -value } else { value }));
    }
    Ok(Operand::Name(resolve(text)))
}

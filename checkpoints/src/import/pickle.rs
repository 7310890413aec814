//! A pickle read as data: bytes to inert values. Nothing is imported, called or built.
//!
//! Values live in one flat list and point at each other by number, so neither a cycle nor a million nested
//! lists can overflow the stack, while reading or when dropped. Every opcode is counted.
//!
//! # Source
//! The opcodes are those of Python's `pickletools`, protocols 2 to 5.

use std::collections::HashMap;

use super::show;
use super::strided::Element;
use crate::error::CheckpointError;

/// Number of a value in its [`Pickle`].
pub(super) type Id = u32;

/// Most opcodes of one pickle; a state dict with its optimizer has some ten thousand.
const MAX_STEPS: usize = 1 << 21;

/// The names a pickle may mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Element),
}

/// The whitelist. Everything else ends the reading.
fn global(module: &str, name: &str) -> Option<Global> {
    match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
        ("torch" | "torch.cuda", storage) => Some(Global::Storage(match storage {
            "FloatStorage" => Element::F32,
            "HalfStorage" => Element::F16,
            "BFloat16Storage" => Element::Bf16,
            "DoubleStorage" => Element::F64,
            "LongStorage" => Element::Other { name: "LongStorage", size: 8 },
            "IntStorage" => Element::Other { name: "IntStorage", size: 4 },
            "ShortStorage" => Element::Other { name: "ShortStorage", size: 2 },
            "CharStorage" => Element::Other { name: "CharStorage", size: 1 },
            "ByteStorage" => Element::Other { name: "ByteStorage", size: 1 },
            "BoolStorage" => Element::Other { name: "BoolStorage", size: 1 },
            _ => return None,
        })),
        _ => None,
    }
}

/// A value of a pickle.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    None,
    Int(i128),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// A whitelisted callable and its arguments: noted, not called.
    Call(Global, Id),
    /// What the file keeps outside the pickle.
    Persistent(Id),
    /// A float, bytes or a set: nothing a tensor is made of.
    Opaque,
}

/// The values of a pickle and which of them it stands for.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    pub(super) fn root(&self) -> &Value<'a> {
        self.get(self.root)
    }

    pub(super) fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    /// Descriptions of what the file keeps outside this pickle.
    pub(super) fn persistent(&self) -> impl Iterator<Item = Id> {
        self.values.iter().filter_map(|value| match value {
            Value::Persistent(description) => Some(*description),
            _ => None,
        })
    }
}

/// Reads the pickle at the start of `bytes`; also gives the number of bytes up to its end.
pub(super) fn read(bytes: &[u8]) -> Result<(Pickle<'_>, usize), CheckpointError> {
    let mut machine = Machine { bytes, ..Machine::default() };
    loop {
        if let Some(root) = machine.step()? {
            return Ok((Pickle { values: machine.values, root }, machine.at));
        }
    }
}

fn broken(reason: impl std::fmt::Display) -> CheckpointError {
    CheckpointError::format(format!("broken pickle: {reason}"))
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack at which marks stand.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Opcodes run and entries copied so far.
    steps: usize,
}

impl<'a> Machine<'a> {
    /// One opcode; the root's number at the last.
    fn step(&mut self) -> Result<Option<Id>, CheckpointError> {
        self.spend(1)?;
        let [opcode] = self.array::<1>()?;
        match opcode {
            // PROTO, FRAME, MARK, STOP
            0x80 => match self.array::<1>()? {
                [0..=5] => {}
                [newer] => return Err(broken(format!("protocol {newer}, expected at most 5"))),
            },
            0x95 => drop(self.array::<8>()?),
            b'(' => self.marks.push(self.stack.len()),
            b'.' => return self.pop().map(Some),
            // POP, POP_MARK, DUP
            b'0' if self.marks.last() == Some(&self.stack.len()) => drop(self.marks.pop()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.stack.push(self.top()?),
            // NONE, NEWTRUE, NEWFALSE, BININT, BININT1, BININT2, LONG1, BINFLOAT
            b'N' => self.push(Value::None)?,
            0x88 | 0x89 => self.push(Value::Opaque)?,
            b'J' => self.array().map(i32::from_le_bytes).and_then(|n| self.push(Value::Int(n.into())))?,
            b'K' => self.array().map(u8::from_le_bytes).and_then(|n| self.push(Value::Int(n.into())))?,
            b'M' => self.array().map(u16::from_le_bytes).and_then(|n| self.push(Value::Int(n.into())))?,
            0x8a => {
                let [length] = self.array::<1>()?;
                let value = long(self.take(length.into())?)?;
                self.push(Value::Int(value))?;
            }
            b'G' => {
                self.array::<8>()?;
                self.push(Value::Opaque)?;
            }
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8, and Python 2's SHORT_BINSTRING, BINSTRING
            0x8c | b'U' => self.length::<1>().and_then(|n| self.text(n))?,
            b'X' | b'T' => self.length::<4>().and_then(|n| self.text(n))?,
            0x8d => self.length::<8>().and_then(|n| self.text(n))?,
            // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'C' => self.length::<1>().and_then(|n| self.skip(n))?,
            b'B' => self.length::<4>().and_then(|n| self.skip(n))?,
            0x8e | 0x96 => self.length::<8>().and_then(|n| self.skip(n))?,
            // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3, TUPLE
            b')' => self.push(Value::Tuple(Vec::new()))?,
            0x85..=0x87 => {
                let mut items = vec![0; usize::from(opcode - 0x84)];
                for item in items.iter_mut().rev() {
                    *item = self.pop()?;
                }
                self.push(Value::Tuple(items))?;
            }
            b't' => self.pop_to_mark().and_then(|items| self.push(Value::Tuple(items)))?,
            // EMPTY_LIST, LIST, APPEND, APPENDS
            b']' => self.push(Value::List(Vec::new()))?,
            b'l' => self.pop_to_mark().and_then(|items| self.push(Value::List(items)))?,
            b'a' => {
                let item = self.pop()?;
                self.extend_list(&[item])?;
            }
            b'e' => self.pop_to_mark().and_then(|items| self.extend_list(&items))?,
            // EMPTY_DICT, DICT, SETITEM, SETITEMS
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.extend_dict(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.extend_dict(&[key, value])?;
            }
            b'u' => self.pop_to_mark().and_then(|items| self.extend_dict(&items))?,
            // EMPTY_SET, ADDITEMS, FROZENSET
            0x8f => self.push(Value::Opaque)?,
            0x90 => drop(self.pop_to_mark()?),
            0x91 => {
                self.pop_to_mark()?;
                self.push(Value::Opaque)?;
            }
            // BINGET, LONG_BINGET, BINPUT, LONG_BINPUT, MEMOIZE
            b'h' => self.length::<1>().and_then(|slot| self.recall(slot))?,
            b'j' => self.length::<4>().and_then(|slot| self.recall(slot))?,
            b'q' => self.length::<1>().and_then(|slot| self.remember(slot))?,
            b'r' => self.length::<4>().and_then(|slot| self.remember(slot))?,
            0x94 => self.remember(self.memo.len())?,
            // GLOBAL and INST name on two lines what STACK_GLOBAL has on the stack; INST also calls it.
            b'c' | b'i' => {
                let module = self.line()?;
                let name = self.line()?;
                let global = self.allowed(module, name)?;
                if opcode == b'i' {
                    return Err(broken("opcode INST, which PyTorch does not write"));
                }
                self.push(Value::Global(global))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(module), Value::Text(name)) = (self.get(module), self.get(name)) else {
                    return Err(broken("a global whose name is not text"));
                };
                let global = self.allowed(module, name)?;
                self.push(Value::Global(global))?;
            }
            // REDUCE, NEWOBJ
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(callee, arguments)?;
            }
            // BUILD hands an object its attributes (`OrderedDict` has `_metadata`): no tensor is in them.
            b'b' => {
                self.pop()?;
                self.top()?;
            }
            // BINPERSID
            b'Q' => {
                let what = self.pop()?;
                self.push(Value::Persistent(what))?;
            }
            other => {
                return Err(broken(format!(
                    "opcode 0x{other:02x} at byte {}, which is not read",
                    self.at - 1
                )));
            }
        }
        Ok(None)
    }

    fn spend(&mut self, steps: usize) -> Result<(), CheckpointError> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > MAX_STEPS {
            return Err(broken(format!("more than {MAX_STEPS} opcodes")));
        }
        Ok(())
    }

    fn allowed(&self, module: &str, name: &str) -> Result<Global, CheckpointError> {
        global(module, name)
            .ok_or_else(|| CheckpointError::PickleCall { name: show(&format!("{module}.{name}")) })
    }

    /// Notes a call. An `OrderedDict` becomes a dict at once, since entries are added to it later.
    fn call(&mut self, callee: Id, arguments: Id) -> Result<(), CheckpointError> {
        let Value::Global(callee) = *self.get(callee) else {
            return Err(broken("a call of something that is no function"));
        };
        let Value::Tuple(items) = self.get(arguments) else {
            return Err(broken("a call whose arguments are no tuple"));
        };
        if callee != Global::OrderedDict {
            return self.push(Value::Call(callee, arguments));
        }
        let mut entries = Vec::new();
        let mut copied = 0;
        // Python 2 hands the entries over as a list of pairs.
        if let Some(&list) = items.first() {
            let Value::List(pairs) = self.get(list) else {
                return Err(broken("an OrderedDict of something that is no list"));
            };
            copied = pairs.len();
            for &pair in pairs {
                match self.get(pair) {
                    Value::Tuple(pair) | Value::List(pair) if pair.len() == 2 => {
                        entries.push((pair[0], pair[1]))
                    }
                    _ => return Err(broken("an OrderedDict of something that is no pair")),
                }
            }
        }
        // The same list may be handed over again and again: copies count as opcodes do.
        self.spend(copied)?;
        self.push(Value::Dict(entries))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CheckpointError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or_else(|| {
            broken(format!("it ends at byte {} where {count} more were expected", self.bytes.len()))
        })?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// An unsigned number of N bytes.
    fn length<const N: usize>(&mut self) -> Result<usize, CheckpointError> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(self.take(N)?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| broken("a length beyond this machine's memory"))
    }

    fn line(&mut self) -> Result<&'a str, CheckpointError> {
        let rest = &self.bytes[self.at..];
        let end =
            rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| broken("a name without an end"))?;
        self.at += end + 1;
        str::from_utf8(&rest[..end]).map_err(|_| broken("a name that is not UTF-8"))
    }

    fn text(&mut self, length: usize) -> Result<(), CheckpointError> {
        let text = str::from_utf8(self.take(length)?).map_err(|_| broken("text that is not UTF-8"))?;
        self.push(Value::Text(text))
    }

    fn skip(&mut self, length: usize) -> Result<(), CheckpointError> {
        self.take(length)?;
        self.push(Value::Opaque)
    }

    fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id as usize]
    }

    fn push(&mut self, value: Value<'a>) -> Result<(), CheckpointError> {
        // One value an opcode at most, so `MAX_STEPS` bounds the number.
        let id = Id::try_from(self.values.len()).map_err(|_| broken("too many values"))?;
        self.values.push(value);
        self.stack.push(id);
        Ok(())
    }

    /// Height below which the stack may not be popped.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, CheckpointError> {
        let above = &self.stack[self.floor()..];
        above.last().copied().ok_or_else(|| broken("an empty stack"))
    }

    fn pop(&mut self) -> Result<Id, CheckpointError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, CheckpointError> {
        let mark = self.marks.pop().ok_or_else(|| broken("no mark on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    fn extend_list(&mut self, items: &[Id]) -> Result<(), CheckpointError> {
        let list = self.top()?;
        match &mut self.values[list as usize] {
            Value::List(list) => list.extend_from_slice(items),
            _ => return Err(broken("items for something that is no list")),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<(), CheckpointError> {
        let dict = self.top()?;
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(broken("a dict key without a value"));
        };
        match &mut self.values[dict as usize] {
            Value::Dict(entries) => entries.extend(pairs.iter().map(|&[key, value]| (key, value))),
            _ => return Err(broken("entries for something that is no dict")),
        }
        Ok(())
    }

    fn recall(&mut self, slot: usize) -> Result<(), CheckpointError> {
        let known = u32::try_from(slot).ok().and_then(|slot| self.memo.get(&slot).copied());
        self.stack.push(known.ok_or_else(|| broken(format!("memo {slot} was never stored")))?);
        Ok(())
    }

    fn remember(&mut self, slot: usize) -> Result<(), CheckpointError> {
        let slot = u32::try_from(slot).map_err(|_| broken("too many memos"))?;
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }
}

/// A little-endian two's-complement integer.
fn long(bytes: &[u8]) -> Result<i128, CheckpointError> {
    if bytes.len() > 16 {
        return Err(broken(format!("an integer of {} bytes", bytes.len())));
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide[..bytes.len()].copy_from_slice(bytes);
    Ok(i128::from_le_bytes(wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    #[test]
    fn any_other_name_is_refused_and_named() {
        for (bytes, name) in [
            (b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.".as_slice(), "os.system"),
            (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", "builtins.eval"),
            (b"(ios\nsystem\n.", "os.system"),
            (b"\x80\x02cos.path\njoin\n.", "os.path.join"),
            (b"\x80\x02ctorch\nload\n.", "torch.load"),
        ] {
            let message = refusal(bytes);
            assert!(
                message.contains(&format!("`{name}`")) && message.contains("nothing was run"),
                "{message}"
            );
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        // [[[[…]]]]: a million lists, each the only item of the one around it.
        let mut bytes = b"\x80\x02".to_vec();
        bytes.extend(std::iter::repeat_n(b']', 1_000_000));
        bytes.extend(std::iter::repeat_n(b'a', 999_999));
        bytes.push(b'.');
        let (pickle, end) = read(&bytes).unwrap();
        assert_eq!(end, bytes.len());
        assert!(matches!(pickle.root(), Value::List(items) if items.len() == 1));
    }

    #[test]
    fn a_list_may_hold_itself() {
        let (pickle, _) = read(b"\x80\x02]q\0h\0a.").unwrap();
        let Value::List(items) = pickle.root() else { panic!("{pickle:?}") };
        assert!(matches!(pickle.get(items[0]), Value::List(_)));
    }

    #[test]
    fn broken_pickles_are_errors() {
        for (bytes, reason) in [
            (b"".as_slice(), "ends at byte 0"),
            (b"\x80\x06N.", "protocol 6"),
            (b".", "empty stack"),
            (b"(N1.", "empty stack"),
            (b"N(R.", "empty stack"),
            (b"1", "no mark"),
            (b"h\x05.", "memo 5"),
            (b"X\xff\xff\xff\xff", "more were expected"),
            (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff", "more were expected"),
            (b"X\x01\0\0\0\xff.", "not UTF-8"),
            (b"NK\x01K\x01s.", "no dict"),
            (b"}(K\x01u.", "without a value"),
            (b"NNa.", "no list"),
            (b"N)R.", "no function"),
            (b"ccollections\nOrderedDict\nNR.", "no tuple"),
            (b"\x8a\x11aaaaaaaaaaaaaaaaa.", "integer of 17 bytes"),
            (b"\x82\x01.", "opcode 0x82"),
        ] {
            let message = refusal(bytes);
            assert!(message.contains(reason), "{bytes:?}: {message}");
        }
        assert!(refusal(&vec![b'N'; MAX_STEPS + 1]).contains("opcodes"));
    }

    #[test]
    fn copies_of_one_list_count_as_opcodes() {
        // OrderedDict([pair] * 1000), 10,000 times: ten million entries from some ten thousand bytes.
        let mut bytes = b"\x80\x02ccollections\nOrderedDict\nq\0](".to_vec();
        bytes.extend(b"NN\x86q\x01");
        bytes.extend(b"h\x01".repeat(999));
        bytes.extend(b"e\x85q\x02");
        bytes.extend(b"h\0h\x02R".repeat(10_000));
        bytes.push(b'.');
        assert!(refusal(&bytes).contains("opcodes"));
    }

    #[test]
    fn integers_of_every_width() {
        for (bytes, expected) in [
            (b"J\xff\xff\xff\xff.".as_slice(), -1),
            (b"M\xff\xff.", 65535),
            (b"\x8a\0.", 0),
            (b"\x8a\x01\x80.", -128),
            (b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 0x1950_a86a_20f9_469c_fc6c),
        ] {
            let (pickle, _) = read(bytes).unwrap();
            assert!(matches!(pickle.root(), Value::Int(n) if *n == expected), "{pickle:?}");
        }
    }
}

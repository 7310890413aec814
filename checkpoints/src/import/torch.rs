//! PyTorch's two containers, zip and legacy: where the pickle and the storages lie, and how tensors refer
//! to them.
//!
//! # Source
//! `torch/serialization.py` (`_save`, `_legacy_save`) and `torch/_utils.py` (`_rebuild_tensor_v2`).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Read};
use std::rc::Rc;

use zip::ZipArchive;
use zip::result::ZipError;

use super::pickle::{self, Global, Id, Pickle, Value};
use super::strided::{Element, Storage, Strided, about};
use super::{StateDict, show};
use crate::error::CheckpointError;
use crate::metadata::one_line;

/// First pickle of a legacy file.
const MAGIC: i128 = 0x1950_a86a_20f9_469c_fc6c;
/// Second pickle of a legacy file.
const PROTOCOL: i128 = 1001;
/// Dictionary keys under which most checkpoints keep their state dict.
const NESTS: [&str; 3] = ["state_dict", "model", "model_state_dict"];

/// Reads a file of PyTorch ≥ 1.6.
pub(super) fn read_zip(bytes: &[u8]) -> Result<StateDict<'_>, CheckpointError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken_zip)?;
    if archive.has_duplicate_names() {
        return Err(CheckpointError::format("the zip holds two files of one name"));
    }
    let folder = archive
        .file_names_raw()
        .find_map(|name| str::from_utf8(name).ok()?.strip_suffix("data.pkl"))
        .filter(|folder| folder.is_empty() || folder.ends_with('/'))
        .ok_or_else(|| CheckpointError::format("the zip holds no data.pkl, expected a file of torch.save"))?
        .to_string();
    // Entries may overlap; together they still must not exceed the file.
    let mut room = bytes.len() as u64;
    let order = format!("{folder}byteorder");
    if archive.index_for_name_raw(order.as_bytes()).is_some()
        && entry(&mut archive, &order, &mut room)? != b"little"
    {
        return Err(CheckpointError::format("its numbers are big-endian, expected little-endian"));
    }
    let data = entry(&mut archive, &format!("{folder}data.pkl"), &mut room)?;
    let (pickle, _) = pickle::read(&data)?;
    let references = references(&pickle)?;
    let mut storages = HashMap::new();
    for TensorRef { storage, .. } in references.values() {
        if !storages.contains_key(storage.key) {
            let data = entry(&mut archive, &format!("{folder}data/{}", storage.key), &mut room)?;
            storages.insert(storage.key, storage.hold(data.into())?);
        }
    }
    assemble(references, &storages)
}

/// Reads a file of older PyTorch: magic number, protocol, system, object, keys of the storages, storages.
pub(super) fn read_legacy(bytes: &[u8]) -> Result<StateDict<'_>, CheckpointError> {
    let mut rest = bytes;
    let mut next = || -> Result<Pickle<'_>, CheckpointError> {
        let (pickle, length) = pickle::read(rest)?;
        rest = &rest[length..];
        Ok(pickle)
    };
    if !matches!(next()?.root(), Value::Int(MAGIC)) {
        return Err(CheckpointError::format(
            "a pickle, but not of torch.save; hint: save it by `torch.save(model.state_dict(), FILE)`",
        ));
    }
    if !matches!(next()?.root(), Value::Int(PROTOCOL)) {
        return Err(CheckpointError::format("a legacy PyTorch file whose protocol is not 1001"));
    }
    let _system = next()?;
    let object = next()?;
    let keys = next()?;
    let references = references(&object)?;
    // All storages of the object: an optimizer beside the state dict has some too.
    let mut known: HashMap<&str, StorageRef<'_>> = object
        .persistent()
        .filter_map(|what| storage_ref(&object, what).ok())
        .map(|(s, _)| (s.key, s))
        .collect();
    known.extend(references.values().map(|reference| (reference.storage.key, reference.storage)));

    let Value::List(keys_list) = keys.root() else {
        return Err(CheckpointError::format("a legacy PyTorch file without its list of storages"));
    };
    let mut storages = HashMap::new();
    for &key in keys_list {
        let Value::Text(key) = *keys.get(key) else {
            return Err(CheckpointError::format("a storage whose key is not text"));
        };
        let Some(storage) = known.get(key) else {
            return Err(CheckpointError::format(format!("storage `{}` belongs to no tensor", show(key))));
        };
        let cut_off = || {
            CheckpointError::format(format!(
                "storage `{}` has {} values, but the file ends within them",
                show(key),
                storage.count
            ))
        };
        // A count of 8 bytes, then the values.
        let (count, behind) = rest.split_first_chunk::<8>().ok_or_else(cut_off)?;
        let count = u64::from_le_bytes(*count);
        if count != storage.count as u64 {
            return Err(CheckpointError::format(format!(
                "storage `{}` has {count} values, its tensor expects {}",
                show(key),
                storage.count
            )));
        }
        let (data, behind) =
            storage.bytes().and_then(|length| behind.split_at_checked(length)).ok_or_else(cut_off)?;
        rest = behind;
        storages.insert(key, storage.hold(data.into())?);
    }
    assemble(references, &storages)
}

/// One stored file of the archive, its checksum checked.
fn entry(
    archive: &mut ZipArchive<Cursor<&[u8]>>,
    name: &str,
    room: &mut u64,
) -> Result<Vec<u8>, CheckpointError> {
    let missing = || CheckpointError::format(format!("the zip holds no `{}`", show(name)));
    let index = archive.index_for_name_raw(name.as_bytes()).ok_or_else(missing)?;
    let file = archive.by_index(index).map_err(broken_zip)?;
    let size = file.size();
    *room = room.checked_sub(size).ok_or_else(|| {
        CheckpointError::format(format!(
            "the zip's `{}` claims {size} bytes, more than the file has",
            show(name)
        ))
    })?;
    let mut data = Vec::with_capacity(size as usize);
    // One byte more than it claims, so that the end (where the checksum is compared) is met.
    file.take(size + 1).read_to_end(&mut data).map_err(|error| {
        CheckpointError::format(format!("the zip's `{}`: {}", show(name), one_line(&error.to_string())))
    })?;
    if data.len() as u64 != size {
        return Err(CheckpointError::format(format!(
            "the zip's `{}` claims {size} bytes and has {}",
            show(name),
            data.len()
        )));
    }
    Ok(data)
}

fn broken_zip(error: ZipError) -> CheckpointError {
    CheckpointError::format(format!("broken zip: {}", one_line(&error.to_string())))
}

/// A storage as a tensor refers to it: `('storage', type, key, device, count[, view])`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct StorageRef<'a> {
    key: &'a str,
    element: Element,
    count: usize,
}

impl StorageRef<'_> {
    fn bytes(&self) -> Option<usize> {
        self.count.checked_mul(self.element.size())
    }

    fn hold<'b>(&self, data: Cow<'b, [u8]>) -> Result<Rc<Storage<'b>>, CheckpointError> {
        if self.bytes() != Some(data.len()) {
            return Err(CheckpointError::format(format!(
                "storage `{}` has {} bytes, expected {} values of {}",
                show(self.key),
                data.len(),
                self.count,
                self.element.size()
            )));
        }
        Ok(Rc::new(Storage { element: self.element, data }))
    }
}

/// A tensor as the pickle describes it.
#[derive(Debug)]
struct TensorRef<'a> {
    storage: StorageRef<'a>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// The tensors of the state dict, by key.
fn references<'a>(pickle: &Pickle<'a>) -> Result<BTreeMap<&'a str, TensorRef<'a>>, CheckpointError> {
    let mut references = BTreeMap::new();
    let mut elements: HashMap<&str, StorageRef<'_>> = HashMap::new();
    for &(key, value) in state_dict(pickle)? {
        let Value::Text(key) = *pickle.get(key) else {
            return Err(CheckpointError::format("a state dict with a key that is not text"));
        };
        let reference = tensor(pickle, value).map_err(about(key))?;
        let first = *elements.entry(reference.storage.key).or_insert(reference.storage);
        if first != reference.storage {
            return Err(about(key)("shares a storage with a tensor that says otherwise about it".into()));
        }
        if references.insert(key, reference).is_some() {
            return Err(about(key)("stands twice in the state dict, expected once".into()));
        }
    }
    Ok(references)
}

/// Finds the dictionary of tensors: the object itself, or under one of [`NESTS`], or the only one that the object holds.
fn state_dict<'p>(pickle: &'p Pickle<'_>) -> Result<&'p [(Id, Id)], CheckpointError> {
    let holds_tensors =
        |entries: &[(Id, Id)]| entries.iter().any(|&(_, value)| matches!(pickle.get(value), Value::Call(..)));
    let mut value = pickle.root();
    // A checkpoint of a checkpoint is as deep as it gets.
    for _ in 0..3 {
        let Value::Dict(entries) = value else {
            break;
        };
        let nested = NESTS.iter().find_map(|nest| {
            let is = |key: Id| matches!(pickle.get(key), Value::Text(text) if text == nest);
            entries.iter().find(|&&(key, _)| is(key)).map(|&(_, value)| pickle.get(value))
        });
        // A nest goes first: a tensor may stand beside it, such as the loss so far.
        if let Some(nested @ Value::Dict(_)) = nested {
            value = nested;
            continue;
        }
        if holds_tensors(entries) {
            return Ok(entries);
        }
        // Under another name: the optimizer's tensors, if there are some, lie deeper.
        let mut others = entries.iter().filter(
            |&&(_, value)| matches!(pickle.get(value), Value::Dict(entries) if holds_tensors(entries)),
        );
        match (others.next(), others.next()) {
            (Some(&(_, only)), None) => value = pickle.get(only),
            (Some(_), Some(_)) => {
                return Err(CheckpointError::format(
                    "several dictionaries of tensors in the pickle, expected one, or one under `state_dict` or `model`; hint: save the network's `model.state_dict()` alone",
                ));
            }
            (None, _) => break,
        }
    }
    Err(CheckpointError::format(
        "no dictionary of tensors in the pickle, expected a state dict, or a dictionary that holds one",
    ))
}

fn tensor<'a>(pickle: &Pickle<'a>, mut id: Id) -> Result<TensorRef<'a>, String> {
    // A `Parameter` is a tensor in a wrapper.
    if let Value::Call(Global::RebuildParameter, arguments) = pickle.get(id)
        && let Value::Tuple(items) = pickle.get(*arguments)
    {
        id = *items.first().ok_or("a parameter without a tensor")?;
    }
    let Value::Call(Global::RebuildTensor, arguments) = pickle.get(id) else {
        return Err("not a tensor, expected only tensors in a state dict".into());
    };
    let Value::Tuple(arguments) = pickle.get(*arguments) else {
        return Err("a tensor without its description".into());
    };
    let [storage, offset, shape, strides, ..] = arguments[..] else {
        return Err("a tensor without storage, offset, shape and strides".into());
    };
    let Value::Persistent(description) = *pickle.get(storage) else {
        return Err("a tensor without a storage".into());
    };
    let (storage, start) = storage_ref(pickle, description)?;
    let offset = size(pickle, offset)?.checked_add(start).ok_or("an offset beyond this machine's memory")?;
    Ok(TensorRef { storage, offset, shape: sizes(pickle, shape)?, strides: sizes(pickle, strides)? })
}

/// The storage, and where the tensor's view of it starts (files before PyTorch 0.4 have views of storages).
fn storage_ref<'a>(pickle: &Pickle<'a>, id: Id) -> Result<(StorageRef<'a>, usize), String> {
    const WHAT: &str = "its storage is not described as PyTorch does";
    let Value::Tuple(items) = pickle.get(id) else {
        return Err(WHAT.into());
    };
    let [kind, element, key, _device, count, ref view @ ..] = items[..] else {
        return Err(WHAT.into());
    };
    let (Value::Text("storage"), Value::Global(Global::Storage(element)), Value::Text(key)) =
        (pickle.get(kind), pickle.get(element), pickle.get(key))
    else {
        return Err(WHAT.into());
    };
    let start = match view.first().map(|&view| pickle.get(view)) {
        None | Some(Value::None) => 0,
        // (key, offset, size)
        Some(Value::Tuple(view)) if view.len() == 3 => size(pickle, view[1])?,
        Some(_) => return Err(WHAT.into()),
    };
    Ok((StorageRef { key, element: *element, count: size(pickle, count)? }, start))
}

fn size(pickle: &Pickle<'_>, id: Id) -> Result<usize, String> {
    match pickle.get(id) {
        Value::Int(n) => usize::try_from(*n).map_err(|_| format!("{n} is no size")),
        _ => Err("a size that is no integer".into()),
    }
}

fn sizes(pickle: &Pickle<'_>, id: Id) -> Result<Vec<usize>, String> {
    match pickle.get(id) {
        Value::Tuple(items) if items.len() <= 8 => items.iter().map(|&item| size(pickle, item)).collect(),
        _ => Err("sizes that are no tuple of up to 8 integers".into()),
    }
}

/// Joins tensors and storages.
fn assemble<'a>(
    references: BTreeMap<&str, TensorRef<'_>>,
    storages: &HashMap<&str, Rc<Storage<'a>>>,
) -> Result<StateDict<'a>, CheckpointError> {
    let mut tensors = StateDict::new();
    for (key, TensorRef { storage, offset, shape, strides }) in references {
        let data = storages
            .get(storage.key)
            .ok_or_else(|| about(key)(format!("its storage `{}` is not in the file", show(storage.key))))?;
        tensors
            .insert(key.to_string(), Strided::new(data.clone(), offset, shape, strides).map_err(about(key))?);
    }
    Ok(tensors)
}

//! Foreign models in: PyTorch state dicts of the TransformerNet layout, and TF-style networks.
//!
//! | file | recognized by | read as |
//! | --- | --- | --- |
//! | PyTorch ≥ 1.6 (`torch.save`) | `PK` at the start | zip of `data.pkl` and one file a storage |
//! | PyTorch before, and `_use_new_zipfile_serialization=False` | a pickle at the start | five pickles and the storages |
//! | safetensors | its header | keys of either layout, without the metadata key `impasto` |
//!
//! A pickle is a program for a small stack machine; here it is **data, never run**: the reader in `pickle`
//! knows four harmless names (`OrderedDict`, the storages, the tensor rebuilders), notes calls of them as
//! values, and refuses a file that mentions any other. What follows from the tensors' names and shapes is
//! found in `layout`. Memory stays within some tens of times the file's size, whatever the file declares.
//!
//! Licence and credits of what comes in are unknown and stay empty.

mod layout;
mod pickle;
mod strided;
mod torch;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use safetensors::SafeTensors;

use crate::error::CheckpointError;
use crate::file;
use crate::metadata::one_line;
use crate::style_model::{StyleModel, Tensor};
use strided::{Element, Storage, Strided};

/// The tensors of a foreign file by their key.
type StateDict<'a> = BTreeMap<String, Strided<'a>>;

/// Reads a foreign model file: PyTorch (zip or legacy) or safetensors, in the layout of `pytorch/examples`
/// TransformerNet or of the TF-style networks. The architecture is found from the tensors; the model is
/// named after the file.
///
/// # Errors
/// Any [`CheckpointError`], with the file's name; [`CheckpointError::PickleCall`] when a pickle mentions
/// anything but tensors.
pub fn import(path: &Path) -> Result<StyleModel, CheckpointError> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    file::read_limited(path)
        .and_then(|bytes| import_bytes(&bytes, &name))
        .map_err(|error| error.in_file(path))
}

/// Reads a foreign model from the bytes of its file; `name` becomes the model's, in lower case and with
/// anything but letters, digits, `-`, `_` and `.` replaced.
///
/// # Errors
/// As for [`import`], without the file's name.
pub fn import_bytes(bytes: &[u8], name: &str) -> Result<StyleModel, CheckpointError> {
    let tensors = match bytes {
        [] => {
            return Err(CheckpointError::format(
                "the file is empty, expected a PyTorch or safetensors model",
            ));
        }
        [b'P', b'K', ..] => torch::read_zip(bytes)?,
        // A safetensors header: its length (never over 100 MB, so the upper half is zero), then JSON. It goes
        // before the pickle, since a length can look like the opcode `PROTO`.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => read_safetensors(bytes)?,
        // `PROTO`, or a `GLOBAL` or `MARK` as a pickle of the first protocols may begin.
        [0x80 | b'c' | b'(', ..] => torch::read_legacy(bytes)?,
        _ => {
            return Err(CheckpointError::format(
                "neither a PyTorch file (zip or pickle) nor safetensors; hint: a model is saved by `torch.save(model.state_dict(), FILE)`",
            ));
        }
    };
    layout::assemble(tensors, tidy(name), bytes.len())
}

/// Reads the tensors of any PyTorch state dict (zip or legacy, also nested as for [`import`]), whatever they are
/// for. Tensors of other types than floats are left out.
///
/// # Errors
/// [`CheckpointError::Format`] for what is not a whole PyTorch file or whose tensors together are larger than it,
/// [`CheckpointError::PickleCall`] when it mentions anything but tensors.
pub fn read_state_dict(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    let tensors = match bytes {
        [b'P', b'K', ..] => torch::read_zip(bytes)?,
        [0x80 | b'c' | b'(', ..] => torch::read_legacy(bytes)?,
        _ => return Err(CheckpointError::format("not a PyTorch file, expected a zip or a pickle")),
    };
    // A stride of 0 or shared storages could blow a small file up.
    let count = tensors.values().fold(0_usize, |sum, tensor| sum.saturating_add(tensor.count()));
    if count > bytes.len() {
        return Err(CheckpointError::format("its tensors have more values than the file has bytes"));
    }
    Ok(tensors.into_iter().filter_map(|(key, tensor)| Some((key, tensor.read().ok()?))).collect())
}

fn read_safetensors(bytes: &[u8]) -> Result<StateDict<'_>, CheckpointError> {
    match file::read_metadata(bytes) {
        Ok(_) | Err(CheckpointError::NewerVersion { .. }) => return Err(already_ours()),
        // A key that stands twice.
        Err(error @ CheckpointError::Tensor { .. }) => return Err(error),
        Err(_) => {}
    }
    let broken = |error: safetensors::SafeTensorError| {
        CheckpointError::format(format!("not a whole safetensors file ({})", one_line(&error.to_string())))
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    if header.metadata().as_ref().is_some_and(|entries| entries.contains_key("impasto")) {
        return Err(already_ours());
    }
    let file = SafeTensors::deserialize(bytes).map_err(broken)?;
    let mut tensors = StateDict::new();
    for (key, view) in file.iter() {
        use safetensors::Dtype;
        let element = match view.dtype() {
            Dtype::F32 => Element::F32,
            Dtype::F16 => Element::F16,
            Dtype::BF16 => Element::Bf16,
            Dtype::F64 => Element::F64,
            other => Element::Other { name: dtype_name(other), size: 1 },
        };
        let storage = Rc::new(Storage { element, data: view.data().into() });
        tensors.insert(key.to_string(), Strided::contiguous(storage, view.shape().to_vec()));
    }
    Ok(tensors)
}

/// The crate's `Dtype` prints itself only through `Debug`; ours wants a static name.
fn dtype_name(dtype: safetensors::Dtype) -> &'static str {
    use safetensors::Dtype;
    match dtype {
        Dtype::I64 => "I64",
        Dtype::I32 => "I32",
        Dtype::U8 => "U8",
        Dtype::I8 => "I8",
        Dtype::BOOL => "BOOL",
        _ => "another type",
    }
}

fn already_ours() -> CheckpointError {
    CheckpointError::format(
        "already a style model of impasto, expected a foreign one; hint: it needs no import, paint with --model FILE",
    )
}

/// A model name from a file's stem.
fn tidy(name: &str) -> String {
    let mut tidied = String::new();
    for c in name.chars().take(64) {
        if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') {
            tidied.extend(c.to_lowercase());
        } else if !tidied.ends_with('-') {
            tidied.push('-');
        }
    }
    let tidied = tidied.trim_matches(['-', '.', '_']);
    if tidied.is_empty() { "imported".into() } else { tidied.into() }
}

/// A key or name out of a file as an error shows it: one line, no control characters, not endless.
fn show(text: &str) -> String {
    let mut shown: String = text.escape_debug().take(100).collect();
    if text.len() > shown.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tidied() {
        for (from, to) in [
            ("candy_nc8", "candy_nc8"),
            ("My Style (2)", "my-style-2"),
            ("../../x", "x"),
            ("", "imported"),
            ("Ünïcode v1.5", "ünïcode-v1.5"),
            ("\u{1b}[31mred\n", "31mred"),
        ] {
            assert_eq!(tidy(from), to, "{from:?}");
        }
        assert!(tidy(&"x".repeat(1000)).len() <= 64);
    }

    #[test]
    fn shown_keys_stay_on_one_line() {
        assert_eq!(show("a\nb"), "a\\nb");
        assert!(show(&"k".repeat(10_000)).chars().count() <= 101);
    }
}

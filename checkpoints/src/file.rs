//! The style model's file: safetensors with one JSON value under the metadata key `impasto`.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use half::{bf16, f16};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as FileDtype, TensorView};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::error::CheckpointError;
use crate::metadata::{Metadata, one_line};
use crate::style_model::{Dtype, StyleModel, Tensor};

/// Largest model file that is read. The widest network the format can name is smaller in practice, and a
/// wrong file (a video, a device) must not fill the memory.
pub const MAX_FILE_BYTES: u64 = 512 << 20;

const METADATA_KEY: &str = "impasto";

/// Reads a file of at most [`MAX_FILE_BYTES`].
pub(crate) fn read_limited(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let io = |source| CheckpointError::Io { action: "read", path: path.to_path_buf(), source };
    let file = File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.is_dir() {
        return Err(CheckpointError::format("it is a folder, expected a model file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(CheckpointError::format(format!(
            "larger than {} MiB, expected a model of a few megabytes",
            MAX_FILE_BYTES >> 20
        )));
    }
    Ok(bytes)
}

pub(crate) fn decode(bytes: &[u8]) -> Result<StyleModel, CheckpointError> {
    let (metadata, file) = open(bytes)?;
    let mut tensors = BTreeMap::new();
    for (key, view) in file.iter() {
        let dtype = match view.dtype() {
            FileDtype::F32 => Dtype::F32,
            FileDtype::F16 => Dtype::F16,
            FileDtype::BF16 => Dtype::Bf16,
            other => {
                return Err(CheckpointError::tensor(
                    key,
                    format!("type {other:?}, expected F32, F16 or BF16"),
                ));
            }
        };
        tensors.insert(
            key.to_string(),
            Tensor { shape: view.shape().to_vec(), dtype, values: to_f32(view.data(), dtype) },
        );
    }
    StyleModel::new(metadata, tensors)
}

/// Splits a file into its papers and its tensors, without looking at the tensors' values.
fn open(bytes: &[u8]) -> Result<(Metadata, SafeTensors<'_>), CheckpointError> {
    if bytes.is_empty() {
        return Err(CheckpointError::format("the file is empty, expected safetensors"));
    }
    let not_safetensors = |error: safetensors::SafeTensorError| {
        CheckpointError::format(format!(
            "not a whole safetensors file ({}); hint: PyTorch files come in with `impasto styles import`",
            one_line(&error.to_string())
        ))
    };
    let (header_len, header) = SafeTensors::read_metadata(bytes).map_err(not_safetensors)?;
    // 8 bytes of length before the header; `read_metadata` has checked that it lies within the file.
    if let Some(key) = bytes.get(8..8 + header_len).and_then(duplicate_key) {
        return Err(CheckpointError::tensor(key, "stands twice in the header, expected once"));
    }
    let entries = header.metadata().as_ref();
    let json = entries.and_then(|entries| entries.get(METADATA_KEY)).ok_or_else(|| {
        CheckpointError::format(
            "safetensors without the metadata key `impasto`; hint: foreign models come in with `impasto styles import`",
        )
    })?;
    if let Some(other) =
        entries.into_iter().flat_map(|entries| entries.keys()).find(|key| *key != METADATA_KEY)
    {
        return Err(CheckpointError::format(format!(
            "unknown metadata key `{other}`, expected only `impasto`"
        )));
    }
    let metadata = Metadata::from_json(json)?;
    Ok((metadata, SafeTensors::deserialize(bytes).map_err(not_safetensors)?))
}

/// Reads only a file's papers: what `styles list` needs, and what the fuzzer feeds.
///
/// # Errors
/// As for [`StyleModel::from_bytes`], but the tensors are not looked at.
pub fn read_metadata(bytes: &[u8]) -> Result<Metadata, CheckpointError> {
    open(bytes).map(|(metadata, _)| metadata)
}

pub(crate) fn encode(model: &StyleModel) -> Result<Vec<u8>, CheckpointError> {
    let data: Vec<(&String, FileDtype, &[usize], Vec<u8>)> = model
        .tensors()
        .iter()
        .map(|(key, tensor)| {
            let (dtype, bytes) = from_f32(tensor);
            (key, dtype, tensor.shape.as_slice(), bytes)
        })
        .collect();
    let mut views = Vec::with_capacity(data.len());
    for (key, dtype, shape, bytes) in &data {
        let view = TensorView::new(*dtype, shape.to_vec(), bytes)
            .map_err(|error| CheckpointError::tensor(*key, one_line(&error.to_string())))?;
        views.push((key.as_str(), view));
    }
    let metadata = HashMap::from([(METADATA_KEY.to_string(), model.metadata().to_json()?)]);
    safetensors::serialize(views, Some(metadata))
        .map_err(|error| CheckpointError::format(one_line(&error.to_string())))
}

pub(crate) fn to_f32(bytes: &[u8], dtype: Dtype) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::Bf16 => bytes.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
    }
}

fn from_f32(tensor: &Tensor) -> (FileDtype, Vec<u8>) {
    let values = tensor.values.iter();
    match tensor.dtype {
        Dtype::F32 => (FileDtype::F32, values.flat_map(|v| v.to_le_bytes()).collect()),
        Dtype::F16 => (FileDtype::F16, values.flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()),
        Dtype::Bf16 => (FileDtype::BF16, values.flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect()),
    }
}

/// The first key that stands twice in the header's JSON object. The safetensors crate keeps the last of
/// them silently; two readers could then see two different models in one file.
fn duplicate_key(header: &[u8]) -> Option<String> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut seen = std::collections::HashSet::new();
            let mut twice = None;
            while let Some(key) = map.next_key::<String>()? {
                map.next_value::<IgnoredAny>()?;
                if !seen.insert(key.clone()) {
                    twice.get_or_insert(key);
                }
            }
            Ok(twice)
        }
    }
    serde_json::Deserializer::from_slice(header).deserialize_map(Keys).ok().flatten()
}

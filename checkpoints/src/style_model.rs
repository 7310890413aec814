//! A style model in memory: metadata and tensors that are known to fit each other.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

use crate::architecture::Architecture;
use crate::atomic::write_atomically;
use crate::error::CheckpointError;
use crate::file;
use crate::metadata::Metadata;

/// Number type of a tensor in the file. In memory every value is an `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// 16-bit IEEE floats.
    F16,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// The value that reading gives after writing `value` in this type.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Dtype::F32 => value,
            Dtype::F16 => f16::from_f32(value).to_f32(),
            Dtype::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// Name as printed, `f16`.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        }
    }
}

/// One tensor: shape, values, and the type it has in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Type in the file.
    pub dtype: Dtype,
    /// Values in row-major order.
    pub values: Vec<f32>,
}

impl Tensor {
    /// An `f32` tensor.
    pub fn f32(shape: impl Into<Vec<usize>>, values: Vec<f32>) -> Self {
        Tensor { shape: shape.into(), dtype: Dtype::F32, values }
    }
}

/// A transform network with its weights and its papers. The tensors are exactly those that the architecture
/// names, with the right shapes and finite values: whoever holds one need not check again.
#[derive(Debug, Clone, PartialEq)]
pub struct StyleModel {
    metadata: Metadata,
    tensors: BTreeMap<String, Tensor>,
}

impl StyleModel {
    /// Puts metadata and tensors together.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] names the first tensor that is missing, surplus, of the wrong shape or
    /// not finite; [`CheckpointError::Architecture`] if the architecture itself is broken.
    pub fn new(metadata: Metadata, tensors: BTreeMap<String, Tensor>) -> Result<Self, CheckpointError> {
        metadata.architecture.validate()?;
        let specs = metadata.architecture.tensors();
        for spec in &specs {
            let Some(tensor) = tensors.get(&spec.name) else {
                return Err(CheckpointError::tensor(
                    &spec.name,
                    format!("missing; the architecture {} needs it", metadata.architecture),
                ));
            };
            if tensor.shape != spec.shape || tensor.values.len() != spec.shape.iter().product::<usize>() {
                return Err(CheckpointError::tensor(
                    &spec.name,
                    format!("shape {:?}, expected {:?}", tensor.shape, spec.shape),
                ));
            }
            if let Some(at) = tensor.values.iter().position(|value| !value.is_finite()) {
                return Err(CheckpointError::tensor(
                    &spec.name,
                    format!("value {at} is {}, expected finite numbers", tensor.values[at]),
                ));
            }
        }
        if tensors.len() > specs.len() {
            let known: std::collections::BTreeSet<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
            let surplus = tensors.keys().find(|key| !known.contains(key.as_str()));
            return Err(CheckpointError::tensor(
                surplus.map(String::as_str).unwrap_or_default(),
                format!("unknown; the architecture {} has no such tensor", metadata.architecture),
            ));
        }
        Ok(StyleModel { metadata, tensors })
    }

    /// Reads a `.safetensors` style model.
    ///
    /// # Errors
    /// Any [`CheckpointError`], with the file's name.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        file::read_limited(path).and_then(|bytes| Self::from_bytes(&bytes)).map_err(|e| e.in_file(path))
    }

    /// Reads a style model from the bytes of a `.safetensors` file.
    ///
    /// # Errors
    /// Any [`CheckpointError`] but [`CheckpointError::Io`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CheckpointError> {
        file::decode(bytes)
    }

    /// The bytes of the `.safetensors` file. Equal models give equal bytes.
    ///
    /// # Errors
    /// [`CheckpointError::Format`] when the metadata cannot be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CheckpointError> {
        file::encode(self)
    }

    /// Writes the `.safetensors` file: temporary name, sync, rename.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] with the file's name.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), CheckpointError> {
        use std::io::Write;
        let path = path.as_ref();
        let bytes = self.to_bytes().map_err(|error| error.in_file(path))?;
        write_atomically(path, |out| out.write_all(&bytes)).map_err(|source| CheckpointError::Io {
            action: "write",
            path: path.to_path_buf(),
            source,
        })
    }

    /// The model's papers.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The model's papers, to be amended. The architecture in them stays as it is.
    pub fn amend(&mut self, change: impl FnOnce(&mut Metadata)) {
        let architecture = self.metadata.architecture.clone();
        change(&mut self.metadata);
        self.metadata.architecture = architecture;
    }

    /// The network.
    pub fn architecture(&self) -> &Architecture {
        &self.metadata.architecture
    }

    /// All tensors by key.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// Values of a tensor of the architecture.
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] when the architecture has no tensor of that key.
    pub fn values(&self, key: &str) -> Result<&[f32], CheckpointError> {
        match self.tensors.get(key) {
            Some(tensor) => Ok(&tensor.values),
            None => Err(CheckpointError::tensor(key, "not in this architecture")),
        }
    }

    /// The same model with every tensor stored as `dtype` (values rounded to it).
    ///
    /// # Errors
    /// [`CheckpointError::Tensor`] when a value is too large for the type.
    pub fn to_dtype(&self, dtype: Dtype) -> Result<Self, CheckpointError> {
        let mut tensors = self.tensors.clone();
        for tensor in tensors.values_mut() {
            tensor.dtype = dtype;
            tensor.values.iter_mut().for_each(|value| *value = dtype.round(*value));
        }
        StyleModel::new(self.metadata.clone(), tensors)
    }

    /// The number types of the tensors, without repetition, in the order of their keys.
    pub fn dtypes(&self) -> Vec<Dtype> {
        let mut found = Vec::new();
        for tensor in self.tensors.values() {
            if !found.contains(&tensor.dtype) {
                found.push(tensor.dtype);
            }
        }
        found
    }
}

//! Weights of a loss network, free of any backend: read from files, made from a seed, found or downloaded.

#[cfg(feature = "download")]
mod download;
#[cfg(feature = "download")]
mod find;
mod layout;
mod random;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use sha2::{Digest, Sha256};

use super::kind::{InputConvention, LossNetworkKind};
use super::plan::{self, Step};
use crate::error::{BurnError, one_line};

#[cfg(feature = "download")]
pub use find::{FindOptions, Remote, default_cache_dir, find};

/// Largest weight file that is read: torchvision's whole VGG19 is 548 MiB.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// Tensors by name: shape, and values in row-major order.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A loss network's weights and what they expect to see.
#[derive(Debug, Clone, PartialEq)]
pub struct LossWeights {
    /// Which network they are for.
    pub kind: LossNetworkKind,
    /// What they were trained to see.
    pub convention: InputConvention,
    /// The convolutions under Caffe's names, whatever the file called them: `conv1_1.weight` (OIHW),
    /// `conv1_1.bias`; for SqueezeNet `conv1`, and `fire2/conv1x1_1` (squeeze), `fire2/conv1x1_2`,
    /// `fire2/conv3x3_2` (expand). A network may end early, but has no gaps.
    pub tensors: Tensors,
    /// Where they come from, for people: a file's path, an address, `random-vgg16 (seed 1)`.
    pub origin: String,
    /// SHA-256 of the file, in hexadecimal; random weights have none.
    pub sha256: Option<String>,
}

impl LossWeights {
    /// Reads a weight file: safetensors (f32, f16, bf16) or PyTorch (zip or legacy), in torchvision's key layout
    /// (`features.0.weight` …, the whole classifier or trimmed) or with Caffe's names (`conv1_1.weight` …).
    /// Network and depth are found from the tensors.
    ///
    /// # Units
    /// Torchvision's layout means [`InputConvention::ImagenetNormalized`], Caffe's names
    /// [`InputConvention::BgrMinusMean`], and so do the VGGs of the network's authors in torchvision's layout, which
    /// are known by their values; the safetensors metadata entry `input_convention`
    /// (`imagenet_normalized` or `bgr_minus_mean`) overrides that. The entry `network` (`vgg16`, `vgg19`) decides
    /// only for files cut so short that both networks agree.
    ///
    /// # Errors
    /// [`BurnError::LossWeights`] with the file's name and what is wrong with it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, BurnError> {
        let path = path.as_ref();
        let origin = path.display().to_string();
        let bytes = read_limited(path).map_err(|reason| BurnError::loss_weights(&origin, reason))?;
        Self::from_bytes(&bytes, origin)
    }

    /// As [`LossWeights::load`], from the bytes of a file.
    ///
    /// # Errors
    /// As [`LossWeights::load`]; `origin` stands for the file's name.
    pub fn from_bytes(bytes: &[u8], origin: impl Into<String>) -> Result<Self, BurnError> {
        Self::parse(bytes, origin.into(), None)
    }

    /// `wanted` decides between networks that agree as far as the file goes.
    pub(crate) fn parse(
        bytes: &[u8],
        origin: String,
        wanted: Option<LossNetworkKind>,
    ) -> Result<Self, BurnError> {
        let fail = |reason| BurnError::loss_weights(&origin, reason);
        let (tensors, entries) = match bytes {
            [] => return Err(fail("the file is empty, expected safetensors or a PyTorch file".to_string())),
            // A zip, or a pickle's protocol mark (which would make a safetensors header absurdly long).
            [b'P', b'K', ..] | [0x80, 1..=5, ..] => (read_pytorch(bytes).map_err(fail)?, HashMap::new()),
            _ => read_safetensors(bytes).map_err(fail)?,
        };
        let named = entries.get("network").and_then(|name| name.parse().ok());
        let mut found = layout::recognize(tensors, wanted.or(named)).map_err(fail)?;
        if let Some(name) = entries.get("input_convention") {
            found.convention = InputConvention::from_name(name, found.kind).ok_or_else(|| {
                fail(format!(
                    "metadata `input_convention` is `{}`, expected `imagenet_normalized` or `bgr_minus_mean`",
                    name.escape_debug()
                ))
            })?;
        }
        Ok(LossWeights {
            kind: found.kind,
            convention: found.convention,
            tensors: found.tensors,
            origin,
            sha256: Some(hex(&Sha256::digest(bytes))),
        })
    }

    /// The weights as a safetensors file, with `network`, `input_convention` and `origin` in its metadata.
    ///
    /// # Errors
    /// [`BurnError::LossWeights`] when a tensor's shape does not fit its values.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, BurnError> {
        let fail =
            |error: SafeTensorError| BurnError::loss_weights(&self.origin, one_line(&error.to_string()));
        let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(key, (shape, values))| (key, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
            .collect();
        let views = bytes
            .iter()
            .map(|(key, shape, data)| Ok((key.as_str(), TensorView::new(Dtype::F32, shape.to_vec(), data)?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(fail)?;
        let metadata = HashMap::from([
            ("network".to_string(), self.kind.name().to_string()),
            ("input_convention".to_string(), self.convention.name().to_string()),
            ("origin".to_string(), self.origin.clone()),
        ]);
        safetensors::serialize(views, Some(metadata)).map_err(fail)
    }

    /// The layers that the weights reach, shallowest first.
    pub fn layers(&self) -> Vec<String> {
        let steps = plan::steps(self.kind);
        steps[..self.depth()].iter().filter_map(|step| step.layer().map(str::to_string)).collect()
    }

    /// How many steps of the network have all their weights.
    pub(crate) fn depth(&self) -> usize {
        let steps = plan::steps(self.kind);
        let whole = |step: &Step| {
            step.convs().iter().all(|conv| {
                self.tensors.contains_key(&conv.weight()) && self.tensors.contains_key(&conv.bias())
            })
        };
        let reached = steps.iter().take_while(|step| whole(step)).count();
        // A pool needs no weights, but is of no use behind the last convolution.
        steps[..reached].iter().rposition(|step| step.layer().is_some()).map_or(0, |last| last + 1)
    }

    /// The values of one tensor.
    pub(crate) fn values(&self, key: &str, shape: &[usize]) -> Result<&[f32], BurnError> {
        match self.tensors.get(key) {
            Some((found, values)) if found == shape && values.len() == shape.iter().product::<usize>() => {
                Ok(values)
            }
            found => {
                let found =
                    found.map_or("is missing".to_string(), |(found, _)| format!("has shape {found:?}"));
                let reason = format!("tensor `{key}` {found}, expected shape {shape:?}");
                Err(BurnError::loss_weights(&self.origin, reason))
            }
        }
    }
}

fn read_limited(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot read: {error}");
    let file = File::open(path).map_err(cannot)?;
    if file.metadata().map_err(cannot)?.is_dir() {
        return Err("it is a folder, expected a file of loss-network weights".to_string());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("larger than {} MiB, expected weights of a loss network", MAX_FILE_BYTES >> 20));
    }
    Ok(bytes)
}

fn read_pytorch(bytes: &[u8]) -> Result<Tensors, String> {
    let tensors = impasto_checkpoints::import::read_state_dict(bytes).map_err(|error| error.to_string())?;
    Ok(tensors.into_iter().map(|(key, tensor)| (key, (tensor.shape, tensor.values))).collect())
}

/// Tensors of float type and metadata entries. Tensors of other types are left out: a missing one is
/// reported by name later, and an integer beside the weights does no harm.
fn read_safetensors(bytes: &[u8]) -> Result<(Tensors, HashMap<String, String>), String> {
    let broken = |error: SafeTensorError| {
        format!(
            "not a whole safetensors file and not a PyTorch file ({}), expected weights of VGG16, VGG19 or SqueezeNet",
            one_line(&error.to_string())
        )
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
    let entries = header.metadata().clone().unwrap_or_default();
    let file = SafeTensors::deserialize(bytes).map_err(broken)?;
    let mut tensors = Tensors::new();
    for (key, view) in file.iter() {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => data.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => data.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
            _ => continue,
        };
        tensors.insert(key.to_string(), (view.shape().to_vec(), values));
    }
    Ok((tensors, entries))
}

pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

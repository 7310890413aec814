//! From a foreign state dict to a style model: the architecture is read off the tensors' names and shapes.
//!
//! | layout | known by | conventions |
//! | --- | --- | --- |
//! | `pytorch/examples` TransformerNet | `conv1.conv2d.weight` | reflection padding, nearest ×2 then convolution, ε 1e-5, no norm after the last convolution, linear output |
//! | TF-style (`lengstrom/fast-style-transfer`) | `conv_out.weight` | TensorFlow's `SAME` zero padding, transposed convolutions, ε 1e-3, a norm after every convolution, `tanh · 150 + 127.5`, no convolution biases |
//!
//! In both, the first convolution has stride 1, the further `conv` stride 2, and each `deconv` but the last
//! doubles; input is RGB 0..255.

use std::collections::{BTreeMap, BTreeSet};

use super::strided::{Strided, about};
use super::{StateDict, show};
use crate::architecture::{Activation, Architecture, InputRange, Output, Padding, Role, Upsampling};
use crate::error::CheckpointError;
use crate::layers::{Layer, Layers, MAX_CHANNELS, MAX_LAYERS};
use crate::metadata::Metadata;
use crate::style_model::{StyleModel, Tensor};

/// The tensors of a file together may have this many elements per byte of the file. Weights of two bytes
/// have half an element; the rest is for tensors that share a storage. Beyond it a file of a few kilobytes
/// could ask for gigabytes by tensors with stride 0.
const ELEMENTS_PER_BYTE: usize = 4;

/// The key that each layout is known by.
const EXAMPLE: &str = "conv1.conv2d.weight";
const TENSORFLOW: &str = "conv_out.weight";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Layout {
    Example,
    Tensorflow,
}

/// Builds the model; `file_bytes` is the size of the file, which bounds that of the tensors.
pub(super) fn assemble(
    tensors: StateDict<'_>,
    name: String,
    file_bytes: usize,
) -> Result<StyleModel, CheckpointError> {
    let tensors = without_statistics(unwrapped(tensors));
    let layout = if tensors.contains_key(TENSORFLOW) {
        Layout::Tensorflow
    } else if tensors.contains_key(EXAMPLE) {
        Layout::Example
    } else {
        let found = match tensors.keys().next() {
            Some(key) => format!("its first key is `{}`", show(key)),
            None => "it has no tensors".into(),
        };
        return Err(CheckpointError::format(format!(
            "not a transform network: {found}, expected `{EXAMPLE}` (pytorch/examples TransformerNet) or `{TENSORFLOW}` (TF-style)"
        )));
    };
    let architecture = architecture(layout, &tensors)?;

    let mut unused: BTreeSet<&str> = tensors.keys().map(String::as_str).collect();
    let mut room = file_bytes.saturating_mul(ELEMENTS_PER_BYTE);
    let mut read = BTreeMap::new();
    for spec in architecture.tensors() {
        if layout == Layout::Tensorflow && matches!(spec.role, Role::ConvBias { .. }) {
            let zeros = vec![0.0; spec.shape.iter().product()];
            read.insert(spec.name, Tensor::f32(spec.shape, zeros));
            continue;
        }
        let key = match layout {
            Layout::Example => spec.name.clone(),
            Layout::Tensorflow => tensorflow_key(&spec.name, &architecture),
        };
        let tensor = tensors.get(&key).ok_or_else(|| {
            CheckpointError::tensor(&key, format!("missing; the architecture {architecture} needs it"))
        })?;
        if tensor.shape() != spec.shape {
            return Err(CheckpointError::tensor(
                &key,
                format!("shape {:?}, expected {:?} in {architecture}", tensor.shape(), spec.shape),
            ));
        }
        room = room.checked_sub(tensor.count()).ok_or_else(|| {
            about(&key)(format!("the tensors have far more elements than the file's {file_bytes} bytes"))
        })?;
        unused.remove(key.as_str());
        read.insert(spec.name, tensor.read().map_err(about(&key))?);
    }
    if let Some(key) = unused.first() {
        return Err(about(key)(format!("unknown; the architecture {architecture} has no such tensor")));
    }
    StyleModel::new(Metadata::new(name, architecture), read)
}

/// The tensors without what stands before the key of a layout, where all have it: `module.` of `DataParallel`,
/// `_orig_mod.` of compiled modules, the name of the module around the network.
fn unwrapped(tensors: StateDict<'_>) -> StateDict<'_> {
    let (Some((first, _)), Some((last, _))) = (tensors.first_key_value(), tensors.last_key_value()) else {
        return tensors;
    };
    // Keys are sorted: what the first and the last begin with, all do.
    let prefix = tensors
        .keys()
        .flat_map(|key| [EXAMPLE, TENSORFLOW].into_iter().filter_map(|known| key.strip_suffix(known)))
        .find(|prefix| prefix.ends_with('.') && first.starts_with(prefix) && last.starts_with(prefix));
    let Some(length) = prefix.map(str::len) else { return tensors };
    tensors.into_iter().map(|(key, tensor)| (key[length..].to_string(), tensor)).collect()
}

/// Instance norms of PyTorch before 0.4 kept running statistics that they did not use.
fn without_statistics(mut tensors: StateDict<'_>) -> StateDict<'_> {
    tensors.retain(|key, _| {
        let (norm, statistic) = key.rsplit_once('.').unwrap_or(("", key));
        let is_norm = norm.rsplit('.').next().is_some_and(|name| numbered(name, "in").is_some());
        !(is_norm && ["running_mean", "running_var", "num_batches_tracked"].contains(&statistic))
    });
    tensors
}

/// The number behind `prefix`: 3 of `conv3`.
fn numbered(name: &str, prefix: &str) -> Option<usize> {
    name.strip_prefix(prefix)?.parse().ok()
}

/// Layers and conventions, from names and shapes.
fn architecture(layout: Layout, tensors: &StateDict<'_>) -> Result<Architecture, CheckpointError> {
    let inner = if layout == Layout::Example { ".conv2d" } else { "" };
    // Keys `PREFIX1SUFFIX`, `PREFIX2SUFFIX`, … with what each tensor says.
    let series = |prefix: &str, suffix: &str| -> Vec<(String, &Strided<'_>)> {
        (1..=MAX_LAYERS + 1)
            .map_while(|n| {
                let key = format!("{prefix}{n}{suffix}");
                tensors.get(&key).map(|tensor| (key, tensor))
            })
            .collect()
    };
    let weights = format!("{inner}.weight");

    let mut layers = Vec::new();
    for (index, (key, tensor)) in series("conv", &weights).into_iter().enumerate() {
        let (channels, _, kernel) = kernel(&key, tensor)?;
        layers.push(match (index, kernel) {
            (0, _) => Layer::Conv { kernel, stride: 1, channels },
            (_, 3) => Layer::Down { channels },
            _ => Layer::Conv { kernel, stride: 2, channels },
        });
    }
    for (key, tensor) in series("res", &format!(".conv1{inner}.weight")) {
        let (channels, _, _) = kernel(&key, tensor)?;
        layers.push(Layer::Residual { channels });
    }
    let mut deconvs = series("deconv", &weights);
    if layout == Layout::Tensorflow {
        deconvs.extend(tensors.get(TENSORFLOW).map(|tensor| (TENSORFLOW.to_string(), tensor)));
    }
    let last = deconvs.len().checked_sub(1);
    for (index, (key, tensor)) in deconvs.into_iter().enumerate() {
        let (first, second, kernel) = kernel(&key, tensor)?;
        layers.push(if Some(index) == last {
            Layer::Conv { kernel, stride: 1, channels: first }
        } else if kernel == 3 {
            // A transposed kernel is stored input first.
            Layer::Up { channels: if layout == Layout::Tensorflow { second } else { first } }
        } else {
            return Err(about(&key)(format!(
                "kernel {kernel}×{kernel}, expected 3×3 where the picture is doubled"
            )));
        });
    }

    let layers = Layers::new(layers)?;
    Ok(match layout {
        Layout::Example => Architecture {
            layers,
            padding: Padding::Reflect,
            upsampling: Upsampling::NearestConv,
            norm_epsilon: 1e-5,
            output_norm: false,
            output: Output { activation: Activation::Linear, scale: 1.0, offset: 0.0 },
            input: InputRange::Rgb255,
        },
        Layout::Tensorflow => Architecture {
            layers,
            padding: Padding::ZeroSame,
            upsampling: Upsampling::Transposed,
            norm_epsilon: 1e-3,
            output_norm: true,
            output: Output { activation: Activation::Tanh, scale: 150.0, offset: 127.5 },
            input: InputRange::Rgb255,
        },
    })
}

/// First and second size and kernel of a convolution's weight.
fn kernel(key: &str, tensor: &Strided<'_>) -> Result<(usize, usize, usize), CheckpointError> {
    let sane = |channels: usize| (1..=MAX_CHANNELS).contains(&channels);
    match *tensor.shape() {
        [first, second, height, width] if height == width && sane(first) && sane(second) => {
            Ok((first, second, height))
        }
        ref shape => Err(about(key)(format!(
            "shape {shape:?}, expected a square kernel of 1 to {MAX_CHANNELS} channels"
        ))),
    }
}

/// The TF-style name of a tensor of ours: `conv1.conv2d.weight` is `conv1.weight` there, `in1.weight` is
/// `conv1.in.weight`, and the last convolution and its norm are `conv_out`.
fn tensorflow_key(ours: &str, architecture: &Architecture) -> String {
    let layers = architecture.layers.as_slice();
    let convs =
        layers.iter().take_while(|layer| !matches!(layer, Layer::Residual { .. } | Layer::Up { .. })).count();
    let residuals = layers.iter().filter(|layer| matches!(layer, Layer::Residual { .. })).count();
    let last = layers.len() - convs - residuals; // number of the last `deconv`
    let (module, part) = ours.rsplit_once('.').unwrap_or((ours, ""));
    let (block, name) = match module.split_once('.') {
        Some((block, name)) if block.starts_with("res") => (format!("{block}."), name),
        _ => (String::new(), module),
    };
    let deconv = |n: usize| if n == last { "conv_out".into() } else { format!("deconv{n}") };
    if let Some(n) = numbered(name, "in") {
        let conv = if !block.is_empty() || n <= convs { format!("conv{n}") } else { deconv(n - convs) };
        return format!("{block}{conv}.in.{part}");
    }
    let conv = name.trim_end_matches(".conv2d");
    match numbered(conv, "deconv") {
        Some(n) => format!("{}.{part}", deconv(n)),
        None => format!("{block}{conv}.{part}"),
    }
}

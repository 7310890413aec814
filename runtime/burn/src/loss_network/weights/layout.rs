//! From a file's tensors to a loss network's: which layout it is, which network, how deep it goes.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::Tensors;
use crate::loss_network::kind::{InputConvention, LossNetworkKind};
use crate::loss_network::plan::{self, ConvSpec, Step};

/// What was found in a file: the network, its tensors under our names, and the convention that goes with the
/// layout unless the file says otherwise.
pub(super) struct Found {
    pub(super) kind: LossNetworkKind,
    pub(super) convention: InputConvention,
    pub(super) tensors: Tensors,
}

/// Recognizes a state dict.
///
/// | layout | keys | convention |
/// | --- | --- | --- |
/// | torchvision | `features.0.weight` (classifier ignored) | `imagenet_normalized` |
/// | the same, with the authors' own values | `features.0.weight` | `bgr_minus_mean` |
/// | Caffe's names | `conv1_1.weight`, `fire2/conv1x1_1.weight` | `bgr_minus_mean` |
///
/// A network may end early (`conv4_2`), but must have no gap. SqueezeNet is the one with fire modules; VGG16
/// and VGG19 differ in the convolutions of blocks 3 to 5 (3 and 4). Cut so short that both agree (before
/// `conv3_4`'s place), a file is taken for the `preferred` one, else for VGG16.
pub(super) fn recognize(mut tensors: Tensors, preferred: Option<LossNetworkKind>) -> Result<Found, String> {
    let torchvision = tensors.contains_key("features.0.weight");
    let kind = if torchvision {
        kind_of_torchvision(&tensors, preferred)
    } else {
        kind_of_caffe(&tensors, preferred)
    }?;
    let keys = file_keys(kind, torchvision);
    let mut kept = BTreeMap::new();
    let mut missing: Option<String> = None;
    for (spec, key) in &keys {
        let weight = tensors.remove(&format!("{key}.weight"));
        let bias = tensors.remove(&format!("{key}.bias"));
        let (weight, bias) = match (weight, bias) {
            (Some(weight), Some(bias)) => (weight, bias),
            (None, None) => {
                missing.get_or_insert_with(|| key.clone());
                continue;
            }
            (Some(_), None) => return Err(format!("tensor `{key}.bias` is missing")),
            (None, Some(_)) => return Err(format!("tensor `{key}.weight` is missing")),
        };
        if let Some(missing) = &missing {
            return Err(format!("tensor `{missing}.weight` is missing, though `{key}.weight` is there"));
        }
        check(&format!("{key}.weight"), &weight, &spec.shape())?;
        check(&format!("{key}.bias"), &bias, &[spec.output])?;
        kept.insert(spec.weight(), weight);
        kept.insert(spec.bias(), bias);
    }
    let convention = if torchvision && !are_the_authors(&kept) {
        InputConvention::ImagenetNormalized
    } else {
        InputConvention::BgrMinusMean(kind.caffe_mean_bgr())
    };
    Ok(Found { kind, convention, tensors: kept })
}

/// Whether these are Simonyan & Zisserman's VGG16 or VGG19, whose values were copied into torchvision's layout
/// (github.com/jcjohnson/pytorch-vgg: `vgg16-00b39a1b.pth`, `vgg19-d01eb7cb.pth`, which neural-style-pt saves anew).
/// They see BGR 0..255 as ever; nothing but the values tells.
fn are_the_authors(tensors: &Tensors) -> bool {
    /// How conv1_1's kernels (OIHW, blue first) and biases begin.
    const AUTHORS: [([f32; 3], [f32; 3]); 2] = [
        ([0.429_470_6, 0.373_467, -0.061_360_1], [0.734_298_4, 0.093_403_7, 0.067_756_7]),
        ([0.341_195_2, 0.339_992, -0.044_844_2], [0.730_177_6, 0.064_936_3, 0.034_288_5]),
    ];
    // Wide enough for half precision.
    let begins = |key: &str, expected: &[f32; 3]| {
        let near = |(found, expected): (&f32, &f32)| (found - expected).abs() < 1e-3;
        tensors.get(key).is_some_and(|(_, values)| values.iter().zip(expected).all(near))
    };
    AUTHORS.iter().any(|(kernel, bias)| begins("conv1_1.weight", kernel) && begins("conv1_1.bias", bias))
}

fn check(key: &str, (shape, values): &(Vec<usize>, Vec<f32>), expected: &[usize]) -> Result<(), String> {
    if shape != expected || values.len() != expected.iter().product::<usize>() {
        return Err(format!("tensor `{key}` has shape {shape:?}, expected {expected:?}"));
    }
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(format!("tensor `{key}` holds {value}, expected finite numbers")),
        None => Ok(()),
    }
}

/// Every convolution of the network and the name it has in the file.
fn file_keys(kind: LossNetworkKind, torchvision: bool) -> Vec<(ConvSpec, String)> {
    let mut keys = Vec::new();
    // torchvision counts every module of the `Sequential`: convolution, ReLU, pool; a fire module is one.
    let mut module = 0;
    for step in plan::steps(kind) {
        match &step {
            Step::Conv { conv, .. } => {
                keys.push((conv.clone(), format!("features.{module}")));
                module += 2;
            }
            Step::Pool { .. } => module += 1,
            Step::Fire { squeeze, expand1x1, expand3x3, .. } => {
                for (conv, name) in [(squeeze, "squeeze"), (expand1x1, "expand1x1"), (expand3x3, "expand3x3")]
                {
                    keys.push((conv.clone(), format!("features.{module}.{name}")));
                }
                module += 1;
            }
        }
    }
    if !torchvision {
        for (spec, key) in &mut keys {
            *key = spec.name.clone();
        }
    }
    keys
}

fn kind_of_torchvision(
    tensors: &Tensors,
    preferred: Option<LossNetworkKind>,
) -> Result<LossNetworkKind, String> {
    if tensors.contains_key("features.3.squeeze.weight")
        || first_width(tensors, "features.0.weight") == Some(96)
    {
        return Ok(LossNetworkKind::SqueezeNet);
    }
    vgg(tensors, preferred, |kind| file_keys(kind, true))
}

fn kind_of_caffe(tensors: &Tensors, preferred: Option<LossNetworkKind>) -> Result<LossNetworkKind, String> {
    if tensors.contains_key("conv1_1.weight") {
        return vgg(tensors, preferred, |kind| file_keys(kind, false));
    }
    if tensors.contains_key("conv1.weight") && first_width(tensors, "conv1.weight") == Some(96) {
        return Ok(LossNetworkKind::SqueezeNet);
    }
    let found = match tensors.keys().next() {
        Some(key) => format!("its first tensor is `{}`", key.escape_debug()),
        None => "it has no tensors".to_string(),
    };
    Err(format!(
        "not a loss network: {found}, expected `conv1_1.weight` … or torchvision's `features.0.weight` … of VGG16, VGG19 or SqueezeNet 1.0"
    ))
}

fn first_width(tensors: &Tensors, key: &str) -> Option<usize> {
    tensors.get(key).and_then(|(shape, _)| shape.first().copied())
}

/// VGG16 or VGG19: the one of which more convolutions are there with the right shape. torchvision's numbers
/// coincide for other layers, hence the shapes; a tie goes to `preferred`.
fn vgg(
    tensors: &Tensors,
    preferred: Option<LossNetworkKind>,
    keys: impl Fn(LossNetworkKind) -> Vec<(ConvSpec, String)>,
) -> Result<LossNetworkKind, String> {
    let fitting = |kind| {
        let fits = |(spec, key): &(ConvSpec, String)| {
            tensors.get(&format!("{key}.weight")).is_some_and(|(shape, _)| *shape == spec.shape())
        };
        keys(kind).iter().take_while(|key| fits(key)).count()
    };
    let (vgg16, vgg19) = (fitting(LossNetworkKind::Vgg16), fitting(LossNetworkKind::Vgg19));
    if vgg16.max(vgg19) == 0 {
        return Err("not a loss network: its first convolution is not VGG's, expected shape [64, 3, 3, 3]"
            .to_string());
    }
    Ok(match vgg16.cmp(&vgg19) {
        Ordering::Greater => LossNetworkKind::Vgg16,
        Ordering::Less => LossNetworkKind::Vgg19,
        Ordering::Equal if preferred == Some(LossNetworkKind::Vgg19) => LossNetworkKind::Vgg19,
        Ordering::Equal => LossNetworkKind::Vgg16,
    })
}

//! Which loss networks there are, and what each expects of its input.

use std::fmt;
use std::str::FromStr;

use super::plan;
use crate::error::BurnError;

/// A loss network: the convolutional part of an ImageNet classifier.
///
/// # Source
/// VGG: Simonyan & Zisserman 2014, arXiv:1409.1556. SqueezeNet 1.0: Iandola et al. 2016, arXiv:1602.07360.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossNetworkKind {
    /// 13 convolutions, `relu1_1` … `relu5_3`.
    Vgg16,
    /// 16 convolutions, `relu1_1` … `relu5_4`.
    Vgg19,
    /// SqueezeNet 1.0: `relu1`, `fire2` … `fire9`; about a twentieth of VGG19's work.
    SqueezeNet,
}

impl LossNetworkKind {
    /// All of them.
    pub const ALL: [LossNetworkKind; 3] =
        [LossNetworkKind::Vgg16, LossNetworkKind::Vgg19, LossNetworkKind::SqueezeNet];

    /// The name as typed, `vgg19`.
    pub fn name(self) -> &'static str {
        match self {
            LossNetworkKind::Vgg16 => "vgg16",
            LossNetworkKind::Vgg19 => "vgg19",
            LossNetworkKind::SqueezeNet => "squeezenet",
        }
    }

    /// The layers whose features can be asked for, shallowest first.
    ///
    /// Each is the result *after* the ReLU: `relu3_1` for VGG; for SqueezeNet `relu1` and the
    /// concatenated, rectified output of each fire module, `fire2` … `fire9`.
    pub fn layers(self) -> Vec<String> {
        plan::steps(self).iter().filter_map(|step| step.layer().map(str::to_string)).collect()
    }

    /// The mean, **B**, G, R in 0..255, that the Caffe models subtract.
    pub fn caffe_mean_bgr(self) -> [f32; 3] {
        match self {
            LossNetworkKind::Vgg16 | LossNetworkKind::Vgg19 => [103.939, 116.779, 123.68],
            LossNetworkKind::SqueezeNet => [104.0, 117.0, 123.0],
        }
    }
}

impl fmt::Display for LossNetworkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for LossNetworkKind {
    type Err = BurnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| BurnError::UnknownLossNetwork { name: text.escape_debug().to_string() })
    }
}

/// A loss network as a user names it: trained weights (`vgg19`) or seeded random ones (`random-vgg19`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LossNetworkChoice {
    /// Which network.
    pub kind: LossNetworkKind,
    /// Whether its weights are random ([`super::LossWeights::random`]) instead of trained.
    pub random: bool,
}

impl fmt::Display for LossNetworkChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{}", if self.random { "random-" } else { "" }, self.kind.name()))
    }
}

impl FromStr for LossNetworkChoice {
    type Err = BurnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (random, name) = match text.strip_prefix("random-") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let kind = name
            .parse()
            .map_err(|_| BurnError::UnknownLossNetwork { name: text.escape_debug().to_string() })?;
        Ok(LossNetworkChoice { kind, random })
    }
}

/// What a set of weights was trained to see. It travels with the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum InputConvention {
    /// RGB, `(rgb01 − (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)`: torchvision's weights.
    ImagenetNormalized,
    /// BGR 0..255 minus a mean (given as B, G, R): the original Caffe weights.
    BgrMinusMean([f32; 3]),
}

impl InputConvention {
    /// The convention named in a file's metadata: `imagenet_normalized` or `bgr_minus_mean` (with the
    /// network's own [`LossNetworkKind::caffe_mean_bgr`]).
    pub fn from_name(name: &str, kind: LossNetworkKind) -> Option<Self> {
        match name {
            "imagenet_normalized" => Some(InputConvention::ImagenetNormalized),
            "bgr_minus_mean" => Some(InputConvention::BgrMinusMean(kind.caffe_mean_bgr())),
            _ => None,
        }
    }

    /// The name in a file's metadata.
    pub fn name(self) -> &'static str {
        match self {
            InputConvention::ImagenetNormalized => "imagenet_normalized",
            InputConvention::BgrMinusMean(_) => "bgr_minus_mean",
        }
    }

    /// The same input stage in one form for all: what the first convolution sees is, for each RGB channel,
    /// `(rgb255 − mean) · factor`, in the order of channels that `source` gives: network channel `c` is RGB
    /// channel `source[c]`. Mean and factor are in RGB order.
    pub(crate) fn affine(self) -> ([f32; 3], [f32; 3], [usize; 3]) {
        match self {
            InputConvention::ImagenetNormalized => {
                const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
                const STD: [f32; 3] = [0.229, 0.224, 0.225];
                (MEAN.map(|mean| 255.0 * mean), STD.map(|std| 1.0 / (255.0 * std)), [0, 1, 2])
            }
            InputConvention::BgrMinusMean([b, g, r]) => ([r, g, b], [1.0; 3], [2, 1, 0]),
        }
    }
}

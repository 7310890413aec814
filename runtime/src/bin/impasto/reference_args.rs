//! Arguments of the slow originals, as clap sees them.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use impasto::Device;
use impasto::picture::DEFAULT_MAX_PIXELS;
use impasto_burn::iterate::Start;
use impasto_burn::loss::Balancing;
use impasto_burn::loss_network::{LossNetworkChoice, Pooling};

use crate::args::{FileArgs, LookArgs, ResultArgs};

/// Layers with weights, as typed: `relu1_2,relu3_3=0.5`, and for a dream also `relu4_2:37`.
#[derive(Debug, Clone, PartialEq)]
pub struct Layers(pub Vec<Layer>);

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    pub name: String,
    pub channel: Option<usize>,
    pub weight: f64,
}

/// What every one of them is told about reading and writing pictures; the same as for `stylize`.
#[derive(Args)]
pub struct PictureArgs {
    /// Where to: a file, a folder, or - for standard output
    #[arg(long, short, value_name = "OUT")]
    pub output: PathBuf,
    /// Resize so that the longer side has N pixels; 0 leaves the picture as it is, which takes long
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(0..=65_535))]
    pub size: u32,
    #[command(flatten)]
    pub look: LookArgs,
    #[command(flatten)]
    pub files: FileArgs,
    #[command(flatten)]
    pub result: ResultArgs,
    /// Write a line for each step to a CSV file
    #[arg(long, value_name = "FILE.csv")]
    pub log: Option<PathBuf>,
    /// Also write the picture every N steps, as OUT-00050 and so on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub save_every: Option<u32>,
    /// Seed of what is random
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// cpu, cuda[:N] or wgpu[:N]
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: Device,
}

/// Which network looks at the pictures; the same as for `impasto-train`.
#[derive(Args)]
pub struct NetworkArgs {
    /// The loss network: vgg16, vgg19, squeezenet, or one with random weights as random-vgg16
    #[arg(long, default_value = "vgg19", value_name = "NETWORK")]
    pub loss_net: LossNetworkChoice,
    /// The loss network's weights: safetensors or PyTorch [default: the cache folder, else a download]
    #[arg(long, value_name = "FILE")]
    pub loss_weights: Option<PathBuf>,
    /// Download nothing
    #[arg(long)]
    pub offline: bool,
    /// How the loss network halves its planes
    #[arg(long, value_enum, default_value_t = Pooling::Max)]
    pub pooling: Pooling,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OptimizerName {
    Lbfgs,
    Adam,
}

#[derive(Args)]
pub struct GatysArgs {
    /// The picture to paint; - is standard input
    #[arg(value_name = "CONTENT")]
    pub content: PathBuf,
    /// The paintings whose style it gets
    #[arg(required = true, value_name = "STYLE")]
    pub styles: Vec<PathBuf>,
    #[command(flatten)]
    pub picture: PictureArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Weights of the paintings, in their order [default: all the same]
    #[arg(long, value_name = "W,W,…", value_delimiter = ',')]
    pub style_weights: Vec<f64>,
    /// Look at the paintings at this many times the picture's size: above 1 for larger strokes
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = crate::args::stroke_scale)]
    pub style_scale: f32,
    /// Look at the paintings with N pixels on the longer side, whatever the picture's size
    #[arg(long, value_name = "N", conflicts_with = "style_scale", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub style_size: Option<u32>,
    /// Evaluations of loss and gradient at each scale
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Scales to go through, each half the next; large strokes come from the coarse ones
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub scales: u32,
    /// How to go down
    #[arg(long, value_enum, default_value_t = OptimizerName::Lbfgs)]
    pub optimizer: OptimizerName,
    /// Adam's, in grey levels a step
    #[arg(long, value_name = "LEVELS", default_value_t = 5.0)]
    pub learning_rate: f64,
    /// Start from: content, noise, or a picture's file
    #[arg(long, value_name = "content|noise|FILE", default_value = "content")]
    pub init: PathBuf,
    /// Layers that hold the content, with weights: relu4_2 or relu3_3=0.5,relu4_2 [default: by the network]
    #[arg(long, value_name = "LAYERS", value_parser = layers)]
    pub content_layers: Option<Layers>,
    /// Layers that hold the style, with weights [default: by the network]
    #[arg(long, value_name = "LAYERS", value_parser = layers)]
    pub style_layers: Option<Layers>,
    /// Weight of the content
    #[arg(long, value_name = "W", default_value_t = 1.0)]
    pub content_weight: f64,
    /// Weight of the style
    #[arg(long, value_name = "W", default_value_t = 10.0)]
    pub style_weight: f64,
    /// Weight of the total variation: smoothness
    #[arg(long, value_name = "W", default_value_t = 0.02)]
    pub tv_weight: f64,
    /// Bring the losses to one size first, measured on the unpainted picture; off takes them as they are
    #[arg(long, value_enum, default_value_t = Balancing::Auto)]
    pub balance: Balancing,
}

#[derive(Args)]
pub struct DreamArgs {
    /// The picture to dream about; - is standard input
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    #[command(flatten)]
    pub picture: PictureArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Layers to amplify, with weights, or one channel of a layer: relu4_2, relu3_3=0.5,relu4_2 or relu4_2:37
    /// [default: by the network]
    #[arg(long, value_name = "LAYERS", value_parser = layers)]
    pub layers: Option<Layers>,
    /// Amplify what resembles this picture
    #[arg(long, value_name = "FILE")]
    pub guide: Option<PathBuf>,
    /// Sizes gone through, the last being the picture's own
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub octaves: u32,
    /// From one octave's side to the next
    #[arg(long, value_name = "S", default_value_t = 1.4)]
    pub octave_scale: f64,
    /// Steps an octave
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub iterations: u32,
    /// What values change by in a step, in the mean, in grey levels
    #[arg(long, value_name = "LEVELS", default_value_t = 1.5)]
    pub step_size: f64,
    /// Each step sees the picture shifted by up to N pixels either way
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(0..=65_535))]
    pub jitter: u32,
    /// Compute gradients in tiles of N pixels a side, so that large pictures fit; 0 for the whole picture at once
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(0..=65_535))]
    pub tile: u32,
}

#[derive(Args)]
pub struct CompareArgs {
    /// Photos, or folders of them
    #[arg(required = true, value_name = "CONTENT")]
    pub contents: Vec<PathBuf>,
    #[command(flatten)]
    pub style: crate::args::StyleChoice,
    /// The painting that the style was learned from
    #[arg(long, value_name = "FILE")]
    pub painting: PathBuf,
    /// Folder for the pictures, plots and tables
    #[arg(long, short, value_name = "DIR")]
    pub output: PathBuf,
    /// Compare on the middle of each photo, brought to N×N pixels
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(16..=4096))]
    pub size: u32,
    /// Evaluations of loss and gradient that the iterative method gets
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// What the iterative method starts from
    #[arg(long, value_enum, default_value_t = CompareInit::Content)]
    pub init: CompareInit,
    /// Weights of the loss network that the style was trained with: safetensors or PyTorch [default: the cache folder,
    /// else a download]
    #[arg(long, value_name = "FILE")]
    pub loss_weights: Option<PathBuf>,
    /// Download nothing
    #[arg(long)]
    pub offline: bool,
    /// Refuse pictures that declare more pixels than this
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    pub max_pixels: u64,
    #[command(flatten)]
    pub result: ResultArgs,
    #[command(flatten)]
    pub engine: crate::args::EngineArgs,
}

/// What the iterative method of a comparison starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CompareInit {
    /// The photo: the shortest way, and the hardest to beat
    Content,
    /// Uniform noise, as Gatys et al. start
    Noise,
}

impl From<CompareInit> for Start {
    fn from(init: CompareInit) -> Self {
        match init {
            CompareInit::Content => Start::Content,
            CompareInit::Noise => Start::Noise,
        }
    }
}

/// `relu1_2,relu3_3=0.5,relu4_2:37=2`.
fn layers(text: &str) -> Result<Layers, String> {
    let one = |part: &str| {
        let (place, weight) = match part.split_once('=') {
            Some((place, weight)) => (place, weight.trim().parse().ok()),
            None => (part, Some(1.0)),
        };
        let (name, channel) = match place.split_once(':') {
            Some((name, channel)) => (name, channel.trim().parse().ok().map(Some)),
            None => (place, Some(None)),
        };
        let (name, weight, channel) = (name.trim(), weight?, channel?);
        (!name.is_empty()).then(|| Layer { name: name.to_owned(), channel, weight })
    };
    let wrong = |part: &str| format!("`{part}`: expected LAYER, LAYER=WEIGHT or LAYER:CHANNEL");
    text.split(',').map(|part| one(part).ok_or_else(|| wrong(part))).collect::<Result<_, _>>().map(Layers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_names_channels_and_weights() {
        let found = layers("relu1_2, relu3_3=0.5,relu4_2:37,fire2:0=2").unwrap().0;
        let found: Vec<_> = found.iter().map(|l| (l.name.as_str(), l.channel, l.weight)).collect();
        let expected = [
            ("relu1_2", None, 1.0),
            ("relu3_3", None, 0.5),
            ("relu4_2", Some(37), 1.0),
            ("fire2", Some(0), 2.0),
        ];
        assert_eq!(found, expected);
        for bad in ["", "relu1_2,", "=2", "relu1_2=x", "relu1_2:x", "relu1_2:-1"] {
            assert!(layers(bad).unwrap_err().contains("expected LAYER"), "{bad}");
        }
    }
}

//! The command line as clap sees it. What the arguments mean is decided once, in each command's job.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use impasto::checkpoints::Dtype;
use impasto::paint::STROKE_SCALE;
use impasto::picture::{DEFAULT_MAX_PIXELS, DEFAULT_QUALITY, Format};
use impasto::smooth::Smoother;
use impasto::video::{Codec, parse_seconds};
use impasto::{Device, Precision, Tile};

/// Paints pictures in a learned style, in a single pass.
#[derive(Parser)]
#[command(name = "impasto", version, long_version = crate::version::long())]
#[command(propagate_version = true, max_term_width = 100, after_help = after_help())]
pub struct Cli {
    // Behind each command's own options, before --help.
    /// Say nothing but errors
    #[arg(long, short, global = true, conflicts_with = "verbose", display_order = 900)]
    pub quiet: bool,
    /// Say more: a line for each picture
    #[arg(long, short, global = true, display_order = 900)]
    pub verbose: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Paint pictures: files, folders, or - for standard input
    Stylize(StylizeArgs),
    /// Paint a video, its sound kept
    Video(VideoArgs),
    /// Paint the camera in a window as it comes
    #[cfg(feature = "webcam")]
    Webcam(WebcamArgs),
    /// A page in the browser that paints pictures and the camera, and an interface for programs
    #[cfg(feature = "serve")]
    Serve(crate::serve_args::ServeArgs),
    /// List, show, import and export styles
    Styles(StylesArgs),
    /// Paint a picture in the style of others by optimizing it, without a trained style (slow)
    #[cfg(feature = "reference")]
    Gatys(Box<crate::reference_args::GatysArgs>),
    /// Amplify what a network sees in a picture (DeepDream)
    #[cfg(feature = "reference")]
    Dream(Box<crate::reference_args::DreamArgs>),
    /// Compare a style's network with the iterative method under the losses it was trained with
    #[cfg(feature = "reference")]
    Compare(Box<crate::reference_args::CompareArgs>),
    /// Measure how fast frames are painted here
    Bench(BenchArgs),
    /// What can paint here: the processor, GPUs, and ffmpeg for videos
    Devices(crate::devices::DevicesArgs),
    /// Write a script that completes commands, options and styles in a shell
    Completions(crate::completions::CompletionsArgs),
    /// Write the manual pages
    Man(crate::man::ManArgs),
}

/// Commands that a build may lack, and the features that bring them.
const OPTIONAL: [(&str, &str, bool); 5] = [
    ("webcam", "webcam", cfg!(feature = "webcam")),
    ("serve", "serve", cfg!(feature = "serve")),
    ("gatys", "reference", cfg!(feature = "reference")),
    ("dream", "reference", cfg!(feature = "reference")),
    ("compare", "reference", cfg!(feature = "reference")),
];

/// Below the list of commands: how to begin, and which commands another build would have.
fn after_help() -> String {
    let examples = "Examples:
  impasto styles list
  impasto stylize photo.jpg --style wave -o painted.png
  impasto stylize holiday/ --model my.safetensors -o painted/";
    let missing: Vec<_> = OPTIONAL.iter().filter(|(.., there)| !there).map(|(name, ..)| *name).collect();
    if missing.is_empty() {
        return examples.to_owned();
    }
    let missing = missing.join(", ");
    format!("{examples}\n\nNot in this build: {missing} (cargo install --path runtime --features full)")
}

/// Reads the command line. What is wrong with it, or a request for help, ends the process here.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        let asked = error.get(clap::error::ContextKind::InvalidSubcommand).map(ToString::to_string);
        let missing = OPTIONAL.into_iter().find(|(name, _, there)| !there && asked.as_deref() == Some(name));
        if let Some((name, feature, _)) = missing {
            eprintln!(
                "impasto: {name}: not in this build; hint: cargo install --path runtime --features {feature} (or full)"
            );
            std::process::exit(2);
        }
        error.exit()
    })
}

#[derive(Args)]
pub struct StylizeArgs {
    /// Pictures or folders to paint; - is standard input
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,
    /// Where to: a file, a folder, or - for standard output
    #[arg(long, short, value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub style: StyleChoice,
    /// Resize so that the longer side has N pixels
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub size: Option<u32>,
    /// Let the network see the picture at this scale: above 1 for finer strokes, below 1 for broader ones
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = stroke_scale)]
    pub stroke_scale: f32,
    #[command(flatten)]
    pub look: LookArgs,
    #[command(flatten)]
    pub files: FileArgs,
    /// Paint again whenever the model file changes, until interrupted
    #[arg(long, requires = "model")]
    pub watch: bool,
    #[command(flatten)]
    pub result: ResultArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// What is done with a painting before it is shown or written; the same for pictures, videos and cameras.
#[derive(Args)]
pub struct LookArgs {
    /// How much of the painting: 0 is the picture as it was, 1 the painting
    #[arg(long, value_name = "0..1", default_value_t = 1.0, value_parser = unit_interval)]
    pub strength: f32,
    /// Keep the picture's colours: only the luminance is painted
    #[arg(long)]
    pub keep_colors: bool,
    /// Put picture and painting side by side
    #[arg(long)]
    pub side_by_side: bool,
}

/// How picture files are read and written.
#[derive(Args)]
pub struct FileArgs {
    /// Quality of JPEG files
    #[arg(long, value_name = "1..100", default_value_t = DEFAULT_QUALITY, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub quality: u8,
    /// Format of the result [default: by OUT's extension; in a folder the input's own, else png]
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// Refuse pictures that declare more pixels than this
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_PIXELS)]
    pub max_pixels: u64,
}

/// What becomes of earlier results, and how this one is told.
#[derive(Args)]
pub struct ResultArgs {
    /// Replace files that exist
    #[arg(long)]
    pub overwrite: bool,
    /// Report in JSON on standard output
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct VideoArgs {
    /// The video to paint: anything that ffmpeg reads, animated GIFs too
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    /// Where to: .mp4, .mov, .mkv, .webm or .gif
    #[arg(long, short, value_name = "OUT")]
    pub output: PathBuf,
    #[command(flatten)]
    pub style: StyleChoice,
    /// Begin with the first frame at or after this time, in seconds or hh:mm:ss
    #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
    pub start: Option<f64>,
    /// End after this time, in seconds or hh:mm:ss
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<f64>,
    /// Resize so that the longer side has N pixels
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=16_384))]
    pub size: Option<u32>,
    /// Let the network see the frames at this scale: above 1 for finer strokes, below 1 for broader ones
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = stroke_scale)]
    pub stroke_scale: f32,
    #[command(flatten)]
    pub look: LookArgs,
    /// Calm what flickers from frame to frame: 0 is each frame by itself
    #[arg(long, value_name = "0..1", default_value_t = Smoother::DEFAULT_STRENGTH, value_parser = unit_interval)]
    pub smooth: f32,
    /// h264, h265, vp9 or av1 [default: h264; vp9 in .webm]
    #[arg(long, value_name = "CODEC")]
    pub codec: Option<Codec>,
    /// Constant rate factor: 0 the best, 51 (vp9, av1: 63) the worst
    /// [default: 18 h264, 20 h265, 26 vp9, 22 av1]
    #[arg(long, value_name = "N")]
    pub quality: Option<u8>,
    /// How hard the encoder tries: medium, slow, … (h264, h265), a number (vp9, av1)
    /// [default: veryfast; 5 vp9, 10 av1]
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    #[command(flatten)]
    pub result: ResultArgs,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[cfg(feature = "webcam")]
#[derive(Args)]
pub struct WebcamArgs {
    #[command(flatten)]
    pub style: OptionalStyleChoice,
    /// camera, camera:1, camera:NAME, /dev/video1, an address, a file (over and over) or test
    #[arg(long, value_name = "SOURCE", default_value = "camera")]
    pub source: PathBuf,
    /// What the camera is asked for; frames from elsewhere are brought to fit into it
    #[arg(long, value_name = "WxH", default_value = "640x480", value_parser = frame_size)]
    pub size: (usize, usize),
    /// Frames a second that the camera is asked for
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=240))]
    pub fps: u32,
    #[command(flatten)]
    pub look: LookArgs,
    /// Calm what flickers from frame to frame: 0 is each frame by itself
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = unit_interval)]
    pub smooth: f32,
    /// As in a mirror: true or false [default: true for cameras]
    #[arg(long, value_name = "BOOL")]
    pub mirror: Option<bool>,
    /// Record from the first frame on
    #[arg(long)]
    pub record: bool,
    /// Folder for screenshots and recordings
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// End after N frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub frames: Option<u32>,
    /// Paint without showing anything: to record, or to measure
    #[arg(long)]
    pub no_window: bool,
    /// Report in JSON on standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// A style, or none: then the first one that ships.
#[cfg(feature = "webcam")]
#[derive(Args)]
#[group(multiple = false)]
pub struct OptionalStyleChoice {
    /// A shipped style to begin with [default: the first one]
    #[arg(long, value_name = "NAME")]
    pub style: Option<String>,
    /// A style model's file to begin with
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
pub struct StyleChoice {
    /// A shipped style, by name (see `impasto styles list`)
    #[arg(long, value_name = "NAME")]
    pub style: Option<String>,
    /// A style model file
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
}

#[derive(Args)]
pub struct EngineArgs {
    /// cpu, cuda[:N] or wgpu[:N]
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: Device,
    /// f32, bf16 or auto
    #[arg(long, default_value = "auto", value_name = "PRECISION")]
    pub precision: Precision,
    /// Threads to paint with [default: one a physical core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Where a large picture's activations are kept: auto (768 MiB in memory, the rest in a scratch file), N (all in
    /// the file, in bands of N rows), or off (all in memory). The variable IMPASTO_SCRATCH names the file's folder
    #[arg(long, default_value = "auto", value_name = "auto|N|off")]
    pub tile: Tile,
}

#[derive(Args)]
pub struct StylesArgs {
    #[command(subcommand)]
    pub command: StylesCommand,
}

#[derive(Subcommand)]
pub enum StylesCommand {
    /// Names of the styles that ship with impasto
    List {
        /// In JSON
        #[arg(long)]
        json: bool,
    },
    /// Architecture, parameters, cost and provenance of a style
    Show {
        /// A shipped style's name or a model file
        #[arg(value_name = "NAME|FILE")]
        style: PathBuf,
        /// In JSON
        #[arg(long)]
        json: bool,
    },
    /// Turn a PyTorch or TF-style transform network into a style model
    Import(ImportArgs),
    /// Write a style model for other programs
    Export(crate::export::ExportArgs),
}

#[derive(Args)]
pub struct ImportArgs {
    /// A PyTorch state dict (.pth, .pt, .model) or a foreign .safetensors
    pub file: PathBuf,
    /// The style model to write
    #[arg(long, short, value_name = "OUT.safetensors")]
    pub output: PathBuf,
    /// Name of the style [default: the file's]
    #[arg(long)]
    pub name: Option<String>,
    /// Licence of the weights
    #[arg(long)]
    pub license: Option<String>,
    /// Number type of the file
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    pub dtype: Dtype,
    #[command(flatten)]
    pub result: ResultArgs,
}

#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub network: NetworkChoice,
    /// Size of the frames
    #[arg(long, value_name = "WxH", default_value = "640x480", value_parser = frame_size)]
    pub size: (usize, usize),
    /// Paint this picture, resized, instead of a synthetic one
    #[arg(long, value_name = "PICTURE")]
    pub input: Option<PathBuf>,
    /// Frames to time
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub frames: u32,
    /// Frames to paint before the clock starts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub warmup: u32,
    /// Also show where the last frame's time went, layer by layer
    #[arg(long, conflicts_with = "json")]
    pub profile: bool,
    /// Report in JSON on standard output
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}

/// What to measure; the first shipped style unless told.
#[derive(Args)]
#[group(multiple = false)]
pub struct NetworkChoice {
    /// A shipped style, by name [default: the first of `impasto styles list`]
    #[arg(long, value_name = "NAME")]
    pub style: Option<String>,
    /// A style model file
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// The default network with random weights and N channels in its first layer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub width: Option<u16>,
}

pub fn unit_interval(text: &str) -> Result<f32, String> {
    number_between(text, 0.0, 1.0)
}

pub fn stroke_scale(text: &str) -> Result<f32, String> {
    number_between(text, *STROKE_SCALE.start(), *STROKE_SCALE.end())
}

/// A time that is not 0.
fn duration(text: &str) -> Result<f64, String> {
    parse_seconds(text)
        .and_then(|time| if time > 0.0 { Ok(time) } else { Err("expected more than 0 seconds".into()) })
}

/// `640x480` as (width, height).
fn frame_size(text: &str) -> Result<(usize, usize), String> {
    let side = |text: &str| text.parse().ok().filter(|side| (1..=65_535).contains(side));
    let size = text.split_once(['x', '×']).and_then(|(width, height)| Some((side(width)?, side(height)?)));
    match size {
        Some((width, height)) if (width * height) as u64 <= DEFAULT_MAX_PIXELS => Ok((width, height)),
        _ => Err(format!("expected WIDTHxHEIGHT, such as 640x480, {DEFAULT_MAX_PIXELS} pixels at most")),
    }
}

fn number_between(text: &str, low: f32, high: f32) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(format!("expected a number from {low} to {high}")),
    }
}

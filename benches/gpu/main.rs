//! `impasto-gpu`: the Rust side of `benches/gpu`, one order a line in JSON on standard input, one answer a line on
//! standard output.
//!
//! It stays alive between orders, so that its turns can be taken in alternation with PyTorch's in one run: kernels are
//! compiled and tuned once, and what is timed is timed here, inside the process. `compare.py` gives the orders; each
//! variant of [`Order`] says what is asked. An order that fails is answered with `{"error": …}`.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use impasto::checkpoints::{Architecture, StyleModel, shipped};
use impasto::{Frame, Stylizer, StylizerOptions};
use impasto_burn::loss::{PerceptualConfig, StyleStatistic};
use impasto_burn::loss_network::{LossNetworkChoice, LossWeights};
use impasto_burn::measure::{StepJob, Steps, profile, steps};
use impasto_burn::net::Operation;
use impasto_burn::{
    BurnError, Device, IN_FLIGHT, Operations, Painter, PostSteps, Precision, available, open_painter_with,
};
use serde::Deserialize;
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// What is asked.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
enum Order {
    /// The devices there are.
    Devices,
    /// Writes a shipped style's file.
    Export { style: String, to: PathBuf },
    /// Opens a style model, or a network with random weights, under a name.
    Open {
        name: String,
        device: String,
        precision: Number,
        #[serde(default)]
        operations: How,
        model: Option<PathBuf>,
        width: Option<usize>,
    },
    /// Forgets it.
    Close { name: String },
    /// Paints raw RGB bytes to raw f32 values (native byte order), with an opened network.
    Paint { name: String, frame: PathBuf, width: usize, height: usize, to: PathBuf },
    /// The same with the CPU engine, in f32.
    Engine { model: PathBuf, frame: PathBuf, width: usize, height: usize, to: PathBuf },
    /// Paints frames, 8 bits up and 8 bits back, one after the other or overlapping; answers the seconds.
    Frames { name: String, width: usize, height: usize, frames: usize, overlap: bool },
    /// Sets a training up.
    Training(Training),
    /// Takes training steps; answers the seconds and the loss before the last.
    Steps { count: usize },
    /// Where a painting's time goes: medians of some rounds after one that warms up.
    Profile {
        device: String,
        precision: Number,
        #[serde(default)]
        operations: How,
        model: PathBuf,
        width: usize,
        height: usize,
        rounds: usize,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Training {
    device: String,
    precision: Number,
    #[serde(default)]
    operations: How,
    /// Of the network's first layer.
    width: usize,
    side: usize,
    batch: usize,
    learning_rate: f64,
    loss_network: String,
    loss_weights: Option<PathBuf>,
    content_layers: Vec<String>,
    style_layers: Vec<String>,
    content_weight: f64,
    style_weight: f64,
    tv_weight: f64,
    /// Raw RGB bytes: `batch · side · side` pixels, used in every step, and `side · side` pixels.
    photos: PathBuf,
    style: PathBuf,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Number {
    F32,
    Half,
}

/// How a GPU computes the network.
#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
enum How {
    #[default]
    Fused,
    General,
}

impl From<How> for Operations {
    fn from(how: How) -> Self {
        match how {
            How::Fused => Operations::Fused,
            How::General => Operations::General,
        }
    }
}

impl From<Number> for Precision {
    fn from(number: Number) -> Self {
        match number {
            Number::F32 => Precision::F32,
            Number::Half => Precision::Half,
        }
    }
}

/// What is open.
#[derive(Default)]
struct Worker {
    painters: BTreeMap<String, Box<dyn Painter>>,
    training: Option<(Box<dyn Steps>, Vec<u8>)>,
}

fn main() -> Result<()> {
    let mut worker = Worker::default();
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer =
            match serde_json::from_str(&line?).map_err(Into::into).and_then(|order| worker.obey(order)) {
                Ok(answer) => answer,
                Err(error) => json!({ "error": error.to_string() }),
            };
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

impl Worker {
    fn obey(&mut self, order: Order) -> Result<Value> {
        match order {
            Order::Devices => {
                let devices = available();
                let devices = devices
                    .iter()
                    .map(|found| json!({ "device": found.device.to_string(), "name": found.name }));
                Ok(json!({ "devices": devices.collect::<Vec<_>>() }))
            }
            Order::Export { style, to } => {
                shipped::load(&style)?.save(to)?;
                Ok(json!({}))
            }
            Order::Open { name, device, precision, operations, model, width } => {
                let model = match (model, width) {
                    (Some(path), _) => StyleModel::load(path)?,
                    (None, width) => StyleModel::random(Architecture::johnson(width.unwrap_or(32))?, 1)?,
                };
                let device: Device = device.parse()?;
                let painter = open_painter_with(&model, device, precision.into(), operations.into())?;
                self.painters.insert(name, painter);
                Ok(json!({}))
            }
            Order::Close { name } => {
                self.painters.remove(&name);
                Ok(json!({}))
            }
            Order::Paint { name, frame, width, height, to } => {
                let rgb = std::fs::read(frame)?;
                let mut painted = vec![0.0; rgb.len()];
                self.painter(&name)?.paint(&rgb, width, height, &mut painted)?;
                write_values(&to, &painted)?;
                Ok(json!({}))
            }
            Order::Engine { model, frame, width, height, to } => {
                let options =
                    StylizerOptions { precision: impasto::Precision::F32, ..StylizerOptions::default() };
                let engine = Stylizer::new(&StyleModel::load(model)?, options)?;
                let frame = Frame::new(width, height, std::fs::read(frame)?)?;
                write_values(&to, &engine.stylize_to_f32(&frame)?)?;
                Ok(json!({ "isa": engine.isa() }))
            }
            Order::Frames { name, width, height, frames, overlap } => {
                let seconds = paint_frames(self.painter(&name)?, width, height, frames, overlap)?;
                Ok(json!({ "seconds": seconds }))
            }
            Order::Training(training) => {
                // What was open is freed first: the memory of two is nobody's figure.
                self.training = None;
                self.training = Some(training.open()?);
                Ok(json!({}))
            }
            Order::Steps { count } => {
                let (steps, photos) = self.training.as_mut().ok_or("no training is set up")?;
                let before = Instant::now();
                for _ in 0..count {
                    steps.step(photos)?;
                }
                let loss = steps.finish()?;
                Ok(json!({ "seconds": before.elapsed().as_secs_f64(), "loss": loss }))
            }
            Order::Profile { device, precision, operations, model, width, height, rounds } => {
                let (model, device) = (StyleModel::load(model)?, device.parse()?);
                let frame = noise(width, height);
                let round =
                    || profile(&model, device, precision.into(), operations.into(), (&frame, width, height));
                profile_rounds(round, rounds)
            }
        }
    }

    fn painter(&mut self, name: &str) -> Result<&mut dyn Painter> {
        match self.painters.get_mut(name) {
            Some(painter) => Ok(&mut **painter),
            None => Err(format!("nothing is open under the name `{name}`").into()),
        }
    }
}

/// A noisy frame; the next ones are the same, moved.
fn noise(width: usize, height: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(width * height * 3).collect()
}

fn write_values(path: &Path, values: &[f32]) -> Result<()> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
    Ok(std::fs::write(path, bytes)?)
}

/// Seconds that `frames` frames take, from memory to memory.
fn paint_frames(
    painter: &mut dyn Painter,
    width: usize,
    height: usize,
    frames: usize,
    overlap: bool,
) -> Result<f64> {
    let mut frame = noise(width, height);
    let mut painted = vec![0; frame.len()];
    if !overlap {
        let before = Instant::now();
        for _ in 0..frames {
            painter.paint_bytes(&frame, width, height, PostSteps::default(), &mut painted)?;
            frame[0] = frame[0].wrapping_add(1);
        }
        return Ok(before.elapsed().as_secs_f64());
    }
    let mut queue = painter.queue()?;
    // The queue's threads have buffers of their own to make: not timed.
    for _ in 0..IN_FLIGHT {
        queue.submit(&frame, width, height, PostSteps::default())?;
    }
    while queue.take(&mut painted)?.is_some() {}
    let before = Instant::now();
    for _ in 0..frames {
        queue.submit(&frame, width, height, PostSteps::default())?;
        if queue.in_flight() > IN_FLIGHT {
            queue.take(&mut painted)?;
        }
        frame[0] = frame[0].wrapping_add(1);
    }
    while queue.take(&mut painted)?.is_some() {}
    Ok(before.elapsed().as_secs_f64())
}

impl Training {
    fn open(self) -> Result<(Box<dyn Steps>, Vec<u8>)> {
        let choice: LossNetworkChoice = self.loss_network.parse()?;
        let loss_weights = match &self.loss_weights {
            Some(path) => LossWeights::load(path)?,
            None => LossWeights::random(choice.kind, 1),
        };
        let weighted = |layers: Vec<String>| layers.into_iter().map(|layer| (layer, 1.0)).collect();
        let loss = PerceptualConfig {
            content_layers: weighted(self.content_layers),
            style_layers: weighted(self.style_layers),
            content_weight: self.content_weight,
            style_weight: self.style_weight,
            tv_weight: self.tv_weight,
            statistic: StyleStatistic::Gram,
        };
        let steps = steps(StepJob {
            device: self.device.parse()?,
            precision: self.precision.into(),
            operations: self.operations.into(),
            model: &StyleModel::initial(Architecture::johnson(self.width)?, 1)?,
            loss_weights: &loss_weights,
            loss: &loss,
            style: &std::fs::read(&self.style)?,
            side: self.side,
            batch: self.batch,
            learning_rate: self.learning_rate,
        })?;
        Ok((steps, std::fs::read(&self.photos)?))
    }
}

/// The medians of each operation's times.
fn profile_rounds(
    round: impl Fn() -> std::result::Result<Vec<Operation>, BurnError>,
    rounds: usize,
) -> Result<Value> {
    let first = round()?;
    let mut times = vec![Vec::new(); first.len()];
    for _ in 0..rounds.max(1) {
        for (times, operation) in times.iter_mut().zip(round()?) {
            times.push(operation.milliseconds);
        }
    }
    let operations = first.iter().zip(&mut times).map(|(operation, times)| {
        times.sort_by(f64::total_cmp);
        json!({ "layer": operation.layer, "operation": operation.name, "ms": times[times.len() / 2] })
    });
    Ok(json!({ "operations": operations.collect::<Vec<_>>() }))
}

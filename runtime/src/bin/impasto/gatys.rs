//! `impasto gatys`: a picture optimized to have its own content and the style of paintings.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use impasto::Device;
use impasto_burn::iterate::{
    Balanced, Criterion, GatysJob, Method, RgbPicture, Start, Style, StyleSize, default_history, gatys,
};
use impasto_burn::loss::{Balancing, LossValues, PerceptualConfig, StyleStatistic};
use impasto_burn::loss_network::{LossNetworkKind, LossWeights};
use serde_json::json;

use crate::interrupt;
use crate::reference::{self, Canvas, Journal};
use crate::reference_args::{GatysArgs, Layers, OptimizerName};
use crate::say::{Say, json_line, print};

/// Smallest shorter side of a coarse scale: below it there is nothing to see.
const COARSEST: usize = 64;

pub fn run(args: GatysArgs, say: Say) -> Result<ExitCode> {
    let canvas = Canvas::open(&args.content, &args.picture)?;
    let device = args.picture.device;
    impasto_burn::device::check(device)?;
    let job = job(&args, &canvas, say)?;
    let names = "scale,step,width,height,total,content,style,tv,seconds,elapsed";
    let steps = job.steps * job.scales.len();
    let mut journal = Journal::begin(&canvas, &args.picture, names, steps, say)?;
    if device == Device::Cpu
        && let Some(free) = reference::free_memory()
        && let Some(note) = too_large(job.peak_bytes(), free, job.content.longer_side())
    {
        say.note(&note);
    }
    let mut best = None::<LossValues>;
    let result = gatys(device, &job, &mut |step| {
        let losses = &step.losses;
        if step.step == 1 || best.as_ref().is_none_or(|best| losses.total < best.total) {
            best = Some(losses.clone());
        }
        let line = format!(
            "scale {}/{} {}x{}  step {}/{}  {}  {:.2} s",
            step.scale,
            step.scales,
            step.width,
            step.height,
            step.step,
            step.steps,
            shares(losses),
            step.seconds
        );
        let values = format!(
            "{},{},{},{},{},{},{},{},{:.4}",
            step.scale,
            step.step,
            step.width,
            step.height,
            losses.total,
            losses.content_share(),
            losses.style_share(),
            losses.tv_share,
            step.seconds
        );
        journal.step(line, &values, || step.picture())
    })?;
    journal.end(&result)?;
    if let Some(losses) = &best {
        report(&args, &canvas, &result, losses, journal.done, journal.seconds(), say)?;
    }
    Ok(journal.exit_code())
}

/// What is said of a job that will not fit, as far as that can be known: the system ends it when it gets there, which
/// may be at the last scale, hours from now.
fn too_large(needed: u64, free: u64, longer: usize) -> Option<String> {
    let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
    let fits = longer as f64 * (free as f64 / needed.max(1) as f64).sqrt();
    (needed > free).then(|| {
        format!(
            "note: this size takes about {:.1} GiB of memory, and {:.1} GiB are free; hint: --size {:.0}",
            gib(needed),
            gib(free),
            (fits / 32.0).floor().max(1.0) * 32.0
        )
    })
}

/// Weighted shares, for people.
fn shares(losses: &LossValues) -> String {
    format!(
        "total {:.4}  content {:.4}  style {:.4}  tv {:.4}",
        losses.total,
        losses.content_share(),
        losses.style_share(),
        losses.tv_share
    )
}

fn report(
    args: &GatysArgs,
    canvas: &Canvas,
    result: &RgbPicture,
    losses: &LossValues,
    steps: usize,
    seconds: f64,
    say: Say,
) -> Result<()> {
    if !args.picture.result.json {
        let each = seconds / steps.max(1) as f64;
        say.note(&format!("{steps} steps, {seconds:.1} s ({each:.2} s a step), {}", shares(losses)));
        return Ok(());
    }
    let report = json!({
        "input": canvas.pair.input_name(),
        "output": canvas.pair.output_name(),
        "width": result.width(),
        "height": result.height(),
        "steps": steps,
        "seconds": seconds,
        "total": losses.total,
        "content": losses.content_share(),
        "style": losses.style_share(),
        "tv": losses.tv_share,
        "interrupted": interrupt::asked(),
    });
    print(json_line(&report)?)?;
    Ok(())
}

fn job(args: &GatysArgs, canvas: &Canvas, say: Say) -> Result<GatysJob> {
    let mut styles = Vec::with_capacity(args.styles.len());
    if !args.style_weights.is_empty() && args.style_weights.len() != args.styles.len() {
        bail!("--style-weights: {} for {} paintings", args.style_weights.len(), args.styles.len());
    }
    for (at, path) in args.styles.iter().enumerate() {
        let picture = reference::open_rgb(path, args.picture.files.max_pixels)?;
        styles.push(Style { picture, weight: args.style_weights.get(at).copied().unwrap_or(1.0) });
    }
    let content = reference::to_rgb(&canvas.picture.frame)?;
    let weights = reference::loss_weights(&args.network, say)?;
    let (content_layers, style_layers) = default_layers(&weights);
    let chosen = |layers: &Option<Layers>, default: Vec<String>| -> Result<Vec<(String, f64)>> {
        let Some(Layers(layers)) = layers else {
            return Ok(default.into_iter().map(|layer| (layer, 1.0)).collect());
        };
        let one = |layer: &crate::reference_args::Layer| {
            if let Some(channel) = layer.channel {
                bail!("{}:{channel}: a loss is over all channels; hint: {}", layer.name, layer.name);
            }
            Ok((layer.name.clone(), layer.weight))
        };
        layers.iter().map(one).collect()
    };
    let losses = PerceptualConfig {
        content_layers: chosen(&args.content_layers, content_layers)?,
        style_layers: chosen(&args.style_layers, style_layers)?,
        content_weight: args.content_weight,
        style_weight: args.style_weight,
        tv_weight: args.tv_weight,
        statistic: StyleStatistic::Gram,
    };
    let start = match args.init.to_str() {
        Some("content") => Start::Content,
        Some("noise") => Start::Noise,
        _ => Start::Picture(reference::open_rgb(Path::new(&args.init), args.picture.files.max_pixels)?),
    };
    let method = match args.optimizer {
        OptimizerName::Lbfgs => Method::Lbfgs { history: default_history(content.width(), content.height()) },
        OptimizerName::Adam => Method::Adam { learning_rate: args.learning_rate },
    };
    Ok(GatysJob {
        criterion: Criterion {
            weights,
            pooling: args.network.pooling,
            losses,
            balance: match args.balance {
                Balancing::Auto => Balanced::OnContent,
                Balancing::Off => Balanced::Not,
            },
            styles,
            style_size: match args.style_size {
                Some(longer) => StyleSize::Longer(longer as usize),
                None => StyleSize::OfContent(f64::from(args.style_scale)),
            },
        },
        scales: scales(&content, args.scales as usize),
        content,
        start,
        method,
        steps: args.steps as usize,
        seed: args.picture.seed,
    })
}

/// Longer sides, each half the next, as long as the shorter one is worth looking at.
fn scales(content: &RgbPicture, count: usize) -> Vec<usize> {
    let (longer, shorter) = (content.longer_side(), content.width().min(content.height()));
    (0..count).rev().filter(|&at| at == 0 || shorter >> at >= COARSEST).map(|at| longer >> at).collect()
}

/// Content and style layers, Gatys's own for VGG. Of the style layers those that the weights do not reach are left out;
/// without its content layer the picture would have none of the content, and nothing would say so.
fn default_layers(weights: &LossWeights) -> (Vec<String>, Vec<String>) {
    let (content, style): (&[&str], &[&str]) = match weights.kind {
        LossNetworkKind::Vgg16 | LossNetworkKind::Vgg19 => {
            (&["relu4_2"], &["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"])
        }
        LossNetworkKind::SqueezeNet => (&["fire5"], &["relu1", "fire2", "fire4", "fire6", "fire8"]),
    };
    (content.iter().map(|layer| (*layer).to_owned()).collect(), reference::reached(weights, style))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_said_with_a_size_that_does() {
        assert_eq!(too_large(1 << 30, 1 << 30, 512), None);
        let note = too_large(16 << 30, 4 << 30, 2048).expect("a note");
        assert_eq!(
            note,
            "note: this size takes about 16.0 GiB of memory, and 4.0 GiB are free; hint: --size 1024"
        );
        #[cfg(target_os = "linux")]
        assert!(reference::free_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}

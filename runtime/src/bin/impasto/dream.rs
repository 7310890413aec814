//! `impasto dream`: what a network sees in a picture, amplified.

use std::process::ExitCode;

use anyhow::Result;
use impasto_burn::iterate::{Amplified, DreamJob, dream};
use impasto_burn::loss_network::{LossNetworkKind, LossWeights};
use serde_json::json;

use crate::interrupt;
use crate::reference::{self, Canvas, Journal};
use crate::reference_args::{DreamArgs, Layers};
use crate::say::{Say, json_line, print};

/// Longer side of a guide: its features are thinned out anyway.
const GUIDE_SIDE: usize = 384;

pub fn run(args: DreamArgs, say: Say) -> Result<ExitCode> {
    let canvas = Canvas::open(&args.input, &args.picture)?;
    let device = args.picture.device;
    impasto_burn::device::check(device)?;
    let guide = match &args.guide {
        Some(path) => {
            let guide = reference::open_rgb(path, args.picture.files.max_pixels)?;
            let (width, height) = guide.size_for(GUIDE_SIDE.min(guide.longer_side()));
            Some(guide.resized(width, height))
        }
        None => None,
    };
    let weights = reference::loss_weights(&args.network, say)?;
    let job = DreamJob {
        targets: targets(args.layers.as_ref(), &weights),
        weights,
        pooling: args.network.pooling,
        picture: reference::to_rgb(&canvas.picture.frame)?,
        guide,
        octaves: args.octaves as usize,
        octave_scale: args.octave_scale,
        iterations: args.iterations as usize,
        step_size: args.step_size,
        jitter: args.jitter as usize,
        tile: args.tile as usize,
        seed: args.picture.seed,
    };
    let names = "octave,iteration,width,height,objective,seconds,elapsed";
    let steps = job.octaves * job.iterations;
    let mut journal = Journal::begin(&canvas, &args.picture, names, steps, say)?;
    let (result, octaves) = dream(device, &job, &mut |step| {
        // Octaves that are too small are left out, so there may be fewer steps than asked for.
        journal.bar.set_length((step.octaves * step.iterations) as u64);
        let line = format!(
            "octave {}/{} {}x{}  step {}/{}  objective {:.4}  {:.2} s",
            step.octave,
            step.octaves,
            step.width,
            step.height,
            step.iteration,
            step.iterations,
            step.objective,
            step.seconds
        );
        let values = format!(
            "{},{},{},{},{},{:.4}",
            step.octave, step.iteration, step.width, step.height, step.objective, step.seconds
        );
        journal.step(line, &values, || step.picture())
    })?;
    journal.end(&result)?;
    let (done, seconds) = (journal.done, journal.seconds());
    if args.picture.result.json {
        let octaves: Vec<_> = octaves
            .iter()
            .map(|octave| {
                json!({
                    "width": octave.width,
                    "height": octave.height,
                    "before": octave.before,
                    "after": octave.after,
                })
            })
            .collect();
        let report = json!({
            "input": canvas.pair.input_name(),
            "output": canvas.pair.output_name(),
            "width": result.width(),
            "height": result.height(),
            "steps": done,
            "seconds": seconds,
            "octaves": octaves,
            "interrupted": interrupt::asked(),
        });
        print(json_line(&report)?)?;
    } else {
        let climbs: Vec<String> = octaves
            .iter()
            .map(|octave| {
                format!("{}x{} {:.2} → {:.2}", octave.width, octave.height, octave.before, octave.after)
            })
            .collect();
        say.note(&format!("{done} steps, {seconds:.1} s, objective {}", climbs.join(", ")));
    }
    Ok(journal.exit_code())
}

/// The layers asked for, or those that give the known look with these weights.
fn targets(layers: Option<&Layers>, weights: &LossWeights) -> Vec<Amplified> {
    if let Some(Layers(layers)) = layers {
        let target = |layer: &crate::reference_args::Layer| Amplified {
            layer: layer.name.clone(),
            channel: layer.channel,
            weight: layer.weight,
        };
        return layers.iter().map(target).collect();
    }
    // Deep enough for shapes instead of textures, as far as the weights go.
    let preferred: &[&str] = match weights.kind {
        LossNetworkKind::Vgg16 => &["relu5_1", "relu4_3", "relu4_1", "relu3_3"],
        LossNetworkKind::Vgg19 => &["relu5_1", "relu4_4", "relu4_2", "relu3_3"],
        LossNetworkKind::SqueezeNet => &["fire8", "fire5", "fire3"],
    };
    let found = reference::reached(weights, preferred).into_iter().next();
    let layer = found.unwrap_or_else(|| preferred[0].to_owned());
    vec![Amplified { layer, channel: None, weight: 1.0 }]
}

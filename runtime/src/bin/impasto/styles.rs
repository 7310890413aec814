//! `impasto styles`: what there is, what a model is, and foreign models in; `export` takes them out.

use std::process::ExitCode;

use anyhow::{Result, bail};
use impasto::checkpoints::{Architecture, Credit, StyleModel, Training, import, shipped};
use impasto::quality::bf16_psnr;
use serde::Serialize;

use crate::args::{ImportArgs, StylesArgs, StylesCommand};
use crate::choice::find;
use crate::files::refuse_existing;
use crate::interrupt;
use crate::say::{Say, json_line, print};

pub fn run(args: StylesArgs, say: Say) -> Result<ExitCode> {
    match args.command {
        StylesCommand::List { json } => list(json)?,
        StylesCommand::Show { style, json } => {
            let model = find(&style)?;
            print(if json { json_line(&facts(&model))? } else { describe(&model) })?;
        }
        StylesCommand::Import(args) => import_file(args, say)?,
        StylesCommand::Export(args) => crate::export::run(args, say)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(json: bool) -> Result<()> {
    let mut models = Vec::new();
    for name in shipped::names() {
        models.push((name, shipped::load(name)?));
    }
    if json {
        let all: Vec<Facts<'_>> = models.iter().map(|(_, model)| facts(model)).collect();
        return print(json_line(&all)?);
    }
    let width = models.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = models.iter().map(|(name, model)| {
        let architecture = model.architecture();
        let work = model.metadata().credits.iter().find(|credit| credit.role == "style picture");
        format!(
            "{name:width$}  {:>9} parameters  {:>6.1} GFLOP/Mpx  {}\n",
            architecture.parameter_count(),
            gflop_per_megapixel(model),
            work.map_or("", |credit| credit.work.as_str()),
        )
    });
    print(lines.collect())
}

fn import_file(args: ImportArgs, say: Say) -> Result<()> {
    refuse_existing(&args.output, args.result.overwrite)?;
    if args.output.extension().is_none_or(|extension| extension != "safetensors") {
        bail!("{}: a style model's name ends in .safetensors", args.output.display());
    }
    let mut model = import::import(&args.file)?.to_dtype(args.dtype)?;
    let psnr = bf16_psnr(&model)?;
    model.amend(|metadata| {
        metadata.bf16_psnr = Some((psnr * 10.0).round() / 10.0);
        if let Some(name) = args.name {
            metadata.name = name;
        }
        metadata.license = args.license;
    });
    {
        let _guard = interrupt::writing();
        model.save(&args.output)?;
    }
    if args.result.json {
        return print(json_line(&facts(&model))?);
    }
    say.note(&format!("{}\n{}", args.output.display(), describe(&model).trim_end()));
    if model.metadata().license.is_none() {
        say.note("licence unknown: ask whoever trained it before you publish what it paints (--license records it)");
    }
    Ok(())
}

fn gflop_per_megapixel(model: &StyleModel) -> f64 {
    2.0 * model.architecture().multiply_adds_per_pixel() / 1e3
}

/// Everything there is to say of a model, for programs.
#[derive(Serialize)]
struct Facts<'a> {
    name: &'a str,
    architecture: &'a Architecture,
    parameters: usize,
    gflop_per_megapixel: f64,
    dtypes: Vec<&'static str>,
    minimum_size: usize,
    bf16_psnr: Option<f64>,
    license: Option<&'a str>,
    credits: &'a [Credit],
    training: Option<&'a Training>,
}

fn facts(model: &StyleModel) -> Facts<'_> {
    let metadata = model.metadata();
    let architecture = model.architecture();
    Facts {
        name: &metadata.name,
        architecture,
        parameters: architecture.parameter_count(),
        gflop_per_megapixel: gflop_per_megapixel(model),
        dtypes: model.dtypes().iter().map(|dtype| dtype.name()).collect(),
        minimum_size: architecture.minimum_size(),
        bf16_psnr: metadata.bf16_psnr,
        license: metadata.license.as_deref(),
        credits: &metadata.credits,
        training: metadata.training.as_ref(),
    }
}

/// The same for people.
fn describe(model: &StyleModel) -> String {
    let metadata = model.metadata();
    let a = model.architecture();
    let mut lines = vec![
        ("name", metadata.name.clone()),
        ("architecture", a.to_string()),
        ("padding", name_of(&a.padding)),
        ("upsampling", name_of(&a.upsampling)),
        (
            "norm",
            format!(
                "instance, ε {:e}{}",
                a.norm_epsilon,
                if a.output_norm { ", also after the last convolution" } else { "" }
            ),
        ),
        ("output", format!("{} · {} + {}", name_of(&a.output.activation), a.output.scale, a.output.offset)),
        ("input", name_of(&a.input)),
        (
            "parameters",
            format!(
                "{} ({})",
                a.parameter_count(),
                model.dtypes().iter().map(|d| d.name()).collect::<Vec<_>>().join(", ")
            ),
        ),
        ("cost", format!("{:.1} GFLOP per megapixel", gflop_per_megapixel(model))),
        (
            "bf16",
            metadata.bf16_psnr.map_or("not measured".into(), |psnr| format!("{psnr:.1} dB against f32")),
        ),
        ("licence", metadata.license.clone().unwrap_or_else(|| "unknown".into())),
    ];
    for credit in &metadata.credits {
        lines.push(("credit", format!("{}: {} ({})", credit.role, credit.work, credit.license)));
    }
    if let Some(training) = &metadata.training {
        lines.push((
            "trained",
            format!(
                "{} steps of {} at {}², {}, content {} style {} tv {}, seed {}, {}",
                training.steps,
                training.batch_size,
                training.image_size,
                training.loss_network,
                training.content_weight,
                training.style_weight,
                training.tv_weight,
                training.seed,
                training.tool
            ),
        ));
        lines.push(("painting", format!("sha256 {}", training.style_sha256)));
    }
    lines.iter().map(|(key, value)| format!("{key:13}{value}\n")).collect()
}

/// The name a unit variant has in the file.
fn name_of(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_string)).unwrap_or_default()
}

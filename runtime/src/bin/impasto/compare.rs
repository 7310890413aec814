//! `impasto compare`: a style's network against the iterative method, under the losses that the style was trained with.

use std::collections::HashMap;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use impasto::checkpoints::{Metadata, write_atomically};
use impasto::picture::{self, DecodeOptions, EncodeOptions, Picture, middle_square, side_by_side};
use impasto::{Frame, Stylizer};
use impasto_burn::BurnError;
use impasto_burn::iterate::{
    Balanced, Criterion, GatysJob, Method, RgbPicture, TrainedLosses, default_history, evaluate, gatys,
};
use impasto_burn::loss::LossValues;
use impasto_burn::loss_network::Pooling;
use indicatif::ProgressBar;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::choice::{engine_options, open_stylizer};
use crate::files::{self, Pair, Source, Target};
use crate::interrupt;
use crate::plot::{Chart, Line};
use crate::reference;
use crate::reference_args::{CompareArgs, CompareInit, NetworkArgs};
use crate::say::{Say, one_line, print};

const RED: [u8; 3] = [192, 57, 43];
const BLUE: [u8; 3] = [31, 97, 141];

/// Weighted losses of one picture.
#[derive(Serialize, Clone)]
struct Loss {
    total: f64,
    content: f64,
    style: f64,
    tv: f64,
}

impl From<&LossValues> for Loss {
    fn from(losses: &LossValues) -> Self {
        Loss {
            total: losses.total,
            content: losses.content_share(),
            style: losses.style_share(),
            tv: losses.tv_share,
        }
    }
}

/// What came of one photo. The names are the report's keys.
#[derive(Serialize)]
struct Row {
    photo: String,
    unpainted: Loss,
    fast: Loss,
    fast_seconds: f64,
    gatys: Loss,
    gatys_steps: usize,
    gatys_seconds: f64,
    seconds_per_step: f64,
    /// Evaluations of loss and gradient until the iterative method's objective was at the network's; none when it
    /// did not get there.
    equivalent_steps: Option<usize>,
    /// Seconds until then over the network's; with all its steps when it did not get there.
    speed_up: f64,
}

#[derive(Serialize)]
struct Report {
    style: String,
    size: usize,
    steps: usize,
    loss_network: String,
    device: String,
    /// What the iterative method starts from: `content` or `noise`.
    init: CompareInit,
    /// Whether the losses have the factors that the training found; else they are balanced on each photo.
    balance_of_training: bool,
    rows: Vec<Row>,
    /// Photos that could not be compared.
    failed: Vec<Failed>,
    equivalent_steps: Spread,
    speed_up: Spread,
}

/// A photo that could not be compared, and why.
#[derive(Serialize)]
struct Failed {
    photo: String,
    error: String,
}

/// Mean and sample deviation; photos that were not caught up with count with all steps, so both are lower bounds.
#[derive(Serialize)]
struct Spread {
    mean: f64,
    deviation: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / count;
        let squares: f64 = values.map(|value| (value - mean).powi(2)).sum();
        Spread { mean, deviation: (squares / (count - 1.0).max(1.0)).sqrt() }
    }
}

pub fn run(args: CompareArgs, say: Say) -> Result<ExitCode> {
    let stylizer = open_stylizer(&args.style, engine_options(&args.engine))?;
    let metadata = stylizer.metadata().clone();
    let (trained, criterion) = criterion(&args, &metadata, say)?;
    let device = args.engine.device;
    impasto_burn::device::check(device)?;
    let plan = files::plan(&args.contents, &folder_name(&args.output), Some("png"))?;
    let single = plan.pairs.len() + plan.failed.len() == 1;
    let mut failed = Vec::new();
    let mut fail = |photo: String, error: anyhow::Error| {
        if single {
            return Err(error);
        }
        say.error(&error);
        failed.push(Failed { photo, error: one_line(&error) });
        Ok(())
    };
    for (photo, error) in plan.failed {
        fail(photo, error)?;
    }
    let pairs: Vec<(&Pair, &Path)> = plan
        .pairs
        .iter()
        .map(|pair| match &pair.target {
            Target::File(path) => Ok((pair, path.as_path())),
            Target::Stdout => bail!("-o -: expected a folder"),
        })
        .collect::<Result<_>>()?;
    let mut first = HashMap::new();
    for (pair, path) in &pairs {
        for ending in ENDINGS {
            let file = beside(path, ending);
            files::refuse_existing(&file, args.result.overwrite)?;
            if let Some(first) = first.insert(file.clone(), pair.input_name()) {
                let (own, file) = (pair.input_name(), file.display());
                bail!("{own}: would be written to {file}, which {first} goes to already; hint: rename one");
            }
        }
    }
    for name in ["report.json", "report.md"] {
        files::refuse_existing(&args.output.join(name), args.result.overwrite)?;
    }
    reference::announce_ending(ProgressBar::hidden(), say);
    let mut rows = Vec::new();
    for (pair, path) in pairs {
        if interrupt::asked() {
            break;
        }
        pair.target.check_writable()?;
        match one(&pair.source, path, &stylizer, &criterion, &args, say) {
            Ok(row) => {
                say.note(&format!("{}: {}", row.photo, summary(&row)));
                rows.push(row);
            }
            // The others may be fine, and what was found of those before is worth its report.
            Err(error) => fail(pair.input_name(), error)?,
        }
    }
    if rows.is_empty() {
        return Ok(if interrupt::asked() { interrupt::exit_code() } else { ExitCode::FAILURE });
    }
    let report = Report {
        style: metadata.name.clone(),
        size: args.size as usize,
        steps: args.steps as usize,
        loss_network: trained.loss_net().to_owned(),
        device: args.engine.device.to_string(),
        init: args.init,
        balance_of_training: matches!(criterion.balance, Balanced::By(_)),
        equivalent_steps: Spread::of(
            rows.iter().map(|row| row.equivalent_steps.unwrap_or(row.gatys_steps) as f64),
        ),
        speed_up: Spread::of(rows.iter().map(|row| row.speed_up)),
        rows,
        failed,
    };
    let json = serde_json::to_string_pretty(&report)?;
    save(&args.output.join("report.json"), &json)?;
    save(&args.output.join("report.md"), &markdown(&report))?;
    if args.result.json {
        print(json + "\n")?;
    }
    Ok(match (interrupt::asked(), report.failed.is_empty()) {
        (true, _) => interrupt::exit_code(),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    })
}

/// Endings of what the comparison of one photo writes.
const ENDINGS: [&str; 7] =
    [".png", "-fast.png", "-gatys.png", "-steps.svg", "-steps.png", "-seconds.svg", "-seconds.png"];

/// The file beside `DIR/photo.png` that has this ending.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_os_string();
    name.push(ending);
    path.with_file_name(name)
}

/// `DIR/`, which is a folder whether it is there or not.
fn folder_name(output: &Path) -> PathBuf {
    output.join("")
}

/// The losses of the style's training, on its painting.
fn criterion(args: &CompareArgs, metadata: &Metadata, say: Say) -> Result<(TrainedLosses, Criterion)> {
    let Some(training) = &metadata.training else {
        bail!(
            "style {}: it does not say how it was trained; expected a style of impasto-train",
            metadata.name
        )
    };
    let trained = TrainedLosses::of(training).with_context(|| format!("style {}", metadata.name))?;
    let decode = DecodeOptions { max_pixels: args.max_pixels };
    let bytes = picture::read_file(&args.painting, &decode)?;
    let painting = Picture::from_bytes(&bytes, &args.painting.display().to_string(), &decode)?;
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != training.style_sha256 {
        say.note(&format!(
            "{}: not the file that {} was trained with (SHA-256 {digest}, expected {})",
            args.painting.display(),
            metadata.name,
            training.style_sha256
        ));
    }
    let network = NetworkArgs {
        loss_net: trained.network()?,
        loss_weights: args.loss_weights.clone(),
        offline: args.offline,
        pooling: Pooling::Max,
    };
    let weights = reference::loss_weights(&network, say).map_err(without_choice)?;
    let criterion = trained.criterion(weights, reference::to_rgb(&painting.frame)?);
    Ok((trained, criterion))
}

/// What is said of weights that are not there, without the hint at another `--loss-net`: it is the one of the training.
fn without_choice(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<BurnError>() {
        Some(BurnError::NoLossWeights { network, reason, folder }) => anyhow!(
            "no weights for {network}, which the style was trained with: {reason}; hint: give a file with --loss-weights FILE, or put one ({network}*.safetensors or {network}*.pth) into {folder}"
        ),
        Some(BurnError::LossWeights { origin, reason }) => match reason.split_once("; hint: --loss-net") {
            Some((wrong, _)) => anyhow!("{origin}: {wrong}, which the style was trained with"),
            None => error,
        },
        _ => error,
    }
}

/// The largest square in the middle of a photo, resized.
fn read_square(source: &Source, args: &CompareArgs) -> Result<Frame> {
    let picture = source.read(&DecodeOptions { max_pixels: args.max_pixels })?;
    Ok(middle_square(&picture.frame, args.size as usize)?)
}

/// One photo: both ways, the pictures and the plots.
fn one(
    source: &Source,
    path: &Path,
    stylizer: &Stylizer,
    criterion: &Criterion,
    args: &CompareArgs,
    say: Say,
) -> Result<Row> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let photo = read_square(source, args)?;
    let device = args.engine.device;
    let job = GatysJob {
        criterion: criterion.clone(),
        content: reference::to_rgb(&photo)?,
        start: args.init.into(),
        method: Method::Lbfgs { history: default_history(photo.width(), photo.height()) },
        scales: Vec::new(),
        steps: args.steps as usize,
        seed: 0,
    };
    let fast = stylizer.stylize(&photo)?; // warms up
    let started = Instant::now();
    stylizer.stylize(&photo)?;
    let fast_seconds = started.elapsed().as_secs_f64();
    let pictures: [RgbPicture; 2] = [job.content.clone(), reference::to_rgb(&fast)?];
    let losses = evaluate(device, &job.criterion, &job.content, &pictures)?;
    let target = losses[1].total;

    // Seconds of the steps alone: the loss network and the targets are not counted, as the fast network's weights are not.
    let (mut curve, mut best, mut elapsed) = (Vec::new(), None::<LossValues>, 0.0);
    let bar = say.progress(job.steps);
    let painted = gatys(device, &job, &mut |step| {
        if best.as_ref().is_none_or(|best| step.losses.total < best.total) {
            best = Some(step.losses.clone());
        }
        let so_far = best.as_ref().map_or(f64::NAN, |best| best.total);
        elapsed += step.seconds;
        curve.push((elapsed, so_far));
        bar.set_message(format!("{name}: step {}, total {so_far:.4}, the network's {target:.4}", step.step));
        bar.inc(1);
        if interrupt::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    bar.finish_and_clear();
    let caught_up = curve.iter().position(|(_, total)| *total <= target);
    let seconds = curve.last().map_or(0.0, |(seconds, _)| *seconds);
    let until = caught_up.map_or(seconds, |at| curve[at].0);
    let best = best.as_ref().unwrap_or(&losses[0]);

    let painted = reference::to_frame(&painted)?;
    write(&side_by_side(&side_by_side(&photo, &fast), &painted), path)?;
    write(&fast, &beside(path, "-fast.png"))?;
    write(&painted, &beside(path, "-gatys.png"))?;
    let chart = |kind: &str, unit: &str, points: Vec<(f64, f64)>, fast_at: f64| -> Result<()> {
        let chart = Chart {
            title: format!("{name}: loss over {kind}"),
            x_name: format!("{kind}{unit}"),
            y_name: "objective".to_owned(),
            lines: vec![Line { name: "Gatys, L-BFGS".to_owned(), color: RED, points }],
            level: Line { name: "fast network".to_owned(), color: BLUE, points: vec![(fast_at, target)] },
        };
        save(&beside(path, &format!("-{kind}.svg")), &chart.svg())?;
        write(&chart.frame(), &beside(path, &format!("-{kind}.png")))
    };
    let by_step = curve.iter().enumerate().map(|(at, (_, total))| ((at + 1) as f64, *total)).collect();
    chart("steps", "", by_step, caught_up.map_or(0.0, |at| (at + 1) as f64))?;
    chart("seconds", " (s)", curve.clone(), fast_seconds)?;

    Ok(Row {
        photo: name,
        unpainted: (&losses[0]).into(),
        fast: (&losses[1]).into(),
        fast_seconds,
        gatys: best.into(),
        gatys_steps: curve.len(),
        gatys_seconds: seconds,
        seconds_per_step: seconds / curve.len().max(1) as f64,
        equivalent_steps: caught_up.map(|at| at + 1),
        speed_up: until / fast_seconds.max(1e-9),
    })
}

fn write(frame: &Frame, path: &Path) -> Result<()> {
    Target::File(path.to_path_buf()).write(&Picture::from(frame.clone()), None, &EncodeOptions::default())
}

fn save(path: &Path, text: &str) -> Result<()> {
    let _guard = interrupt::writing();
    write_atomically(path, |out| out.write_all(text.as_bytes()))
        .with_context(|| format!("{}: cannot write", path.display()))
}

fn steps_text(row: &Row) -> String {
    match row.equivalent_steps {
        Some(steps) => steps.to_string(),
        None => format!("> {}", row.gatys_steps),
    }
}

fn summary(row: &Row) -> String {
    format!(
        "unpainted {:.3}, fast {:.3} in {:.3} s, Gatys {:.3} in {:.0} s; equivalent steps {}, {:.0} times as fast",
        row.unpainted.total,
        row.fast.total,
        row.fast_seconds,
        row.gatys.total,
        row.gatys_seconds,
        steps_text(row),
        row.speed_up
    )
}

fn markdown(report: &Report) -> String {
    let mut text = format!(
        "# {}: the network and the iterative method\n\n{1}×{1}, {2}, losses of its training{4}, L-BFGS from {5}, {3} evaluations at most.\n\n\
         | photo | unpainted | fast: objective | content | style | tv | seconds | Gatys: objective | content | style | tv | seconds | s a step | equivalent steps | speed-up |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        report.style,
        report.size,
        report.loss_network,
        report.steps,
        if report.balance_of_training { "" } else { " balanced on each photo" },
        match report.init {
            CompareInit::Content => "the photo",
            CompareInit::Noise => "noise",
        },
    );
    for row in &report.rows {
        let loss = |loss: &Loss| {
            format!("{:.4} | {:.4} | {:.4} | {:.4}", loss.total, loss.content, loss.style, loss.tv)
        };
        text.push_str(&format!(
            "| {} | {:.4} | {} | {:.4} | {} | {:.1} | {:.3} | {} | {:.0} |\n",
            row.photo,
            row.unpainted.total,
            loss(&row.fast),
            row.fast_seconds,
            loss(&row.gatys),
            row.gatys_seconds,
            row.seconds_per_step,
            steps_text(row),
            row.speed_up
        ));
    }
    for Failed { photo, error } in &report.failed {
        text.push_str(&format!("\nNot compared: {photo} ({error})\n"));
    }
    text.push_str(&format!(
        "\nEquivalent steps: mean {:.1}, deviation {:.1}. Speed-up: mean {:.0}, deviation {:.0}. A photo that the iterative \
         method did not catch up on counts with all its steps.\n",
        report.equivalent_steps.mean,
        report.equivalent_steps.deviation,
        report.speed_up.mean,
        report.speed_up.deviation
    ));
    text
}

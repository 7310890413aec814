//! `impasto stylize`: pictures in, paintings out.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use impasto::checkpoints::StyleModel;
use impasto::paint::{PaintOptions, paint_with};
use impasto::picture::{DecodeOptions, EncodeOptions, Format};
use impasto::{Progress, Stylizer, StylizerOptions};
use indicatif::ProgressBar;
use serde_json::json;

use crate::args::StylizeArgs;
use crate::choice::{engine_options, open_stylizer};
use crate::files::{self, Pair, Plan, Target};
use crate::interrupt;
use crate::say::{self, Say};

/// How often `--watch` looks at the model file.
const WATCH_EVERY: Duration = Duration::from_millis(500);

/// The arguments, checked, with the files paired up.
pub struct Job {
    plan: Plan,
    stylizer: Stylizer,
    model_file: Option<PathBuf>,
    /// When the model file was written last before it was read.
    model_time: Option<SystemTime>,
    engine: StylizerOptions,
    paint: PaintOptions,
    decode: DecodeOptions,
    encode: EncodeOptions,
    format: Option<Format>,
    overwrite: bool,
    watch: bool,
    json: bool,
    say: Say,
}

/// One painted picture, for the report.
struct Painted {
    width: usize,
    height: usize,
    seconds: f64,
}

impl Job {
    /// Checks what can be checked before anything is painted.
    pub fn new(args: StylizeArgs, say: Say) -> Result<Self> {
        if args.result.json && args.output == Path::new("-") {
            bail!("--json and -o - both want standard output; hint: give -o a file");
        }
        if args.inputs.iter().filter(|input| *input == Path::new("-")).count() > 1 {
            bail!("-: standard input holds one picture; give - once");
        }
        if args.watch && args.inputs.iter().chain([&args.output]).any(|path| path == Path::new("-")) {
            bail!(
                "-: --watch paints the same pictures again, which standard input and output cannot; give files"
            );
        }
        let format = args.files.format;
        let plan = files::plan(&args.inputs, &args.output, format.map(Format::extension))?;
        for pair in &plan.pairs {
            // A wrong extension is known now; painting for a minute first would waste it.
            if let (Target::File(path), None) = (&pair.target, format) {
                Format::from_path(path)?;
            }
            if args.watch && pair.is_in_place() {
                let name = pair.input_name();
                bail!("{name}: --watch would paint its own painting again; hint: give another OUT");
            }
        }
        let engine = engine_options(&args.engine);
        let model_time = args.style.model.as_deref().and_then(modified);
        let stylizer = open_stylizer(&args.style, engine)?;
        Ok(Job {
            plan,
            stylizer,
            model_file: args.style.model,
            model_time,
            engine,
            paint: PaintOptions {
                size: args.size.map(|size| size as usize),
                stroke_scale: args.stroke_scale,
                strength: args.look.strength,
                keep_colors: args.look.keep_colors,
                side_by_side: args.look.side_by_side,
            },
            decode: DecodeOptions { max_pixels: args.files.max_pixels },
            encode: EncodeOptions { quality: args.files.quality },
            format,
            overwrite: args.result.overwrite,
            watch: args.watch,
            json: args.result.json,
            say,
        })
    }

    /// Paints everything; exit code 1 when a picture failed.
    pub fn run(mut self) -> Result<ExitCode> {
        interrupt::install();
        match self.model_file.clone().filter(|_| self.watch) {
            Some(file) => self.watch(&file),
            None => self.run_once(&mut HashSet::new()),
        }
    }

    /// Paints, then again whenever the model file has changed. Only Ctrl-C or an error ends it.
    fn watch(&mut self, file: &Path) -> Result<ExitCode> {
        let mut seen = self.model_time;
        let mut ours = HashSet::new();
        self.run_once(&mut ours)?;
        self.say.note(&format!("watching {} (Ctrl-C ends it)", file.display()));
        loop {
            std::thread::sleep(WATCH_EVERY);
            let now = modified(file);
            if now.is_none() || now == seen {
                continue;
            }
            seen = now;
            // Models are renamed into place, so what is there is whole; should it not be, the old one stays.
            match StyleModel::load(file).map_err(Into::into).and_then(|m| Stylizer::new(&m, self.engine)) {
                Ok(stylizer) => {
                    self.stylizer = stylizer;
                    self.run_once(&mut ours)?;
                    self.say.note(&format!("painted again with {}", file.display()));
                }
                Err(error) => self.say.error(&error.into()),
            }
        }
    }

    /// Paints each picture once. `ours` are the files that this run has written, and may write again.
    fn run_once(&self, ours: &mut HashSet<PathBuf>) -> Result<ExitCode> {
        let single = self.plan.pairs.len() == 1 && self.plan.failed.is_empty();
        let bar = self.say.progress(self.plan.pairs.len());
        let started = Instant::now();
        let (mut painted, mut failed) = (Vec::new(), Vec::new());
        for (name, error) in &self.plan.failed {
            self.say.error(error);
            failed.push(json!({ "input": name, "error": say::one_line(error) }));
        }
        for pair in &self.plan.pairs {
            bar.set_message(pair.input_name());
            match self.paint_one(pair, ours, &bar) {
                Ok(done) => {
                    self.say.detail(&format!(
                        "{} → {}  {}×{}  {:.2} s",
                        pair.input_name(),
                        pair.output_name(),
                        done.width,
                        done.height,
                        done.seconds
                    ));
                    painted.push(json!({
                        "input": pair.input_name(),
                        "output": pair.output_name(),
                        "width": done.width,
                        "height": done.height,
                        "seconds": done.seconds,
                    }));
                }
                Err(error) if single && !self.json => return Err(error),
                Err(error) => {
                    bar.suspend(|| self.say.error(&error));
                    failed.push(json!({ "input": pair.input_name(), "error": say::one_line(&error) }));
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        if self.json {
            let report = json!({
                "style": self.stylizer.metadata().name,
                "device": self.engine.device.to_string(),
                "painted": painted,
                "failed": failed,
                "left_out": self.plan.left_out.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
            });
            say::print(say::json_line(&report)?)?;
        } else if !single {
            self.say.note(&format!(
                "{} painted, {} failed, {:.1} s",
                painted.len(),
                failed.len(),
                started.elapsed().as_secs_f64()
            ));
        }
        if let Some(words) = self.plan.left_out_in_words().filter(|_| !self.json) {
            self.say.note(&words);
        }
        Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn paint_one(&self, pair: &Pair, ours: &mut HashSet<PathBuf>, pictures: &ProgressBar) -> Result<Painted> {
        let started = Instant::now();
        let is_ours = matches!(&pair.target, Target::File(path) if ours.contains(path));
        pair.target.refuse_existing(self.overwrite || is_ours)?; // before the work, not after it
        let picture = pair.source.read(&self.decode)?;
        pair.target.prepare(self.paint.painted_size(picture.width(), picture.height()), self.format)?;
        let bar = self.say.painting(self.paint.seen_pixels(picture.width(), picture.height()));
        let report = |done: f64| {
            let percent = (100.0 * done) as u64;
            // One bar at a time: that over the pictures, if there are several.
            if pictures.is_hidden() {
                bar.set_position(percent);
            } else if !bar.is_hidden() {
                pictures.set_message(format!("{}  {percent} %", pair.input_name()));
            }
        };
        let picture = paint_with(&self.stylizer, picture, &self.paint, &Progress::new().report(&report));
        bar.finish_and_clear();
        let picture = picture?;
        let (width, height) = (picture.frame.width(), picture.frame.height());
        pair.target.write(&picture, self.format, &self.encode)?;
        if let Target::File(path) = &pair.target {
            ours.insert(path.clone());
        }
        Ok(Painted { width, height, seconds: started.elapsed().as_secs_f64() })
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|metadata| metadata.modified()).ok()
}

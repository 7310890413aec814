//! What the slow originals share: pictures to and from Burn, the loss network, a log, and what is done to a result.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use impasto::Frame;
use impasto::picture::{self, DecodeOptions, EncodeOptions, Format, Picture, fit_longer_side};
use impasto_burn::iterate::RgbPicture;
use impasto_burn::loss_network::weights::{FindOptions, find};
use impasto_burn::loss_network::{LossNetworkKind, LossWeights};
use indicatif::ProgressBar;

use crate::files::{self, Pair, Source, Target};
use crate::interrupt;
use crate::reference_args::{NetworkArgs, PictureArgs};
use crate::say::{self, Say};

/// The one picture of a job: read, resized, and where its result goes.
pub struct Canvas {
    pub picture: Picture,
    pub pair: Pair,
    format: Option<Format>,
    encode: EncodeOptions,
    strength: f32,
    keep_colors: bool,
    side_by_side: bool,
}

impl Canvas {
    /// Reads the picture, after a look at whether its result can be written.
    pub fn open(input: &Path, args: &PictureArgs) -> Result<Self> {
        if args.result.json && args.output == Path::new("-") {
            bail!("--json and -o - both want standard output; hint: give -o a file");
        }
        if args.save_every.is_some() && args.output == Path::new("-") {
            bail!("--save-every needs names to write to; hint: give -o a file");
        }
        if input.is_dir() {
            bail!("{}: is a folder; expected one picture", input.display());
        }
        let format = args.files.format;
        let mut plan = files::plan(&[input.to_path_buf()], &args.output, format.map(Format::extension))?;
        let Some(pair) = plan.pairs.pop() else { bail!("{}: no picture", input.display()) };
        if let (Target::File(path), None) = (&pair.target, format) {
            Format::from_path(path)?;
        }
        pair.target.refuse_existing(args.result.overwrite)?;
        let decode = DecodeOptions { max_pixels: args.files.max_pixels };
        let mut picture = pair.source.read(&decode)?;
        if args.size > 0 {
            let (width, height) = fit_longer_side(picture.width(), picture.height(), args.size as usize);
            picture = picture.resized(width, height)?;
        }
        Ok(Canvas {
            picture,
            pair,
            format,
            encode: EncodeOptions { quality: args.files.quality },
            strength: args.look.strength,
            keep_colors: args.look.keep_colors,
            side_by_side: args.look.side_by_side,
        })
    }

    /// Writes the result, with what `stylize` does after the network.
    pub fn write(&self, result: &RgbPicture) -> Result<()> {
        self.write_to(result, &self.pair.target)
    }

    /// Writes the result of some step beside the last one's place: `OUT-00050.png`.
    pub fn write_step(&self, result: &RgbPicture, step: usize) -> Result<()> {
        let Target::File(path) = &self.pair.target else { return Ok(()) };
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        // With --format it may have none.
        let extension =
            path.extension().map_or_else(String::new, |name| format!(".{}", name.to_string_lossy()));
        let name = format!("{stem}-{step:05}{extension}");
        self.write_to(result, &Target::File(path.with_file_name(name)))
    }

    fn write_to(&self, result: &RgbPicture, target: &Target) -> Result<()> {
        let mut painted = to_frame(result)?;
        if (painted.width(), painted.height()) != (self.picture.width(), self.picture.height()) {
            painted = picture::resize_frame(&painted, self.picture.width(), self.picture.height())?;
        }
        if self.keep_colors {
            picture::keep_colors(&mut painted, &self.picture.frame)?;
        }
        picture::blend(&mut painted, &self.picture.frame, self.strength)?;
        let mut painted = Picture { frame: painted, ..self.picture.clone() };
        if self.side_by_side {
            painted = picture::side_by_side_pictures(&self.picture, &painted);
        }
        target.write(&painted, self.format, &self.encode)
    }
}

/// Reads a picture that is only looked at: a painting, a guide, a start.
pub fn open_rgb(path: &Path, max_pixels: u64) -> Result<RgbPicture> {
    let picture = Source::File(path.to_path_buf()).read(&DecodeOptions { max_pixels })?;
    to_rgb(&picture.frame)
}

/// A frame for Burn.
pub fn to_rgb(frame: &Frame) -> Result<RgbPicture> {
    Ok(RgbPicture::from_bytes(frame.width(), frame.height(), frame.rgb())?)
}

/// A frame from Burn, rounded and clamped.
pub fn to_frame(picture: &RgbPicture) -> Result<Frame> {
    Ok(Frame::new(picture.width(), picture.height(), picture.to_bytes())?)
}

/// The network's weights: seeded random ones, the file that was named, the cache, or a download.
pub fn loss_weights(args: &NetworkArgs, say: Say) -> Result<LossWeights> {
    let choice = args.loss_net;
    if let Some(weights) = LossWeights::if_random(choice, args.loss_weights.as_deref())? {
        return Ok(weights);
    }
    let bar = say.download();
    let mut begun = false;
    let mut progress = |done: u64, total: Option<u64>| {
        if !std::mem::replace(&mut begun, true) {
            // What an earlier try left is gone on from.
            let rest = if done > 0 { "the rest of " } else { "" };
            say.note(&format!("downloading {rest}the weights of {choice}"));
        }
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(done);
    };
    let options = FindOptions {
        file: args.loss_weights.clone(),
        offline: args.offline,
        progress: Some(&mut progress),
        ..FindOptions::default()
    };
    let found = find(choice.kind, options);
    bar.finish_and_clear();
    let weights = found?;
    say.detail(&format!("loss network {choice}: {}", weights.origin));
    Ok(weights)
}

/// Bytes of memory that are free here, swap included, where the system tells.
pub fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kibibytes = |name: &str| -> Option<u64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some((kibibytes("MemAvailable:")? + kibibytes("SwapFree:").unwrap_or(0)) << 10)
}

/// Those of `layers` that the weights reach: a file may end early.
pub fn reached(weights: &LossWeights, layers: &[&str]) -> Vec<String> {
    let there = |layer: &&&str| {
        let tensor = match weights.kind {
            LossNetworkKind::SqueezeNet if **layer == "relu1" => "conv1.weight".to_owned(),
            LossNetworkKind::SqueezeNet => format!("{layer}/conv3x3_2.weight"),
            _ => format!("{}.weight", layer.replace("relu", "conv")),
        };
        weights.tensors.contains_key(&tensor)
    };
    layers.iter().filter(there).map(|layer| (*layer).to_owned()).collect()
}

/// From here on the first Ctrl-C asks for an end after the step in flight, and says so: a step may take a minute.
pub fn announce_ending(bar: ProgressBar, say: Say) {
    interrupt::install_lenient(move || {
        bar.suspend(|| {
            say.note(
                "ending after this step and writing what there is; Ctrl-C again ends at once, without it",
            )
        });
    });
}

/// A CSV file that grows line by line.
struct Log(Option<(BufWriter<File>, PathBuf)>);

impl Log {
    /// Starts it with a line of names; without a path, nothing is ever written.
    fn create(path: Option<&Path>, names: &str) -> Result<Self> {
        let Some(path) = path else { return Ok(Log(None)) };
        let file = File::create(path).with_context(|| format!("{}: cannot write", path.display()))?;
        let mut log = Log(Some((BufWriter::new(file), path.to_path_buf())));
        log.line(names)?;
        Ok(log)
    }

    /// Adds a line; it is in the file when this returns.
    fn line(&mut self, line: &str) -> Result<()> {
        let Some((file, path)) = &mut self.0 else { return Ok(()) };
        writeln!(file, "{line}")
            .and_then(|()| file.flush())
            .with_context(|| format!("{}: cannot write", path.display()))
    }
}

/// What is done after every step, whatever is iterated: the line on the screen, the line in the log, a picture now and
/// then, and a look at Ctrl-C.
pub struct Journal<'a> {
    canvas: &'a Canvas,
    args: &'a PictureArgs,
    say: Say,
    log: Log,
    pub bar: ProgressBar,
    started: Instant,
    /// Steps so far.
    pub done: usize,
    failure: Option<anyhow::Error>,
}

impl<'a> Journal<'a> {
    /// Begins with a look at whether the result can be written, and with the log's names; from here on the first Ctrl-C
    /// ends the steps and keeps what there is.
    pub fn begin(
        canvas: &'a Canvas,
        args: &'a PictureArgs,
        names: &str,
        steps: usize,
        say: Say,
    ) -> Result<Self> {
        canvas.pair.target.check_writable()?;
        let log = Log::create(args.log.as_deref(), names)?;
        let (bar, started) = (say.progress(steps), Instant::now());
        announce_ending(bar.clone(), say);
        Ok(Journal { canvas, args, say, log, bar, started, done: 0, failure: None })
    }

    /// Seconds since the beginning.
    pub fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// One step: its line for people, its values for the log (the seconds since the beginning follow), its picture.
    pub fn step<E: Into<anyhow::Error>>(
        &mut self,
        line: String,
        values: &str,
        picture: impl FnOnce() -> Result<RgbPicture, E>,
    ) -> ControlFlow<()> {
        self.done += 1;
        self.say.detail(&line);
        self.bar.set_message(line);
        self.bar.inc(1);
        let elapsed = self.seconds();
        let keep = || -> Result<()> {
            self.log.line(&format!("{values},{elapsed:.3}"))?;
            if self.args.save_every.is_some_and(|every| self.done.is_multiple_of(every as usize)) {
                self.canvas.write_step(&picture().map_err(Into::into)?, self.done)?;
            }
            Ok(())
        };
        self.failure = keep().err();
        if self.failure.is_some() || interrupt::asked() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Ends the bar and writes the result, which is what there was by then where something ended the steps: Ctrl-C, or
    /// an error of the log or of a step's picture, which is then given.
    pub fn end(&mut self, result: &RgbPicture) -> Result<()> {
        self.bar.finish_and_clear();
        self.canvas.write(result)?;
        match self.failure.take() {
            Some(error) => bail!("{}; what there was has been written", say::one_line(&error)),
            None => Ok(()),
        }
    }

    /// The exit code, with a word about an interruption.
    pub fn exit_code(&self) -> ExitCode {
        if !interrupt::asked() {
            return ExitCode::SUCCESS;
        }
        self.say.note("interrupted: what there was has been written");
        interrupt::exit_code()
    }
}

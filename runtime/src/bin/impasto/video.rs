//! `impasto video`: a video in, a painted video out.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use impasto::paint::{FramePainter, PaintOptions};
use impasto::video::{Container, Job, Paint, Report, Source, Stage, Stop, Tools, VideoError, VideoOptions};
use impasto::{Frame, Progress, RuntimeError};
use serde_json::json;

use crate::args::VideoArgs;
use crate::choice::{engine_options, open_stylizer};
use crate::files::refuse_existing;
use crate::interrupt;
use crate::say::{Say, json_line, print, printable};

/// What Ctrl-C asks for: once, to end with what there is; twice, to leave nothing.
static STOP: Stop = Stop::new();

pub fn run(args: VideoArgs, say: Say) -> Result<ExitCode> {
    // What can be known at once comes first: it costs nothing, and waiting for it would.
    Container::from_path(&args.output)?;
    refuse_existing(&args.output, args.result.overwrite)?;
    let tools = Tools::find()?;
    let source = Source::open(&tools, &args.input)?;
    let options = VideoOptions {
        size: args.size.map(|size| size as usize),
        codec: args.codec,
        quality: args.quality,
        preset: args.preset,
        start: args.start,
        duration: args.duration,
    };
    let job = Job::new(&tools, &source, &args.output, options)?;
    let stylizer = open_stylizer(&args.style, engine_options(&args.engine))?;
    let paint = PaintOptions {
        size: None, // frames are decoded at their size
        stroke_scale: args.stroke_scale,
        strength: args.look.strength,
        keep_colors: args.look.keep_colors,
        side_by_side: args.look.side_by_side,
    };
    let mut painter = FramePainter::new(&stylizer, paint);
    painter.set_smoothing(args.smooth);

    let bar = say.frames(job.expected_frames());
    let ending = bar.clone();
    interrupt::install_counted(move |count| {
        if count == 1 {
            ending.set_message("ending (Ctrl-C again leaves nothing)");
            STOP.finish();
        } else {
            STOP.abandon();
        }
    });
    let mut painting = Painting { painter, progress: Progress::new().stop_when(STOP.abandoned()) };
    let result = job.run_with(&mut painting, &|frames| bar.set_position(frames), &STOP);
    bar.finish_and_clear();
    let report = match result {
        Err(VideoError::Stopped) => return Ok(interrupt::exit_code()),
        result => result?,
    };
    for note in &report.notes {
        say.note(&printable(&format!("note: {note}")));
    }
    if args.result.json {
        print(json_line(&in_json(&report, &args.output, &stylizer.metadata().name))?)?;
    } else {
        say.note(&in_words(&report));
    }
    Ok(if report.interrupted { interrupt::exit_code() } else { ExitCode::SUCCESS })
}

/// Frames that overlap where the device is no CPU, and stop when they are told to.
struct Painting<'a> {
    painter: FramePainter<'a>,
    progress: Progress<'a>,
}

impl Paint for Painting<'_> {
    fn paint(&mut self, frame: &Frame, painted: &mut Frame) -> Result<(), RuntimeError> {
        self.painter.paint_into(frame, painted, &self.progress)
    }

    fn begin(&mut self, frame: &Frame) -> Result<bool, RuntimeError> {
        self.painter.begin(frame)
    }
}

fn in_words(report: &Report) -> String {
    let stage = |stage: &Stage| match stage.cpu_seconds {
        Some(cpu) => format!("{:.1} s ({cpu:.1} s of processor)", stage.busy_seconds),
        None => format!("{:.1} s", stage.busy_seconds),
    };
    format!(
        "{}{} frames of {}×{} in {:.1} s, {:.1} fps; decode {}, paint {}, encode {}",
        if report.interrupted { "ended early: " } else { "" },
        report.frames,
        report.width,
        report.height,
        report.wall_seconds,
        report.fps(),
        stage(&report.decode),
        stage(&report.paint),
        stage(&report.encode)
    )
}

fn in_json(report: &Report, output: &Path, style: &str) -> serde_json::Value {
    let stage =
        |stage: &Stage| json!({ "busy_seconds": stage.busy_seconds, "cpu_seconds": stage.cpu_seconds });
    json!({
        "style": style,
        "output": output.display().to_string(),
        "frames": report.frames,
        "width": report.width,
        "height": report.height,
        "seconds": report.seconds,
        "wall_seconds": report.wall_seconds,
        "fps": report.fps(),
        "decode": stage(&report.decode),
        "paint": stage(&report.paint),
        "encode": stage(&report.encode),
        "interrupted": report.interrupted,
        "notes": report.notes,
    })
}

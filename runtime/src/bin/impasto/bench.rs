//! `impasto bench`: how long one frame takes here, from 8-bit frame to 8-bit frame.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use impasto::checkpoints::{Architecture, StyleModel, shipped};
use impasto::engine::StageTime;
use impasto::picture::{DecodeOptions, Picture, resize_frame};
use impasto::quality::test_chart;
use impasto::{Device, Frame, Stylizer};
use serde::Serialize;

use crate::args::{BenchArgs, NetworkChoice};
use crate::choice::{engine_options, first_shipped};
use crate::say::{Say, json_line, print};

/// Pixels that the picture moves to the left and up from one frame to the next, so that no two are the same. Odd,
/// so that a frame meets the kernels' tiles at another place each time; `benches/peers` makes the same frames.
const STEP: (usize, usize) = (37, 23);

/// Size at which the synthetic picture is drawn before it is resized.
const CHART: (usize, usize) = (640, 480);

/// What was measured. The names are the report's keys.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    width: usize,
    height: usize,
    frames: usize,
    device: String,
    isa: &'static str,
    precision: String,
    /// Of the CPU engine; a GPU has none.
    threads: Option<usize>,
    median_ms: f64,
    min_ms: f64,
    max_ms: f64,
    fps: f64,
    /// Of the whole process, in 10⁶ bytes.
    peak_rss_mb: Option<f64>,
}

pub fn run(args: BenchArgs, say: Say) -> Result<ExitCode> {
    let stylizer = Stylizer::new(&choose(&args.network)?, engine_options(&args.engine))?;
    let (width, height) = args.size;
    let picture = base_picture(args.input.as_deref(), width, height)?;
    let milliseconds = measure(&stylizer, &picture, args.warmup as usize, args.frames as usize, say)?;
    let [min_ms, median_ms, max_ms] = summary(milliseconds);
    let options = stylizer.options();
    let report = Report {
        model: &stylizer.metadata().name,
        width,
        height,
        frames: args.frames as usize,
        device: options.device.to_string(),
        isa: stylizer.isa(),
        precision: stylizer.precision().to_string(),
        threads: (options.device == Device::Cpu).then(|| stylizer.threads()),
        median_ms,
        min_ms,
        max_ms,
        fps: 1000.0 / median_ms,
        peak_rss_mb: peak_rss_mb(),
    };
    print(if args.json { json_line(&report)? } else { describe(&report) })?;
    if args.profile {
        print(describe_profile(&stylizer.profile()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn choose(choice: &NetworkChoice) -> Result<StyleModel> {
    if let Some(width) = choice.width {
        let mut model = StyleModel::random(Architecture::johnson(usize::from(width))?, 1)?;
        model.amend(|metadata| metadata.name = format!("random-{width}"));
        return Ok(model);
    }
    Ok(match (&choice.style, &choice.model) {
        (_, Some(path)) => StyleModel::load(path)?,
        (Some(name), _) => shipped::load(name)?,
        (None, None) => shipped::load(first_shipped())?,
    })
}

/// The picture whose shifted copies are the frames.
fn base_picture(input: Option<&Path>, width: usize, height: usize) -> Result<Frame> {
    let picture = match input {
        Some(path) => Picture::open(path, &DecodeOptions::default())?.frame,
        None => test_chart(CHART.0, CHART.1),
    };
    Ok(resize_frame(&picture, width, height)?)
}

/// Milliseconds that each frame took. Making a frame, as a camera does, is not timed; nor is the warm-up.
fn measure(stylizer: &Stylizer, picture: &Frame, warmup: usize, frames: usize, say: Say) -> Result<Vec<f64>> {
    let bar = say.progress(warmup + frames);
    let mut frame = picture.clone();
    let mut painted = Frame::black(frame.width(), frame.height());
    let mut milliseconds = Vec::with_capacity(frames);
    for index in 0..warmup + frames {
        shift_into(picture, index, &mut frame);
        let started = Instant::now();
        stylizer.stylize_into(&frame, &mut painted)?;
        let elapsed = started.elapsed();
        if index >= warmup {
            milliseconds.push(elapsed.as_secs_f64() * 1e3);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(milliseconds)
}

/// Frame `index`: the picture moved by so many steps; what leaves on one side comes in on the other.
fn shift_into(picture: &Frame, index: usize, frame: &mut Frame) {
    let (width, height) = (picture.width(), picture.height());
    let left = index * STEP.0 % width * 3;
    for (y, row) in frame.rgb_mut().chunks_exact_mut(width * 3).enumerate() {
        let source = &picture.rgb()[(y + index * STEP.1) % height * width * 3..][..width * 3];
        let (gone, kept) = source.split_at(left);
        row[..kept.len()].copy_from_slice(kept);
        row[kept.len()..].copy_from_slice(gone);
    }
}

/// Minimum, median and maximum of at least one time.
fn summary(mut times: Vec<f64>) -> [f64; 3] {
    times.sort_by(f64::total_cmp);
    let last = times.len() - 1;
    [times[0], (times[last / 2] + times[last.div_ceil(2)]) / 2.0, times[last]]
}

/// The most memory that this process has held: Linux's `VmHWM`, which it gives in KiB. Unknown elsewhere.
fn peak_rss_mb() -> Option<f64> {
    if !cfg!(target_os = "linux") {
        return None; // a file of that name would be another system's
    }
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

/// The same for people.
fn describe(report: &Report<'_>) -> String {
    let threads = report.threads.map_or(String::new(), |threads| {
        format!(", {threads} thread{}", if threads == 1 { "" } else { "s" })
    });
    let memory = report.peak_rss_mb.map_or(String::new(), |mb| format!(", peak memory {mb:.0} MB"));
    format!(
        "{}, {}×{}, {}, {} ({}){threads}\nmedian {:.2} ms a frame (min {:.2}, max {:.2}, {} frames), {:.1} frames/s{memory}\n",
        report.model,
        report.width,
        report.height,
        report.precision,
        report.device,
        report.isa,
        report.median_ms,
        report.min_ms,
        report.max_ms,
        report.frames,
        report.fps,
    )
}

/// Where the last frame's time went, as a Markdown table. GFLOP/s count what the network defines: Winograd computes
/// fewer. GB/s count the planes read and written.
fn describe_profile(stages: &[StageTime]) -> String {
    if stages.is_empty() {
        return "no profile: the portable path and GPUs keep none\n".to_owned();
    }
    let mut table =
        "| layer | kernel | ms | share | GFLOP/s | GB/s |\n| --- | --- | ---: | ---: | ---: | ---: |\n"
            .to_owned();
    let total: f64 = stages.iter().map(|stage| stage.milliseconds).sum();
    for StageTime { name, kernel, milliseconds, multiply_adds, bytes } in stages {
        let (gflops, gb) = (2.0 * multiply_adds / milliseconds / 1e6, bytes / milliseconds / 1e6);
        let share = 100.0 * milliseconds / total;
        table.push_str(&format!(
            "| {name} | {kernel} | {milliseconds:.2} | {share:.0} % | {gflops:.0} | {gb:.1} |\n"
        ));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(summary(vec![3.0]), [3.0, 3.0, 3.0]);
        assert_eq!(summary(vec![9.0, 1.0, 2.0]), [1.0, 2.0, 9.0]);
        assert_eq!(summary(vec![9.0, 1.0, 2.0, 4.0]), [1.0, 3.0, 9.0]);
    }

    #[test]
    fn frames_are_the_picture_moved_around() {
        let (width, height) = (101, 67);
        let picture = test_chart(width, height);
        let mut frame = Frame::black(width, height);
        for index in [0, 1, 5] {
            shift_into(&picture, index, &mut frame);
            for (x, y) in [(0, 0), (100, 66), (50, 3)] {
                let source = ((y + index * STEP.1) % height * width + (x + index * STEP.0) % width) * 3;
                let at = (y * width + x) * 3;
                assert_eq!(frame.rgb()[at..at + 3], picture.rgb()[source..source + 3], "{index} {x} {y}");
            }
        }
        assert_ne!(frame, picture);
    }
}

//! What `--smooth` does to a painted video: flicker, sharpness, drift, cuts, ghosts, time.
//!
//! `cargo run --release -p impasto-benches --example smooth -- [--strength S] [--crops DIR] [--styles NAME,…]
//! DATA [PHOTO…]`
//!
//! `DATA` is the folder of real data (`flow/` with Middlebury's pairs, `photos/eval/`); without photos all of its
//! eval photos are used. Prints Markdown tables for the styles, all that ship unless told:
//! - **clips**: 60 frames of pan, zoom, both and a still camera over each photo, with camera noise (σ = 3 of 255).
//!   *Change*: mean absolute difference of consecutive painted frames along the true motion, in 255ths;
//! - **Middlebury**: the pair once, and to and fro with camera noise, on pixels that both frames show;
//! - **cut**: half a clip of one photo, half of another;
//! - **object**: a disc crosses a standing and a panning background;
//! - **time** of a frame.
//!
//! `--crops` writes PNG files to look at: source, painting and smoothed painting.

mod clip;
mod flow;
mod measure;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use impasto::picture::{DecodeOptions, EncodeOptions, Picture, side_by_side};
use impasto::smooth::Smoother;
use impasto::{Frame, Stylizer};

use clip::{Disc, FRAMES, Motion};
use flow::Flow;
use measure::{change, distance, distance_within, ghost, mean, sharpness};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Frames of a Middlebury pair to and fro.
const TO_AND_FRO: usize = 12;
/// Frames of the clips with a cut and with an object.
const SHORT: usize = 16;

struct Bench {
    strength: f32,
    crops: Option<PathBuf>,
    styles: Vec<(String, Stylizer)>,
}

fn main() -> Outcome<()> {
    let (mut strength, mut crops, mut paths) = (Smoother::DEFAULT_STRENGTH, None, Vec::new());
    let mut names: Vec<String> = impasto::checkpoints::shipped::names().map(str::to_owned).collect();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--strength" => strength = value()?.parse()?,
            "--styles" => names = value()?.split(',').map(str::to_owned).collect(),
            "--crops" => crops = Some(PathBuf::from(value()?)),
            _ => paths.push(PathBuf::from(argument)),
        }
    }
    let (data, photos) = paths
        .split_first()
        .ok_or("usage: smooth [--strength S] [--crops DIR] [--styles NAME,…] DATA [PHOTO…]")?;
    let photos = if photos.is_empty() { eval_photos(data)? } else { photos.to_vec() };
    let photos = photos.iter().map(|path| open(path)).collect::<Outcome<Vec<_>>>()?;
    let styles = names.into_iter().map(|name| {
        let style = Stylizer::shipped(&name)?;
        Ok((name, style))
    });
    let styles = styles.collect::<Outcome<Vec<_>>>()?;
    let bench = Bench { strength, crops, styles };
    println!("Strength {strength}, σ = {} of 255, {} photos.\n", clip::NOISE, photos.len());
    bench.clips(&photos)?;
    bench.middlebury(data)?;
    if let [first, second, ..] = photos.as_slice() {
        bench.cut(first, second)?;
        bench.object(first, second)?;
    }
    bench.time(&photos[0])
}

fn eval_photos(data: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = std::fs::read_dir(data.join("photos/eval"))?;
    let mut photos = entries.map(|entry| Ok(entry?.path())).collect::<Outcome<Vec<_>>>()?;
    photos.sort();
    Ok(photos)
}

fn open(path: &Path) -> Outcome<Frame> {
    Ok(Picture::open(path, &DecodeOptions::default())?.frame)
}

/// A clip's sums in one style.
#[derive(Default)]
struct Row {
    change: [f64; 2],
    sharpness: [f64; 2],
    /// The tenth frame: from its own painting.
    tenth: f64,
    /// The 60th frame: from its own painting; that from the painting with other noise; both from the painting of the
    /// frame without noise.
    last: [f64; 4],
    /// The 60th frame's sharpness by that of the painting of the frame without noise, before and after.
    true_sharpness: [f64; 2],
}

impl Bench {
    fn clips(&self, photos: &[Frame]) -> Outcome<()> {
        println!(
            "| style | clip | change | smoothed | ratio (worst) | sharpness (worst) | 10th: to its own painting | 60th: to its own painting | other noise | own to noiseless | smoothed to noiseless | sharpness by noiseless, own → smoothed |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        for (name, style) in &self.styles {
            for motion in [Motion::Pan, Motion::Zoom, Motion::PanAndZoom, Motion::Still] {
                let rows = photos.iter().map(|photo| self.clip(style, photo, motion));
                let rows = rows.collect::<Outcome<Vec<_>>>()?;
                let all = |value: &dyn Fn(&Row) -> f64| mean(rows.iter().map(value));
                let ratio = |row: &Row| row.change[1] / row.change[0];
                let sharp = |row: &Row| row.sharpness[1] / row.sharpness[0];
                println!(
                    "| {name} | {} | {:.2} | {:.2} | {:.3} ({:.3}) | {:.3} ({:.3}) | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.3} → {:.3} |",
                    motion.name(),
                    all(&|row| row.change[0]),
                    all(&|row| row.change[1]),
                    all(&ratio),
                    rows.iter().map(ratio).fold(0.0, f64::max),
                    all(&sharp),
                    rows.iter().map(sharp).fold(f64::MAX, f64::min),
                    all(&|row| row.tenth),
                    all(&|row| row.last[0]),
                    all(&|row| row.last[1]),
                    all(&|row| row.last[2]),
                    all(&|row| row.last[3]),
                    all(&|row| row.true_sharpness[0]),
                    all(&|row| row.true_sharpness[1]),
                );
            }
        }
        println!();
        Ok(())
    }

    fn clip(&self, style: &Stylizer, photo: &Frame, motion: Motion) -> Outcome<Row> {
        let mut smoother = Smoother::new(self.strength);
        let mut row = Row::default();
        let mut before: Option<[Frame; 2]> = None;
        for index in 0..FRAMES {
            let (width, height, values) = clip::clean(photo, motion, index);
            let source = clip::shoot(width, height, &values, Some(index as u64 + 1));
            let own = style.stylize(&source)?;
            let mut smoothed = own.clone();
            smoother.apply(&source, &mut smoothed);
            let now = [own, smoothed];
            if let Some(before) = before {
                let map = clip::backward(motion, index, photo);
                for i in 0..2 {
                    row.change[i] += change(&now[i], &before[i], map) / (FRAMES - 1) as f64;
                    row.sharpness[i] += sharpness(&now[i]) / (FRAMES - 1) as f64;
                }
            }
            if index == 9 {
                row.tenth = distance(&now[0], &now[1]);
            }
            if index == FRAMES - 1 {
                let other = style.stylize(&clip::shoot(width, height, &values, Some(1000)))?;
                let clean = style.stylize(&clip::shoot(width, height, &values, None))?;
                let [own, smoothed] = &now;
                row.last = [(smoothed, own), (own, &other), (own, &clean), (smoothed, &clean)]
                    .map(|(a, b)| distance(a, b));
                row.true_sharpness = [own, smoothed].map(|frame| sharpness(frame) / sharpness(&clean));
                self.crop(
                    &format!("{}-{}", name_of(style), motion.name().replace(" + ", "-")),
                    &source,
                    &now,
                )?;
            }
            before = Some(now);
        }
        Ok(row)
    }

    fn middlebury(&self, data: &Path) -> Outcome<()> {
        println!(
            "| pair | style | seen in both | once: change | smoothed | ratio | to and fro: change | smoothed | ratio | sharpness |"
        );
        println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
        let mut pairs: Vec<_> =
            std::fs::read_dir(data.join("flow"))?.map(|entry| Ok(entry?.path())).collect::<Outcome<_>>()?;
        pairs.sort();
        for pair in pairs.iter().filter(|pair| pair.join("flow10.flo").exists()) {
            let frames = [open(&pair.join("frame10.png"))?, open(&pair.join("frame11.png"))?];
            let flow = Flow::read(&pair.join("flow10.flo"))?;
            let seen = flow.seen(&frames[0], &frames[1]);
            let share = seen.iter().filter(|seen| **seen).count() as f64 / seen.len() as f64;
            let pair = pair.file_name().unwrap_or_default().to_string_lossy();
            for (name, style) in &self.styles {
                let once = self.pair(style, &frames, &flow, &seen, 2, false)?;
                let more = self.pair(style, &frames, &flow, &seen, TO_AND_FRO, true)?;
                let ratio = |row: &Row| row.change[1] / row.change[0];
                println!(
                    "| {pair} | {name} | {:.1} % | {:.2} | {:.2} | {:.3} | {:.2} | {:.2} | {:.3} | {:.3} |",
                    100.0 * share,
                    once.change[0],
                    once.change[1],
                    ratio(&once),
                    more.change[0],
                    more.change[1],
                    ratio(&more),
                    more.sharpness[1] / more.sharpness[0],
                );
            }
        }
        println!();
        Ok(())
    }

    /// The pair in turns, `count` frames of it, each with noise of its own or as it is.
    fn pair(
        &self,
        style: &Stylizer,
        frames: &[Frame; 2],
        flow: &Flow,
        seen: &[bool],
        count: usize,
        noisy: bool,
    ) -> Outcome<Row> {
        let mut smoother = Smoother::new(self.strength);
        let mut row = Row::default();
        let mut before: Option<[Frame; 2]> = None;
        for index in 0..count {
            let frame = &frames[index % 2];
            let values: Vec<f32> = frame.rgb().iter().map(|&byte| f32::from(byte)).collect();
            let seed = noisy.then_some(index as u64 + 1);
            let source = clip::shoot(frame.width(), frame.height(), &values, seed);
            let own = style.stylize(&source)?;
            let mut smoothed = own.clone();
            smoother.apply(&source, &mut smoothed);
            let now = [own, smoothed];
            if let Some(before) = before {
                for i in 0..2 {
                    // The flow leads from the first frame of the pair to the second, whichever is newer.
                    let (first, second) =
                        if index % 2 == 1 { (&before[i], &now[i]) } else { (&now[i], &before[i]) };
                    let brought = flow.bring(second);
                    let there = seen.iter().enumerate().filter(|(_, seen)| **seen);
                    row.change[i] += mean(there.flat_map(|(pixel, _)| {
                        let brought = &brought;
                        (pixel * 3..pixel * 3 + 3)
                            .map(move |at| f64::from((brought[at] - f32::from(first.rgb()[at])).abs()))
                    })) / (count - 1) as f64;
                    row.sharpness[i] += sharpness(&now[i]);
                }
            }
            before = Some(now);
        }
        Ok(row)
    }

    fn cut(&self, first: &Frame, second: &Frame) -> Outcome<()> {
        println!(
            "| style | distance to its own painting: frame before the cut | first after | second | third | largest difference in the first |"
        );
        println!("| --- | --- | --- | --- | --- | --- |");
        for (name, style) in &self.styles {
            let mut smoother = Smoother::new(self.strength);
            let (mut apart, mut largest) = (Vec::new(), 0);
            for index in 0..SHORT {
                let (photo, after) = if index < SHORT / 2 { (first, false) } else { (second, true) };
                let (width, height, values) = clip::clean(photo, Motion::Pan, index);
                let source = clip::shoot(width, height, &values, Some(index as u64 + 1));
                let own = style.stylize(&source)?;
                let mut smoothed = own.clone();
                smoother.apply(&source, &mut smoothed);
                if index == SHORT / 2 && after {
                    let differences = own.rgb().iter().zip(smoothed.rgb()).map(|(a, b)| a.abs_diff(*b));
                    largest = differences.max().unwrap_or(0);
                }
                apart.push(distance(&own, &smoothed));
            }
            let at = SHORT / 2;
            println!(
                "| {name} | {:.2} | {:.2} | {:.2} | {:.2} | {largest} |",
                apart[at - 1],
                apart[at],
                apart[at + 1],
                apart[at + 2]
            );
        }
        println!();
        Ok(())
    }

    fn object(&self, background: &Frame, object: &Frame) -> Outcome<()> {
        println!(
            "| style | background | uncovered: to its own painting | other noise, there | all of the background: to its own painting | ghost |"
        );
        println!("| --- | --- | --- | --- | --- | --- |");
        for (name, style) in &self.styles {
            for motion in [Motion::Still, Motion::Pan] {
                let disc = Disc { radius: 70.0, start: [120.0, 180.0], step: [6.3, 1.7] };
                let mut smoother = Smoother::new(self.strength);
                let mut before: Option<Frame> = None;
                let mut sums = [0.0; 4];
                for index in 0..SHORT {
                    let (width, height, mut values) = clip::clean(background, motion, index);
                    disc.lay(index, object, width, &mut values);
                    let source = clip::shoot(width, height, &values, Some(index as u64 + 1));
                    let own = style.stylize(&source)?;
                    let mut smoothed = own.clone();
                    smoother.apply(&source, &mut smoothed);
                    if let Some(before) = before {
                        let cover = |index, pixel: usize| disc.covers(index, pixel % width, pixel / width);
                        let free: Vec<bool> =
                            (0..width * height).map(|pixel| cover(index, pixel) == 0.0).collect();
                        let uncovered: Vec<bool> = (0..width * height)
                            .map(|pixel| free[pixel] && cover(index - 1, pixel) == 1.0)
                            .collect();
                        let other = style.stylize(&clip::shoot(width, height, &values, Some(1000)))?;
                        sums[0] += distance_within(&smoothed, &own, &uncovered);
                        sums[1] += distance_within(&other, &own, &uncovered);
                        sums[2] += distance_within(&smoothed, &own, &free);
                        sums[3] += ghost(&smoothed, &own, &before, &uncovered);
                    }
                    if index == SHORT - 2 {
                        let both = [own.clone(), smoothed.clone()];
                        self.crop(&format!("{name}-object-{}", motion.name()), &source, &both)?;
                    }
                    before = Some(smoothed);
                }
                let [uncovered, noise, free, ghost] = sums.map(|sum| sum / (SHORT - 1) as f64);
                let motion = motion.name();
                println!("| {name} | {motion} | {uncovered:.2} | {noise:.2} | {free:.2} | {ghost:.3} |");
            }
        }
        println!();
        Ok(())
    }

    fn time(&self, photo: &Frame) -> Outcome<()> {
        println!("| 640×480, threads | ms a frame, quickest | median |\n| --- | --- | --- |");
        let style = &self.styles[0].1;
        let clip = (0..SHORT).map(|index| {
            let (width, height, values) = clip::clean(photo, Motion::PanAndZoom, index);
            let source = impasto::picture::resize_frame(
                &clip::shoot(width, height, &values, Some(index as u64)),
                640,
                480,
            )?;
            let painted = style.stylize(&source)?;
            Ok((source, painted))
        });
        let clip = clip.collect::<Outcome<Vec<_>>>()?;
        for threads in [1, 2] {
            let mut smoother = Smoother::with_threads(self.strength, threads);
            let mut times = Vec::new();
            for _ in 0..8 {
                smoother.reset();
                for (index, (source, painted)) in clip.iter().enumerate() {
                    let mut painted = painted.clone();
                    let start = Instant::now();
                    smoother.apply(source, &mut painted);
                    if index > 0 {
                        times.push(start.elapsed().as_secs_f64() * 1e3);
                    }
                }
            }
            times.sort_by(f64::total_cmp);
            println!("| {threads} | {:.2} | {:.2} |", times[0], times[times.len() / 2]);
        }
        Ok(())
    }

    fn crop(&self, name: &str, source: &Frame, both: &[Frame; 2]) -> Outcome<()> {
        let Some(folder) = &self.crops else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        let all = side_by_side(&side_by_side(source, &both[0]), &both[1]);
        Picture::from(all).save(folder.join(format!("{name}.png")), &EncodeOptions::default())?;
        Ok(())
    }
}

fn name_of(style: &Stylizer) -> String {
    style.metadata().name.clone()
}

//! How much a style flickers: mean absolute change between consecutive painted frames, in 255ths.
//!
//! `cargo run --release -p impasto-benches --example flicker -- PHOTO MODEL…`
//!
//! Two clips are made from the photo, each frame with camera noise of its own (Gaussian, σ = 3 of 255):
//! - **still**: the photo itself, so that all change is flicker;
//! - **pan**: the view moves by 2 pixels to the right a frame; the change is measured after undoing the motion, on the
//!   pixels that both frames see, 16 pixels away from the borders.
//!
//! The unpainted clip's own change stands in the first row: a style that adds nothing has the same.

use std::error::Error;

use impasto::picture::{DecodeOptions, Picture, fit_longer_side};
use impasto::{Frame, Stylizer};
use impasto_checkpoints::random::uniform;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Frames of a clip.
const FRAMES: usize = 8;
/// Pixels the view moves a frame.
const STEP: usize = 2;
/// Standard deviation of the camera's noise, in 255ths.
const NOISE: f32 = 3.0;
/// Pixels left out at the borders, where the two views differ in what they reflect.
const MARGIN: usize = 16;
/// Longer side of the photo the clips are cut from.
const SIDE: usize = 512;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let photo = arguments.next().ok_or("usage: flicker PHOTO MODEL…")?;
    let picture = Picture::open(&photo, &DecodeOptions::default())?;
    let (width, height) = fit_longer_side(picture.width(), picture.height(), SIDE);
    let photo = picture.resized(width, height)?.frame;
    println!("| model | still | pan |\n| --- | --- | --- |");
    let row = |name: &str, paint: &dyn Fn(&Frame) -> Outcome<Frame>| -> Outcome<()> {
        let still = change(&photo, 0, paint)?;
        let pan = change(&photo, STEP, paint)?;
        println!("| {name} | {still:.3} | {pan:.3} |");
        Ok(())
    };
    row("unpainted", &|frame| Ok(frame.clone()))?;
    for model in arguments {
        let stylizer = Stylizer::open(&model)?;
        row(&model, &|frame| Ok(stylizer.stylize(frame)?))?;
    }
    Ok(())
}

/// Mean absolute change between consecutive painted frames of a clip whose view moves by `step` pixels a frame.
fn change(photo: &Frame, step: usize, paint: &dyn Fn(&Frame) -> Outcome<Frame>) -> Outcome<f64> {
    let (mut sum, mut count) = (0.0, 0_usize);
    let mut previous: Option<Frame> = None;
    for index in 0..FRAMES {
        let painted = paint(&view(photo, index * step, index)?)?;
        if let Some(before) = previous {
            let (width, height) = (painted.width(), painted.height());
            for y in MARGIN..height - MARGIN {
                for x in MARGIN..width - MARGIN - step {
                    let (now, then) = ((y * width + x) * 3, (y * width + x + step) * 3);
                    for channel in 0..3 {
                        sum += f64::from(painted.rgb()[now + channel].abs_diff(before.rgb()[then + channel]));
                        count += 1;
                    }
                }
            }
        }
        previous = Some(painted);
    }
    Ok(sum / count as f64)
}

/// Frame `index` of a clip: the photo from column `left` on, with noise of its own.
fn view(photo: &Frame, left: usize, index: usize) -> Outcome<Frame> {
    let width = photo.width() - STEP * FRAMES;
    // The sum of twelve uniform numbers in ±1 has the variance 4: a Gaussian for all that matters here.
    let mut noise = uniform(index as u64, "camera", width * photo.height() * 3 * 12);
    let mut rgb = Vec::with_capacity(width * photo.height() * 3);
    for y in 0..photo.height() {
        let row = &photo.rgb()[(y * photo.width() + left) * 3..][..width * 3];
        for &value in row {
            let gaussian = noise.by_ref().take(12).sum::<f32>() / 2.0;
            rgb.push((f32::from(value) + NOISE * gaussian + 0.5) as u8);
        }
    }
    Ok(Frame::new(width, photo.height(), rgb)?)
}

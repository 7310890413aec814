//! What is measured on painted frames: change along the true motion, sharpness, distance.

use impasto::Frame;

use crate::clip::{Map, taps};

/// Pixels left out at the borders, where paintings differ in what they reflect.
pub const MARGIN: usize = 16;

/// Mean absolute difference of two pictures, in 255ths.
pub fn distance(a: &Frame, b: &Frame) -> f64 {
    mean(a.rgb().iter().zip(b.rgb()).map(|(a, b)| f64::from(a.abs_diff(*b))))
}

/// Mean absolute difference where `mask` says so, in 255ths.
pub fn distance_within(a: &Frame, b: &Frame, mask: &[bool]) -> f64 {
    let pixels = a.rgb().chunks_exact(3).zip(b.rgb().chunks_exact(3)).zip(mask).filter(|(_, on)| **on);
    mean(pixels.flat_map(|((a, b), _)| (0..3).map(|i| f64::from(a[i].abs_diff(b[i])))))
}

/// How much of what was there before still shows: the part of `before − own` that is in `shown − own`, by least
/// squares. 0: nothing, 1: all of it.
pub fn ghost(shown: &Frame, own: &Frame, before: &Frame, mask: &[bool]) -> f64 {
    let (mut both, mut square) = (0.0, 0.0);
    for (pixel, _) in mask.iter().enumerate().filter(|(_, on)| **on) {
        for at in pixel * 3..pixel * 3 + 3 {
            let [shown, own, before] = [shown, own, before].map(|frame| f64::from(frame.rgb()[at]));
            both += (shown - own) * (before - own);
            square += (before - own) * (before - own);
        }
    }
    both / square.max(1.0)
}

/// Mean magnitude of the luma's gradient, in 255ths a pixel.
pub fn sharpness(frame: &Frame) -> f64 {
    let width = frame.width();
    let luma: Vec<f64> = frame
        .rgb()
        .chunks_exact(3)
        .map(|p| 0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2]))
        .collect();
    let last = luma.len() - width;
    mean((0..last).filter(|at| at % width != width - 1).map(|at| {
        let (across, down) = (luma[at + 1] - luma[at], luma[at + width] - luma[at]);
        across.hypot(down)
    }))
}

/// Mean absolute change from `before` to `now` along a known motion, [`MARGIN`] pixels away from the borders, where
/// both frames see the place.
pub fn change(now: &Frame, before: &Frame, motion: Map) -> f64 {
    let (width, height) = (now.width(), now.height());
    let place = |axis: usize, at: usize| motion.scale * at as f64 + motion.shift[axis];
    let inside = |at: f64, side: usize| (0.0..=side as f64 - 1.0).contains(&at);
    let columns: Vec<_> = (0..width).map(|x| taps(place(0, x))).collect();
    let (mut sum, mut count) = (0.0, 0_usize);
    for y in (MARGIN..height - MARGIN).filter(|&y| inside(place(1, y), height)) {
        let row = taps(place(1, y));
        for x in (MARGIN..width - MARGIN).filter(|&x| inside(place(0, x), width)) {
            let moved = gather(before, &columns[x], &row);
            for (moved, &now) in moved.iter().zip(&now.rgb()[(y * width + x) * 3..]) {
                sum += f64::from((moved - f32::from(now)).abs());
                count += 1;
            }
        }
    }
    sum / count.max(1) as f64
}

/// A frame seen at other places, by Lanczos-3.
pub fn resample(frame: &Frame, place: &dyn Fn(usize, usize) -> (f64, f64)) -> Vec<f32> {
    let pixels = (0..frame.height()).flat_map(|y| (0..frame.width()).map(move |x| (x, y)));
    pixels
        .flat_map(|(x, y)| {
            let (x, y) = place(x, y);
            gather(frame, &taps(x), &taps(y))
        })
        .collect()
}

/// A frame between its pixels.
fn gather(frame: &Frame, across: &(isize, [f32; 6]), down: &(isize, [f32; 6])) -> [f32; 3] {
    let (width, height) = (frame.width(), frame.height());
    let mut sum = [0.0_f32; 3];
    for (dy, weight_y) in down.1.iter().enumerate() {
        let row = (down.0 + dy as isize).clamp(0, height as isize - 1) as usize * width;
        for (dx, weight_x) in across.1.iter().enumerate() {
            let pixel = row + (across.0 + dx as isize).clamp(0, width as isize - 1) as usize;
            for (sum, &value) in sum.iter_mut().zip(&frame.rgb()[pixel * 3..]) {
                *sum += weight_x * weight_y * f32::from(value);
            }
        }
    }
    sum.map(|value| value.clamp(0.0, 255.0))
}

/// The mean of some numbers.
pub fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = numbers.fold((0.0, 0_usize), |(sum, count), number| (sum + number, count + 1));
    sum / count.max(1) as f64
}

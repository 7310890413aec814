//! Clips with known motion, cut from a photo: every frame resampled by Lanczos-3 from the photo itself, with camera
//! noise of its own.

use impasto::Frame;
use impasto_checkpoints::random::uniform;

/// Frames of a clip.
pub const FRAMES: usize = 60;
/// Standard deviation of the camera's noise, in 255ths.
pub const NOISE: f32 = 3.0;
/// How much smaller than the photo a clip's frames are, so that the view has room to move.
const ROOM: (usize, usize) = (128, 64);

/// How the view moves over the photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// 1.7 pixels to the right and 0.6 down a frame.
    Pan,
    /// In, by half a percent a frame, about the middle.
    Zoom,
    /// Both at once.
    PanAndZoom,
    /// None: the camera stands, and only its noise moves.
    Still,
}

impl Motion {
    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Motion::Pan => "pan",
            Motion::Zoom => "zoom",
            Motion::PanAndZoom => "pan + zoom",
            Motion::Still => "still",
        }
    }
}

/// A map of the plane, `p ↦ scale · p + shift`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Map {
    pub scale: f64,
    pub shift: [f64; 2],
}

/// Where pixels of frame `index` lie on a photo of `width`×`height`.
fn view(motion: Motion, index: usize, width: usize, height: usize) -> Map {
    let (pan, zoom) = match motion {
        Motion::Pan => (1.0, 0.0),
        Motion::Zoom => (0.0, 1.0),
        Motion::PanAndZoom => (0.8, 1.0),
        Motion::Still => (0.0, 0.0),
    };
    let t = index as f64;
    let scale = 1.005_f64.powf(-zoom * t);
    let (view_width, view_height) = clip_size(width, height);
    let start = if pan > 0.0 { [8.0, 8.0] } else { [ROOM.0 as f64 / 2.0, ROOM.1 as f64 / 2.0] };
    let centre = |side: usize| (1.0 - scale) * (side as f64 - 1.0) / 2.0;
    let shift =
        [start[0] + 1.7 * pan * t + centre(view_width), start[1] + 0.6 * pan * t + centre(view_height)];
    Map { scale, shift }
}

/// Size of the clips from a photo of this size.
pub fn clip_size(width: usize, height: usize) -> (usize, usize) {
    (width - ROOM.0, height - ROOM.1)
}

/// Where a pixel of frame `index` was in the frame before.
pub fn backward(motion: Motion, index: usize, photo: &Frame) -> Map {
    let [now, before] = [index, index - 1].map(|i| view(motion, i, photo.width(), photo.height()));
    Map {
        scale: now.scale / before.scale,
        shift: [0, 1].map(|axis| (now.shift[axis] - before.shift[axis]) / before.scale),
    }
}

/// Frame `index` of a clip, without noise, in 255ths.
pub fn clean(photo: &Frame, motion: Motion, index: usize) -> (usize, usize, Vec<f32>) {
    let (width, height) = clip_size(photo.width(), photo.height());
    let map = view(motion, index, photo.width(), photo.height());
    let columns: Vec<_> = (0..width).map(|x| taps(map.scale * x as f64 + map.shift[0])).collect();
    let mut across = vec![0.0_f32; photo.height() * width * 3];
    for (row, out) in photo.rgb().chunks_exact(photo.width() * 3).zip(across.chunks_exact_mut(width * 3)) {
        for ((first, weights), out) in columns.iter().zip(out.chunks_exact_mut(3)) {
            for (tap, weight) in weights.iter().enumerate() {
                let pixel = (first + tap as isize).clamp(0, photo.width() as isize - 1) as usize * 3;
                for (out, &value) in out.iter_mut().zip(&row[pixel..pixel + 3]) {
                    *out += weight * f32::from(value);
                }
            }
        }
    }
    let mut values = vec![0.0_f32; width * height * 3];
    for (y, out) in values.chunks_exact_mut(width * 3).enumerate() {
        let (first, weights) = taps(map.scale * y as f64 + map.shift[1]);
        for (tap, weight) in weights.iter().enumerate() {
            let row = (first + tap as isize).clamp(0, photo.height() as isize - 1) as usize;
            let row = &across[row * width * 3..][..width * 3];
            out.iter_mut().zip(row).for_each(|(out, value)| *out += weight * value);
        }
    }
    (width, height, values)
}

/// Lanczos-3: first of six neighbours, and their weights, which sum to 1.
pub fn taps(position: f64) -> (isize, [f32; 6]) {
    let first = position.floor() as isize - 2;
    let mut weights = [0.0; 6];
    for (tap, weight) in weights.iter_mut().enumerate() {
        let x = std::f64::consts::PI * (position - (first + tap as isize) as f64);
        *weight = if x.abs() < 1e-9 { 1.0 } else { 3.0 * x.sin() * (x / 3.0).sin() / (x * x) };
    }
    let sum: f64 = weights.iter().sum();
    (first, weights.map(|weight| (weight / sum) as f32))
}

/// Values as a frame, with Gaussian noise (Box and Muller) drawn for this `seed`, or without.
pub fn shoot(width: usize, height: usize, values: &[f32], seed: Option<u64>) -> Frame {
    let mut rgb = Vec::with_capacity(values.len());
    let mut random = uniform(seed.unwrap_or(0), "camera", values.len() + 2).map(|value| (value + 1.0) / 2.0);
    let mut spare = None;
    for &value in values {
        let noise = match (seed, spare.take()) {
            (None, _) => 0.0,
            (_, Some(noise)) => noise,
            (_, None) => {
                let (a, b) = (random.next().unwrap_or(0.5), random.next().unwrap_or(0.5));
                let (radius, angle) = ((-2.0 * (1.0 - a).ln()).sqrt(), std::f32::consts::TAU * b);
                spare = Some(radius * angle.sin());
                radius * angle.cos()
            }
        };
        rgb.push((value + NOISE * noise + 0.5).clamp(0.0, 255.0) as u8);
    }
    Frame::new(width, height, rgb).expect("three values a pixel")
}

/// A disc cut from another photo that crosses a background.
#[derive(Debug, Clone, Copy)]
pub struct Disc {
    pub radius: f64,
    /// Its middle in frame 0, and how far it moves a frame.
    pub start: [f64; 2],
    pub step: [f64; 2],
}

impl Disc {
    /// How much of a pixel of frame `index` it covers: 0 to 1 across its edge.
    pub fn covers(&self, index: usize, x: usize, y: usize) -> f64 {
        let middle = [0, 1].map(|axis| self.start[axis] + index as f64 * self.step[axis]);
        let distance = (x as f64 - middle[0]).hypot(y as f64 - middle[1]);
        (self.radius - distance + 0.5).clamp(0.0, 1.0)
    }

    /// Lays it over a frame of the clip `values`, its content from the middle of `photo`, moving with it.
    pub fn lay(&self, index: usize, photo: &Frame, width: usize, values: &mut [f32]) {
        let step = [0, 1].map(|axis| index as f64 * self.step[axis]);
        let size = [photo.width(), photo.height()];
        let place = |axis: usize, at: usize| {
            taps(at as f64 - self.start[axis] - step[axis] + size[axis] as f64 / 2.0)
        };
        for (pixel, out) in values.chunks_exact_mut(3).enumerate() {
            let (x, y) = (pixel % width, pixel / width);
            let cover = self.covers(index, x, y) as f32;
            if cover == 0.0 {
                continue;
            }
            let ((left, across), (top, down)) = (place(0, x), place(1, y));
            for (channel, out) in out.iter_mut().enumerate() {
                let mut sum = 0.0;
                for (dy, weight_y) in down.iter().enumerate() {
                    for (dx, weight_x) in across.iter().enumerate() {
                        let at = (top as usize + dy) * size[0] + left as usize + dx;
                        sum += weight_x * weight_y * f32::from(photo.rgb()[at * 3 + channel]);
                    }
                }
                *out += cover * (sum - *out);
            }
        }
    }
}

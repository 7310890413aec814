//! Smoothing, on clips that are made here: a texture that moves, camera noise, and a painter that flickers.

use impasto::Frame;
use impasto::smooth::Smoother;

const WIDTH: usize = 200;
const HEIGHT: usize = 136;
const FRAMES: usize = 14;

/// A number in [−1, 1) for each place of each frame.
fn random(seed: u64, at: usize) -> f32 {
    let mut z = (seed << 32 ^ at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// A scene that goes on for ever: waves of many lengths and directions, the shortest of 7 pixels.
fn scene(kind: usize, x: f32, y: f32) -> [f32; 3] {
    let mut value = [128.0; 3];
    for wave in 0..16 {
        let of = |what: usize| random(kind as u64 + 7, wave * 8 + what);
        let length = 7.0 * 1.3_f32.powi(wave as i32 % 9);
        let (sin, cos) = (std::f32::consts::PI * of(0)).sin_cos();
        let phase = std::f32::consts::TAU * (cos * x + sin * y) / length + 3.0 * of(1);
        for (channel, value) in value.iter_mut().enumerate() {
            *value += 16.0 * phase.sin() * (1.0 + 0.4 * of(2 + channel));
        }
    }
    value
}

/// What a camera sees, frame by frame, and what a painter makes of it.
struct Clip {
    /// The scene's value at a pixel of a frame.
    scene: fn(usize, f32, f32) -> [f32; 3],
    width: usize,
    height: usize,
    /// Greatest camera noise, in 255ths.
    noise: f32,
    /// How much a painting differs from the one of the frame before, at most, in 255ths.
    flicker: f32,
}

/// By whole pixels, so that a picture's change along the motion is known exactly.
fn pan(frame: usize, x: f32, y: f32) -> [f32; 3] {
    scene(0, x + 2.0 * frame as f32, y + frame as f32)
}

/// In by one percent a frame, and past: everything falls between pixels.
fn zoom(frame: usize, x: f32, y: f32) -> [f32; 3] {
    let scale = 1.01_f32.powi(-(frame as i32));
    scene(0, scale * (x - 90.0) + 0.7 * frame as f32, scale * (y - 70.0))
}

/// A disc of another texture that crosses the still scene.
fn disc(frame: usize, x: f32, y: f32) -> [f32; 3] {
    if covered(frame, x, y) { scene(3, x - 6.0 * frame as f32, y) } else { scene(0, x, y) }
}

fn covered(frame: usize, x: f32, y: f32) -> bool {
    (x - 40.0 - 6.0 * frame as f32).hypot(y - 70.0) < 28.0
}

/// The pan, and after six frames another scene.
fn cut(frame: usize, x: f32, y: f32) -> [f32; 3] {
    scene(if frame < 6 { 0 } else { 5 }, x + 2.0 * frame as f32, y)
}

/// After six frames somebody turns the light up.
fn light(frame: usize, x: f32, y: f32) -> [f32; 3] {
    scene(0, x, y).map(|value| if frame < 6 { value } else { value + 25.0 })
}

fn still(_: usize, x: f32, y: f32) -> [f32; 3] {
    scene(0, x, y)
}

impl Clip {
    fn of(scene: fn(usize, f32, f32) -> [f32; 3]) -> Clip {
        Clip { scene, width: WIDTH, height: HEIGHT, noise: 5.0, flicker: 20.0 }
    }

    fn quiet(scene: fn(usize, f32, f32) -> [f32; 3]) -> Clip {
        Clip { noise: 0.0, flicker: 0.0, ..Clip::of(scene) }
    }

    fn frame(&self, value: impl Fn(usize, [f32; 3]) -> [f32; 3], index: usize) -> Frame {
        let pixels = (0..self.width * self.height).flat_map(|pixel| {
            let (x, y) = ((pixel % self.width) as f32, (pixel / self.width) as f32);
            value(pixel, (self.scene)(index, x, y)).map(|value| (value + 0.5) as u8)
        });
        Frame::new(self.width, self.height, pixels.collect()).expect("a frame")
    }

    fn source(&self, index: usize) -> Frame {
        let seed = index as u64 + 100;
        let noise = |pixel, channel| self.noise * random(seed, pixel * 3 + channel);
        self.frame(|pixel, rgb| std::array::from_fn(|i| rgb[i] + noise(pixel, i)), index)
    }

    /// A painting: other colours, harder contrasts; its flicker comes in specks of 4×4 pixels.
    fn painted(&self, index: usize) -> Frame {
        let seed = index as u64 + 200;
        let speck = |pixel: usize| pixel / self.width / 4 * self.width + pixel % self.width / 4;
        let flicker = |pixel, channel| self.flicker * random(seed, speck(pixel) * 3 + channel);
        let paint = |pixel, [r, g, b]: [f32; 3]| {
            let painted = [255.0 - 1.3 * (r - 30.0), 1.4 * (g - 40.0), 0.5 * r + 0.5 * b];
            std::array::from_fn(|i| painted[i].clamp(25.0, 230.0) + flicker(pixel, i))
        };
        self.frame(paint, index)
    }

    /// Paints and smooths all frames: the paintings, and what became of them.
    fn smoothed(&self, smoother: &mut Smoother) -> [Vec<Frame>; 2] {
        let own: Vec<Frame> = (0..FRAMES).map(|index| self.painted(index)).collect();
        let smooth = |(index, painted): (usize, &Frame)| {
            let mut painted = painted.clone();
            smoother.apply(&self.source(index), &mut painted);
            painted
        };
        let smoothed = own.iter().enumerate().map(smooth).collect();
        [own, smoothed]
    }
}

fn smoother() -> Smoother {
    Smoother::new(Smoother::DEFAULT_STRENGTH)
}

/// Mean absolute difference of the pixels that `mask` chooses.
fn distance(a: &Frame, b: &Frame, mask: impl Fn(usize, usize) -> bool) -> f64 {
    let (mut sum, mut count) = (0.0, 0);
    for (at, (a, b)) in a.rgb().iter().zip(b.rgb()).enumerate() {
        if mask(at / 3 % WIDTH, at / 3 / WIDTH) {
            sum += f64::from(a.abs_diff(*b));
            count += 1;
        }
    }
    sum / f64::from(count.max(1))
}

fn everywhere(_: usize, _: usize) -> bool {
    true
}

fn largest(a: &Frame, b: &Frame) -> u8 {
    a.rgb().iter().zip(b.rgb()).map(|(a, b)| a.abs_diff(*b)).max().expect("pixels")
}

fn sharpness(frame: &Frame) -> f64 {
    let rows = frame.rgb().chunks_exact(frame.width() * 3);
    rows.map(|row| row.iter().zip(&row[3..]).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>()).sum()
}

/// Away from the borders, where the scene has just come into view.
fn inner(x: usize, y: usize) -> bool {
    (24..WIDTH - 24).contains(&x) && (24..HEIGHT - 24).contains(&y)
}

#[test]
fn a_pan_with_noise_changes_less_than_half_as_much() {
    let [own, smoothed] = Clip::of(pan).smoothed(&mut smoother());
    // Along the motion: what is at (x, y) was at (x + 2, y + 1) before.
    let change = |frames: &[Frame]| -> f64 {
        let pairs = frames.windows(2).map(|pair| {
            let was = |at: usize| f64::from(pair[0].rgb()[at + (WIDTH + 2) * 3]);
            let pixels = (0..(HEIGHT - 1) * WIDTH).filter(|at| inner(at % WIDTH, at / WIDTH));
            let bytes = pixels.flat_map(|at| at * 3..at * 3 + 3);
            bytes.map(|at| (f64::from(pair[1].rgb()[at]) - was(at)).abs()).sum::<f64>()
        });
        pairs.sum()
    };
    let ratio = change(&smoothed) / change(&own);
    assert!(ratio < 0.5, "change falls to {ratio:.3}");
}

#[test]
fn between_pixels_the_painting_without_flicker_comes_nearer() {
    let [own, smoothed] = Clip::of(zoom).smoothed(&mut smoother());
    let truth = Clip::quiet(zoom).painted(FRAMES - 1);
    let [before, after] = [&own, &smoothed].map(|frames| distance(&frames[FRAMES - 1], &truth, inner));
    assert!(after < 0.6 * before, "{before:.2} from it unsmoothed, {after:.2} smoothed");
}

#[test]
fn what_does_not_flicker_stays_sharp() {
    for scene in [pan, zoom] {
        let clip = Clip { flicker: 0.0, ..Clip::of(scene) };
        let [own, smoothed] = clip.smoothed(&mut smoother());
        let ratio = sharpness(&smoothed[FRAMES - 1]) / sharpness(&own[FRAMES - 1]);
        assert!((0.9..1.1).contains(&ratio), "{ratio:.3} of the sharpness");
    }
}

#[test]
fn the_first_frame_after_a_cut_is_its_own_painting() {
    for scene in [cut, light] {
        let [own, smoothed] = Clip::of(scene).smoothed(&mut smoother());
        assert!(distance(&own[5], &smoothed[5], everywhere) > 2.0, "the frame before is smoothed");
        assert!(distance(&own[6], &smoothed[6], everywhere) < 0.2);
        assert!(distance(&own[7], &smoothed[7], everywhere) > 2.0, "so is the second one after");
    }
}

#[test]
fn where_an_object_was_nothing_of_it_is_left() {
    let clip = Clip { flicker: 0.0, ..Clip::of(disc) };
    let [own, smoothed] = clip.smoothed(&mut smoother());
    for index in 3..FRAMES {
        let [before, now, shown] = [&smoothed[index - 1], &own[index], &smoothed[index]];
        let uncovered = |x: usize, y: usize| {
            let (x, y) = (x as f32, y as f32);
            covered(index - 1, x, y) && !covered(index, x, y)
        };
        let ghost = distance(shown, now, uncovered) / distance(before, now, uncovered);
        assert!(ghost < 0.06, "frame {index}: {ghost:.3} of what was there");
    }
}

#[test]
fn a_picture_that_stands_still_stays_itself() {
    let [own, smoothed] = Clip::quiet(still).smoothed(&mut smoother());
    for (own, smoothed) in own.iter().zip(&smoothed) {
        assert!(largest(own, smoothed) <= 1);
    }
}

#[test]
fn strength_0_and_no_strength_change_nothing() {
    for strength in [0.0, -1.0, f32::NAN] {
        let [own, smoothed] = Clip::of(pan).smoothed(&mut Smoother::new(strength));
        assert!(own == smoothed, "{strength}");
    }
}

#[test]
fn more_strength_is_more_calm() {
    let clip = Clip::of(still);
    let truth = Clip::quiet(still).painted(FRAMES - 1);
    let left = [0.0, 0.3, 0.6, 1.0, 7.0].map(|strength| {
        let [_, smoothed] = clip.smoothed(&mut Smoother::new(strength));
        distance(&smoothed[FRAMES - 1], &truth, everywhere)
    });
    assert!(left.windows(2).all(|pair| pair[1] < pair[0] || pair[0] == left[3]), "{left:?}");
    assert_eq!(left[3], left[4], "beyond 1 is 1");
}

#[test]
fn threads_do_not_matter() {
    let clip = Clip { width: 203, height: 137, ..Clip::of(zoom) };
    let [_, one] = clip.smoothed(&mut Smoother::with_threads(0.7, 1));
    for threads in [2, 3, 7] {
        let [_, more] = clip.smoothed(&mut Smoother::with_threads(0.7, threads));
        assert!(one == more, "{threads} threads");
    }
}

#[test]
fn a_reset_and_another_size_start_afresh() {
    let clip = Clip::of(still);
    let mut smoother = smoother();
    let mut step = |clip: &Clip, index: usize, reset: bool| {
        if reset {
            smoother.reset();
        }
        let mut painted = clip.painted(index);
        smoother.apply(&clip.source(index), &mut painted);
        painted == clip.painted(index)
    };
    assert!(step(&clip, 0, false), "the first frame is as it is");
    assert!(!step(&clip, 1, false));
    assert!(step(&clip, 2, true));
    assert!(!step(&clip, 3, false));
    for (width, height) in [(1, 1), (2, 1), (1, 300), (7, 5), (63, 129), (64, 64), (65, 2), (301, 1), (1, 1)]
    {
        let other = Clip { width, height, ..Clip::of(pan) };
        assert!(step(&other, 0, false), "{width}×{height}");
        for index in 1..4 {
            step(&other, index, false);
        }
    }
}

#[test]
fn a_painting_of_another_size_is_left_alone() {
    let clip = Clip::of(still);
    let mut smoother = smoother();
    let other = Clip { width: 2 * WIDTH, ..Clip::of(still) };
    for index in 0..3 {
        let mut painted = other.painted(index);
        smoother.apply(&clip.source(index), &mut painted);
        assert!(painted == other.painted(index));
    }
}

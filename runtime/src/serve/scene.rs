//! A picture to begin with, made here: a lake between hills at sunset, with something of everything that a
//! style shows itself in: even sky, soft clouds, hard edges, fine reflections.

use crate::Frame;

type Rgb = [f32; 3];

/// Draws the scene at a size. The same size always gives the same picture.
pub fn draw(width: usize, height: usize) -> Frame {
    let mut frame = Frame::black(width, height);
    let aspect = width as f32 / height.max(1) as f32;
    for (row, line) in frame.rgb_mut().chunks_exact_mut(width.max(1) * 3).enumerate() {
        for (column, pixel) in line.chunks_exact_mut(3).enumerate() {
            let x = (column as f32 + 0.5) / width as f32 * aspect;
            let y = (row as f32 + 0.5) / height as f32;
            let color = at(x, y, aspect);
            for (to, value) in pixel.iter_mut().zip(color) {
                *to = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
            }
        }
    }
    frame
}

/// Where the water begins, of a height of 1.
const SHORE: f32 = 0.62;

/// The colour at a point; `y` runs from 0 at the top to 1, `x` in the same unit.
fn at(x: f32, y: f32, aspect: f32) -> Rgb {
    let land = if y < SHORE {
        above(x, y, aspect)
    } else {
        // The water mirrors what is above it, stretched, broken by waves that grow towards the viewer.
        let depth = (y - SHORE) / (1.0 - SHORE);
        let wave = fbm(x * 5.0 / (0.15 + depth), depth * 60.0 / (0.4 + depth), 3) - 0.5;
        let mirrored = SHORE - (y - SHORE) * 1.15 + wave * 0.10 * (0.2 + depth);
        let mirrored = above(x + wave * 0.05, mirrored.clamp(0.0, SHORE - 0.001), aspect);
        let water = mix(mirrored, [0.07, 0.20, 0.31], 0.22 + 0.38 * depth);
        let glint = smooth(0.66, 0.74, fbm(x * 9.0 + 31.0, y * 90.0, 2)) * falloff(x - sun(aspect).0, 0.16);
        mix(water, [1.0, 0.82, 0.52], glint * 0.75)
    };
    boat(land, x, y, aspect)
}

fn sun(aspect: f32) -> (f32, f32) {
    (aspect * 0.64, 0.40)
}

/// Sky, sun, clouds and hills.
fn above(x: f32, y: f32, aspect: f32) -> Rgb {
    let height = y / SHORE;
    let mut color = mix([0.16, 0.30, 0.55], [0.52, 0.60, 0.72], smooth(0.0, 0.5, height));
    color = mix(color, [0.99, 0.74, 0.47], smooth(0.35, 0.85, height));
    let (sun_x, sun_y) = sun(aspect);
    let far = (x - sun_x).hypot(y - sun_y);
    color = mix(color, [1.0, 0.80, 0.50], 0.75 * falloff(far, 0.22));
    color = mix(color, [1.0, 0.96, 0.82], 1.0 - smooth(0.060, 0.066, far));
    let cloud = fbm(x * 2.4 + 7.0, y * 8.5, 5);
    let lit =
        mix([0.46, 0.38, 0.48], [1.0, 0.84, 0.72], smooth(0.48, 0.78, fbm(x * 2.4 + 7.1, y * 8.5 - 0.5, 4)));
    color = mix(color, lit, 0.85 * smooth(0.50, 0.72, cloud) * (1.0 - smooth(0.75, 1.0, height)));

    // Hills from the farthest to the nearest: level, height, breadth of its waves, colour, where it begins.
    let hills: [(f32, f32, f32, Rgb, f32); 4] = [
        (0.50, 0.16, 1.5, [0.56, 0.53, 0.62], 11.0),
        (0.55, 0.15, 2.2, [0.36, 0.42, 0.51], 23.0),
        (0.60, 0.14, 2.9, [0.17, 0.31, 0.32], 42.0),
        (0.635, 0.11, 4.4, [0.08, 0.18, 0.15], 57.0),
    ];
    for (at, (level, tall, wide, tint, seed)) in hills.into_iter().enumerate() {
        let mut ridge = level - tall * (fbm(x * wide + seed, seed, 5) - 0.35) * 1.6;
        if at == 3 {
            // The nearest one leaves the middle open and carries firs.
            ridge += 0.10 * falloff(x - aspect * 0.52, 0.34) - 0.05 * trees(x);
        }
        if y > ridge {
            let shade = 0.80 + 0.40 * fbm(x * 14.0 + seed, y * 26.0, 4);
            let light = 1.0 + 0.35 * falloff(y - ridge, 0.02) * falloff(x - sun_x, 0.7);
            let mist = smooth(ridge, SHORE + 0.06, y) * 0.35 * (1.0 - at as f32 / 4.0);
            color = mix(tint.map(|value| value * shade * light), [0.93, 0.72, 0.55], mist);
        }
    }
    color
}

/// Height of a row of firs, 0 to 1: triangles of uneven size.
fn trees(x: f32) -> f32 {
    let mut tallest: f32 = 0.0;
    for (count, seed) in [(34.0, 3), (21.0, 9)] {
        let cell = (x * count).floor();
        let tall = 0.25 + 0.75 * noise_at(cell as i32, seed);
        let beside = ((x * count - cell) - 0.5).abs() * 2.0;
        let branches = 0.08 * ((1.0 - beside) * 18.0).fract();
        tallest = tallest.max((1.0 - beside - branches).max(0.0) * tall);
    }
    tallest
}

/// A small sailing boat on the water, and its reflection.
fn boat(under: Rgb, x: f32, y: f32, aspect: f32) -> Rgb {
    let (left, water) = (aspect * 0.31, 0.745);
    let reflected = y > water;
    let wobble = if reflected { 0.006 * (y * 160.0).sin() } else { 0.0 };
    let (u, v) = ((x - left + wobble) / 0.062, (y - water).abs() / 0.062);
    let hull = v < 0.30 && u.abs() < 0.85 + 0.5 * v && (reflected || v > 0.0);
    let sail = v > 0.42 && v < 3.1 && u > -0.02 && u < 0.95 * (1.0 - (v - 0.42) / 2.7);
    let jib = v > 0.42 && v < 2.5 && u < -0.10 && u > -0.80 * (1.0 - (v - 0.42) / 2.1);
    let mast = v < 3.3 && (-0.09..-0.02).contains(&u);
    let color = match (hull, sail, jib, mast) {
        (true, ..) => [0.42, 0.13, 0.10],
        (_, true, ..) => [0.97, 0.93, 0.84],
        (_, _, true, _) => [0.87, 0.36, 0.22],
        (.., true) => [0.20, 0.13, 0.10],
        _ => return under,
    };
    mix(under, color, if reflected { 0.45 - 0.1 * v.min(3.0) } else { 1.0 })
}

fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    let t = t.clamp(0.0, 1.0);
    [0, 1, 2].map(|channel| a[channel] + (b[channel] - a[channel]) * t)
}

/// 0 below `low`, 1 above `high`, a soft S between them.
fn smooth(low: f32, high: f32, value: f32) -> f32 {
    let t = ((value - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// 1 at 0, falling like a bell of this width.
fn falloff(distance: f32, width: f32) -> f32 {
    (-(distance / width).powi(2)).exp()
}

/// Noise from 0 to 1 in octaves, each twice as fine and half as strong.
fn fbm(x: f32, y: f32, octaves: u32) -> f32 {
    let (mut sum, mut total, mut weight, mut scale) = (0.0, 0.0, 1.0, 1.0);
    for octave in 0..octaves {
        sum += weight * noise(x * scale, y * scale + 19.0 * octave as f32);
        total += weight;
        (weight, scale) = (weight * 0.5, scale * 2.0);
    }
    sum / total
}

/// Values at whole numbers, smoothly joined.
fn noise(x: f32, y: f32) -> f32 {
    let (left, top) = (x.floor(), y.floor());
    let (u, v) = (smooth(0.0, 1.0, x - left), smooth(0.0, 1.0, y - top));
    let corner = |dx: i32, dy: i32| noise_at((left as i32).wrapping_add(dx), (top as i32).wrapping_add(dy));
    let line = |dy: i32| corner(0, dy) + (corner(1, dy) - corner(0, dy)) * u;
    let (upper, lower) = (line(0), line(1));
    upper + (lower - upper) * v
}

/// A fixed random value for two whole numbers.
fn noise_at(x: i32, y: i32) -> f32 {
    let mut bits = (x as u32).wrapping_mul(0x9e37_79b9) ^ (y as u32).wrapping_mul(0x85eb_ca6b);
    for factor in [0x7feb_352d_u32, 0x846c_a68b] {
        bits = (bits ^ (bits >> 16)).wrapping_mul(factor);
    }
    ((bits ^ (bits >> 15)) >> 8) as f32 / (1 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scene_is_a_picture_at_every_size() {
        let scene = draw(96, 64);
        assert_eq!(scene, draw(96, 64));
        // Bright above, dark below, and no flat area: every row holds several colours.
        let mean = |rows: std::ops::Range<usize>| {
            let rows = &scene.rgb()[rows.start * 96 * 3..rows.end * 96 * 3];
            rows.iter().map(|&value| f32::from(value)).sum::<f32>() / rows.len() as f32
        };
        assert!(mean(20..35) > mean(50..64) + 20.0);
        for row in scene.rgb().chunks_exact(96 * 3) {
            let (low, high) = row.iter().fold((255, 0), |(low, high), &v| (low.min(v), high.max(v)));
            assert!(high - low > 20);
        }
        for (width, height) in [(1, 1), (1, 9), (9, 1)] {
            assert_eq!(draw(width, height).rgb().len(), width * height * 3);
        }
    }
}

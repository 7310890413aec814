//! The dead leaves: reproducible to the byte, and with the statistics of photographs.

use std::f64::consts::PI;

use impasto_datasets::{DeadLeaves, DeadLeavesOptions, Source};

const SIDE: usize = 64;

fn luminance(scene: &[u8]) -> Vec<f64> {
    scene
        .chunks_exact(3)
        .map(|p| 0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2]))
        .collect()
}

/// One dimension of a Fourier transform, along rows; the result is transposed.
fn transform(real: &[f64], imaginary: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let waves: Vec<_> = (0..SIDE).map(|k| (2.0 * PI * k as f64 / SIDE as f64).sin_cos()).collect();
    let (mut to_real, mut to_imaginary) = (vec![0.0; SIDE * SIDE], vec![0.0; SIDE * SIDE]);
    for y in 0..SIDE {
        for k in 0..SIDE {
            for x in 0..SIDE {
                let (sin, cos) = waves[k * x % SIDE];
                let (r, i) = (real[y * SIDE + x], imaginary[y * SIDE + x]);
                to_real[k * SIDE + y] += r * cos + i * sin;
                to_imaginary[k * SIDE + y] += i * cos - r * sin;
            }
        }
    }
    (to_real, to_imaginary)
}

/// Adds the power of a scene to `power` by distance from the origin of the frequency plane.
fn add_power(scene: &[u8], power: &mut [f64]) {
    let mut grey = luminance(scene);
    let mean = grey.iter().sum::<f64>() / grey.len() as f64;
    let window = |at: usize| (PI * (at as f64 + 0.5) / SIDE as f64).sin().powi(2);
    for (at, level) in grey.iter_mut().enumerate() {
        *level = (*level - mean) * window(at % SIDE) * window(at / SIDE);
    }
    let (real, imaginary) = transform(&grey, &vec![0.0; SIDE * SIDE]);
    let (real, imaginary) = transform(&real, &imaginary);
    for v in 0..SIDE {
        for u in 0..SIDE {
            let (fx, fy) = (u.min(SIDE - u) as f64, v.min(SIDE - v) as f64);
            let ring = (fx * fx + fy * fy).sqrt().round() as usize;
            if let Some(power) = power.get_mut(ring) {
                // The mean over a ring: a ring holds about 2π·ring frequencies.
                *power += (real[v * SIDE + u].powi(2) + imaginary[v * SIDE + u].powi(2)) / ring.max(1) as f64;
            }
        }
    }
}

/// The slope of log power over log frequency, by least squares.
fn slope(scenes: impl Iterator<Item = Vec<u8>>) -> f64 {
    let mut power = vec![0.0; SIDE / 2];
    scenes.for_each(|scene| add_power(&scene, &mut power));
    let points: Vec<_> =
        power.iter().enumerate().skip(3).take(24).map(|(f, p)| ((f as f64).ln(), p.ln())).collect();
    let count = points.len() as f64;
    let (mean_x, mean_y) =
        (points.iter().map(|p| p.0).sum::<f64>() / count, points.iter().map(|p| p.1).sum::<f64>() / count);
    points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>()
        / points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>()
}

#[test]
fn the_spectrum_is_that_of_photographs() {
    let leaves = DeadLeaves::default();
    let slope = slope((0..24).map(|index| leaves.scene(1, index, SIDE as u32).unwrap()));
    println!("slope {slope:.2}");
    // Photographs: −1.5 to −2.7 or so, −2 on average; noise: 0; a smooth gradient: beyond −4.
    assert!((-2.7..-1.5).contains(&slope), "slope {slope:.2}");
}

#[test]
fn the_measure_of_the_spectrum_tells_noise_apart() {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let slope = slope((0..8).map(|_| (0..SIDE * SIDE * 3).map(|_| noise()).collect()));
    assert!(slope.abs() < 0.2, "slope {slope:.2}");
}

#[test]
fn scenes_are_the_same_everywhere() {
    // Pinned bytes: training on another machine, or after an update, must see the same scenes.
    let scene = DeadLeaves::default().scene(1, 2, 48).unwrap();
    let fnv = scene.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    assert_eq!(fnv, 0xa985_52c6_3320_2a9c, "{fnv:#x}");
}

#[test]
fn scenes_differ_by_seed_and_index_and_use_the_range() {
    let leaves = DeadLeaves::default();
    let scene = |seed, index| leaves.scene(seed, index, 64).unwrap();
    assert_eq!(scene(1, 1), scene(1, 1));
    assert_ne!(scene(1, 1), scene(1, 2));
    assert_ne!(scene(1, 1), scene(2, 1));
    let all: Vec<f64> = (0..50).flat_map(|index| luminance(&scene(3, index))).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let deviation = (all.iter().map(|level| (level - mean).powi(2)).sum::<f64>() / all.len() as f64).sqrt();
    assert!((100.0..150.0).contains(&mean), "mean {mean:.0}");
    assert!((40.0..80.0).contains(&deviation), "deviation {deviation:.0}");
    let clipped = all.iter().filter(|&&level| level <= 0.5 || level >= 254.5).count();
    assert!(clipped * 20 < all.len(), "{clipped} of {} pixels are clipped", all.len());
}

#[test]
fn every_size_works_down_to_one_pixel() {
    for size in [1, 2, 7, 33, 200] {
        let scene = DeadLeaves::default().scene(0, 0, size).unwrap();
        assert_eq!(scene.len(), (size * size * 3) as usize);
    }
}

#[test]
fn flat_leaves_are_flat() {
    let flat = DeadLeavesOptions { relief: 0.0, ..DeadLeavesOptions::default() };
    let neighbours_equal = |leaves: DeadLeaves| {
        let scene = leaves.scene(4, 0, 128).unwrap();
        scene.chunks_exact(3).zip(scene[3..].chunks_exact(3)).filter(|(a, b)| a == b).count()
    };
    let flat = neighbours_equal(DeadLeaves::new(flat).unwrap());
    let textured = neighbours_equal(DeadLeaves::default());
    assert!(flat > 128 * 128 / 2 && textured * 2 < flat, "{flat} flat, {textured} textured");
}

#[test]
fn held_out_scenes_are_endless_stable_and_not_trained_on() {
    let source = Source::from(DeadLeaves::default());
    let first: Vec<_> = source.validation(32).unwrap().take(3).collect();
    assert_eq!(first, source.validation(32).unwrap().take(3).collect::<Vec<_>>());
    assert_eq!(first[2].name, "dead-leaves/2");
    let trained = source.batch(0, 0, 3, 32).unwrap();
    assert!(trained.images.chunks_exact(32 * 32 * 3).zip(&first).all(|(a, b)| a != b.rgb));
}

#[test]
fn nonsense_is_refused() {
    let normal = DeadLeavesOptions::default();
    for broken in [
        DeadLeavesOptions { min_radius: 0.0, ..normal },
        DeadLeavesOptions { min_radius: f32::NAN, ..normal },
        DeadLeavesOptions { max_radius: 0.0, ..normal },
        DeadLeavesOptions { max_radius: f32::INFINITY, ..normal },
        DeadLeavesOptions { relief: -1.0, ..normal },
    ] {
        assert!(DeadLeaves::new(broken).is_err(), "{broken:?}");
    }
    assert!(DeadLeaves::default().scene(0, 0, 0).is_err());
}

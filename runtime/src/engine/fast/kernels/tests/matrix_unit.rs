//! Whole networks on the emulated matrix unit, against the portable path's bf16: machines that have the unit test it
//! with the others, all others would never run its walk.

use impasto_checkpoints::random::uniform;
use impasto_checkpoints::{Architecture, InputRange, Padding, StyleModel, Upsampling};

use super::super::{Kernels, emulated_amx};
use crate::engine::PaintedMut;
use crate::engine::fast::FastEngine;
use crate::engine::plain::{PlainEngine, Scratch};
use crate::progress::Progress;

const NETWORKS: [&str; 8] = [
    "c9s1-16,d32,d64,R64,R64,u32,u16,c9s1-3",
    "c3s1-5,c3s1-17,c5s1-3",
    "R3,R3,c9s1-3",
    "c5s2-130,R130,u8,c1s1-3",
    "c15s1-48,c1s2-31,c3s1-33,u40,c3s1-3",
    "d8,d24,u16,R16,u3,c7s1-3",
    "c7s1-3",
    "c1s1-64,c7s1-32,c1s1-3",
];

fn noise(width: usize, height: usize) -> Vec<u8> {
    uniform(4, "rgb", 3 * width * height).map(|u| ((u + 1.0) * 128.0) as u8).collect()
}

fn portable(model: &StyleModel, bf16: bool, rgb: &[u8], (width, height): (usize, usize)) -> Vec<f32> {
    let mut painted = vec![f32::NAN; rgb.len()];
    let engine = PlainEngine::new(model, bf16, 2).unwrap();
    engine.run(rgb, width, height, &mut Scratch::default(), &mut painted, &Progress::new()).unwrap();
    painted
}

fn emulated(
    model: &StyleModel,
    kernels: &'static Kernels,
    threads: usize,
    rgb: &[u8],
    (width, height): (usize, usize),
) -> Vec<f32> {
    let mut painted = vec![f32::NAN; rgb.len()];
    let engine = FastEngine::with_kernels(model, kernels, true, threads).unwrap();
    engine.run(rgb, width, height, PaintedMut::Values(&mut painted), &Progress::new()).unwrap();
    painted
}

/// Root of the mean squared difference; not a number if one of them holds one.
fn rms(one: &[f32], other: &[f32]) -> f64 {
    let squares: f64 = one.iter().zip(other).map(|(&a, &b)| f64::from(a - b).powi(2)).sum();
    (squares / one.len() as f64).sqrt()
}

#[test]
fn networks_are_those_of_the_portable_path() {
    let Some(kernels) = emulated_amx() else { return };
    for (seed, layers) in NETWORKS.into_iter().enumerate() {
        let mut architecture = Architecture::johnson(1).unwrap();
        architecture.layers = layers.parse().unwrap();
        architecture.input = [InputRange::Rgb01, InputRange::ImagenetNormalized][seed % 2];
        (architecture.output.scale, architecture.output.offset) = (150.0, 127.5);
        for (padding, upsampling) in [
            (Padding::Reflect, Upsampling::NearestConv),
            (Padding::ZeroSame, Upsampling::NearestConv),
            (Padding::Reflect, Upsampling::Transposed),
            (Padding::ZeroSame, Upsampling::Transposed),
        ] {
            (architecture.padding, architecture.upsampling) = (padding, upsampling);
            let model = StyleModel::random(architecture.clone(), seed as u64).unwrap();
            for size in [(33, 18), (700, 5), (3, 150)] {
                let rgb = noise(size.0, size.1);
                let [exact, expected] = [false, true].map(|bf16| portable(&model, bf16, &rgb, size));
                let painted = emulated(&model, kernels, 2, &rgb, size);
                let (apart, loss) = (rms(&painted, &expected), rms(&expected, &exact));
                // Values next to a tie fall to its other side, and later layers spread that: never further than
                // bf16 is from f32.
                assert!(
                    apart <= (0.7 * loss).max(0.02),
                    "{layers} {padding:?} {upsampling:?} {size:?}: {apart} of 255 apart; bf16 itself loses {loss}"
                );
                assert_eq!(painted, emulated(&model, kernels, 3, &rgb, size), "{layers} {size:?}, 3 threads");
                let flat = emulated(&model, kernels, 1, &vec![77; rgb.len()], size);
                let even = flat.chunks_exact(3).all(|pixel| pixel == &flat[..3]);
                let keeps = padding == Padding::Reflect && upsampling == Upsampling::NearestConv;
                assert!(even || !keeps, "{layers} {size:?}: a flat picture does not stay flat");
            }
        }
    }
}

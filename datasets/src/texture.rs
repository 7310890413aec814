//! The noise tile that textures the dead leaves: fractal value noise that repeats seamlessly.

use crate::rng::{Purpose, Random};

/// The tile's side is 2⁸ pixels, so that coordinates wrap with a mask.
const SIDE_BITS: u32 = 8;
const SIDE: usize = 1 << SIDE_BITS;

/// A square tile of noise with mean 0, standard deviation about 1/3 and values within ±1.
#[derive(Debug)]
pub(crate) struct NoiseTile(Vec<f32>);

impl NoiseTile {
    /// The one tile there is: it depends on no seed, scenes differ by where they look at it.
    pub(crate) fn new() -> Self {
        let mut tile = vec![0.0_f32; SIDE * SIDE];
        let mut random = Random::new(Purpose::Texture, 0, 0, 0);
        // Cells of 64 down to 1 pixels; amplitude by the root of the cell, between the 1/f² of scenes and
        // white noise, since texture is what is left of finer things.
        for cell in [64, 32, 16, 8, 4, 2, 1] {
            let lattice: Vec<f32> = (0..(SIDE / cell).pow(2)).map(|_| random.between(-1.0, 1.0)).collect();
            let corner = |x: usize, y: usize| lattice[y % (SIDE / cell) * (SIDE / cell) + x % (SIDE / cell)];
            let amplitude = (cell as f32).sqrt();
            for (at, value) in tile.iter_mut().enumerate() {
                let (x, y) = (at % SIDE, at / SIDE);
                let (left, top) = (x / cell, y / cell);
                let (u, v) = ((x % cell) as f32 / cell as f32, (y % cell) as f32 / cell as f32);
                let (u, v) = (u * u * (3.0 - 2.0 * u), v * v * (3.0 - 2.0 * v));
                let upper = corner(left, top) * (1.0 - u) + corner(left + 1, top) * u;
                let lower = corner(left, top + 1) * (1.0 - u) + corner(left + 1, top + 1) * u;
                *value += amplitude * (upper * (1.0 - v) + lower * v);
            }
        }
        let count = tile.len() as f32;
        let mean = tile.iter().sum::<f32>() / count;
        let deviation =
            (tile.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>() / count).sqrt();
        for value in &mut tile {
            *value = ((*value - mean) / (3.0 * deviation)).clamp(-1.0, 1.0);
        }
        Self(tile)
    }

    /// The value at whole coordinates, which wrap.
    pub(crate) fn at(&self, x: i32, y: i32) -> f32 {
        const MASK: i32 = SIDE as i32 - 1;
        self.0[((y & MASK) << SIDE_BITS | (x & MASK)) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tile_has_no_seam_and_the_promised_spread() {
        let tile = NoiseTile::new();
        let side = SIDE as i32;
        let step = |x: i32| -> f32 { (0..side).map(|y| (tile.at(x, y) - tile.at(x - 1, y)).abs()).sum() };
        let inside: f32 = (1..side).map(step).sum::<f32>() / (side - 1) as f32;
        assert!(step(0) < 1.3 * inside, "seam {} against {inside}", step(0));
        assert_eq!(tile.at(-1, 5), tile.at(side - 1, 5 + side));
        let variance = tile.0.iter().map(|value| value * value).sum::<f32>() / tile.0.len() as f32;
        assert!((variance.sqrt() - 1.0 / 3.0).abs() < 0.01, "{}", variance.sqrt());
    }
}

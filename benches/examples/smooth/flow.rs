//! Middlebury's pairs: a file of true flow, and which pixels both frames show.

use std::error::Error;
use std::path::Path;

use impasto::Frame;

use crate::measure::resample;

/// Where each pixel of the first frame is in the second: true flow, first to second.
pub struct Flow {
    width: usize,
    vectors: Vec<[f32; 2]>,
}

impl Flow {
    /// Reads a `.flo` file: the bytes `PIEH`, width and height as i32, then (u, v) as f32, all little-endian.
    pub fn read(path: &Path) -> Result<Flow, Box<dyn Error>> {
        let bytes = std::fs::read(path)?;
        let word = |at: usize| bytes.get(at * 4..at * 4 + 4).and_then(|word| word.try_into().ok());
        let side = |at: usize| word(at).map(|word| i32::from_le_bytes(word) as usize);
        let (Some(width), Some(height)) = (side(1), side(2)) else { return Err("too short".into()) };
        if &bytes[..4] != b"PIEH" || bytes.len() != 12 + width * height * 8 {
            return Err(format!("{}: not a flow file", path.display()).into());
        }
        let value = |at: usize| word(at).map_or(f32::NAN, f32::from_le_bytes);
        let vectors = (0..width * height).map(|i| [value(3 + 2 * i), value(4 + 2 * i)]).collect();
        Ok(Flow { width, vectors })
    }

    fn height(&self) -> usize {
        self.vectors.len() / self.width
    }

    fn is_known(vector: [f32; 2]) -> bool {
        vector.iter().all(|value| value.abs() < 1e9)
    }

    /// The second frame brought to the first one's places.
    pub fn bring(&self, second: &Frame) -> Vec<f32> {
        resample(second, &|x, y| {
            let vector = self.vectors[y * self.width + x];
            let vector = if Self::is_known(vector) { vector } else { [0.0; 2] };
            (x as f64 + f64::from(vector[0]), y as f64 + f64::from(vector[1]))
        })
    }

    /// Pixels of the first frame that the second one shows.
    ///
    /// The file has the flow from the first frame to the second only. The flow back is derived from it: each pixel of
    /// the second frame takes the opposite of the flow of the pixel that lands nearest to it, of several the one whose
    /// colour fits best. Then a pixel is seen in both frames when there and back again ends within
    /// √(0.01·(|u|² + |b|²) + 0.5) pixels (Sundaram et al. 2010), and when its 5×5 neighbourhood's mean colour differs
    /// by no more than 10 of 255.
    pub fn seen(&self, first: &Frame, second: &Frame) -> Vec<bool> {
        let (width, height) = (self.width, self.height());
        let inside = |x: f32, y: f32| {
            (0.0..=width as f32 - 1.0).contains(&x) && (0.0..=height as f32 - 1.0).contains(&y)
        };
        let apart = |a: usize, b: usize| -> f32 {
            let bytes = first.rgb()[a * 3..a * 3 + 3].iter().zip(&second.rgb()[b * 3..b * 3 + 3]);
            bytes.map(|(a, b)| f32::from(a.abs_diff(*b))).sum()
        };
        let mut back = vec![None::<([f32; 2], f32)>; width * height];
        for (pixel, &vector) in self.vectors.iter().enumerate() {
            let (x, y) = ((pixel % width) as f32 + vector[0], (pixel / width) as f32 + vector[1]);
            if !Self::is_known(vector) || !inside(x, y) {
                continue;
            }
            for (near_x, near_y) in
                [(x.floor(), y.floor()), (x.ceil(), y.floor()), (x.floor(), y.ceil()), (x.ceil(), y.ceil())]
            {
                let at = near_y as usize * width + near_x as usize;
                let cost = apart(pixel, at) + 20.0 * (near_x - x).hypot(near_y - y);
                if back[at].is_none_or(|(_, least)| cost < least) {
                    back[at] = Some(([-vector[0], -vector[1]], cost));
                }
            }
        }
        let brought = self.bring(second);
        let there_and_back = |pixel: usize| {
            let vector = self.vectors[pixel];
            let (x, y) = ((pixel % width) as f32 + vector[0], (pixel / width) as f32 + vector[1]);
            if !Self::is_known(vector) || !inside(x, y) {
                return false;
            }
            let Some((home, _)) = back[y.round() as usize * width + x.round() as usize] else { return false };
            let gap = (vector[0] + home[0]).powi(2) + (vector[1] + home[1]).powi(2);
            let square = |v: [f32; 2]| v[0] * v[0] + v[1] * v[1];
            gap < 0.01 * (square(vector) + square(home)) + 0.5
        };
        let same_colour = |pixel: usize| {
            let (x, y) = (pixel % width, pixel / width);
            let (mut sums, mut count) = ([0.0_f32; 3], 0.0);
            for near_y in y.saturating_sub(2)..(y + 3).min(height) {
                for near_x in x.saturating_sub(2)..(x + 3).min(width) {
                    let at = (near_y * width + near_x) * 3;
                    for (channel, sum) in sums.iter_mut().enumerate() {
                        *sum += f32::from(first.rgb()[at + channel]) - brought[at + channel];
                    }
                    count += 1.0;
                }
            }
            sums.iter().all(|sum| (sum / count).abs() <= 10.0)
        };
        (0..width * height).map(|pixel| there_and_back(pixel) && same_colour(pixel)).collect()
    }
}

//! How much a model loses in bf16: the figure that its file carries.

use impasto_checkpoints::StyleModel;
use impasto_checkpoints::random::uniform;

use crate::engine::Precision;
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::stylizer::{Stylizer, StylizerOptions};

/// PSNR in dB between the 8-bit paintings of a test chart in bf16 and in f32:
/// `10·log10(255² / mean squared difference)`, at most 99.
///
/// # Errors
/// As for [`Stylizer::new`] on the CPU.
pub fn bf16_psnr(model: &StyleModel) -> Result<f64, RuntimeError> {
    let chart = test_chart(256, 192);
    let paint = |precision| -> Result<Frame, RuntimeError> {
        Stylizer::new(model, StylizerOptions { precision, ..StylizerOptions::default() })?.stylize(&chart)
    };
    Ok(psnr(&paint(Precision::F32)?, &paint(Precision::Bf16)?))
}

/// `10·log10(255² / mean squared difference)` of two frames of one size, at most 99 dB.
pub fn psnr(one: &Frame, other: &Frame) -> f64 {
    let squares = one.rgb().iter().zip(other.rgb()).map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2));
    let mean = squares.sum::<f64>() / one.rgb().len() as f64;
    if mean == 0.0 { 99.0 } else { (10.0 * (255.0_f64.powi(2) / mean).log10()).min(99.0) }
}

/// Discs of random place, size and colour over a gradient: edges, flat areas and smooth ones, like a photo, and
/// the same everywhere.
///
/// # Shapes
/// As for [`Frame::black`].
pub fn test_chart(width: usize, height: usize) -> Frame {
    let mut frame = Frame::black(width, height);
    let discs: Vec<f32> = uniform(1, "test chart", 60 * 6).map(|u| (u + 1.0) / 2.0).collect();
    for (i, pixel) in frame.rgb_mut().as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let (x, y) = ((i % width) as f32 / width as f32, (i / width) as f32 / height as f32);
        *pixel = [(x * 255.0) as u8, (y * 255.0) as u8, ((1.0 - x) * 255.0) as u8];
        for disc in discs.as_chunks::<6>().0 {
            let [cx, cy, size, colour @ ..] = disc;
            // Radii between 2 % and 20 % of the side, small ones more often.
            let radius = 0.02 / (1.0 - 0.9 * size);
            if (x - cx).powi(2) + (y - cy).powi(2) < radius * radius {
                *pixel = colour.map(|c| (c * 255.0) as u8);
            }
        }
    }
    frame
}

//! Pictures as bytes to the device and back: four bytes travel as one 32-bit word, so that a frame moves a quarter of
//! what its f32 values would. Every backend has 32-bit integers; few have bytes.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, ElementConversion, Int, Tensor, TensorData};

/// Bits that each of a word's four bytes is moved up by, the first byte lowest.
const SHIFTS: [i32; 4] = [0, 8, 16, 24];

/// Puts pictures on the device.
///
/// # Shapes
/// - rgb: `batch · height · width · 3` bytes, interleaved
/// - output: `[batch, 3, height, width]`, f32
///
/// # Units
/// RGB 0..255.
pub(crate) fn upload<B: Backend>(
    rgb: &[u8],
    [batch, height, width]: [usize; 3],
    place: &B::Device,
) -> Tensor<B, 4> {
    let (whole, rest) = rgb.as_chunks::<4>();
    let mut words: Vec<i32> = Vec::with_capacity(rgb.len().div_ceil(4));
    words.extend(whole.iter().map(|&bytes| i32::from_le_bytes(bytes)));
    if !rest.is_empty() {
        words.push(rest.iter().rev().fold(0, |word, &byte| word << 8 | i32::from(byte)));
    }
    let count = words.len();
    let words = Tensor::<B, 1, Int>::from_data(TensorData::new(words, [count]), (place, DType::I32));
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(picture) = crate::backend::gpu::unpack(&words, [batch, height, width]) {
        return picture;
    }
    let words = words.reshape([count, 1]);
    let shifts = TensorData::new(SHIFTS.to_vec(), [1, 4]);
    let shifts = Tensor::<B, 2, Int>::from_data(shifts, (place, DType::I32)).expand([count, 4]);
    // The shift carries the sign down; the mask takes it off again.
    let bytes = words.expand([count, 4]).bitwise_right_shift(shifts).bitwise_and_scalar(255.elem());
    let bytes = bytes.reshape([4 * count]).narrow(0, 0, rgb.len());
    bytes.float().cast(DType::F32).reshape([batch, height, width, 3]).permute([0, 3, 1, 2])
}

/// Rounds a painting to bytes on the device, as the CPU engine does: `⌊value + ½⌋`, values outside 0..255 become its
/// ends. (What a GPU makes of NaN is not defined.)
///
/// # Shapes
/// - painted: `[1, 3, height, width]`, f32
/// - output: `[⌈height · width · 3 / 4⌉]` words, for [`unpack`]
pub(crate) fn round<B: Backend>(painted: Tensor<B, 4>) -> Tensor<B, 1, Int> {
    #[cfg(any(feature = "cuda", feature = "wgpu"))]
    if let Some(words) = crate::backend::gpu::pack(&painted) {
        return words;
    }
    let [_, channels, height, width] = painted.dims();
    let count = channels * height * width;
    let place = painted.device();
    let values = painted.permute([0, 2, 3, 1]).reshape([count]);
    // Conversion to an integer drops the fraction.
    let bytes = (values + 0.5).clamp(0.0, 255.0).int().cast(DType::I32);
    let missing = count.next_multiple_of(4) - count;
    let bytes = if missing == 0 {
        bytes
    } else {
        Tensor::cat(vec![bytes, Tensor::zeros([missing], (&place, DType::I32))], 0)
    };
    let bytes = bytes.reshape([count.div_ceil(4), 4]);
    let byte = |at: usize| bytes.clone().narrow(1, at, 1);
    let words = (1..4)
        .fold(byte(0), |word, at| word.bitwise_or(byte(at).bitwise_left_shift_scalar((SHIFTS[at]).elem())));
    words.reshape([count.div_ceil(4)])
}

/// The bytes of downloaded words.
pub(crate) fn unpack(words: &[i32], rgb: &mut [u8]) {
    let (whole, rest) = rgb.as_chunks_mut::<4>();
    for (bytes, word) in whole.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
    if let Some(word) = words.get(whole.len()) {
        rest.copy_from_slice(&word.to_le_bytes()[..rest.len()]);
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::backend::Cpu;

    #[test]
    fn every_byte_survives_the_way_there_and_back() {
        for (width, height) in [(16, 16), (5, 3), (1, 1), (2, 1), (7, 11)] {
            let rgb: Vec<u8> = (0..width * height * 3).map(|at| (at * 37 + at / 256) as u8).collect();
            let tensor = upload::<Cpu>(&rgb, [1, height, width], &Default::default());
            assert_eq!(tensor.dims(), [1, 3, height, width]);
            let planes = tensor.clone().into_data().to_vec::<f32>().unwrap();
            for (at, &byte) in rgb.iter().enumerate() {
                assert_eq!(planes[at % 3 * width * height + at / 3], f32::from(byte));
            }
            let words = round(tensor).into_data().to_vec::<i32>().unwrap();
            let mut back = vec![0; rgb.len()];
            unpack(&words, &mut back);
            assert_eq!(back, rgb, "{width}×{height}");
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_and_ends_at_0_and_255() {
        let values =
            [-1e9, -0.6, -0.4, 0.0, 0.49, 0.5, 1.5, 2.5, 127.499, 254.4, 254.5, 255.0, 255.7, 1e9, 3.0];
        let tensor = TensorData::new(values.to_vec(), [1, 3, 1, 5]);
        let words = round(Tensor::<Cpu, 4>::from_data(tensor, &Default::default()));
        let mut bytes = vec![0; 15];
        unpack(&words.into_data().to_vec::<i32>().unwrap(), &mut bytes);
        for (at, &value) in values.iter().enumerate() {
            // Planes became pixels; Rust's conversion is what the CPU engine takes.
            let painted = bytes[at % 5 * 3 + at / 5];
            assert_eq!(painted, (value + 0.5_f32) as u8, "{value}");
        }
    }
}

//! The kernels between pictures as bytes, four to a 32-bit word, and pictures as numbers.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::std::FastDivmod;

use super::forward::{addresses, empty};
use super::grid::{LINE, cubes};

/// `[batch, height, width, 3]`, f32 in 0..255, of words that hold these values' bytes one after the other.
pub(super) fn unpacked<R: CubeRuntime>(
    words: &CubeTensor<R>,
    [batch, height, width]: [usize; 3],
) -> CubeTensor<R> {
    let output = empty(words, &[batch, height, width, 3], DType::F32);
    let pixels = batch * height * width;
    // SAFETY: a unit below `pixels` reads the words that its pixel's bytes are in and writes its pixel.
    unsafe {
        unpack_kernel::launch_unchecked(
            &words.client,
            cubes(pixels),
            CubeDim::new_1d(LINE),
            addresses(&[words, &output]),
            words.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            height as u32,
            width as u32,
            pixels as u32,
        );
    }
    output
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn unpack_kernel(
    words: &Tensor<i32>,
    output: &mut Tensor<f32>,
    height: FastDivmod<u32>,
    width: FastDivmod<u32>,
    pixels: u32,
) {
    let pixel = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * CUBE_DIM_X + UNIT_POS_X;
    if pixel < pixels {
        let (row, x) = width.div_mod(pixel);
        let (batch, y) = height.div_mod(row);
        let at =
            batch as usize * output.stride(0) + y as usize * output.stride(1) + x as usize * output.stride(2);
        #[unroll]
        for channel in 0..3u32 {
            let byte = pixel * 3 + channel;
            let word = words[(byte / 4) as usize];
            // The shift carries the sign down; the mask takes it off again.
            let value = (word >> ((byte % 4) * 8) as i32) & 255;
            output[at + channel as usize] = f32::cast_from(value);
        }
    }
}

/// Words that hold the bytes of `[1, height, width, 3]` one after the other, `⌊value + ½⌋` within 0..255.
pub(super) fn packed<R: CubeRuntime>(input: &CubeTensor<R>, words: usize) -> CubeTensor<R> {
    let [_, height, width, channels] = input.meta.shape().dims();
    let output = empty(input, &[words], DType::I32);
    // SAFETY: a unit below `words` reads the values below `values` that its word holds and writes its word.
    unsafe {
        pack_kernel::launch_unchecked(
            &input.client,
            cubes(words),
            CubeDim::new_1d(LINE),
            addresses(&[input, &output]),
            input.clone().into_tensor_arg(),
            output.clone().into_tensor_arg(),
            width as u32,
            channels as u32,
            (height * width * channels) as u32,
            words as u32,
            input.dtype.into(),
        );
    }
    output
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn pack_kernel<I: Float>(
    input: &Tensor<I>,
    output: &mut Tensor<i32>,
    width: FastDivmod<u32>,
    channels: FastDivmod<u32>,
    values: u32,
    words: u32,
    #[define(I)] _dtype: StorageType,
) {
    let word = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * CUBE_DIM_X + UNIT_POS_X;
    if word < words {
        let mut bytes = 0i32;
        #[unroll]
        for part in 0..4u32 {
            let value = word * 4 + part;
            if value < values {
                let (pixel, channel) = channels.div_mod(value);
                let (y, x) = width.div_mod(pixel);
                let at = y as usize * input.stride(1)
                    + x as usize * input.stride(2)
                    + channel as usize * input.stride(3);
                let number = clamp(f32::cast_from(input[at]) + 0.5, 0.0, 255.0);
                // Conversion to an integer drops the fraction.
                bytes |= i32::cast_from(number) << (part * 8) as i32;
            }
        }
        output[word as usize * output.stride(0)] = bytes;
    }
}

//! Planes, and adding the border with which a convolution becomes a valid one.

use super::threads::Threads;
use crate::engine::lower::Axis;
use crate::engine::round_bf16;

/// Channels-last activations: `data[(y · width + x) · channels + c]`.
#[derive(Default)]
pub(super) struct Plane {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    pub(super) data: Vec<f32>,
}

impl Plane {
    /// Sets the size, keeping the buffer; the values are unspecified afterwards.
    pub(super) fn reshape(&mut self, height: usize, width: usize, channels: usize) {
        (self.height, self.width, self.channels) = (height, width, channels);
        self.data.resize(height * width * channels, 0.0);
    }
}

/// Copies `source` through the axes' index maps, rounding to bf16 where the kernels would.
pub(super) fn prepare(source: &Plane, axis: &Axis, bf16: bool, prepared: &mut Plane, threads: &Threads) {
    let c = source.channels;
    let columns: Vec<_> =
        (0..axis.prepared_length(source.width)).map(|x| axis.source(x, source.width)).collect();
    prepared.reshape(axis.prepared_length(source.height), columns.len(), c);
    threads.for_each_row(&mut prepared.data, columns.len() * c, |y, row| {
        let Some(from) = axis.source(y, source.height) else {
            return row.fill(0.0);
        };
        let from = &source.data[from * source.width * c..][..source.width * c];
        for (pixel, x) in row.chunks_exact_mut(c).zip(&columns) {
            match x {
                Some(x) => pixel.copy_from_slice(&from[x * c..][..c]),
                None => pixel.fill(0.0),
            }
        }
        if bf16 {
            row.iter_mut().for_each(|value| *value = round_bf16(*value));
        }
    });
}

/// Rounds a plane to bf16 in place, as one that is stored in bf16.
pub(super) fn round(plane: &mut Plane, threads: &Threads) {
    threads.for_each_row(&mut plane.data, plane.width * plane.channels, |_, row| {
        row.iter_mut().for_each(|value| *value = round_bf16(*value));
    });
}

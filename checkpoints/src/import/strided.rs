//! A tensor as foreign files hold it: a window with strides onto a typed storage that others may share.

use std::borrow::Cow;
use std::rc::Rc;

use half::{bf16, f16};

use crate::error::CheckpointError;
use crate::style_model::{Dtype, Tensor};

/// Number type of a storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F32,
    F16,
    Bf16,
    F64,
    /// A type that no weight has; such a tensor may stand in a file, but not be one of the model's.
    Other {
        name: &'static str,
        size: usize,
    },
}

impl Element {
    pub(super) fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
            Element::F64 => 8,
            Element::Other { size, .. } => size,
        }
    }
}

/// Values in little-endian order, borrowed from the file where it holds them whole.
#[derive(Debug)]
pub(super) struct Storage<'a> {
    pub(super) element: Element,
    pub(super) data: Cow<'a, [u8]>,
}

/// Element `[i, j, …]` is the storage's element `offset + i · strides[0] + j · strides[1] + …`.
#[derive(Debug, Clone)]
pub(super) struct Strided<'a> {
    storage: Rc<Storage<'a>>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
    count: usize,
}

/// More dimensions than any weight has; it bounds the work of walking over them.
const MAX_RANK: usize = 8;

impl<'a> Strided<'a> {
    /// A row-major tensor that fills its storage from the start.
    pub(super) fn contiguous(storage: Rc<Storage<'a>>, shape: Vec<usize>) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = shape[axis].saturating_mul(strides[axis]);
        }
        let count = shape.iter().fold(1, |n: usize, &size| n.saturating_mul(size));
        Strided { storage, offset: 0, shape, strides, count }
    }

    /// Checks that every element lies within the storage.
    ///
    /// # Errors
    /// The reason in words, for the caller to put the tensor's key before it.
    pub(super) fn new(
        storage: Rc<Storage<'a>>,
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Self, String> {
        if shape.len() != strides.len() || shape.len() > MAX_RANK {
            return Err(format!(
                "{} sizes and {} strides, expected as many of both and at most {MAX_RANK}",
                shape.len(),
                strides.len()
            ));
        }
        let have = storage.data.len() / storage.element.size();
        let count = shape.iter().try_fold(1_usize, |n, &size| n.checked_mul(size));
        let end = shape.iter().zip(&strides).try_fold(offset, |end, (&size, &stride)| {
            end.checked_add(size.saturating_sub(1).checked_mul(stride)?)
        });
        match (count, end) {
            // Without elements nothing is read, wherever the window lies.
            (Some(0), _) => Ok(Strided { storage, offset, shape, strides, count: 0 }),
            (Some(count), Some(end)) if end < have => Ok(Strided { storage, offset, shape, strides, count }),
            _ => Err(format!(
                "shape {shape:?} with strides {strides:?} at {offset} reaches beyond its storage of {have} values"
            )),
        }
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements (more than the storage holds if a stride is 0).
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The values in row-major order, with the type they keep in our file: `f64` becomes `f32`.
    ///
    /// # Errors
    /// The reason in words, when the storage does not hold floats.
    pub(super) fn read(&self) -> Result<Tensor, String> {
        let data: &[u8] = &self.storage.data;
        let (dtype, values) = match self.storage.element {
            Element::F32 => (Dtype::F32, self.gather(data, f32::from_le_bytes)),
            Element::F16 => (Dtype::F16, self.gather(data, |b| f16::from_le_bytes(b).to_f32())),
            Element::Bf16 => (Dtype::Bf16, self.gather(data, |b| bf16::from_le_bytes(b).to_f32())),
            Element::F64 => (Dtype::F32, self.gather(data, |b| f64::from_le_bytes(b) as f32)),
            Element::Other { name, .. } => return Err(format!("type {name}, expected floats")),
        };
        Ok(Tensor { shape: self.shape.clone(), dtype, values })
    }

    fn gather<const N: usize>(&self, data: &[u8], decode: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let elements = data.as_chunks::<N>().0;
        let mut values = Vec::with_capacity(self.count);
        let mut index = vec![0; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..self.count {
            values.push(decode(elements[at]));
            // Advance like an odometer, last axis fastest.
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= self.strides[axis] * self.shape[axis];
                index[axis] = 0;
            }
        }
        values
    }
}

/// `reason` as an error about the tensor `key`.
pub(super) fn about(key: &str) -> impl Fn(String) -> CheckpointError {
    let key = super::show(key);
    move |reason| CheckpointError::tensor(&key, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(values: &[f32]) -> Rc<Storage<'static>> {
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        Rc::new(Storage { element: Element::F32, data: data.into() })
    }

    #[test]
    fn strides_and_offsets_are_honoured() {
        let six = storage(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let plain = Strided::contiguous(six.clone(), vec![2, 3]).read().unwrap();
        assert_eq!(plain.values, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let transposed = Strided::new(six.clone(), 0, vec![3, 2], vec![1, 3]).unwrap().read().unwrap();
        assert_eq!(transposed.values, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let tail = Strided::new(six.clone(), 4, vec![2], vec![1]).unwrap().read().unwrap();
        assert_eq!(tail.values, [4.0, 5.0]);
        let expanded = Strided::new(six.clone(), 5, vec![3], vec![0]).unwrap().read().unwrap();
        assert_eq!(expanded.values, [5.0, 5.0, 5.0]);
        let scalar = Strided::new(six, 2, vec![], vec![]).unwrap().read().unwrap();
        assert_eq!(scalar.values, [2.0]);
    }

    #[test]
    fn windows_beyond_the_storage_are_refused() {
        let six = storage(&[0.0; 6]);
        for (offset, shape, strides) in [
            (6, vec![1], vec![1]),
            (0, vec![7], vec![1]),
            (1, vec![2, 3], vec![3, 1]),
            (usize::MAX, vec![2], vec![1]),
            (0, vec![2, 2], vec![usize::MAX, 1]),
            (0, vec![usize::MAX, 3], vec![0, 0]),
            (0, vec![2], vec![]),
            (0, vec![1; 9], vec![1; 9]),
        ] {
            assert!(Strided::new(six.clone(), offset, shape.clone(), strides).is_err(), "{offset} {shape:?}");
        }
        assert_eq!(Strided::new(six, 99, vec![0, 4], vec![1, 1]).unwrap().read().unwrap().values, [0.0; 0]);
    }

    #[test]
    fn integers_are_no_weights() {
        let storage = Rc::new(Storage {
            element: Element::Other { name: "LongStorage", size: 8 },
            data: vec![0; 8].into(),
        });
        assert!(Strided::contiguous(storage, vec![1]).read().unwrap_err().contains("LongStorage"));
    }
}

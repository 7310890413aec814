//! burn-train's loaders of this trainer: batches that are a function of (seed, step), an epoch of a fixed number of
//! steps, and the held-out photos.

use std::sync::{Arc, Mutex, PoisonError};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};
use impasto_datasets::{Batch, DatasetError, Loader, LoaderConfig, Source, ValidationPicture};

use crate::config::TrainConfig;
use crate::learn::criterion::Criterion;
use crate::learn::stability::Disturbance;
use crate::learn::trainee::{TrainBatch, ValidBatch};

/// Batches kept ready ahead of the step.
const QUEUE: usize = 4;

/// Interleaved 8-bit RGB pictures as one tensor of RGB 0..255.
///
/// # Shapes
/// - bytes: `batch · height · width · 3`
/// - result: `[batch, 3, height, width]`
pub fn to_tensor<B: Backend>(
    bytes: &[u8],
    [batch, height, width]: [usize; 3],
    device: &B::Device,
) -> Tensor<B, 4> {
    let plane = height * width;
    let mut planes = vec![0.0f32; batch * 3 * plane];
    for (picture, planes) in bytes.chunks_exact(3 * plane).zip(planes.chunks_exact_mut(3 * plane)) {
        for (at, pixel) in picture.chunks_exact(3).enumerate() {
            for (channel, value) in pixel.iter().enumerate() {
                planes[channel * plane + at] = f32::from(*value);
            }
        }
    }
    Tensor::from_data(TensorData::new(planes, [batch, 3, height, width]), device)
}

/// Where batches come from: the loader's threads, or the few photos of `--overfit`, round and round.
enum Batches {
    Endless(Box<Loader>),
    Few { photos: Vec<Vec<u8>>, batch_size: usize, image_size: u32, next: u64 },
}

impl Batches {
    /// The first `config.overfit` photos of the run, which a batch repeats where it has room for more.
    fn few(source: &Source, config: &TrainConfig, next: u64) -> Result<Self, DatasetError> {
        let (batch_size, image_size) = (config.batch_size, config.image_size as u32);
        let photos = (0..config.overfit as u64)
            .map(|photo| Ok(source.batch(config.seed, photo, 1, image_size)?.images))
            .collect::<Result<_, DatasetError>>()?;
        Ok(Batches::Few { photos, batch_size, image_size, next })
    }

    fn next(&mut self) -> Result<Batch, DatasetError> {
        match self {
            Batches::Endless(loader) => loader.next_batch(),
            Batches::Few { photos, batch_size, image_size, next } => {
                let step = *next;
                *next += 1;
                let first = step.wrapping_mul(*batch_size as u64);
                let photo =
                    |i: u64| photos[(first.wrapping_add(i) % photos.len() as u64) as usize].as_slice();
                let images = (0..*batch_size as u64).flat_map(photo).copied().collect();
                Ok(Batch { step, batch_size: *batch_size, image_size: *image_size, images })
            }
        }
    }
}

struct Shared {
    batches: Mutex<Batches>,
    failure: Mutex<Option<DatasetError>>,
    config: TrainConfig,
}

/// The training batches, from a step on; an iterator of it is what is left of an epoch.
pub struct Feed<B: AutodiffBackend> {
    shared: Arc<Shared>,
    criterion: Arc<Criterion<B::InnerBackend>>,
    device: B::Device,
}

impl<B: AutodiffBackend> Clone for Feed<B> {
    fn clone(&self) -> Self {
        Feed {
            shared: Arc::clone(&self.shared),
            criterion: Arc::clone(&self.criterion),
            device: self.device.clone(),
        }
    }
}

impl<B: AutodiffBackend> Feed<B> {
    /// Starts loading for the steps from `next_step` on.
    ///
    /// # Errors
    /// As [`Loader::new`] and [`Source::batch`].
    pub fn new(
        source: &Source,
        config: &TrainConfig,
        next_step: u64,
        criterion: Arc<Criterion<B::InnerBackend>>,
        device: B::Device,
    ) -> Result<Self, DatasetError> {
        let batches = if config.overfit > 0 {
            Batches::few(source, config, next_step)?
        } else {
            let loader = LoaderConfig {
                batch_size: config.batch_size,
                image_size: config.image_size as u32,
                seed: config.seed,
                start_step: next_step,
                workers: config.workers,
                queue: QUEUE,
            };
            Batches::Endless(Box::new(Loader::new(source.clone(), loader)?))
        };
        let shared =
            Shared { batches: Mutex::new(batches), failure: Mutex::default(), config: config.clone() };
        Ok(Feed { shared: Arc::new(shared), criterion, device })
    }

    /// Why the last iterator ended early, if it did.
    pub fn failure(&self) -> Option<DatasetError> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn next_batch(&self) -> Option<TrainBatch<B>> {
        let batch = self.shared.batches.lock().unwrap_or_else(PoisonError::into_inner).next();
        match batch {
            Ok(batch) => Some(self.to_device_batch(&batch)),
            Err(error) => {
                *self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            }
        }
    }

    /// A batch as a training step takes it.
    pub fn to_device_batch(&self, batch: &Batch) -> TrainBatch<B> {
        let size = batch.image_size as usize;
        TrainBatch {
            step: batch.step,
            photos: to_tensor(&batch.images, [batch.batch_size, size, size], &self.device),
            criterion: Arc::clone(&self.criterion),
            disturbance: Disturbance::draw(&self.shared.config, batch.step, &self.device),
        }
    }
}

struct Epoch<'a, B: AutodiffBackend> {
    feed: &'a Feed<B>,
    taken: usize,
}

impl<B: AutodiffBackend> Iterator for Epoch<'_, B> {
    type Item = TrainBatch<B>;

    fn next(&mut self) -> Option<TrainBatch<B>> {
        if self.taken as u64 >= self.feed.shared.config.steps_per_checkpoint {
            return None;
        }
        self.taken += 1;
        self.feed.next_batch()
    }
}

impl<B: AutodiffBackend> DataLoaderIterator<TrainBatch<B>> for Epoch<'_, B> {
    fn progress(&self) -> Progress {
        Progress::new(self.taken, self.feed.shared.config.steps_per_checkpoint as usize)
    }
}

impl<B: AutodiffBackend> DataLoader<B, TrainBatch<B>> for Feed<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<TrainBatch<B>> + 'a> {
        Box::new(Epoch { feed: self, taken: 0 })
    }

    fn num_items(&self) -> usize {
        self.shared.config.steps_per_checkpoint as usize
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, TrainBatch<B>>> {
        Arc::new(Feed { device: device.clone(), ..self.clone() })
    }

    fn slice(&self, _start: usize, _end: usize) -> Arc<dyn DataLoader<B, TrainBatch<B>>> {
        Arc::new(self.clone()) // only burn-train's strategies for several devices slice; ours has one
    }
}

/// The held-out photos on a device.
#[derive(Clone)]
pub struct HeldOut<B: Backend> {
    photos: Arc<Vec<(String, Tensor<B, 4>)>>,
    criterion: Arc<Criterion<B>>,
}

impl<B: Backend> HeldOut<B> {
    /// Puts pictures on a device.
    pub fn new(pictures: &[ValidationPicture], criterion: Arc<Criterion<B>>, device: &B::Device) -> Self {
        let photos = pictures
            .iter()
            .map(|picture| {
                let size = picture.size as usize;
                (picture.name.clone(), to_tensor(&picture.rgb, [1, size, size], device))
            })
            .collect();
        HeldOut { photos: Arc::new(photos), criterion }
    }

    /// Names and photos.
    pub fn photos(&self) -> &[(String, Tensor<B, 4>)] {
        &self.photos
    }
}

struct HeldOutIter<'a, B: Backend> {
    held_out: &'a HeldOut<B>,
    taken: usize,
}

impl<B: Backend> Iterator for HeldOutIter<'_, B> {
    type Item = ValidBatch<B>;

    fn next(&mut self) -> Option<ValidBatch<B>> {
        let (_, photos) = self.held_out.photos.get(self.taken)?;
        self.taken += 1;
        let criterion = Arc::clone(&self.held_out.criterion);
        Some(ValidBatch { photos: photos.clone(), criterion })
    }
}

impl<B: Backend> DataLoaderIterator<ValidBatch<B>> for HeldOutIter<'_, B> {
    fn progress(&self) -> Progress {
        Progress::new(self.taken, self.held_out.photos.len())
    }
}

impl<B: Backend> DataLoader<B, ValidBatch<B>> for HeldOut<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<ValidBatch<B>> + 'a> {
        Box::new(HeldOutIter { held_out: self, taken: 0 })
    }

    fn num_items(&self) -> usize {
        self.photos.len()
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, ValidBatch<B>>> {
        let moved = self.photos.iter().map(|(name, photo)| (name.clone(), photo.clone().to_device(device)));
        Arc::new(HeldOut { photos: Arc::new(moved.collect()), criterion: Arc::clone(&self.criterion) })
    }

    fn slice(&self, _start: usize, _end: usize) -> Arc<dyn DataLoader<B, ValidBatch<B>>> {
        Arc::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use impasto_datasets::DeadLeaves;

    use super::*;
    use crate::presets::Preset;

    #[test]
    fn overfitting_knows_no_more_photos_than_it_was_told() {
        let source = Source::from(DeadLeaves::default());
        // The numbers of the photos of two steps, by what they show.
        let shown = |overfit, batch_size| {
            let config = TrainConfig { overfit, batch_size, image_size: 16, ..Preset::Cpu.config() };
            let all = source.batch(config.seed, 0, 5, 16).unwrap().images;
            let mut batches = Batches::few(&source, &config, 7).unwrap();
            [7, 8].map(|step| {
                let batch = batches.next().unwrap();
                assert_eq!((batch.step, batch.batch_size), (step, batch_size));
                let same = |photo: &[u8]| all.chunks(768).position(|known| known == photo).unwrap();
                batch.images.chunks(768).map(same).collect::<Vec<_>>()
            })
        };
        assert_eq!(shown(1, 4), [[0, 0, 0, 0], [0, 0, 0, 0]]);
        assert_eq!(shown(3, 2), [[2, 0], [1, 2]]);
        assert_eq!(shown(5, 1), [[2], [3]]);
    }

    #[test]
    fn pixels_become_planes() {
        let bytes: Vec<u8> = (0..12).collect();
        let tensor = to_tensor::<Flex>(&bytes, [1, 2, 2], &Default::default());
        let expected = [0.0, 3.0, 6.0, 9.0, 1.0, 4.0, 7.0, 10.0, 2.0, 5.0, 8.0, 11.0];
        assert_eq!(tensor.into_data().into_vec::<f32>().unwrap(), expected);
    }
}

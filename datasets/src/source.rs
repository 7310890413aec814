//! What a trainer takes pictures from, and the pure function from (source, seed, step) to a batch.

use crate::dead_leaves::DeadLeaves;
use crate::error::DatasetError;
use crate::folder::PhotoFolder;
use crate::photo::PhotoReader;

/// The most bytes one batch may have: 2 GiB.
pub const MAX_BATCH_BYTES: u64 = 2 << 30;

/// Where pictures come from. Cloning is cheap.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder of photos.
    Folder(PhotoFolder),
    /// Synthetic scenes, which need no files.
    DeadLeaves(DeadLeaves),
}

impl From<PhotoFolder> for Source {
    fn from(folder: PhotoFolder) -> Self {
        Self::Folder(folder)
    }
}

impl From<DeadLeaves> for Source {
    fn from(leaves: DeadLeaves) -> Self {
        Self::DeadLeaves(leaves)
    }
}

/// The pictures of one training step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The step they are for, from 0.
    pub step: u64,
    /// How many pictures.
    pub batch_size: usize,
    /// Width and height of each, in pixels.
    pub image_size: u32,
    /// sRGB bytes, `[batch_size, image_size, image_size, 3]`, rows from the top.
    pub images: Vec<u8>,
}

/// One picture to validate on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidationPicture {
    /// The photo's path in its folder with `/` between the parts, or `dead-leaves/0`, `dead-leaves/1`, …
    pub name: String,
    /// Width and height in pixels.
    pub size: u32,
    /// sRGB bytes, `[size, size, 3]`, rows from the top.
    pub rgb: Vec<u8>,
}

/// What a thread keeps between pictures.
#[derive(Default)]
pub(crate) struct Scratch {
    reader: PhotoReader,
}

impl Source {
    /// The batch of `step`, made on this thread; the same whenever and wherever it is made.
    ///
    /// Picture `i` is number `step · batch_size + i` of an endless sequence: every photo once in an order
    /// drawn from `seed`, then every photo once in another order. Photos are turned upright, cropped to
    /// a random square of their shorter side, resized to `image_size` and mirrored every other time. The
    /// place of a bad photo is taken by another one, chosen by the same numbers.
    ///
    /// # Errors
    /// [`DatasetError::NothingDecodes`]; [`DatasetError::Withheld`] and [`DatasetError::Unreadable`] when the photos, or
    /// their folder, are no longer there to be read; [`DatasetError::Config`] for a batch that is empty or larger
    /// than [`MAX_BATCH_BYTES`].
    pub fn batch(
        &self,
        seed: u64,
        step: u64,
        batch_size: usize,
        image_size: u32,
    ) -> Result<Batch, DatasetError> {
        check_batch(batch_size, image_size)?;
        let shape = (batch_size, image_size);
        let batch = self.batch_unless(&mut Scratch::default(), seed, step, shape, &|| false)?;
        Ok(batch.expect("nothing asks it to stop"))
    }

    /// As [`Source::batch`], for a checked shape; `None` when `stopped` said so in between.
    pub(crate) fn batch_unless(
        &self,
        scratch: &mut Scratch,
        seed: u64,
        step: u64,
        (batch_size, image_size): (usize, u32),
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<Batch>, DatasetError> {
        let bytes = image_size as usize * image_size as usize * 3;
        let mut images = vec![0; bytes * batch_size];
        let first = step.wrapping_mul(batch_size as u64);
        for (i, out) in images.chunks_exact_mut(bytes).enumerate() {
            let position = first.wrapping_add(i as u64);
            let made = match self {
                Self::Folder(folder) => folder.training_picture(
                    &mut scratch.reader,
                    (seed, position),
                    image_size,
                    out,
                    stopped,
                )?,
                Self::DeadLeaves(leaves) => {
                    leaves.paint_training(seed, position, image_size, out);
                    !stopped()
                }
            };
            if !made {
                return Ok(None);
            }
        }
        Ok(Some(Batch { step, batch_size, image_size, images }))
    }

    /// The pictures to validate on: the middle squares of the held-out photos, in an order that does not
    /// change, bad ones left out; or held-out scenes without end (use [`Iterator::take`]).
    ///
    /// # Errors
    /// [`DatasetError::Config`] for a size of zero or a picture larger than [`MAX_BATCH_BYTES`].
    pub fn validation(&self, image_size: u32) -> Result<ValidationPictures, DatasetError> {
        check_batch(1, image_size)?;
        Ok(ValidationPictures {
            source: self.clone(),
            scratch: Scratch::default(),
            size: image_size,
            next: 0,
        })
    }
}

/// Refuses batches without pictures, pictures without pixels, and sizes that cannot have been meant.
pub(crate) fn check_batch(batch_size: usize, image_size: u32) -> Result<(), DatasetError> {
    let side = u64::from(image_size);
    let bytes = side.checked_mul(side * 3).and_then(|bytes| bytes.checked_mul(batch_size as u64));
    if bytes.is_some_and(|bytes| (1..=MAX_BATCH_BYTES).contains(&bytes)) {
        return Ok(());
    }
    let reason = format!(
        "a batch of {batch_size} pictures of {image_size}² pixels, expected at least one of 1² and at most \
         {} MiB in all",
        MAX_BATCH_BYTES >> 20
    );
    Err(DatasetError::Config { reason })
}

/// Iterates over the pictures to validate on; see [`Source::validation`].
pub struct ValidationPictures {
    source: Source,
    scratch: Scratch,
    size: u32,
    next: usize,
}

impl Iterator for ValidationPictures {
    type Item = ValidationPicture;

    fn next(&mut self) -> Option<ValidationPicture> {
        loop {
            let rank = self.next;
            self.next += 1;
            let picture = match &self.source {
                Source::Folder(folder) if rank >= folder.validation_len() => return None,
                Source::Folder(folder) => {
                    folder.validation_picture(&mut self.scratch.reader, rank, self.size)
                }
                Source::DeadLeaves(leaves) => {
                    Some((format!("dead-leaves/{rank}"), leaves.held_out_scene(rank as u64, self.size)))
                }
            };
            if let Some((name, rgb)) = picture {
                return Some(ValidationPicture { name, size: self.size, rgb });
            }
        }
    }
}

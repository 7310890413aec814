//! What can be looked at while a style is learned: painted samples, and the style model as it is so far.

use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use impasto::Frame;
use impasto::picture::{EncodeOptions, Picture};
use impasto::quality::bf16_psnr;
use impasto_burn::TransformNet;
use impasto_checkpoints::{Credit, LossBalance, Metadata, StyleModel, Training, write_atomically};

use crate::config::{TrainConfig, WRITTEN_BY_US};
use crate::error::TrainError;
use crate::learn::gain::folded;
use crate::log::logger::Journal;
use crate::report::Reporter;

/// Paints the held-out photos and writes the style model.
pub struct Sampler<B: Backend> {
    /// The settings.
    pub config: TrainConfig,
    /// SHA-256 of the style picture's file.
    pub style_sha256: String,
    /// Whom and what the weights come from.
    pub credits: Vec<Credit>,
    /// Names and photos, `[1, 3, size, size]`.
    pub photos: Vec<(String, Tensor<B, 4>)>,
    /// Float type of the convolutions.
    pub compute: burn::tensor::DType,
    /// What the losses are multiplied by, for the style model's metadata.
    pub balance: Option<LossBalance>,
    /// TensorBoard.
    pub journal: Journal,
    /// News and warnings.
    pub reporter: Reporter,
}

/// Where the newest sample is: `NAME.sample.png` beside the output.
pub fn latest_sample(config: &TrainConfig) -> PathBuf {
    config.output.with_extension("sample.png")
}

impl<B: Backend> Sampler<B> {
    /// Paints the photos at a step: one picture with each photo above its painting, beside the output, in the
    /// log folder and in TensorBoard. What cannot be written is a warning.
    pub fn paint(&self, step: u64, net: &TransformNet<B>) {
        if self.photos.is_empty() {
            return; // as it was asked for
        }
        let mut pairs = Vec::new();
        for (name, photo) in &self.photos {
            let painted = to_frame(net.forward_in(photo.clone(), self.compute));
            let (Ok(photo), Ok(painted)) = (to_frame(photo.clone()), painted) else {
                self.reporter.warn(&format!("step {step}: the sample of {name} is not a picture"));
                return;
            };
            self.journal.picture(step, &format!("painted/{name}"), &painted);
            pairs.push((photo, painted));
        }
        let sheet = contact_sheet(&pairs);
        let folder = self.config.log_folder().join("samples");
        let latest = latest_sample(&self.config);
        let numbered = folder.join(format!("step-{step:06}.png"));
        let saved = std::fs::create_dir_all(&folder)
            .map_err(|source| TrainError::io("create", &folder, source))
            .and_then(|()| save(&sheet, &numbered))
            .and_then(|()| save(&sheet, &latest));
        match saved {
            Ok(()) if !self.reporter.shows_progress() => {
                self.reporter.note(&format!("step {step}: sample in {}", latest.display()));
            }
            Ok(()) => {}
            Err(error) => self.reporter.warn(&format!("{error}; training goes on")),
        }
    }

    /// The style model at a step, in the file's number type.
    ///
    /// # Errors
    /// [`TrainError::Burn`] or [`TrainError::Model`] when a weight is not finite, or too large for the type.
    pub fn style_model(&self, step: u64, net: &TransformNet<B>) -> Result<StyleModel, TrainError> {
        let config = &self.config;
        let mut metadata = Metadata::new(config.style_name(), net.architecture().clone());
        metadata.license.clone_from(&config.license);
        metadata.credits.clone_from(&self.credits);
        metadata.training = Some(Training {
            tool: crate::TOOL.to_owned(),
            loss_network: config.loss_net.clone(),
            style_sha256: self.style_sha256.clone(),
            steps: step,
            batch_size: config.batch_size,
            image_size: config.image_size,
            seed: config.seed,
            content_weight: config.content_weight,
            style_weight: config.style_weight,
            tv_weight: config.tv_weight,
            balance: self.balance.clone(),
            config: Some(config.without_folders().to_toml()?),
        });
        let mut model = folded(&net.to_model(metadata)?)?.to_dtype(config.dtype)?;
        let psnr = bf16_psnr(&model)?;
        model.amend(|metadata| metadata.bf16_psnr = Some((psnr * 10.0).round() / 10.0));
        Ok(model)
    }

    /// Writes the style model and, beside it, the resolved settings.
    ///
    /// # Errors
    /// [`TrainError::Model`] or [`TrainError::Io`]; the file that was there is still there then.
    pub fn write_model(&self, model: &StyleModel) -> Result<(), TrainError> {
        model.save(&self.config.output)?;
        let path = self.config.settings_file();
        let text = self.settings_text()?;
        write_atomically(&path, |out| out.write_all(text.as_bytes()))
            .map_err(|source| TrainError::io("write", &path, source))
    }

    /// As [`Sampler::write_model`], but files that are there already are left as they are: whoever watches the model
    /// is not told of a new one, and a full disk is no matter. Says whether anything was written.
    ///
    /// # Errors
    /// As [`Sampler::write_model`].
    pub fn write_model_if_other(&self, model: &StyleModel) -> Result<bool, TrainError> {
        let is = |path: &Path, bytes: &[u8]| std::fs::read(path).is_ok_and(|there| there == bytes);
        if is(&self.config.output, &model.to_bytes()?)
            && is(&self.config.settings_file(), self.settings_text()?.as_bytes())
        {
            return Ok(false);
        }
        self.write_model(model)?;
        Ok(true)
    }

    fn settings_text(&self) -> Result<String, TrainError> {
        Ok(format!("{WRITTEN_BY_US}\n{}", self.config.to_toml()?))
    }
}

fn save(frame: &Frame, path: &Path) -> Result<(), TrainError> {
    Ok(Picture::from(frame.clone()).save(path, &EncodeOptions::default())?)
}

/// A tensor of RGB 0..255, `[1, 3, height, width]`, as a frame.
///
/// # Errors
/// [`TrainError::Picture`] when it has no pixels.
pub fn to_frame<B: Backend>(rgb255: Tensor<B, 4>) -> Result<Frame, TrainError> {
    let [_, _, height, width] = rgb255.dims();
    let values: Vec<f32> = rgb255.permute([0, 2, 3, 1]).into_data().iter::<f32>().collect();
    let bytes = values.into_iter().map(|value| value.round().clamp(0.0, 255.0) as u8).collect();
    Ok(Frame::new(width, height, bytes)?)
}

/// Photos above their paintings, side by side.
fn contact_sheet(pairs: &[(Frame, Frame)]) -> Frame {
    let width: usize = pairs.iter().map(|(photo, _)| photo.width()).sum();
    let height = pairs.iter().map(|(photo, _)| photo.height()).max().unwrap_or(1);
    let mut sheet = Frame::black(width, 2 * height);
    let stride = 3 * sheet.width();
    let mut left = 0;
    for (photo, painted) in pairs {
        for (top, frame) in [(0, photo), (height, painted)] {
            for (row, line) in frame.rgb().chunks_exact(3 * frame.width()).enumerate() {
                let at = (top + row) * stride + 3 * left;
                sheet.rgb_mut()[at..at + line.len()].copy_from_slice(line);
            }
        }
        left += photo.width();
    }
    sheet
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn values_are_rounded_and_clamped() {
        let values = vec![-5.0, 1.4, 1.6, 300.0, f32::NAN, 7.0];
        let tensor = Tensor::<Flex, 4>::from_data(TensorData::new(values, [1, 3, 1, 2]), &Default::default());
        assert_eq!(to_frame(tensor).unwrap().rgb(), [0, 2, 0, 1, 255, 7]);
    }

    #[test]
    fn the_sheet_has_photos_above_paintings() {
        let frame = |value: u8| Frame::new(2, 1, vec![value; 6]).unwrap();
        let sheet = contact_sheet(&[(frame(1), frame(2)), (frame(3), frame(4))]);
        assert_eq!((sheet.width(), sheet.height()), (4, 2));
        let firsts: Vec<u8> = sheet.rgb().chunks(6).map(|pair| pair[0]).collect();
        assert_eq!(firsts, [1, 3, 2, 4]);
    }
}

//! The stability loss: the painting must not change more than the photo does under small noise and shifts, or a
//! video of it flickers.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::config::TrainConfig;

/// Pixels along the border of the shifted photo that are not compared: there the network sees its padding
/// where the unshifted one saw the photo.
const BORDER: usize = 8;

/// Stream of the random numbers of this file: (seed, step) may be used elsewhere too.
const STREAM: u64 = 0x7374_6162;

/// A shift and noise, drawn from (seed, step) alone.
///
/// The loss is `max(0, E[(N(S(x) + n) − S(N(x)))²] / E[n²] − 1)`: N the network, S the shift (a crop whose corner
/// moves), n the noise (settings without any are refused: it is the scale), and the mean over what both see. It is 0 while the painting changes no more than the photo.
#[derive(Debug, Clone)]
pub struct Disturbance<B: Backend> {
    top: usize,
    left: usize,
    /// Height and width of the shifted crop.
    size: [usize; 2],
    /// `[batch, 3, size, size]`, in grey levels of 255.
    noise: Tensor<B, 4>,
    variance: f64,
}

impl<B: Backend> Disturbance<B> {
    /// The disturbance of a step; `None` when the settings leave the stability loss out.
    pub fn draw(config: &TrainConfig, step: u64, device: &B::Device) -> Option<Self> {
        if config.stability_weight == 0.0 {
            return None;
        }
        let mut random = ChaCha8Rng::seed_from_u64(config.seed ^ STREAM);
        random.set_stream(step);
        let shift = config.stability_shift;
        let (top, left) = (random.random_range(0..=shift), random.random_range(0..=shift));
        let side = config.image_size - shift;
        // Uniform in ±σ√3 has standard deviation σ, and is far cheaper to draw than a normal distribution.
        let bound = (config.stability_noise * 3.0_f64.sqrt()) as f32;
        let count = config.batch_size * 3 * side * side;
        let noise: Vec<f32> = (0..count).map(|_| bound * (random.random::<f32>() * 2.0 - 1.0)).collect();
        let shape = [config.batch_size, 3, side, side];
        Some(Disturbance {
            top,
            left,
            size: [side, side],
            noise: Tensor::from_data(TensorData::new(noise, shape), device),
            variance: config.stability_noise * config.stability_noise,
        })
    }

    fn crop<A: Backend>(&self, pictures: Tensor<A, 4>) -> Tensor<A, 4> {
        let [height, width] = self.size;
        pictures.narrow(2, self.top, height).narrow(3, self.left, width)
    }

    /// The photos, shifted and noisy: `S(x) + n`.
    pub fn photos(&self, photos: &Tensor<B, 4>) -> Tensor<B, 4> {
        self.crop(photos.clone()) + self.noise.clone()
    }

    /// The loss of `painted = N(x)` and `again = N(S(x) + n)`.
    pub fn loss<A: Backend>(&self, painted: Tensor<A, 4>, again: Tensor<A, 4>) -> Tensor<A, 1> {
        let [height, width] = self.size;
        let border = BORDER.min(height.min(width) / 4);
        let inside =
            |x: Tensor<A, 4>| x.narrow(2, border, height - 2 * border).narrow(3, border, width - 2 * border);
        let change = (inside(again) - inside(self.crop(painted))).square().mean();
        (change / self.variance - 1.0).clamp_min(0.0)
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::Distribution;

    use super::*;
    use crate::presets::Preset;

    fn config() -> TrainConfig {
        let mut config = Preset::Cpu.config();
        (config.image_size, config.stability_shift, config.batch_size) = (48, 4, 1);
        (config.stability_weight, config.stability_noise) = (1.0, 5.0);
        config
    }

    fn photos() -> Tensor<Flex, 4> {
        Tensor::random([1, 3, 48, 48], Distribution::Uniform(0.0, 255.0), &Default::default())
    }

    fn value(network: impl Fn(Tensor<Flex, 4>) -> Tensor<Flex, 4>) -> f32 {
        let x = photos();
        let disturbance = Disturbance::draw(&config(), 3, &Default::default()).unwrap();
        let again = network(disturbance.photos(&x));
        disturbance.loss(network(x), again).into_scalar()
    }

    #[test]
    fn it_is_zero_for_the_identity_and_grows_with_the_gain() {
        assert!(value(|x| x).abs() < 0.02, "{}", value(|x| x));
        assert_eq!(value(|x| x * 0.5), 0.0);
        // A gain of 3 changes nine times the photo's squared change.
        assert!((value(|x| x * 3.0) - 8.0).abs() < 0.3, "{}", value(|x| x * 3.0));
    }

    #[test]
    fn a_painting_that_stays_where_the_photo_moved_is_punished() {
        let grid: Tensor<Flex, 4> =
            Tensor::random([1, 3, 48, 48], Distribution::Uniform(-50.0, 50.0), &Default::default());
        let stuck = |x: Tensor<Flex, 4>| {
            let [_, _, height, width] = x.dims();
            x + grid.clone().narrow(2, 0, height).narrow(3, 0, width)
        };
        assert!(value(stuck) > 10.0);
    }

    #[test]
    fn it_depends_on_the_seed_and_the_step_alone() {
        let noise = |seed: u64, step: u64| {
            let mut config = config();
            config.seed = seed;
            Disturbance::<Flex>::draw(&config, step, &Default::default()).unwrap().noise.into_data()
        };
        assert_eq!(noise(1, 2), noise(1, 2));
        assert_ne!(noise(1, 2), noise(1, 3));
        assert_ne!(noise(1, 2), noise(2, 2));
    }
}

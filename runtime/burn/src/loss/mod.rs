//! The losses: Gram matrices, content, style, total variation, and the perceptual loss made of them.
//!
//! One code for training and for the iterative modes: [`PerceptualLoss`] gives one number to minimize and its
//! gradient with respect to the painted picture. All losses are computed in f32, whatever type the features have.

mod balance;
mod perceptual;
mod terms;

pub use balance::Balancing;
pub use perceptual::{
    ContentTarget, LayerLoss, LossValues, Losses, PerceptualConfig, PerceptualLoss, StylePicture,
};
pub use terms::{
    MEAN_STD_EPSILON, StyleStatistic, StyleTarget, content_loss, gram_matrix, mean_and_std, style_loss,
    total_variation,
};

//! What is done to a painting at its photo's own size, pixel by pixel, in words that a GPU can be told.

/// Strength and kept colours; the formulas are `picture::blend`'s and `picture::keep_colors`'.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(not(feature = "burn"), allow(dead_code, reason = "read where there is a GPU to tell"))]
pub(crate) struct PostSteps {
    /// 0: the photo, 1: the painting.
    pub(crate) strength: f32,
    /// Luminance from the painting, colour from the photo.
    pub(crate) keep_colors: bool,
}

impl PostSteps {
    /// The painting as it is.
    pub(crate) const NONE: PostSteps = PostSteps { strength: 1.0, keep_colors: false };
}

#[cfg(feature = "burn")]
impl From<PostSteps> for impasto_burn::PostSteps {
    fn from(PostSteps { strength, keep_colors }: PostSteps) -> Self {
        impasto_burn::PostSteps { strength, keep_colors }
    }
}

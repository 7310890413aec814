//! What a convolution sees of a picture: the picture, perhaps doubled, and a border around it.

use cubecl::prelude::*;

/// A border around a picture, and whether every pixel is taken twice in each direction before it is laid on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Border {
    /// Rows before and after.
    pub rows: [usize; 2],
    /// Columns before and after.
    pub columns: [usize; 2],
    /// 1, or 2 for nearest doubling.
    pub scale: usize,
    /// Mirrored about the outermost pixel (which is not repeated), or zeros.
    pub reflect: bool,
}

impl Border {
    /// The picture as it is.
    pub const NONE: Border = Border { rows: [0; 2], columns: [0; 2], scale: 1, reflect: false };

    /// Height and width with the border.
    pub fn around(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        [
            self.scale * height + self.rows[0] + self.rows[1],
            self.scale * width + self.columns[0] + self.columns[1],
        ]
    }

    /// What the kernels are compiled for.
    pub(super) fn layout(&self) -> Layout {
        Layout {
            top: self.rows[0] as u32,
            left: self.columns[0] as u32,
            scale: self.scale as u32,
            reflect: self.reflect,
            plain: *self == Border::NONE,
        }
    }
}

/// A [`Border`] as far as an index depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Layout {
    pub top: u32,
    pub left: u32,
    pub scale: u32,
    pub reflect: bool,
    pub plain: bool,
}

/// The row or column of the picture that is seen at `at` of the picture with its border; whether there is one (beyond
/// the edge of a picture with zeros around it there is none, and the first is named). `before` of the border lie before.
#[cube]
pub(super) fn seen(
    at: u32,
    size: u32,
    #[comptime] before: u32,
    #[comptime] scale: u32,
    #[comptime] reflect: bool,
) -> (u32, bool) {
    let end = (size * scale) as i32;
    let mut place = at as i32 - before as i32;
    let mut inside = true.runtime();
    if comptime![reflect] {
        if place < 0 {
            place = -place;
        }
        if place >= end {
            place = 2 * (end - 1) - place;
        }
    } else {
        inside = place >= 0 && place < end;
        if !inside {
            place = 0;
        }
    }
    (place as u32 / scale, inside)
}

/// A place of the picture with its border where row or column `at` of the (doubled) picture of `size` is seen, and
/// whether it is there: of the three there may be, `which` 0 is itself, 1 its mirror image before the first, 2 that
/// after the last. `whole` is the size with the border.
#[cube]
pub(super) fn image(
    at: u32,
    size: u32,
    whole: u32,
    #[comptime] which: u32,
    #[comptime] before: u32,
) -> (u32, bool) {
    let mut place = at + before;
    let mut there = true.runtime();
    if comptime![which == 1] {
        there = at > 0 && at <= before;
        if there {
            place = before - at;
        }
    }
    if comptime![which == 2] {
        there = at + 1 < size && 2 * (size - 1) - at + before < whole;
        if there {
            place = 2 * (size - 1) - at + before;
        }
    }
    (place, there)
}

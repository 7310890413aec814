//! Picture files, read and written: every format and depth, orientation, alpha, profiles, hostile files.
#![cfg(feature = "pictures")]
#![allow(clippy::unwrap_used, reason = "in helpers of tests too, a failed unwrap is a failed test")]

mod fixtures;
mod hostile;
mod read;
mod write;

use impasto::Frame;
use impasto::picture::{DecodeOptions, Picture};

use fixtures::*;

fn open(name: &str) -> Picture {
    Picture::open(fixture(name), &DecodeOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn decode(bytes: &[u8]) -> Picture {
    Picture::from_bytes(bytes, "memory", &DecodeOptions::default()).unwrap()
}

/// Fails with the first pixel that is further off than `tolerance` on any channel.
#[track_caller]
fn assert_shows(name: &str, got: &Frame, expected: &Frame, tolerance: u8) {
    assert_eq!((got.width(), got.height()), (expected.width(), expected.height()), "{name}: size");
    for (at, (got, expected)) in got.rgb().iter().zip(expected.rgb()).enumerate() {
        let (x, y) = (at / 3 % WIDTH, at / 3 / WIDTH);
        assert!(
            got.abs_diff(*expected) <= tolerance,
            "{name}: {got} at ({x}, {y}), channel {}; expected {expected} ± {tolerance}",
            at % 3
        );
    }
}

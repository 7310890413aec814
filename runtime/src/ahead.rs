//! Frames on their way through a GPU: the next is begun before the one before it is fetched.

use std::fmt;

use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::post::PostSteps;

/// Frames that overlap on a GPU, from [`Stylizer::ahead`](crate::Stylizer::ahead): begun in order, finished in order.
/// Its frames are its own; the stylizer it comes from may paint others meanwhile.
pub struct Ahead {
    #[cfg(feature = "burn")]
    pub(crate) queue: impasto_burn::FrameQueue,
    /// Without a GPU in the build there is none.
    #[cfg(not(feature = "burn"))]
    pub(crate) never: std::convert::Infallible,
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").field("in_flight", &self.in_flight()).finish()
    }
}

impl Ahead {
    /// Sends a frame on its way, and returns without waiting for it. Two are worked on at a time; more wait.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] when the device has given up.
    pub fn begin(&mut self, frame: &Frame) -> Result<(), RuntimeError> {
        self.begin_and(frame, PostSteps::NONE)
    }

    /// As [`Ahead::begin`], with post-steps on the GPU.
    pub(crate) fn begin_and(&mut self, frame: &Frame, post: PostSteps) -> Result<(), RuntimeError> {
        #[cfg(feature = "burn")]
        return self
            .queue
            .submit(frame.rgb(), frame.width(), frame.height(), post.into())
            .map_err(|error| RuntimeError::Device(error.to_string()));
        #[cfg(not(feature = "burn"))]
        {
            let _ = (frame, post);
            match self.never {}
        }
    }

    /// Frames begun and not finished.
    pub fn in_flight(&self) -> usize {
        #[cfg(feature = "burn")]
        return self.queue.in_flight();
        #[cfg(not(feature = "burn"))]
        match self.never {}
    }

    /// Waits for the oldest frame that was begun; `painted` takes its size. `false`: there is none.
    ///
    /// # Errors
    /// [`RuntimeError::Device`] when the device failed on this frame.
    pub fn finish(&mut self, painted: &mut Frame) -> Result<bool, RuntimeError> {
        #[cfg(feature = "burn")]
        {
            let mut rgb = std::mem::replace(painted, Frame::black(1, 1)).into_rgb();
            let size = self.queue.take(&mut rgb).map_err(|error| RuntimeError::Device(error.to_string()))?;
            let Some((width, height)) = size else { return Ok(false) };
            *painted = Frame::new(width, height, rgb)?;
            Ok(true)
        }
        #[cfg(not(feature = "burn"))]
        {
            let _ = painted;
            match self.never {}
        }
    }
}

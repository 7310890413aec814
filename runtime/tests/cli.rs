//! The `impasto` command from outside: what it paints, what it refuses, what it leaves behind.

mod cli {
    pub mod bad_input;
    pub mod bench;
    pub mod devices;
    pub mod export;
    pub mod instruction_set;
    pub mod main_job;
    pub mod media;
    #[cfg(feature = "reference")]
    pub mod reference;
    pub mod shell;
    pub mod support;
    pub mod video;
    pub mod video_trouble;
    #[cfg(feature = "webcam")]
    pub mod webcam;
}

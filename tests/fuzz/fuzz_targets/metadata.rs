//! Bytes of a safetensors file: reading never panics, and what was read survives writing and reading.
#![no_main]

use impasto_checkpoints::{StyleModel, read_metadata};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let papers = read_metadata(bytes);
    if let Ok(model) = StyleModel::from_bytes(bytes) {
        assert_eq!(papers.as_ref().ok(), Some(model.metadata()));
        let written = model.to_bytes().expect("a model that was read can be written");
        let again = StyleModel::from_bytes(&written).expect("what was written can be read");
        assert_eq!(again, model);
        assert_eq!(again.to_bytes().expect("written once more"), written);
    }
    if let Ok(papers) = papers {
        let text = papers.to_json().expect("metadata that was read can be written");
        assert_eq!(impasto_checkpoints::Metadata::from_json(&text).expect("and read again"), papers);
    }
});

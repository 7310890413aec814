//! Bytes of a foreign model file: import never panics, runs nothing, and gives a model that can be saved.
#![no_main]

use impasto_checkpoints::StyleModel;
use impasto_checkpoints::import::import_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| match import_bytes(bytes, "fuzz") {
    Ok(model) => {
        let written = model.to_bytes().expect("an imported model can be written");
        assert_eq!(StyleModel::from_bytes(&written).expect("and read"), model);
    }
    Err(error) => assert!(!error.to_string().contains(['\n', '\r']), "{error}"),
});

//! Foreign model files: the ones that `fixtures/make_fixtures.py` wrote with PyTorch, hostile ones, and real
//! ones from the folder that `IMPASTO_TEST_DATA` names.
#![cfg(feature = "import")]

use std::path::{Path, PathBuf};

use impasto_checkpoints::import::{import, import_bytes};
use impasto_checkpoints::random::uniform;
use impasto_checkpoints::{Activation, CheckpointError, Dtype, Padding, StyleModel, Upsampling};
use impasto_test_support::test_data;

const SMALL: &str = "c5s1-2,d3,R3,u2,c5s1-3";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).expect("a fixture")
}

/// The generator's values: uniform by the key that the tensor has in the foreign file.
fn assert_values(model: &StyleModel, dtype: Dtype, foreign_key: impl Fn(&str) -> Option<String>) {
    for (key, tensor) in model.tensors() {
        let Some(foreign) = foreign_key(key) else {
            assert!(tensor.values.iter().all(|&value| value == 0.0), "{key}");
            continue;
        };
        assert_eq!(tensor.dtype, dtype, "{key}");
        let expected: Vec<f32> =
            uniform(0, &foreign, tensor.values.len()).map(|value| dtype.round(value)).collect();
        assert_eq!(tensor.values, expected, "{key}");
    }
}

#[test]
fn every_way_pytorch_writes_a_state_dict_is_read() {
    for (file, architecture, dtype) in [
        ("zip.pt", SMALL, Dtype::F32),
        ("legacy.pt", SMALL, Dtype::F32),
        ("legacy_protocol4.pt", SMALL, Dtype::F32),
        ("johnson1.pt", "c9s1-1,d2,d4,R4,R4,R4,R4,R4,u2,u1,c9s1-3", Dtype::F16),
        ("half.pt", SMALL, Dtype::F16),
        ("bfloat16.pt", SMALL, Dtype::Bf16),
        ("double.pt", SMALL, Dtype::F32),
        ("channels_last.pt", SMALL, Dtype::F32),
        ("transposed_legacy.pt", SMALL, Dtype::F32),
        ("parameters.pt", SMALL, Dtype::F32),
        ("state_dict.pt", SMALL, Dtype::F32),
        ("model_legacy.pt", SMALL, Dtype::F32),
        ("data_parallel.pt", SMALL, Dtype::F32),
        ("other_names_legacy.pt", SMALL, Dtype::F32),
        ("running_statistics.pt", SMALL, Dtype::F32),
        ("shared_storage_protocol5.pt", SMALL, Dtype::F32),
        ("shared_storage_legacy.pt", SMALL, Dtype::F32),
        ("example.safetensors", SMALL, Dtype::F32),
    ] {
        let model = import(&fixture(file)).unwrap_or_else(|error| panic!("{error}"));
        let network = model.architecture();
        assert_eq!(network.to_string(), architecture, "{file}");
        assert_eq!(
            (network.padding, network.upsampling),
            (Padding::Reflect, Upsampling::NearestConv),
            "{file}"
        );
        assert_eq!((network.norm_epsilon, network.output_norm), (1e-5, false), "{file}");
        assert_eq!(network.output.activation, Activation::Linear, "{file}");
        assert_eq!(model.metadata().name, file.rsplit_once('.').unwrap().0);
        assert_eq!((&model.metadata().license, model.metadata().credits.len()), (&None, 0), "{file}");
        assert_values(&model, dtype, |key| Some(key.to_string()));
        let again = StyleModel::from_bytes(&model.to_bytes().unwrap()).unwrap();
        assert_eq!(again, model, "{file}");
    }
}

#[test]
fn the_tensorflow_layout_is_read() {
    let model = import(&fixture("tensorflow.safetensors")).unwrap();
    let network = model.architecture();
    assert_eq!(network.to_string(), SMALL);
    assert_eq!((network.padding, network.upsampling), (Padding::ZeroSame, Upsampling::Transposed));
    assert_eq!((network.norm_epsilon, network.output_norm), (1e-3, true));
    let output = network.output;
    assert_eq!((output.activation, output.scale, output.offset), (Activation::Tanh, 150.0, 127.5));
    let names = [
        ("conv1.conv2d.weight", "conv1.weight"),
        ("in1.weight", "conv1.in.weight"),
        ("in1.bias", "conv1.in.bias"),
        ("conv2.conv2d.weight", "conv2.weight"),
        ("in2.weight", "conv2.in.weight"),
        ("in2.bias", "conv2.in.bias"),
        ("res1.conv1.conv2d.weight", "res1.conv1.weight"),
        ("res1.in1.weight", "res1.conv1.in.weight"),
        ("res1.in1.bias", "res1.conv1.in.bias"),
        ("res1.conv2.conv2d.weight", "res1.conv2.weight"),
        ("res1.in2.weight", "res1.conv2.in.weight"),
        ("res1.in2.bias", "res1.conv2.in.bias"),
        ("deconv1.conv2d.weight", "deconv1.weight"),
        ("in3.weight", "deconv1.in.weight"),
        ("in3.bias", "deconv1.in.bias"),
        ("deconv2.conv2d.weight", "conv_out.weight"),
        ("in4.weight", "conv_out.in.weight"),
        ("in4.bias", "conv_out.in.bias"),
    ];
    // The convolutions' biases are zeros: the foreign file has none.
    assert_values(&model, Dtype::F32, |key| {
        let foreign = names.iter().find(|(ours, _)| *ours == key).map(|(_, foreign)| foreign.to_string());
        assert_eq!(foreign.is_none(), key.ends_with("conv2d.bias"), "{key}");
        foreign
    });
    // Transposed kernels are stored input channels first.
    assert_eq!(model.tensors()["deconv1.conv2d.weight"].shape, [3, 2, 3, 3]);
}

#[test]
fn hostile_files_are_one_line_that_names_file_and_reason_and_nothing_runs() {
    for (file, reason) in [
        (
            "hostile_os_system.pt",
            "the pickle wants to call `os.system`; only tensors are read, nothing was run",
        ),
        ("hostile_os_system.pkl", "wants to call `os.system`"),
        ("hostile_posix_system.pt", "wants to call `posix.system`"),
        ("hostile_posix_system_legacy.pt", "wants to call `posix.system`"),
        ("hostile_eval.pt", "wants to call `builtins.eval`"),
        ("hostile_module.pt", "wants to call `torch.nn.modules.conv.Conv2d`"),
        ("hostile_deep.pt", "no dictionary of tensors"),
        (
            "two_networks_legacy.pt",
            "several dictionaries of tensors in the pickle, expected one, or one under",
        ),
        ("hostile_storage_size.pt", "storage `0` has 16 bytes, expected 1099511627776 values of 4"),
        ("hostile_shape.pt", "reaches beyond its storage of 4 values"),
        ("hostile_overflow.pt", "reaches beyond its storage of 4 values"),
        ("hostile_offset.pt", "reaches beyond its storage of 4 values"),
        ("hostile_negative.pt", "-1 is no size"),
        ("hostile_missing_storage.pt", "holds no `archive/data/0`"),
        ("hostile_stride0.pt", "far more elements than the file's"),
        ("hostile_directory.pt", "broken zip"),
        ("no_such_file.pt", "cannot read"),
    ] {
        let message = import(&fixture(file)).unwrap_err().to_string();
        assert!(message.contains(reason), "{file}: {message}");
        assert!(message.contains(file) && !message.contains('\n'), "{file}: {message}");
    }
    assert!(!Path::new("impasto-import-was-run").exists());
}

#[test]
fn what_the_pickle_wanted_to_call_can_be_matched() {
    let error = import_bytes(&bytes("hostile_os_system.pt"), "x").unwrap_err();
    assert!(matches!(error, CheckpointError::PickleCall { name } if name == "os.system"));
}

#[test]
fn every_truncation_is_an_error() {
    for file in ["zip.pt", "legacy.pt", "example.safetensors", "tensorflow.safetensors"] {
        let whole = bytes(file);
        for length in 0..whole.len() {
            assert!(import_bytes(&whole[..length], file).is_err(), "{file} cut at {length}");
        }
    }
}

#[test]
fn garbage_and_the_wrong_files_are_explained() {
    for (bytes, reason) in [
        (b"".to_vec(), "the file is empty"),
        (b"not a model at all".to_vec(), "neither a PyTorch file"),
        (b"PK\x03\x04 and then nothing".to_vec(), "broken zip"),
        (b"\x80\x02N.".to_vec(), "not of torch.save"),
        (bytes("make_fixtures.py"), "neither a PyTorch file"),
        (safetensors(&[("features.0.weight", vec![1, 1, 1, 1])]), "first key is `features.0.weight`"),
        (safetensors(&[]), "it has no tensors"),
    ] {
        let message = import_bytes(&bytes, "x").unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
}

#[test]
fn our_own_files_need_no_import() {
    let own = import(&fixture("legacy.pt")).unwrap().to_bytes().unwrap();
    let message = import_bytes(&own, "x").unwrap_err().to_string();
    assert!(message.contains("already a style model") && message.contains("hint:"), "{message}");
}

/// A safetensors file of `f32` zeros.
fn safetensors(tensors: &[(&str, Vec<usize>)]) -> Vec<u8> {
    let zeros = vec![0; 1 << 16];
    let views = tensors.iter().map(|(key, shape)| {
        let size = 4 * shape.iter().product::<usize>();
        (
            *key,
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), &zeros[..size])
                .expect("bytes for the shape"),
        )
    });
    safetensors::serialize(views, None).expect("plain tensors")
}

/// The smallest network with one halving and one doubling, as the example names it.
fn tiny() -> Vec<(&'static str, Vec<usize>)> {
    vec![
        ("conv1.conv2d.weight", vec![2, 3, 3, 3]),
        ("conv1.conv2d.bias", vec![2]),
        ("in1.weight", vec![2]),
        ("in1.bias", vec![2]),
        ("conv2.conv2d.weight", vec![2, 2, 3, 3]),
        ("conv2.conv2d.bias", vec![2]),
        ("in2.weight", vec![2]),
        ("in2.bias", vec![2]),
        ("deconv1.conv2d.weight", vec![2, 2, 3, 3]),
        ("deconv1.conv2d.bias", vec![2]),
        ("in3.weight", vec![2]),
        ("in3.bias", vec![2]),
        ("deconv2.conv2d.weight", vec![3, 2, 3, 3]),
        ("deconv2.conv2d.bias", vec![3]),
    ]
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    assert_eq!(
        import_bytes(&safetensors(&tiny()), "x").unwrap().architecture().to_string(),
        "c3s1-2,d2,u2,c3s1-3"
    );

    let with = |key: &'static str, shape: Vec<usize>| {
        let mut tensors = tiny();
        tensors.retain(|(existing, _)| *existing != key);
        tensors.push((key, shape));
        import_bytes(&safetensors(&tensors), "x").unwrap_err().to_string()
    };
    for (key, shape, reason) in [
        ("extra.weight", vec![1], "unknown"),
        ("in4.weight", vec![3], "unknown"),
        ("in3.weight", vec![3], "shape [3], expected [2]"),
        ("in3.running_average", vec![3], "unknown"),
        ("conv1.conv2d.weight", vec![2, 3, 3, 5], "square kernel"),
        ("conv2.conv2d.weight", vec![2, 2, 9], "square kernel"),
        ("conv2.conv2d.weight", vec![0, 2, 3, 3], "square kernel"),
        ("conv1.conv2d.weight", vec![2, 1, 3, 3], "expected [2, 3, 3, 3]"),
        ("deconv1.conv2d.weight", vec![2, 2, 5, 5], "expected 3×3"),
        ("conv1.conv2d.weight", vec![2000, 1, 1, 1], "1 to 1024 channels"),
    ] {
        let message = with(key, shape);
        assert!(message.contains(&format!("`{key}`")) && message.contains(reason), "{key}: {message}");
    }
    for (shape, reason) in [(vec![4, 2, 3, 3], "last layer"), (vec![3, 2, 4, 4], "odd")] {
        let message = with("deconv2.conv2d.weight", shape);
        assert!(message.contains("bad architecture") && message.contains(reason), "{message}");
    }
    for (key, _) in tiny() {
        let rest: Vec<_> = tiny().into_iter().filter(|(other, _)| *other != key).collect();
        let message = import_bytes(&safetensors(&rest), "x").unwrap_err().to_string();
        assert!(!message.contains('\n'));
        // Without a kernel the network is another one; every other tensor is missed by name.
        if !key.ends_with("conv2d.weight") {
            assert!(message.contains(&format!("`{key}`: missing")), "{key}: {message}");
        }
    }
}

#[test]
fn a_header_length_that_looks_like_a_pickle_is_still_safetensors() {
    let file = safetensors(&tiny());
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    // 80 04: the opcode PROTO of protocol 4. A header may end in spaces.
    let padded = 0x0480_u64;
    assert!(header.len() < padded as usize);
    let mut look_alike = padded.to_le_bytes().to_vec();
    look_alike.extend(header);
    look_alike.resize(8 + padded as usize, b' ');
    look_alike.extend(data);
    assert_eq!(import_bytes(&look_alike, "x").unwrap(), import_bytes(&file, "x").unwrap());
}

#[test]
fn a_changed_bit_in_a_zip_is_noticed() {
    // The middle of the largest storage, the first kernel's.
    let mut changed = bytes("zip.pt");
    let first = uniform(0, "conv1.conv2d.weight", 80).flat_map(f32::to_le_bytes).collect::<Vec<_>>();
    let at = changed.windows(first.len()).position(|window| window == first).unwrap();
    changed[at + 100] ^= 1;
    let message = import_bytes(&changed, "x").unwrap_err().to_string();
    assert!(message.to_lowercase().contains("checksum"), "{message}");
}

#[test]
fn an_entry_that_claims_more_than_the_file_is_refused() {
    let mut claims = bytes("zip.pt");
    // Compressed and plain size in the central directory's entry of data.pkl, the first one.
    let at = claims.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    claims[at + 20..at + 28].copy_from_slice(&[0xf0, 0xff, 0xff, 0x7f, 0xf0, 0xff, 0xff, 0x7f]);
    let message = import_bytes(&claims, "x").unwrap_err().to_string();
    assert!(message.contains("claims 2147483632 bytes, more than the file has"), "{message}");
}

#[test]
fn real_models_load() {
    let Some(data) = test_data("real import") else { return };
    let styles = data.join("styles-pretrained");
    // Sums of value i of each tensor times (i mod 97) + 1, as `torch.load` gives them.
    for (file, parameters, width, checksum) in [
        ("candy_nc16_b1_e2_1e05_1e10.model", 424_899, 16, -40_206.287_466_642),
        ("mosaic_nc16_b1_e2_1e05_1e10.model", 424_899, 16, -150_060.999_811_176),
        ("candy_nc8_b1_e2_1e05_1e10.model", 108_771, 8, -1_874.889_562_711),
        ("mosaic_nc8_b1_e2_1e05_1e10.model", 108_771, 8, -11_130.985_948_624),
    ] {
        let model =
            import(&styles.join("transformernet").join(file)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(model.architecture().parameter_count(), parameters, "{file}");
        let johnson = impasto_checkpoints::Architecture::johnson(width).unwrap();
        assert_eq!(model.architecture(), &johnson, "{file}");
        let weighted = |values: &[f32]| -> f64 {
            values.iter().enumerate().map(|(i, &value)| f64::from(value) * (i % 97 + 1) as f64).sum()
        };
        let sum: f64 = model.tensors().values().map(|tensor| weighted(&tensor.values)).sum();
        assert!((sum - checksum).abs() < 1e-6, "{file}: {sum}, expected {checksum}");
    }
    for file in ["wave.safetensors", "scream.safetensors"] {
        let model = import(&styles.join("lengstrom").join(file)).unwrap_or_else(|error| panic!("{error}"));
        let network = model.architecture();
        assert_eq!(network.to_string(), impasto_checkpoints::Architecture::johnson(32).unwrap().to_string());
        assert_eq!(network.padding, Padding::ZeroSame);
        // Those of the width-32 network and a norm of 3 channels more.
        assert_eq!(network.parameter_count(), 1_679_235 + 6, "{file}");
    }
    let onnx = import(&styles.join("transformernet/mosaic_nc16_256x256_onnxjs013.onnx")).unwrap_err();
    assert!(onnx.to_string().contains("neither a PyTorch file"), "{onnx}");
}

//! The style model's file: saved, loaded and saved again; and what is refused.

use std::collections::BTreeMap;

use impasto_checkpoints::{
    Architecture, CheckpointError, Credit, Dtype, Layer, Layers, LossBalance, Metadata, Padding, StyleModel,
    Training, Upsampling,
};
use proptest::prelude::*;

fn model() -> StyleModel {
    let mut model = StyleModel::random(Architecture::johnson(2).expect("a width"), 3).expect("a model");
    model.amend(|metadata| {
        metadata.name = "wave \"ö\" 波".into();
        metadata.license = Some("CC BY 4.0".into());
        metadata.bf16_psnr = Some(48.123456789012345);
        metadata.credits = vec![Credit {
            work: "The Wave".into(),
            license: "public domain".into(),
            role: "style picture".into(),
        }];
        metadata.training = Some(Training {
            tool: "impasto 0.1.0".into(),
            loss_network: "vgg19".into(),
            style_sha256: "00".repeat(32),
            steps: 1,
            batch_size: 2,
            image_size: 3,
            seed: u64::MAX,
            content_weight: 0.1,
            style_weight: 1e10,
            tv_weight: 1e-7,
            balance: Some(LossBalance {
                content: [("relu3_3".to_owned(), 2.27e-6)].into(),
                style: [("relu1_2".to_owned(), 1.06e-5), ("relu4_1".to_owned(), 1.27e-6)].into(),
                tv: 63.6,
            }),
            config: Some("a = 1\nb = \"x\"\n".into()),
        });
    });
    model
}

#[test]
fn saved_loaded_and_saved_again_is_byte_identical() {
    let folder = tempfile::tempdir().unwrap();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
        let model = model().to_dtype(dtype).unwrap();
        let (first, second) = (folder.path().join("1.safetensors"), folder.path().join("2.safetensors"));
        model.save(&first).unwrap();
        let loaded = StyleModel::load(&first).unwrap();
        assert_eq!(loaded, model);
        loaded.save(&second).unwrap();
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap(), "{}", dtype.name());
    }
}

#[test]
fn a_file_of_half_the_size_holds_the_rounded_values() {
    let (f32_bytes, f16_bytes) =
        (model().to_bytes().unwrap(), model().to_dtype(Dtype::F16).unwrap().to_bytes().unwrap());
    assert!(f16_bytes.len() < f32_bytes.len() * 6 / 10, "{} of {}", f16_bytes.len(), f32_bytes.len());
    let rounded = StyleModel::from_bytes(&f16_bytes).unwrap();
    for (key, tensor) in model().tensors() {
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= a.abs() / 1024.0 + 1e-7;
        assert!(tensor.values.iter().zip(rounded.values(key).unwrap()).all(close), "{key}");
    }
}

#[test]
fn too_large_for_half_precision_is_an_error_that_names_the_tensor() {
    let mut tensors = model().tensors().clone();
    tensors.get_mut("in1.weight").unwrap().values[0] = 1e6;
    let model = StyleModel::new(Metadata::new("x", model().architecture().clone()), tensors).unwrap();
    let error = model.to_dtype(Dtype::F16).unwrap_err().to_string();
    assert!(error.contains("in1.weight") && error.contains("inf"), "{error}");
}

#[test]
fn a_newer_version_is_said_before_its_unknown_keys() {
    let json = r#"{"format_version":2,"something_new":true}"#;
    assert!(matches!(
        Metadata::from_json(json),
        Err(CheckpointError::NewerVersion { found: 2, supported: 1 })
    ));
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let bytes = model().to_bytes().unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    let start = header.find("\"in1.bias\":").unwrap();
    let entry = &header[start..start + header[start..].find('}').unwrap() + 1];
    let twice = header.replacen(entry, &format!("{entry},{entry}"), 1);
    let changed = [&(twice.len() as u64).to_le_bytes()[..], twice.as_bytes(), &bytes[8 + length..]].concat();
    let error = StyleModel::from_bytes(&changed).unwrap_err().to_string();
    assert!(error.contains("`in1.bias`") && error.contains("twice"), "{error}");
}

fn layers() -> impl Strategy<Value = Vec<Layer>> {
    let channels = 1..6_usize;
    let layer = prop_oneof![
        (0..3_usize, 1..3_usize, channels.clone()).prop_map(|(k, stride, channels)| Layer::Conv {
            kernel: 2 * k + 1,
            stride,
            channels
        }),
        channels.clone().prop_map(|channels| Layer::Down { channels }),
        channels.clone().prop_map(|channels| Layer::Residual { channels }),
        channels.prop_map(|channels| Layer::Up { channels }),
    ];
    prop::collection::vec(layer, 0..8).prop_map(|mut layers| {
        layers.push(Layer::Conv { kernel: 3, stride: 1, channels: 3 });
        layers
    })
}

proptest! {
    /// Whatever parses prints as it was, and has unique tensor names, a smallest size and an output that is at
    /// least as large as the input.
    #[test]
    fn architectures_keep_their_promises(layers in layers(), zero: bool, transposed: bool) {
        if let Ok(layers) = Layers::new(layers) {
            prop_assert_eq!(layers.to_string().parse::<Layers>().unwrap(), layers.clone());
            let mut architecture = Architecture::johnson(1).unwrap();
            architecture.layers = layers;
            if zero { architecture.padding = Padding::ZeroSame; }
            if transposed { architecture.upsampling = Upsampling::Transposed; }
            let specs = architecture.tensors();
            let names: BTreeMap<_, _> = specs.iter().map(|spec| (&spec.name, ())).collect();
            prop_assert_eq!(names.len(), specs.len());
            let minimum = architecture.minimum_size();
            for size in minimum..minimum + 9 {
                prop_assert!(architecture.output_size(size) >= size);
            }
            let model = StyleModel::initial(architecture, 1).unwrap();
            prop_assert_eq!(StyleModel::from_bytes(&model.to_bytes().unwrap()).unwrap(), model);
        }
    }

    /// No bytes make the reader panic.
    #[test]
    fn damaged_files_are_errors_or_models(at in 0..4000_usize, value: u8, cut in 0..4000_usize) {
        let mut bytes = model().to_bytes().unwrap();
        let length = bytes.len();
        bytes[at % length] = value;
        bytes.truncate(length - cut % 50);
        if let Ok(model) = StyleModel::from_bytes(&bytes) {
            prop_assert!(model.to_bytes().is_ok());
        }
    }
}

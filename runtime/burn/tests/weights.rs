//! Files of loss-network weights: both layouts, every number type, trimmed or whole, wrong ones refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::collections::HashMap;

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use half::{bf16, f16};
use impasto_burn::loss_network::weights::Tensors;
use impasto_burn::loss_network::{InputConvention, LossNetwork, LossNetworkKind, LossWeights};
use impasto_test_support::{test_data, test_python};
use safetensors::tensor::{Dtype, TensorView};

/// A safetensors file, every value as `dtype`.
fn file(tensors: &Tensors, dtype: Dtype, metadata: &[(&str, &str)]) -> Vec<u8> {
    let bytes = |values: &[f32]| -> Vec<u8> {
        match dtype {
            Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
            Dtype::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
            other => panic!("{other:?}"),
        }
    };
    let data: Vec<(&String, &Vec<usize>, Vec<u8>)> =
        tensors.iter().map(|(key, (shape, values))| (key, shape, bytes(values))).collect();
    let views = data
        .iter()
        .map(|(key, shape, data)| (key.as_str(), TensorView::new(dtype, shape.to_vec(), data).unwrap()));
    let metadata: HashMap<String, String> =
        metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    safetensors::serialize(views, Some(metadata)).unwrap()
}

/// The first convolutions of a network: enough to be recognized, and quick.
fn trimmed(kind: LossNetworkKind, convs: &[&str]) -> Tensors {
    let whole = LossWeights::random(kind, 1).tensors;
    whole.into_iter().filter(|(key, _)| convs.contains(&key.rsplit_once('.').unwrap().0)).collect()
}

/// Caffe's names to torchvision's.
fn renamed(tensors: Tensors, names: &[(&str, &str)]) -> Tensors {
    let rename = |key: String| {
        let (name, end) = key.rsplit_once('.').unwrap();
        let (_, to) = names.iter().find(|(from, _)| *from == name).unwrap();
        format!("{to}.{end}")
    };
    tensors.into_iter().map(|(key, tensor)| (rename(key), tensor)).collect()
}

const BLOCK_1: [&str; 2] = ["conv1_1", "conv1_2"];

fn read(bytes: &[u8]) -> LossWeights {
    LossWeights::from_bytes(bytes, "some-file").unwrap()
}

fn refused(bytes: &[u8]) -> String {
    let error = LossWeights::from_bytes(bytes, "some-file").unwrap_err().to_string();
    assert!(error.starts_with("some-file: ") && !error.contains('\n'), "{error}");
    error
}

#[test]
fn caffe_names_mean_bgr_and_metadata_overrides() {
    let tensors = trimmed(LossNetworkKind::Vgg16, &BLOCK_1);
    let weights = read(&file(&tensors, Dtype::F32, &[]));
    assert_eq!(weights.kind, LossNetworkKind::Vgg16);
    assert_eq!(weights.convention, InputConvention::BgrMinusMean([103.939, 116.779, 123.68]));
    assert_eq!(weights.tensors, tensors);
    assert_eq!(weights.layers(), ["relu1_1", "relu1_2"]);
    assert_eq!(weights.sha256.unwrap().len(), 64);

    let other = read(&file(&tensors, Dtype::F32, &[("input_convention", "imagenet_normalized")]));
    assert_eq!(other.convention, InputConvention::ImagenetNormalized);
    let error = refused(&file(&tensors, Dtype::F32, &[("input_convention", "rgb")]));
    assert!(error.contains("`rgb`") && error.contains("bgr_minus_mean"), "{error}");
}

#[test]
fn torchvision_layout_is_renamed_and_the_classifier_ignored() {
    let tensors = trimmed(LossNetworkKind::Vgg16, &BLOCK_1);
    let mut theirs = renamed(tensors.clone(), &[("conv1_1", "features.0"), ("conv1_2", "features.2")]);
    theirs.insert("classifier.0.weight".to_string(), (vec![2, 2], vec![0.0; 4]));
    let weights = read(&file(&theirs, Dtype::F32, &[]));
    assert_eq!(weights.convention, InputConvention::ImagenetNormalized);
    assert_eq!(weights.tensors, tensors);
}

/// neural-style-pt's VGGs: torchvision's keys, but made for BGR 0..255.
#[test]
fn the_authors_vggs_in_torchvisions_layout_see_bgr() {
    let beginnings = [
        ([0.42947057, 0.373467, -0.061360113], [0.73429835, 0.093403675, 0.06775674]),
        ([0.34119523, 0.33999205, -0.04484424], [0.7301776, 0.06493629, 0.03428847]),
    ];
    for (kernel, bias) in beginnings {
        let mut tensors = trimmed(LossNetworkKind::Vgg19, &BLOCK_1);
        tensors.get_mut("conv1_1.bias").unwrap().1[..3].copy_from_slice(&bias);
        let layout = [("conv1_1", "features.0"), ("conv1_2", "features.2")];
        // The biases alone are not enough: the kernels might be for RGB.
        let rgb = read(&file(&renamed(tensors.clone(), &layout), Dtype::F32, &[]));
        assert_eq!(rgb.convention, InputConvention::ImagenetNormalized);
        tensors.get_mut("conv1_1.weight").unwrap().1[..3].copy_from_slice(&kernel);
        for dtype in [Dtype::F32, Dtype::F16] {
            let bgr = read(&file(&renamed(tensors.clone(), &layout), dtype, &[]));
            assert_eq!(
                bgr.convention,
                InputConvention::BgrMinusMean([103.939, 116.779, 123.68]),
                "{dtype:?}"
            );
        }
    }
}

#[test]
fn squeezenet_comes_in_both_layouts() {
    let parts = ["conv1", "fire2/conv1x1_1", "fire2/conv1x1_2", "fire2/conv3x3_2"];
    let tensors = trimmed(LossNetworkKind::SqueezeNet, &parts);
    let caffe = read(&file(&tensors, Dtype::F32, &[]));
    assert_eq!(caffe.kind, LossNetworkKind::SqueezeNet);
    assert_eq!(caffe.convention, InputConvention::BgrMinusMean([104.0, 117.0, 123.0]));
    assert_eq!(caffe.layers(), ["relu1", "fire2"]);
    let theirs = ["features.0", "features.3.squeeze", "features.3.expand1x1", "features.3.expand3x3"];
    let names: Vec<_> = parts.into_iter().zip(theirs).collect();
    let torchvision = read(&file(&renamed(tensors.clone(), &names), Dtype::F32, &[]));
    assert_eq!(torchvision.kind, LossNetworkKind::SqueezeNet);
    assert_eq!(torchvision.convention, InputConvention::ImagenetNormalized);
    assert_eq!(torchvision.tensors, tensors);

    // SqueezeNet 1.1 begins with 64 filters of 3×3.
    let mut wrong = renamed(tensors, &names);
    wrong.insert("features.0.weight".to_string(), (vec![64, 3, 3, 3], vec![0.0; 1728]));
    let error = refused(&file(&wrong, Dtype::F32, &[]));
    assert!(error.contains("features.0.weight") && error.contains("[96, 3, 7, 7]"), "{error}");
}

/// Every convolution under torchvision's numbers, as printed by `torchvision.models.vgg19().features`.
#[test]
fn whole_vggs_are_told_apart_in_both_layouts() {
    let numbers = |kind| match kind {
        LossNetworkKind::Vgg16 => vec![0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28],
        _ => vec![0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
    };
    for kind in [LossNetworkKind::Vgg16, LossNetworkKind::Vgg19] {
        let tensors = LossWeights::random(kind, 1).tensors;
        let caffe = read(&file(&tensors, Dtype::F16, &[]));
        assert_eq!((caffe.kind, caffe.layers()), (kind, kind.layers()));
        let convs: Vec<String> = kind.layers().iter().map(|layer| layer.replace("relu", "conv")).collect();
        let modules: Vec<String> = numbers(kind).into_iter().map(|n| format!("features.{n}")).collect();
        let names: Vec<(&str, &str)> =
            convs.iter().map(String::as_str).zip(modules.iter().map(String::as_str)).collect();
        assert_eq!(convs.len(), modules.len());
        let torchvision = read(&file(&renamed(tensors, &names), Dtype::F16, &[]));
        assert_eq!((torchvision.kind, torchvision.layers()), (kind, kind.layers()));
        assert_eq!(torchvision.tensors, caffe.tensors);
    }
}

#[test]
fn half_precision_files_are_read() {
    let tensors = trimmed(LossNetworkKind::Vgg19, &BLOCK_1);
    for (dtype, step) in [(Dtype::F16, 1e-3), (Dtype::BF16, 8e-3)] {
        let weights = read(&file(&tensors, dtype, &[("network", "vgg19")]));
        assert_eq!(weights.kind, LossNetworkKind::Vgg19, "the metadata decides where the tensors do not");
        for (key, (_, values)) in &weights.tensors {
            let close =
                values.iter().zip(&tensors[key].1).all(|(a, b)| (a - b).abs() <= step * b.abs() + 1e-7);
            assert!(close, "{key}");
        }
    }
}

/// The convention is the network's business: features of one RGB picture must not depend on how the weights
/// want their input, once the first kernel is changed accordingly.
#[test]
fn both_conventions_see_the_same_picture() {
    let caffe = LossWeights {
        convention: InputConvention::BgrMinusMean([103.939, 116.779, 123.68]),
        ..LossWeights::random(LossNetworkKind::Vgg16, 1)
    };
    let x: Vec<f32> = (0..3 * 5 * 5).map(|i| (i * 37 % 256) as f32).collect();
    let features = |weights: &LossWeights, x: &[f32]| -> Vec<f32> {
        let network = LossNetwork::<Flex>::new(weights, &Default::default()).unwrap();
        let x = Tensor::from_data(TensorData::new(x.to_vec(), [1, 3, 5, 5]), &Default::default());
        let set = network.layers(&["relu1_1"]).unwrap();
        network.features(x, &set).unwrap().remove(0).into_data().to_vec().unwrap()
    };
    // By hand: filter `f` at the middle pixel is Σ w · (bgr − mean), rectified.
    let found = features(&caffe, &x);
    let (_, kernel) = &caffe.tensors["conv1_1.weight"];
    let mean_bgr = [103.939, 116.779, 123.68];
    for filter in 0..64 {
        let mut sum = 0.0_f64;
        for (c, mean) in mean_bgr.into_iter().enumerate() {
            for (dy, dx) in (0..3).flat_map(|y| (0..3).map(move |x| (y, x))) {
                let value = f64::from(x[(2 - c) * 25 + (1 + dy) * 5 + 1 + dx]) - mean;
                sum += value * f64::from(kernel[((filter * 3 + c) * 3 + dy) * 3 + dx]);
            }
        }
        let value = f64::from(found[filter * 25 + 12]);
        assert!((value - sum.max(0.0)).abs() < 1e-2, "filter {filter}: {value} {sum}");
    }
}

#[test]
fn saved_weights_read_back_the_same() {
    let mut weights = LossWeights::random(LossNetworkKind::SqueezeNet, 7);
    let back = read(&weights.to_safetensors().unwrap());
    assert_eq!(back.convention, weights.convention, "in the metadata, against the layout's own");
    weights.origin = back.origin.clone();
    weights.sha256 = back.sha256.clone();
    assert_eq!(back, weights);
}

#[test]
fn wrong_files_say_what_was_expected() {
    let good = trimmed(LossNetworkKind::Vgg16, &BLOCK_1);
    let change = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = good.clone();
        change(&mut tensors);
        refused(&file(&tensors, Dtype::F32, &[]))
    };
    assert!(refused(&[]).contains("empty"));
    assert!(refused(b"<html>not found</html>").contains("safetensors"));
    let whole = file(&good, Dtype::F32, &[]);
    assert!(refused(&whole[..whole.len() - 1]).contains("not a whole safetensors"));
    let error = change(&|tensors| {
        tensors.clear();
        tensors.insert("in1.weight".to_string(), (vec![1], vec![0.0]));
    });
    assert!(error.contains("`in1.weight`") && error.contains("conv1_1.weight"), "{error}");
    let error = change(&|tensors| drop(tensors.remove("conv1_2.bias")));
    assert!(error.contains("`conv1_2.bias` is missing"), "{error}");
    let error = change(&|tensors| tensors.get_mut("conv1_2.bias").unwrap().0 = vec![8, 8]);
    assert!(error.contains("`conv1_2.bias` has shape [8, 8], expected [64]"), "{error}");
    let error = change(&|tensors| tensors.get_mut("conv1_1.bias").unwrap().1[5] = f32::NAN);
    assert!(error.contains("`conv1_1.bias` holds NaN"), "{error}");
    let error = change(&|tensors| {
        let late = trimmed(LossNetworkKind::Vgg16, &["conv2_2"]);
        tensors.extend(late);
    });
    assert!(error.contains("`conv2_1.weight` is missing, though `conv2_2.weight`"), "{error}");
    let error = LossWeights::load("no/such/file.pth").unwrap_err().to_string();
    assert!(error.starts_with("no/such/file.pth: cannot read"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let error = LossWeights::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("folder"), "{error}");
}

#[test]
fn the_real_files_are_recognized() {
    let Some(data) = test_data("real weights") else { return };
    for (name, kind, deepest) in [
        ("vgg19_to_conv4_2_f32", LossNetworkKind::Vgg19, "relu4_2"),
        ("vgg19_conv_f16", LossNetworkKind::Vgg19, "relu5_4"),
        ("squeezenet1.0_decoded_f32", LossNetworkKind::SqueezeNet, "fire9"),
    ] {
        let weights = LossWeights::load(data.join(format!("loss-networks/{name}.safetensors"))).unwrap();
        assert_eq!(weights.kind, kind, "{name}");
        assert_eq!(weights.layers().last().unwrap(), deepest);
        assert_eq!(weights.convention, InputConvention::BgrMinusMean(kind.caffe_mean_bgr()));
    }
}

/// Both of PyTorch's containers, in torchvision's layout with a classifier.
#[test]
fn pytorch_files_are_read() {
    let Some(python) = test_python("PyTorch's files") else { return };
    let folder = tempfile::tempdir().unwrap();
    let tensors = trimmed(LossNetworkKind::Vgg16, &BLOCK_1);
    let theirs = renamed(tensors.clone(), &[("conv1_1", "features.0"), ("conv1_2", "features.2")]);
    std::fs::write(folder.path().join("in.safetensors"), file(&theirs, Dtype::F32, &[])).unwrap();
    let script = "
import sys, collections, torch
from safetensors.torch import load_file
folder = sys.argv[1]
state = collections.OrderedDict(load_file(folder + '/in.safetensors'))
state['classifier.0.weight'] = torch.zeros(3, 2)
torch.save(state, folder + '/zip.pth')
torch.save(state, folder + '/legacy.pth', _use_new_zipfile_serialization=False)
";
    let output =
        std::process::Command::new(python).arg("-c").arg(script).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for name in ["zip.pth", "legacy.pth"] {
        let weights = LossWeights::load(folder.path().join(name)).unwrap();
        assert_eq!(weights.convention, InputConvention::ImagenetNormalized);
        assert_eq!(weights.tensors, tensors, "{name}");
    }
}

//! Painting through the trait: what comes out, and what is refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use impasto_burn::{BurnError, Device, Precision, open_painter};
use impasto_checkpoints::{Architecture, StyleModel, random};

fn model() -> StyleModel {
    StyleModel::random(Architecture::johnson(4).unwrap(), 17).unwrap()
}

fn picture(width: usize, height: usize) -> Vec<u8> {
    random::uniform(1, "picture", width * height * 3).map(|u| ((u + 1.0) * 128.0) as u8).collect()
}

#[test]
fn the_cpu_paints_what_the_network_gives() {
    use burn::tensor::{Tensor, TensorData};
    use impasto_burn::{TransformNet, backend::Cpu};
    let (width, height) = (13, 10);
    let rgb = picture(width, height);
    let mut painter = open_painter(&model(), Device::Cpu, Precision::F32).unwrap();
    assert_eq!(painter.device(), Device::Cpu);
    let mut painted = vec![f32::NAN; rgb.len()];
    painter.paint(&rgb, width, height, &mut painted).unwrap();
    let planes: Vec<f32> =
        (0..3).flat_map(|c| rgb.iter().skip(c).step_by(3)).map(|&v| f32::from(v)).collect();
    let input =
        Tensor::<Cpu, 4>::from_data(TensorData::new(planes, [1, 3, height, width]), &Default::default());
    let network = TransformNet::from_model(&model(), &Default::default()).unwrap();
    let expected = network.forward(input).into_data().to_vec::<f32>().unwrap();
    for (at, value) in painted.iter().enumerate() {
        assert_eq!(*value, expected[at % 3 * width * height + at / 3], "value {at}");
    }
}

#[test]
fn buffers_of_another_size_are_refused() {
    let mut painter = open_painter(&model(), Device::Cpu, Precision::F32).unwrap();
    for (rgb, painted) in [(11, 12), (12, 11), (12, 0)] {
        let error = painter.paint(&vec![0; rgb], 2, 2, &mut vec![0.0; painted]).unwrap_err();
        assert!(matches!(error, BurnError::BufferSize { expected: 12, .. }), "{error}");
    }
    let error = painter.paint(&[0; 3], usize::MAX, 2, &mut [0.0; 3]).unwrap_err();
    assert!(matches!(error, BurnError::BufferSize { .. }), "{error}");
    painter.paint(&[], 0, 7, &mut []).unwrap();
}

#[test]
fn half_precision_on_the_cpu_is_refused_with_the_way_out() {
    let error = open_painter(&model(), Device::Cpu, Precision::Half).err().unwrap().to_string();
    assert!(error.contains("half") && error.contains("hint: --precision f32"), "{error}");
}

#[test]
fn a_card_that_is_not_there_is_one_line() {
    for name in ["cuda:65000", "wgpu:65000"] {
        let device: Device = name.parse().unwrap();
        let error = open_painter(&model(), device, Precision::F32).err().expect("no machine has that many");
        let line = error.to_string();
        assert!(line.starts_with(&format!("device {name}: ")) && line.contains("; hint: "), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}

//! What was written, decoded again: that it can be run in the order it is in, that shapes fit, that nothing of the
//! model is lost.

use std::collections::BTreeMap;

use prost::Message;

use super::messages::{Constant, DimensionValue, ElementType, Graph, Model, Node};
use super::{INPUT, IR_VERSION, OPERATOR_SET, OUTPUT, save_onnx, to_onnx};
use crate::architecture::{Activation, Architecture, InputRange, Output, Padding, Upsampling};
use crate::metadata::{Credit, Metadata};
use crate::style_model::{Dtype, StyleModel};

/// Networks that between them have every kind of layer and convention.
fn architectures() -> Vec<Architecture> {
    let mut all = Vec::new();
    for layers in [
        "c9s1-8,d16,d32,R32,R32,u16,u8,c9s1-3",
        "c7s2-8,c3s1-12,c5s2-12,R12,u10,c3s1-10,u8,c5s1-3",
        "c3s1-8,c1s2-8,c1s1-12,R12,u8,c1s1-3",
        "c3s1-6,d8,d8,d8,c3s2-8,R8,u8,u8,u8,u6,c3s1-3",
        "c1s1-3",
        "c3s1-3",
    ] {
        for (padding, upsampling) in [
            (Padding::Reflect, Upsampling::NearestConv),
            (Padding::Reflect, Upsampling::Transposed),
            (Padding::ZeroSame, Upsampling::NearestConv),
            (Padding::ZeroSame, Upsampling::Transposed),
        ] {
            for (input, output_norm, activation) in [
                (InputRange::Rgb255, false, Activation::Linear),
                (InputRange::Rgb01, true, Activation::Tanh),
                (InputRange::ImagenetNormalized, false, Activation::Tanh),
            ] {
                let mut architecture = Architecture::johnson(1).unwrap();
                architecture.layers = layers.parse().unwrap();
                (architecture.padding, architecture.upsampling) = (padding, upsampling);
                (architecture.input, architecture.output_norm) = (input, output_norm);
                architecture.norm_epsilon = 1e-3;
                if activation == Activation::Tanh {
                    architecture.output = Output { activation, scale: 150.0, offset: 127.5 };
                }
                all.push(architecture);
            }
        }
    }
    all
}

fn decode(bytes: &[u8]) -> (Model, Graph) {
    let model = Model::decode(bytes).expect("a protocol buffer");
    let graph = model.graph.clone().expect("a graph");
    (model, graph)
}

fn export(model: &StyleModel) -> Graph {
    decode(&to_onnx(model).unwrap()).1
}

fn ints<'a>(node: &'a Node, name: &str) -> &'a [i64] {
    node.attribute.iter().find(|a| a.name == name).map_or(&[], |attribute| &attribute.ints)
}

fn text<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    let attribute = node.attribute.iter().find(|attribute| attribute.name == name)?;
    std::str::from_utf8(attribute.s.as_deref()?).ok()
}

fn integers(constant: &Constant) -> Vec<i64> {
    assert_eq!(constant.data_type, ElementType::Int64 as i32, "{}", constant.name);
    constant.raw_data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

/// A value while the graph is run with sizes in place of pictures: channels, height, width; or numbers.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Picture([i64; 3]),
    Numbers(Vec<i64>),
}

/// Runs the graph on sizes alone, as ONNX defines its operators; gives the painting's channels, height and width.
fn run(graph: &Graph, height: i64, width: i64) -> [i64; 3] {
    let constants: BTreeMap<_, _> = graph.initializer.iter().map(|c| (c.name.as_str(), c)).collect();
    assert_eq!(constants.len(), graph.initializer.len(), "a constant's name is there twice");
    let mut values = BTreeMap::from([(INPUT.to_string(), Value::Picture([3, height, width]))]);
    for node in &graph.node {
        let picture = |index: usize| match &values[&node.input[index]] {
            Value::Picture(size) => *size,
            other => panic!("{}: {other:?}, expected a picture", node.name),
        };
        let numbers = |index: usize| match (
            values.get(&node.input[index]),
            constants.get(node.input[index].as_str()),
        ) {
            (Some(Value::Numbers(numbers)), None) => numbers.clone(),
            (None, Some(constant)) => integers(constant),
            other => panic!("{}: {other:?}, expected numbers", node.name),
        };
        let dims = |index: usize| &constants[node.input[index].as_str()].dims;
        let result = match node.op_type.as_str() {
            "Shape" => {
                let [channels, height, width] = picture(0);
                Value::Numbers(vec![1, channels, height, width])
            }
            "Slice" if node.input.len() == 3 => {
                Value::Numbers(numbers(0)[numbers(1)[0] as usize..numbers(2)[0] as usize].to_vec())
            }
            "Slice" => {
                let ([channels, height, width], ends) = (picture(0), numbers(2));
                assert_eq!((numbers(1), numbers(3)), (vec![0, 0], vec![2, 3]));
                assert!(ends[0] <= height && ends[1] <= width, "{ends:?} of {height}×{width}");
                Value::Picture([channels, ends[0], ends[1]])
            }
            "Sub" => Value::Numbers(numbers(0).iter().zip(numbers(1)).map(|(a, b)| a - b).collect()),
            "Max" => Value::Numbers(numbers(0).iter().zip(numbers(1)).map(|(a, b)| *a.max(&b)).collect()),
            "Concat" => Value::Numbers([numbers(0), numbers(1)].concat()),
            "Pad" => {
                let ([channels, height, width], pads) = (picture(0), numbers(1));
                assert!(pads[..2] == [0, 0] && pads[4..6] == [0, 0] && pads.iter().all(|&pad| pad >= 0));
                if text(node, "mode") == Some("reflect") {
                    let largest = pads.iter().max().unwrap();
                    assert!(*largest < height.min(width), "{}: {height}×{width} by {largest}", node.name);
                } else {
                    assert_eq!(text(node, "mode"), Some("edge"));
                }
                Value::Picture([channels, height + pads[2] + pads[6], width + pads[3] + pads[7]])
            }
            "Resize" => {
                assert_eq!(node.input[1], "");
                let [channels, height, width] = picture(0);
                Value::Picture([channels, 2 * height, 2 * width])
            }
            "Conv" => {
                let ([channels, height, width], weight) = (picture(0), dims(1));
                assert_eq!((weight[1], dims(2)), (channels, &vec![weight[0]]), "{}", node.name);
                assert_eq!(ints(node, "kernel_shape"), &weight[2..], "{}", node.name);
                let stride = ints(node, "strides")[0];
                let side = |n: i64, axis: usize| match text(node, "auto_pad") {
                    Some(same) => {
                        assert_eq!(same, "SAME_UPPER");
                        (n + stride - 1) / stride
                    }
                    None => {
                        let pads = ints(node, "pads");
                        (n + pads[axis] + pads[axis + 2] - weight[2]) / stride + 1
                    }
                };
                Value::Picture([weight[0], side(height, 0), side(width, 1)])
            }
            "ConvTranspose" => {
                let ([channels, height, width], weight) = (picture(0), dims(1));
                assert_eq!((weight[0], dims(2)), (channels, &vec![weight[1]]), "{}", node.name);
                let pads = ints(node, "pads");
                let side = |n: i64, axis: usize| 2 * (n - 1) + 3 - pads[axis] - pads[axis + 2];
                Value::Picture([weight[1], side(height, 0), side(width, 1)])
            }
            "InstanceNormalization" => {
                let size = picture(0);
                assert_eq!((dims(1), dims(2)), (&vec![size[0]], &vec![size[0]]), "{}", node.name);
                Value::Picture(size)
            }
            "Relu" | "Tanh" => Value::Picture(picture(0)),
            "Add" | "Mul" if constants.contains_key(node.input[1].as_str()) => {
                assert!([vec![], vec![1, 3, 1, 1]].contains(dims(1)), "{}", node.name);
                Value::Picture(picture(0))
            }
            "Add" => {
                assert_eq!(picture(0), picture(1), "{}", node.name);
                Value::Picture(picture(0))
            }
            other => panic!("{}: {other} is not expected", node.name),
        };
        let [output] = &node.output[..] else { panic!("{}: {:?}", node.name, node.output) };
        assert!(!constants.contains_key(output.as_str()), "{output} is a constant");
        assert_eq!(values.insert(output.clone(), result), None, "{output} is written twice");
    }
    match values[OUTPUT] {
        Value::Picture(size) => size,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn every_network_runs_in_order_and_gives_the_picture_s_size() {
    for architecture in architectures() {
        let words = format!("{architecture:?}");
        let graph = export(&StyleModel::random(architecture, 1).unwrap());
        for (height, width) in [(1, 1), (2, 9), (5, 4), (16, 17), (33, 31), (480, 641)] {
            assert_eq!(run(&graph, height, width), [3, height, width], "{words}");
        }
    }
}

#[test]
fn every_tensor_is_there_with_its_name_shape_and_values() {
    for architecture in architectures() {
        let model = StyleModel::random(architecture, 2).unwrap();
        let graph = export(&model);
        let constants: BTreeMap<_, _> = graph.initializer.iter().map(|c| (c.name.as_str(), c)).collect();
        for (name, tensor) in model.tensors() {
            let constant = constants[name.as_str()];
            let dims: Vec<_> = constant.dims.iter().map(|&dim| dim as usize).collect();
            let values: Vec<_> =
                constant.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            assert_eq!(constant.data_type, ElementType::Float as i32);
            assert!(dims == tensor.shape && values == tensor.values, "{name}");
        }
        // None is there that no operator reads.
        let read: Vec<_> = graph.node.iter().flat_map(|node| &node.input).collect();
        for name in constants.keys() {
            assert!(read.iter().any(|input| input == name), "{name} is read by nothing");
        }
    }
}

#[test]
fn conventions_become_the_operators_that_they_are() {
    let mut architecture = Architecture::johnson(1).unwrap();
    architecture.layers = "c9s1-2,d3,R3,u2,c9s1-3".parse().unwrap();
    let kinds = |architecture: &Architecture| {
        let graph = export(&StyleModel::random(architecture.clone(), 1).unwrap());
        let count = |kind: &str| graph.node.iter().filter(|node| node.op_type == kind).count();
        ["Pad", "Resize", "ConvTranspose", "InstanceNormalization", "Tanh", "Mul", "Add"].map(count)
    };
    // Six convolutions padded by reflection, and the picture that is too small; one residual sum.
    assert_eq!(kinds(&architecture), [7, 1, 0, 5, 0, 0, 1]);
    architecture.padding = Padding::ZeroSame;
    assert_eq!(kinds(&architecture), [0, 1, 0, 5, 0, 0, 1]);
    architecture.upsampling = Upsampling::Transposed;
    architecture.output_norm = true;
    assert_eq!(kinds(&architecture), [0, 0, 1, 6, 0, 0, 1]);
    architecture.input = InputRange::ImagenetNormalized;
    architecture.output = Output { activation: Activation::Tanh, scale: 150.0, offset: 127.5 };
    assert_eq!(kinds(&architecture), [0, 0, 1, 6, 1, 2, 3]);

    let epsilon = |graph: &Graph| {
        let norms = graph.node.iter().filter(|node| node.op_type == "InstanceNormalization");
        norms.map(|node| node.attribute[0].f).collect::<Vec<_>>()
    };
    architecture.norm_epsilon = 0.125;
    let graph = export(&StyleModel::random(architecture, 1).unwrap());
    assert_eq!(epsilon(&graph), [Some(0.125); 6]);
}

#[test]
fn the_file_says_what_it_is_and_whom_it_owes() {
    let architecture = Architecture::johnson(1).unwrap();
    let mut model = StyleModel::random(architecture, 1).unwrap();
    model.amend(|metadata| {
        metadata.name = "wave \"ü\"".into();
        metadata.license = Some("CC0-1.0".into());
        metadata.credits = vec![Credit {
            work: "The Great Wave".into(),
            license: "public domain".into(),
            role: "style picture".into(),
        }];
    });
    let (file, graph) = decode(&to_onnx(&model).unwrap());
    assert_eq!((file.ir_version, file.opset_import[0].version), (IR_VERSION, OPERATOR_SET));
    assert_eq!(
        (file.producer_name.as_str(), file.producer_version.as_str()),
        ("impasto", env!("CARGO_PKG_VERSION"))
    );
    let property =
        |key: &str| &file.metadata_props.iter().find(|property| property.key == key).unwrap().value;
    assert_eq!(property("style"), "wave \"ü\"");
    assert_eq!(property("license"), "CC0-1.0");
    assert_eq!(property("credits"), "style picture: The Great Wave (public domain)");
    assert_eq!(property("architecture"), &model.architecture().to_string());
    assert_eq!(&Metadata::from_json(property("impasto")).unwrap(), model.metadata());

    for (values, name) in [(&graph.input, INPUT), (&graph.output, OUTPUT)] {
        let [value] = &values[..] else { panic!("{values:?}") };
        let tensor = value.kind.as_ref().and_then(|kind| kind.tensor_type.as_ref()).unwrap();
        let dims: Vec<_> =
            tensor.shape.iter().flat_map(|shape| &shape.dim).map(|dim| dim.value.clone()).collect();
        let named = |name: &str| Some(DimensionValue::Name(name.into()));
        let number = |n| Some(DimensionValue::Number(n));
        assert_eq!((value.name.as_str(), tensor.elem_type), (name, ElementType::Float as i32));
        assert_eq!(dims, [number(1), number(3), named("height"), named("width")]);
    }
}

#[test]
fn a_half_precision_model_is_written_in_f32_and_equal_models_give_equal_files() {
    let model = StyleModel::random(Architecture::johnson(1).unwrap(), 1).unwrap();
    let half = model.to_dtype(Dtype::F16).unwrap();
    let weight = |model: &StyleModel| {
        let graph = export(model);
        let constant = graph.initializer.into_iter().find(|c| c.name == "conv1.conv2d.weight").unwrap();
        (constant.data_type, constant.raw_data)
    };
    let expected: Vec<u8> =
        half.values("conv1.conv2d.weight").unwrap().iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(weight(&half), (ElementType::Float as i32, expected));
    assert_ne!(weight(&half), weight(&model));
    assert_eq!(to_onnx(&model).unwrap(), to_onnx(&model.clone()).unwrap());
}

#[test]
fn saving_is_whole_or_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let model = StyleModel::random(Architecture::johnson(1).unwrap(), 1).unwrap();
    let path = folder.path().join("a.onnx");
    let bytes = save_onnx(&model, &path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), to_onnx(&model).unwrap());
    assert_eq!(bytes as u64, path.metadata().unwrap().len());
    let error = save_onnx(&model, folder.path().join("missing/a.onnx")).unwrap_err().to_string();
    assert!(error.contains("missing/a.onnx: cannot write") && error.lines().count() == 1, "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

//! A style model's network as ONNX operators: the walk over [`Architecture::blocks`] that the CPU engine takes too.

use crate::architecture::{Activation, Architecture, Block, ConvKind, ConvSpec, NormSpec, Padding};
use crate::error::CheckpointError;
use crate::style_model::StyleModel;

use super::messages::{Attribute, AttributeKind, Constant, ElementType, Node};
use super::{INPUT, OUTPUT};

/// The value that holds height and width of the input.
const SIZE: &str = "size";

/// The operators, and the constants that they read, in an order in which they can be run.
pub(super) struct Operators {
    pub nodes: Vec<Node>,
    pub constants: Vec<Constant>,
}

/// The whole network: from RGB 0..255 to RGB 0..255, cropped to the input's size.
pub(super) fn operators(model: &StyleModel) -> Result<Operators, CheckpointError> {
    let architecture = model.architecture();
    let mut writer =
        Writer { model, padding: architecture.padding, nodes: Vec::new(), constants: Vec::new() };
    let minimum = architecture.minimum_size();
    let resized = minimum > 1 || architecture.downscale() > 1;
    if resized {
        writer.size();
    }
    let mut x = writer.at_least(INPUT, minimum);
    x = writer.input_range(&x, architecture);
    for block in architecture.blocks() {
        x = match block {
            Block::Conv { conv, norm, relu } => {
                x = writer.conv(&x, &conv)?;
                if let Some(norm) = &norm {
                    x = writer.norm(&x, norm, architecture.norm_epsilon)?;
                }
                if relu { writer.relu(&x) } else { x }
            }
            Block::Residual { convs: [conv1, conv2], norms: [norm1, norm2] } => {
                let mut branch = writer.conv(&x, &conv1)?;
                branch = writer.norm(&branch, &norm1, architecture.norm_epsilon)?;
                branch = writer.relu(&branch);
                branch = writer.conv(&branch, &conv2)?;
                branch = writer.norm(&branch, &norm2, architecture.norm_epsilon)?;
                // `res1.in2` is the last of block `res1`.
                let name = norm2.name.split('.').next().unwrap_or_default();
                writer.node("Add", name, &[&x, &branch], [])
            }
        };
    }
    x = writer.output(&x, architecture);
    if resized {
        writer.crop(&x);
    }
    if let Some(last) = writer.nodes.last_mut() {
        last.output = vec![OUTPUT.into()];
    }
    Ok(Operators { nodes: writer.nodes, constants: writer.constants })
}

/// Collects operators. Each writes one value, which is called what the operator is called.
struct Writer<'a> {
    model: &'a StyleModel,
    padding: Padding,
    nodes: Vec<Node>,
    constants: Vec<Constant>,
}

impl Writer<'_> {
    /// Appends an operator; gives the name of its result.
    fn node<const N: usize>(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&str],
        attributes: [Attribute; N],
    ) -> String {
        self.nodes.push(Node {
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![name.into()],
            name: name.into(),
            op_type: operator.into(),
            attribute: attributes.into(),
        });
        name.into()
    }

    /// Adds a constant, once for each name.
    fn constant(&mut self, name: &str, element: ElementType, dims: &[usize], raw_data: Vec<u8>) -> String {
        if !self.constants.iter().any(|constant| constant.name == name) {
            let dims = dims.iter().map(|&dim| dim as i64).collect();
            self.constants.push(Constant { name: name.into(), data_type: element as i32, dims, raw_data });
        }
        name.into()
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::Float, dims, bytes)
    }

    fn integers(&mut self, name: &str, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, ElementType::Int64, &[values.len()], bytes)
    }

    /// Weight and bias of a convolution or norm, under the names they have in the style model's file. A bias that a
    /// norm cancels is kept: an exported file holds the model as it is.
    fn tensors(
        &mut self,
        prefix: &str,
        weight_shape: &[usize],
        bias: usize,
    ) -> Result<[String; 2], CheckpointError> {
        let names = ["weight", "bias"].map(|part| format!("{prefix}.{part}"));
        for (name, shape) in names.iter().zip([weight_shape, &[bias]]) {
            self.floats(name, shape, self.model.values(name)?);
        }
        Ok(names)
    }

    /// Height and width of the input, known when the model runs.
    fn size(&mut self) {
        let shape = self.node("Shape", "shape", &[INPUT], []);
        let (from, to) = (self.integers("size.from", &[2]), self.integers("size.to", &[4]));
        self.node("Slice", SIZE, &[&shape, &from, &to], []);
    }

    /// Repeats the last row and column of a picture that is too small for the network, as the CPU engine does.
    fn at_least(&mut self, x: &str, minimum: usize) -> String {
        if minimum <= 1 {
            return x.into();
        }
        let smallest = self.integers("small.smallest", &[minimum as i64; 2]);
        let nothing = self.integers("small.nothing", &[0; 2]);
        let before = self.integers("small.before", &[0; 6]);
        let missing = self.node("Sub", "small.difference", &[&smallest, SIZE], []);
        let missing = self.node("Max", "small.missing", &[&missing, &nothing], []);
        let pads = self.node("Concat", "small.pads", &[&before, &missing], [integer("axis", 0)]);
        self.node("Pad", "small", &[x, &pads], [text("mode", "edge")])
    }

    /// `x · factor + summand`, channel by channel.
    fn input_range(&mut self, x: &str, architecture: &Architecture) -> String {
        let range = architecture.input.from_rgb255();
        let mut x = x.to_string();
        if range.iter().any(|&(factor, _)| factor != 1.0) {
            let factor = self.floats("input.factor", &[1, 3, 1, 1], &range.map(|(factor, _)| factor));
            x = self.node("Mul", "input.scaled", &[&x, &factor], []);
        }
        if range.iter().any(|&(_, summand)| summand != 0.0) {
            let summand = self.floats("input.summand", &[1, 3, 1, 1], &range.map(|(_, summand)| summand));
            x = self.node("Add", "input.shifted", &[&x, &summand], []);
        }
        x
    }

    /// A convolution with its padding, doubling first where the layer does.
    fn conv(&mut self, x: &str, conv: &ConvSpec) -> Result<String, CheckpointError> {
        let [weight, bias] = self.tensors(&conv.name, &conv.weight_shape(), conv.output)?;
        let half = (conv.kernel / 2) as i64;
        let kernel_shape = integers("kernel_shape", &[conv.kernel as i64; 2]);
        if conv.kind == ConvKind::Transposed {
            // 2n + 1 values come out; one is cropped, as `Upsampling::Transposed` says.
            let pads = match self.padding {
                Padding::Reflect => [1, 1, 0, 0],
                Padding::ZeroSame => [0, 0, 1, 1],
            };
            let attributes = [kernel_shape, integers("strides", &[2, 2]), integers("pads", &pads)];
            return Ok(self.node("ConvTranspose", &conv.name, &[x, &weight, &bias], attributes));
        }
        let mut x = x.to_string();
        let mut stride = 1;
        match conv.kind {
            ConvKind::Strided(by) => stride = by,
            _ => {
                let scales = self.floats("doubled.scales", &[4], &[1.0, 1.0, 2.0, 2.0]);
                let attributes = [
                    text("mode", "nearest"),
                    text("coordinate_transformation_mode", "asymmetric"),
                    text("nearest_mode", "floor"),
                ];
                // The empty name is the region of interest, which nearest neighbours do not have.
                x = self.node("Resize", &format!("{}.doubled", conv.name), &[&x, "", &scales], attributes);
            }
        }
        let pads = match (self.padding, stride) {
            (Padding::Reflect, _) if half > 0 => {
                let amounts = [0, 0, half, half, 0, 0, half, half];
                let amounts = self.integers(&format!("reflect.{half}"), &amounts);
                let name = format!("{}.padded", conv.name);
                x = self.node("Pad", &name, &[&x, &amounts], [text("mode", "reflect")]);
                integers("pads", &[0; 4])
            }
            (Padding::Reflect, _) => integers("pads", &[0; 4]),
            (Padding::ZeroSame, 1) => integers("pads", &[half; 4]),
            // Before and after depend on the size: the odd one comes after.
            (Padding::ZeroSame, _) => text("auto_pad", "SAME_UPPER"),
        };
        let attributes = [kernel_shape, integers("strides", &[stride as i64; 2]), pads];
        Ok(self.node("Conv", &conv.name, &[&x, &weight, &bias], attributes))
    }

    fn norm(&mut self, x: &str, norm: &NormSpec, epsilon: f32) -> Result<String, CheckpointError> {
        let [weight, bias] = self.tensors(&norm.name, &[norm.channels], norm.channels)?;
        let attributes = [float("epsilon", epsilon)];
        Ok(self.node("InstanceNormalization", &norm.name, &[x, &weight, &bias], attributes))
    }

    fn relu(&mut self, x: &str) -> String {
        self.node("Relu", &format!("{x}.relu"), &[x], [])
    }

    /// `activation(x) · scale + offset`, neither rounded nor clamped.
    fn output(&mut self, x: &str, architecture: &Architecture) -> String {
        let output = architecture.output;
        let mut x = x.to_string();
        if output.activation == Activation::Tanh {
            x = self.node("Tanh", "output.tanh", &[&x], []);
        }
        if output.scale != 1.0 {
            let scale = self.floats("output.scale", &[], &[output.scale]);
            x = self.node("Mul", "output.scaled", &[&x, &scale], []);
        }
        if output.offset != 0.0 {
            let offset = self.floats("output.offset", &[], &[output.offset]);
            x = self.node("Add", "output.shifted", &[&x, &offset], []);
        }
        x
    }

    /// Right and bottom, to the input's height and width.
    fn crop(&mut self, x: &str) {
        let (starts, axes) = (self.integers("crop.starts", &[0; 2]), self.integers("crop.axes", &[2, 3]));
        self.node("Slice", "crop", &[x, &starts, SIZE, &axes], []);
    }
}

fn attribute(name: &str, kind: AttributeKind) -> Attribute {
    Attribute { name: name.into(), kind: kind as i32, ..Default::default() }
}

fn float(name: &str, value: f32) -> Attribute {
    Attribute { f: Some(value), ..attribute(name, AttributeKind::Float) }
}

fn integer(name: &str, value: i64) -> Attribute {
    Attribute { i: Some(value), ..attribute(name, AttributeKind::Int) }
}

fn integers(name: &str, values: &[i64]) -> Attribute {
    Attribute { ints: values.to_vec(), ..attribute(name, AttributeKind::Ints) }
}

fn text(name: &str, value: &str) -> Attribute {
    Attribute { s: Some(value.into()), ..attribute(name, AttributeKind::String) }
}

"""One style model as every peer needs it: read from its file, as a PyTorch module, as an ONNX graph.

The architecture and the plain PyTorch network are those of `tests/golden/impasto_reference.py`; here they are put
together the way each peer runs them fastest.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "golden"))


@dataclass
class StyleModel:
    """A name, an architecture as the file's JSON has it, and f32 arrays by the PyTorch example's names."""

    name: str
    architecture: dict
    tensors: dict


def read(path):
    """A style model from its `.safetensors` file; f16 and bf16 become f32, as in the engine."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        papers = (file.metadata() or {}).get("impasto")
        if papers is None:
            sys.exit(f"{path}: no metadata `impasto`, expected a style model; hint: `impasto styles import` makes one")
        tensors = {key: file.get_tensor(key).float().numpy() for key in file.keys()}
    papers = json.loads(papers)
    return StyleModel(papers["name"], papers["architecture"], tensors)


def random(width):
    """The default network with seeded random weights, `width` channels in its first layer.

    The weights are those of `StyleModel::random`, but for the last convolution, which is scaled so that the picture
    fills 0..255: outputs between -1 and 1 would all be black, and a wrong engine would agree with a right one.
    """
    from impasto_reference import TransformNet, johnson, random_model

    architecture = johnson(width)
    tensors = {key: tensor.numpy() for key, tensor in random_model(architecture, seed=1).items()}
    last = TransformNet(architecture).steps[-1][0]
    for part, offset in [("weight", 0.0), ("bias", 127.5)]:
        tensors[f"{last}.conv2d.{part}"] = tensors[f"{last}.conv2d.{part}"] * np.float32(150) + np.float32(offset)
    return StyleModel(f"random-{width}", architecture, tensors)


def write(model, path):
    """The style model's file, for `impasto --model`."""
    from safetensors.numpy import save_file

    papers = {"format_version": 1, "name": model.name, "architecture": model.architecture}
    save_file(model.tensors, path, metadata={"impasto": json.dumps(papers)})


# --------------------------------------------------------------------------------------------------- PyTorch


def reference(model, rgb):
    """What the plain PyTorch network paints: uint8 [height, width, 3] to the same, rounded and clamped."""
    import torch
    from impasto_reference import load, run

    network = load(model.architecture, {key: torch.from_numpy(value) for key, value in model.tensors.items()})
    return np.clip(np.floor(run(network, rgb) + 0.5), 0, 255).astype(np.uint8)


def torch_module(model, dtype):
    """The network as PyTorch runs it fastest: uint8 [height, width, 3] to the same.

    Channels last, in place where that is allowed, convolutions and activations in `dtype`. Norms have f32 weights and
    are batch norms by the batch's own statistics: for a single picture that is instance norm, and unlike
    `F.instance_norm` it does not copy its input to another layout.
    """
    import torch
    import torch.nn.functional as F
    from impasto_reference import Residual, TransformNet, input_range

    network = TransformNet(model.architecture)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in model.tensors.items()})
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            module.to(dtype=dtype, memory_format=torch.channels_last)
    output = model.architecture["output"]

    def normalize(module, x):
        return F.batch_norm(x, None, None, module.weight, module.bias, True, 0.0, module.epsilon)

    def apply(module, x):
        if isinstance(module, Residual):
            branch = torch.relu_(normalize(module.in1, module.conv1(x)))
            return normalize(module.in2, module.conv2(branch)).add_(x)
        return module(x)

    class Painter(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, frame):
            height, width = frame.shape[:2]
            x = frame.permute(2, 0, 1)[None]  # a view: interleaved bytes are channels last
            x = x.to(dtype=dtype, memory_format=torch.channels_last)
            if model.architecture["input"] != "rgb255":
                factor, summand = input_range(model.architecture["input"], x)
                x = x * factor + summand
            for name, norm_name, relu in network.steps:
                x = apply(getattr(network, name), x)
                if norm_name is not None:
                    x = normalize(getattr(network, norm_name), x)
                if relu:
                    x = torch.relu_(x)
            if output["activation"] == "tanh":
                x = torch.tanh_(x)
            if (output["scale"], output["offset"]) != (1.0, 0.0):
                x = x.mul_(output["scale"]).add_(output["offset"])
            x = x[:, :, :height, :width].round_().clamp_(0, 255).to(torch.uint8)
            return x[0].permute(1, 2, 0).contiguous()

    return Painter().eval()


# --------------------------------------------------------------------------------------------------- ONNX


def onnx_graph(model, width, height):
    """The network as a serialized ONNX model for one size: `frame` uint8 [1, height, width, 3] to `painted`, the same.

    Written node by node rather than exported, so that nothing is in it but the network: constants are folded, and
    there is no trace of PyTorch's shape arithmetic.
    """
    import onnx
    from impasto_reference import minimum_size, parse_layers, same
    from onnx import TensorProto, helper, numpy_helper

    arch = model.architecture
    if min(width, height) < minimum_size(arch):
        sys.exit(f"{width}x{height}: smaller than the network's smallest size, {minimum_size(arch)}")
    nodes, constants = [], []

    def constant(name, values):
        if all(known.name != name for known in constants):
            constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(op, *inputs, **attributes):
        output = f"{op}_{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def weights(prefix):
        return [constant(f"{prefix}.{part}", model.tensors[f"{prefix}.{part}"]) for part in ("weight", "bias")]

    def norm(x, prefix):
        return node("InstanceNormalization", x, *weights(prefix), epsilon=arch["norm_epsilon"])

    def conv(x, prefix, kernel, stride, size):
        """A padded convolution; `size` is its input's height and width."""
        pads = [0, 0, 0, 0]
        if arch["padding"] == "reflect":
            half = kernel // 2
            if half > 0:
                amounts = np.array([0, 0, half, half, 0, 0, half, half], np.int64)
                x = node("Pad", x, constant(f"reflect_{half}", amounts), mode="reflect")
        else:
            (top, bottom), (left, right) = same(size[0], kernel, stride), same(size[1], kernel, stride)
            pads = [top, left, bottom, right]
        return node("Conv", x, *weights(f"{prefix}.conv2d"), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    x = node("Cast", node("Transpose", "frame", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    if arch["input"] != "rgb255":
        import torch
        from impasto_reference import input_range

        factor, summand = (t.numpy()[None] for t in input_range(arch["input"], torch.zeros(1)))
        x = node("Add", node("Mul", x, constant("factor", factor)), constant("summand", summand))

    size = (height, width)
    counts = {"conv": 0, "deconv": 0, "in": 0, "res": 0}

    def count(kind):
        counts[kind] += 1
        return f"{kind}{counts[kind]}"

    layers = parse_layers(arch["layers"])
    decoding = False  # as in `Architecture::blocks`: names change from conv to deconv at the first R or u
    for index, (kind, kernel, stride, _) in enumerate(layers):
        last = index + 1 == len(layers)
        decoding |= kind in "Ru"
        if kind == "R":
            block = count("res")
            branch = node("Relu", norm(conv(x, f"{block}.conv1", 3, 1, size), f"{block}.in1"))
            x = node("Add", x, norm(conv(branch, f"{block}.conv2", 3, 1, size), f"{block}.in2"))
            continue
        name = count("deconv" if decoding else "conv")
        if kind == "u" and arch["upsampling"] == "transposed":
            crop = [0, 0, 1, 1] if arch["padding"] == "zero-same" else [1, 1, 0, 0]
            x = node("ConvTranspose", x, *weights(f"{name}.conv2d"), kernel_shape=[3, 3], strides=[2, 2], pads=crop)
            size = (size[0] * 2, size[1] * 2)
        else:
            if kind == "u":
                scales = constant("doubled", np.array([1, 1, 2, 2], np.float32))
                mode = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
                x = node("Resize", x, "", scales, **mode)
                size = (size[0] * 2, size[1] * 2)
            x = conv(x, name, kernel, stride, size)
            size = (-(-size[0] // stride), -(-size[1] // stride))
        if not last or arch["output_norm"]:
            x = norm(x, count("in"))
        if not last:
            x = node("Relu", x)

    output = arch["output"]
    if output["activation"] == "tanh":
        x = node("Tanh", x)
    if output["scale"] != 1.0:
        x = node("Mul", x, constant("scale", np.float32(output["scale"])))
    if output["offset"] != 0.0:
        x = node("Add", x, constant("offset", np.float32(output["offset"])))
    if size != (height, width):
        ends, axes = np.array([height, width], np.int64), np.array([2, 3], np.int64)
        x = node("Slice", x, constant("starts", np.zeros(2, np.int64)), constant("ends", ends), constant("axes", axes))
    x = node("Clip", node("Round", x), constant("black", np.float32(0)), constant("white", np.float32(255)))
    x = node("Transpose", node("Cast", x, to=TensorProto.UINT8), perm=[0, 2, 3, 1])
    nodes[-1].output[0] = "painted"

    shape = [1, height, width, 3]
    frame, painted = (helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in ("frame", "painted"))
    graph = helper.make_graph(nodes, "transform_net", [frame], [painted], constants)
    graph_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(graph_model, full_check=True)
    return graph_model.SerializeToString()

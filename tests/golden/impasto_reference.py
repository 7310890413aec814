"""The transform network in PyTorch, for every architecture that a style-model file can name.

This is what the project's own networks (the CPU engine, the Burn module) are compared with. It follows
`checkpoints/src/architecture.rs` (layer string, names, conventions) and `checkpoints/src/random.rs`
(weights that are a function of seed, tensor name and position), and is written for reading, not for speed.

    from impasto_reference import johnson, random_model, load, run
    network = load(johnson(8), random_model(johnson(8), seed=1))
    painted = run(network, picture)          # picture: uint8 [height, width, 3]
"""

import re

import numpy as np
import torch
import torch.nn.functional as F

# ------------------------------------------------------------------------------------------- random values


def uniform(seed, name, count):
    """`count` float32 values in [-1, 1): SplitMix64 in counter mode, keyed by FNV-1a of the name."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = ((key ^ byte) * 0x100000001B3) % 2**64
    key ^= seed
    with np.errstate(over="ignore"):
        z = np.uint64(key) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)


def picture(seed, name, *shape):
    """A noise picture, uint8: `floor((u + 1) * 128)` of `uniform(seed, name, ...)` in row-major order."""
    values = uniform(seed, name, int(np.prod(shape)))
    return np.floor((values + np.float32(1)) * np.float32(128)).astype(np.uint8).reshape(shape)


# ------------------------------------------------------------------------------------------- architecture


def architecture(
    layers,
    padding="reflect",
    upsampling="nearest-conv",
    norm_epsilon=1e-5,
    output_norm=False,
    activation="linear",
    scale=1.0,
    offset=0.0,
    input="rgb255",
):
    """An architecture as the style model's JSON has it; the defaults are the PyTorch example's."""
    return {
        "layers": layers,
        "padding": padding,
        "upsampling": upsampling,
        "norm_epsilon": norm_epsilon,
        "output_norm": output_norm,
        "output": {"activation": activation, "scale": scale, "offset": offset},
        "input": input,
    }


def johnson(width, **changes):
    """The network of Johnson et al. 2016 with `width` channels in its first layer."""
    w, w2, w4 = width, 2 * width, 4 * width
    residuals = ",".join([f"R{w4}"] * 5)
    return architecture(f"c9s1-{w},d{w2},d{w4},{residuals},u{w2},u{w},c9s1-3", **changes)


def parse_layers(text):
    """`c9s1-8,d16,R16,u8` as a list of (kind, kernel, stride, channels)."""
    layers = []
    for token in text.split(","):
        if match := re.fullmatch(r"c(\d+)s([12])-(\d+)", token):
            kernel, stride, channels = map(int, match.groups())
            layers.append(("c", kernel, stride, channels))
        elif match := re.fullmatch(r"([dRu])(\d+)", token):
            layers.append((match[1], 3, 2 if match[1] == "d" else 1, int(match[2])))
        else:
            raise ValueError(f"layer `{token}` is none of cKsS-N, dN, RN, uN")
    return layers


def minimum_size(arch):
    """The smallest height and width the network runs on: reflection by p needs more than p pixels."""

    def fits(n):
        for kind, kernel, stride, _ in parse_layers(arch["layers"]):
            if kind == "u":
                n *= 2
            reflects = arch["padding"] == "reflect" and not (kind == "u" and arch["upsampling"] == "transposed")
            if reflects and n <= kernel // 2:
                return False
            n = -(-n // stride)
        return True

    size = 1
    while not fits(size):
        size += 1
    return size


# ------------------------------------------------------------------------------------------- the modules


class Conv(torch.nn.Module):
    """A convolution with its padding; the weights are in `conv2d`, as in the PyTorch example."""

    def __init__(self, inputs, outputs, kernel, stride, padding):
        super().__init__()
        self.conv2d = torch.nn.Conv2d(inputs, outputs, kernel, stride)
        self.padding = padding

    def forward(self, x):
        kernel, stride = self.conv2d.kernel_size[0], self.conv2d.stride[0]
        if self.padding == "reflect":
            return self.conv2d(F.pad(x, [kernel // 2] * 4, mode="reflect"))
        (left, right), (top, bottom) = same(x.shape[3], kernel, stride), same(x.shape[2], kernel, stride)
        return self.conv2d(F.pad(x, [left, right, top, bottom]))


def same(size, kernel, stride):
    """TensorFlow's SAME: zeros before and after, so that ceil(size / stride) values come out."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class UpsampleConv(Conv):
    """Nearest neighbour x2, then a 3x3 convolution."""

    def __init__(self, inputs, outputs, padding):
        super().__init__(inputs, outputs, 3, 1, padding)

    def forward(self, x):
        return super().forward(F.interpolate(x, scale_factor=2, mode="nearest"))


class TransposedConv(torch.nn.Module):
    """A transposed 3x3 convolution of stride 2; its 2n+1 rows and columns are cropped to 2n."""

    def __init__(self, inputs, outputs, padding):
        super().__init__()
        self.conv2d = torch.nn.ConvTranspose2d(inputs, outputs, 3, stride=2)
        self.padding = padding

    def forward(self, x):
        y = self.conv2d(x)
        # zero-same as TensorFlow crops, at the end; reflect as PyTorch's padding=1, output_padding=1, in front.
        return y[:, :, :-1, :-1] if self.padding == "zero-same" else y[:, :, 1:, 1:]


class InstanceNorm(torch.nn.Module):
    """(x - mean) / sqrt(biased variance + epsilon) * weight + bias, per picture and channel.

    `torch.nn.InstanceNorm2d` written out, because that refuses planes of a single pixel.
    """

    def __init__(self, channels, epsilon):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(channels))
        self.bias = torch.nn.Parameter(torch.zeros(channels))
        self.epsilon = epsilon

    def forward(self, x):
        variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + self.epsilon)
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class Residual(torch.nn.Module):
    """x + norm(conv(relu(norm(conv(x)))))."""

    def __init__(self, channels, padding, epsilon):
        super().__init__()
        self.conv1 = Conv(channels, channels, 3, 1, padding)
        self.in1 = InstanceNorm(channels, epsilon)
        self.conv2 = Conv(channels, channels, 3, 1, padding)
        self.in2 = InstanceNorm(channels, epsilon)

    def forward(self, x):
        return x + self.in2(self.conv2(torch.relu(self.in1(self.conv1(x)))))


class TransformNet(torch.nn.Module):
    """The network of an architecture. Its state dict has the keys and shapes of `Architecture::tensors`."""

    def __init__(self, arch):
        super().__init__()
        self.arch = arch
        self.steps = []  # (name of the convolution or block, name of the norm or None, is there a ReLU?)
        padding, epsilon = arch["padding"], arch["norm_epsilon"]
        layers = parse_layers(arch["layers"])
        counts = {"conv": 0, "deconv": 0, "in": 0, "res": 0}

        def add(kind, module):
            counts[kind] += 1
            self.add_module(f"{kind}{counts[kind]}", module)
            return f"{kind}{counts[kind]}"

        channels = 3
        decoding = False  # names change from conv to deconv at the first R or u
        for index, (kind, kernel, stride, outputs) in enumerate(layers):
            last = index + 1 == len(layers)
            decoding |= kind in "Ru"
            if kind == "R":
                self.steps.append((add("res", Residual(outputs, padding, epsilon)), None, False))
                continue
            if kind != "u":
                module = Conv(channels, outputs, kernel, stride, padding)
            elif arch["upsampling"] == "transposed":
                module = TransposedConv(channels, outputs, padding)
            else:
                module = UpsampleConv(channels, outputs, padding)
            name = add("deconv" if decoding else "conv", module)
            has_norm = not last or arch["output_norm"]
            self.steps.append((name, add("in", InstanceNorm(outputs, epsilon)) if has_norm else None, not last))
            channels = outputs

    def forward(self, rgb255):
        """[batch, 3, height, width], 0..255, to the painted picture of that size, neither rounded nor clamped."""
        height, width = rgb255.shape[2:]
        least = minimum_size(self.arch)
        x = F.pad(rgb255, [0, max(0, least - width), 0, max(0, least - height)], mode="replicate")
        factor, summand = input_range(self.arch["input"], x)
        x = x * factor + summand
        for name, norm, relu in self.steps:
            x = getattr(self, name)(x)
            if norm is not None:
                x = getattr(self, norm)(x)
            if relu:
                x = torch.relu(x)
        output = self.arch["output"]
        if output["activation"] == "tanh":
            x = torch.tanh(x)
        x = x * output["scale"] + output["offset"]
        return x[:, :, :height, :width]


MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def input_range(name, like):
    """Factor and summand per channel, [3, 1, 1], that take RGB 0..255 to what the network was trained to see."""
    one, whole = np.float32(1), np.float32(255)
    factor, summand = {
        "rgb255": (np.ones(3, np.float32), np.zeros(3, np.float32)),
        "rgb01": (np.full(3, one / whole), np.zeros(3, np.float32)),
        "imagenet_normalized": (one / (whole * STD), -MEAN / STD),
    }[name]
    return [torch.from_numpy(v).to(like)[:, None, None] for v in (factor, summand)]


# ------------------------------------------------------------------------------------------- weights


def random_model(arch, seed):
    """State dict of `StyleModel::random`: kernels and biases in +-1/sqrt(fan_in), norms 1 +- 1/4 and 0 +- 1/4."""
    return _filled(arch, seed, np.float32(0.25))


def initial_model(arch, seed):
    """State dict of `StyleModel::initial`: kernels and biases in +-1/sqrt(fan_in), norms 1 and 0."""
    return _filled(arch, seed, np.float32(0))


def _filled(arch, seed, spread):
    state = {}
    inputs = {}  # convolution: inputs that one output value sums over
    for key, tensor in TransformNet(arch).state_dict().items():
        prefix, part = key.rsplit(".", 1)
        centre, bound = np.float32(0), spread
        if prefix.endswith("conv2d"):
            if part == "weight":
                # OIHW; a transposed kernel is IOHW.
                transposed = arch["upsampling"] == "transposed" and prefix in _doublings(arch)
                channels = tensor.shape[0 if transposed else 1]
                inputs[prefix] = channels * tensor.shape[2] * tensor.shape[3]
            bound = np.float32(1) / np.sqrt(np.float32(inputs[prefix]))
        elif part == "weight":
            centre = np.float32(1)
        values = centre + bound * uniform(seed, key, tensor.numel())
        state[key] = torch.from_numpy(values.reshape(tuple(tensor.shape)))
    return state


def _doublings(arch):
    network = TransformNet(arch)
    return {f"{n}.conv2d" for n, _, _ in network.steps if isinstance(getattr(network, n), TransposedConv)}


def load(arch, state):
    """The network with these weights, ready to paint."""
    network = TransformNet(arch)
    network.load_state_dict(state, strict=True)
    return network.eval()


def run(network, rgb, dtype=torch.float32):
    """Paints one uint8 [height, width, 3] picture; floats [height, width, 3], neither rounded nor clamped."""
    x = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].to(dtype)
    with torch.no_grad():
        return network.to(dtype)(x)[0].permute(1, 2, 0).contiguous().numpy()

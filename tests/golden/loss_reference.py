"""Loss networks and perceptual losses in PyTorch: the project's definitions, as `impasto-burn` implements them.

Pictures are RGB 0..255 tensors [batch, 3, height, width]. What a loss network sees is its input convention:

    imagenet_normalized   (rgb255/255 - mean) / std, mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225)
    bgr_minus_mean        BGR 0..255 minus (103.939, 116.779, 123.68); SqueezeNet: minus (104, 117, 123)

Features are what the network computes in its own convention. With F [B, C, H, W] the features of one layer:

    gram_matrix(F)        F F^T / (C H W) per picture, [B, C, C]
    content_loss          mean over all elements of (F - F_content)^2
    style_loss, gram      mean over batch and entries of (gram(F) - gram(F_style))^2
    style_loss, mean_std  mean over batch and channels of (mean - mean_style)^2 + (std - std_style)^2,
                          std = sqrt(biased variance + 1e-5), both over the plane
    total_variation       mean of squared differences of horizontal neighbours + the same of vertical ones,
                          of rgb255/255
    PerceptualLoss        content_weight * sum_l w_l content_l + style_weight * sum_l w_l style_l
                          + tv_weight * total_variation

The style picture is one picture for the whole batch.

VGG features are named after their ReLU, `relu1_1` ... `relu5_4`; SqueezeNet's are `relu1` and `fire2` ... `fire9`
(a fire module's output, after ReLU and concatenation).

Seeded random weights ("He uniform"): kernel `NAME.weight` is `sqrt(6 / fan_in) * uniform(seed, "NAME.weight")` in f32,
fan_in = input channels x kernel height x kernel width; biases are 0.
"""

import numpy as np
import torch
import torch.nn.functional as F

from impasto_reference import MEAN, STD, uniform

VGG_BLOCKS = {"vgg16": [2, 2, 3, 3, 3], "vgg19": [2, 2, 4, 4, 4]}
VGG_CHANNELS = [64, 128, 256, 512, 512]
# fire module: squeeze channels, channels of each of its two expand convolutions
SQUEEZENET = {
    number: (squeeze, 4 * squeeze) for number, squeeze in zip(range(2, 10), [16, 16, 32, 32, 48, 48, 64, 64])
}
VGG_MEAN = (103.939, 116.779, 123.68)
BGR_MEAN = {"vgg16": VGG_MEAN, "vgg19": VGG_MEAN, "squeezenet": (104.0, 117.0, 123.0)}


def weight_shapes(network):
    """Shapes of the kernels, in the order of the network; each has a bias `NAME.bias` beside it."""
    shapes = {}
    if network == "squeezenet":
        shapes["conv1.weight"] = (96, 3, 7, 7)
        channels = 96
        for number, (squeeze, expand) in SQUEEZENET.items():
            shapes[f"fire{number}/conv1x1_1.weight"] = (squeeze, channels, 1, 1)
            shapes[f"fire{number}/conv1x1_2.weight"] = (expand, squeeze, 1, 1)
            shapes[f"fire{number}/conv3x3_2.weight"] = (expand, squeeze, 3, 3)
            channels = 2 * expand
        return shapes
    channels = 3
    for block, (count, outputs) in enumerate(zip(VGG_BLOCKS[network], VGG_CHANNELS), 1):
        for number in range(1, count + 1):
            shapes[f"conv{block}_{number}.weight"] = (outputs, channels, 3, 3)
            channels = outputs
    return shapes


def random_weights(network, seed, dtype=torch.float32):
    """Seeded He-uniform kernels and zero biases."""
    weights = {}
    for key, shape in weight_shapes(network).items():
        bound = np.sqrt(np.float32(6) / np.float32(np.prod(shape[1:])))
        values = bound * uniform(seed, key, int(np.prod(shape)))
        weights[key] = torch.from_numpy(values.reshape(shape)).to(dtype)
        weights[key.replace(".weight", ".bias")] = torch.zeros(shape[0], dtype=dtype)
    return weights


class LossNetwork:
    """Features by name; computed no deeper than the last name asked for."""

    def __init__(self, network, weights, input="imagenet_normalized", pooling="max"):
        self.network, self.weights, self.input, self.pooling = network, weights, input, pooling

    def features(self, rgb255, names):
        wanted, found = set(names), {}
        for name, value in self.walk(self.preprocess(rgb255)):
            if name in wanted:
                found[name] = value
            if len(found) == len(wanted):
                return found
        raise ValueError(f"unknown layers {sorted(wanted - set(found))}")

    def preprocess(self, rgb255):
        if self.input == "bgr_minus_mean":
            mean = torch.tensor(BGR_MEAN[self.network]).to(rgb255)
            return rgb255.flip(1) - mean[:, None, None]
        mean, std = (torch.from_numpy(v).to(rgb255)[:, None, None] for v in (MEAN, STD))
        return (rgb255 / 255 - mean) / std

    def conv(self, x, name, **options):
        return torch.relu(F.conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], **options))

    def walk(self, x):
        """Yields (layer, features) from the first layer to the last."""
        if self.network == "squeezenet":
            x = self.conv(x, "conv1", stride=2)
            yield "relu1", x
            for number in SQUEEZENET:
                if number in (2, 5, 9):
                    x = F.max_pool2d(x, 3, 2, ceil_mode=True)
                x = self.conv(x, f"fire{number}/conv1x1_1")
                wide = self.conv(x, f"fire{number}/conv3x3_2", padding=1)
                x = torch.cat([self.conv(x, f"fire{number}/conv1x1_2"), wide], dim=1)
                yield f"fire{number}", x
            return
        pool = F.max_pool2d if self.pooling == "max" else F.avg_pool2d
        for block, count in enumerate(VGG_BLOCKS[self.network], 1):
            if block > 1:
                x = pool(x, 2)  # stride 2, an odd last row or column is left out
            for number in range(1, count + 1):
                x = self.conv(x, f"conv{block}_{number}", padding=1)
                yield f"relu{block}_{number}", x


def gram_matrix(features):
    batch, channels, height, width = features.shape
    flat = features.reshape(batch, channels, height * width)
    return flat @ flat.transpose(1, 2) / (channels * height * width)


def content_loss(features, target):
    return (features - target).square().mean()


def mean_std(features):
    variance, mean = torch.var_mean(features, dim=(2, 3), correction=0)
    return mean, torch.sqrt(variance + 1e-5)


def style_loss(features, target, kind):
    """`target`: the features of one style picture, [1, C, H', W']."""
    if kind == "gram":
        return (gram_matrix(features) - gram_matrix(target)).square().mean()
    (mean, std), (target_mean, target_std) = mean_std(features), mean_std(target)
    return ((mean - target_mean).square() + (std - target_std).square()).mean()


def total_variation(rgb255):
    x = rgb255 / 255
    return (x[..., :, 1:] - x[..., :, :-1]).square().mean() + (x[..., 1:, :] - x[..., :-1, :]).square().mean()


class PerceptualLoss:
    """`settings`: content_layers and style_layers (name: weight), style_kind, content_weight, style_weight,
    tv_weight."""

    def __init__(self, network, settings, style):
        self.network, self.settings = network, settings
        with torch.no_grad():
            self.style = network.features(style, settings["style_layers"])

    def terms(self, painted, content):
        """Unweighted terms by name, and their weighted sum under `total`."""
        s = self.settings
        found = self.network.features(painted, [*s["content_layers"], *s["style_layers"]])
        with torch.no_grad():
            target = self.network.features(content, s["content_layers"])
        terms = {"total": 0.0}
        for layer, weight in s["content_layers"].items():
            term = terms[f"content.{layer}"] = content_loss(found[layer], target[layer])
            terms["total"] = terms["total"] + s["content_weight"] * weight * term
        for layer, weight in s["style_layers"].items():
            term = terms[f"style.{layer}"] = style_loss(found[layer], self.style[layer], s["style_kind"])
            terms["total"] = terms["total"] + s["style_weight"] * weight * term
        terms["tv"] = total_variation(painted)
        terms["total"] = terms["total"] + s["tv_weight"] * terms["tv"]
        return terms


# ------------------------------------------------------------------------------------------- what is stored

FIRST = 64


def to_tensor(pictures, dtype=torch.float32):
    """uint8 [batch, height, width, 3] to RGB 0..255 [batch, 3, height, width]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).contiguous().to(dtype)


def summary(values):
    """Shape, mean and mean of squares (in f64) of a tensor."""
    v = values.detach().double()
    return {"shape": list(values.shape), "mean": v.mean().item(), "mean_square": v.square().mean().item()}


def relative(value, reference):
    """|value - reference| / |reference|, Euclidean; for numbers too."""
    value, reference = (torch.as_tensor(v).detach().double() for v in (value, reference))
    return float(f"{((value - reference).norm() / reference.norm()).item():.2g}")


def evaluate(key, network, settings, image, content, style):
    """One golden case: tensors for the safetensors file, and the JSON that describes them.

    Everything is computed in f32, and again in f64 only to say how far rounding alone takes it.
    """
    runs = {}
    for dtype in (torch.float32, torch.float64):
        weights = {k: v.to(dtype) for k, v in network.weights.items()}
        loss_network = LossNetwork(network.network, weights, network.input, network.pooling)
        pictures = [to_tensor(p, dtype) for p in (image, content, style)]
        features = loss_network.features(pictures[0], settings["layers"])
        losses = {}
        for kind in ("gram", "mean_std"):
            x = pictures[0].clone().requires_grad_()
            loss = PerceptualLoss(loss_network, settings[kind], pictures[2])
            terms = loss.terms(x, pictures[1])
            terms["total"].backward()
            losses[kind] = ({k: v.item() for k, v in terms.items()}, x.grad)
        runs[dtype] = features, losses
    (features, losses), (features64, losses64) = runs[torch.float32], runs[torch.float64]

    tensors = {f"{key}.image": image, f"{key}.content": content, f"{key}.style": style}
    described = {"features": {}, "gram_matrices": {}, "losses": {}}
    for layer, value in features.items():
        tensors[f"{key}.features.{layer}"] = value.detach().flatten()[:FIRST].numpy().copy()
        described["features"][layer] = summary(value) | {"f64_difference": relative(value, features64[layer])}
    for layer in settings["gram"]["style_layers"]:
        gram, gram64 = gram_matrix(features[layer]), gram_matrix(features64[layer])
        tensors[f"{key}.gram.{layer}"] = gram.flatten()[:FIRST].numpy().copy()
        described["gram_matrices"][layer] = summary(gram) | {"f64_difference": relative(gram, gram64)}
    for kind, (terms, gradient) in losses.items():
        tensors[f"{key}.gradient.{kind}"] = gradient.numpy().copy()
        terms64, gradient64 = losses64[kind]
        described["losses"][kind] = {
            "settings": settings[kind],
            "terms": terms,
            "gradient": summary(gradient),
            "f64_difference": {
                "terms": max(relative(terms[k], terms64[k]) for k in terms),
                "gradient": relative(gradient, gradient64),
            },
        }
    return tensors, described


def print_case(key, described):
    """Two lines a case: weighted shares and what rounding does."""
    worst = max(v["f64_difference"] for v in described["features"].values())
    for kind, found in described["losses"].items():
        s, terms = found["settings"], found["terms"]
        content = s["content_weight"] * sum(w * terms[f"content.{n}"] for n, w in s["content_layers"].items())
        style = s["style_weight"] * sum(w * terms[f"style.{n}"] for n, w in s["style_layers"].items())
        rounding = found["f64_difference"]
        print(
            f"{key:26} {kind:8} content {content:9.3g} style {style:9.3g} tv {s['tv_weight'] * terms['tv']:9.3g}"
            f"   f32-f64: features {worst:.1e} terms {rounding['terms']:.1e} gradient {rounding['gradient']:.1e}"
        )

"""Style models as files, without a package besides numpy: a safetensors file is a length, a JSON header, and bytes."""

import json
import struct

import networks
import numpy as np
import torch
from impasto_reference import load


def read_model(path):
    """A style model, its tensors in f32."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    papers = json.loads(header.pop("__metadata__")["impasto"])

    def tensor(entry):
        begin, end = entry["data_offsets"]
        raw = data[8 + length + begin : 8 + length + end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]]).astype(np.float32)
        return values.reshape(entry["shape"]).copy()

    tensors = {key: tensor(entry) for key, entry in header.items()}
    return networks.StyleModel(papers["name"], papers["architecture"], tensors)


def write_model(model, path):
    """The style model's file."""
    papers = {"format_version": 1, "name": model.name, "architecture": model.architecture}
    header, body = {"__metadata__": {"impasto": json.dumps(papers)}}, b""
    for key, values in model.tensors.items():
        raw = np.ascontiguousarray(values, "<f4").tobytes()
        header[key] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def bright_random(width):
    """Seeded random weights whose paintings fill 0..255."""
    return networks.random(width)


def reference(model, rgb, device):
    """What the plain PyTorch network paints in f32: floats [height, width, 3], neither rounded nor clamped."""
    network = load(model.architecture, {key: torch.from_numpy(value) for key, value in model.tensors.items()}).to(device)
    x = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float().to(device)
    with torch.no_grad():
        return network(x)[0].permute(1, 2, 0).cpu().numpy()

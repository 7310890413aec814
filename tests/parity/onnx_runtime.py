"""What ONNX Runtime paints with exported styles, for the export's test (`runtime/tests/onnx.rs`).

    python tests/parity/onnx_runtime.py FOLDER

FOLDER/jobs.json is a list of {"model": FILE, "pictures": [{"file": FILE, "width": W, "height": H}]}. Every model is
checked by ONNX's own checker (with shapes inferred), then run on each picture (U8 [height, width, 3]); the painting
is written beside it as FILE.painted, F32 [height, width, 3] in RGB 0..255, neither rounded nor clamped.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime


def check(path):
    """ONNX's checker, and that the painting has the picture's shape as far as the file itself says."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    ]
    if shapes != [[1, 3, "height", "width"]] * 2:
        sys.exit(f"{path}: shapes {shapes}")


def main():
    folder = Path(sys.argv[1])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    # Warnings, under a name: a graph that the run time has to mend is not one to hand out.
    options.log_severity_level, options.logid = 2, "export"
    for job in json.loads((folder / "jobs.json").read_text()):
        path = folder / job["model"]
        check(path)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for picture in job["pictures"]:
            file = folder / picture["file"]
            rgb = np.fromfile(file, np.uint8).reshape(picture["height"], picture["width"], 3)
            (painted,) = session.run(["painted"], {"rgb255": rgb.transpose(2, 0, 1)[None].astype(np.float32)})
            if painted.shape != (1, 3, picture["height"], picture["width"]):
                sys.exit(f"{file}: painted {painted.shape}")
            np.ascontiguousarray(painted[0].transpose(1, 2, 0)).tofile(folder / f"{picture['file']}.painted")


if __name__ == "__main__":
    main()

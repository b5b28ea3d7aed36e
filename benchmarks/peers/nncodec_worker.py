"""NNCodec in a process of its own, run by the interpreter of .venv-nncodec; `peers/nncodec.py` speaks to it.

    python nncodec_worker.py WEIGHTS.npz
    python nncodec_worker.py --check        ends at once, with code 0 where NNCodec can be used

Each line on standard input is a JSON request and gets a JSON line in reply:

    {"qp": {name: integer}, "use_dq": true, "opt_qp": false, "output": "decoded.npz"}
    {"bytes": 1234, "cpu_seconds": 0.5}

The tensors named in "qp" are encoded together, decoded from the bitstream, and written to "output". A tensor's quantization
parameter means a step of (1 + (qp mod 16) / 16) · 2^⌊qp / 16⌋. NNCodec writes tensors' names into its bitstream; here the names are
replaced by one digit or two, because the comparison is not about names.
"""

import json
import os
import sys
import time
import types

import numpy as np

DENSITY = 4
"""log₂ of the number of quantization parameters for each factor of two. NNCodec's default is 2; this is finer, to come closer to ε."""


class Absent(types.ModuleType):
    """A substitute for torchvision. NNCodec imports torchvision only for its image datasets, and its version would have to match torch's."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda *_, **__: None}) if name[0].isupper() else Absent(name)


def main() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # NNCodec prints to standard output, but replies are sent there.
    sys.modules["torchvision"] = Absent("torchvision")
    from nncodec.nnc import compress, decompress

    if sys.argv[1] == "--check":
        return
    weights = dict(np.load(sys.argv[1]))
    names = {name: f"{index:x}" for index, name in enumerate(weights)}
    replies.write(json.dumps({"ready": True, "cpu_seconds": time.process_time()}) + "\n")
    replies.flush()
    for line in sys.stdin:
        request = json.loads(line)
        begin = time.process_time()
        qp = request["qp"]
        stream = compress(
            {names[name]: weights[name] for name in qp},
            bitstream_path=None,
            qp=max(qp.values()),
            qp_density=DENSITY,
            nonweight_qp=max(qp.values()),
            qp_per_tensor={names[name]: np.int32(value) for name, value in qp.items()},
            use_dq=request["use_dq"],
            opt_qp=request["opt_qp"],
            row_skipping=True,
            return_bitstream=True,
        )
        decoded = decompress(stream)
        np.savez(request["output"], **{name: decoded[names[name]].reshape(weights[name].shape) for name in qp})
        replies.write(json.dumps({"bytes": len(stream), "cpu_seconds": time.process_time() - begin}) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()

#!/bin/sh
# Makes .venv-nncodec, where NNCodec lives apart: it needs numpy < 2 and compiles for some minutes.
#   sh benchmarks/peers/nncodec_env.sh            (PYTHON=python3.11 to choose the interpreter)
set -eu
cd "$(dirname "$0")/../.."
"${PYTHON:-python3}" -m venv .venv-nncodec
echo '*' > .venv-nncodec/.gitignore
# OpenCV's later wheels need numpy 2; torchvision's version goes with torch's.
.venv-nncodec/bin/pip install --disable-pip-version-check --quiet \
    'nncodec==2.1.3' 'numpy<2' 'opencv-python<4.12' 'torch==2.13.0' 'torchvision==0.28.0'
.venv-nncodec/bin/python benchmarks/peers/nncodec_worker.py --check

"""Prints the model architectures that the vLLM beside this program knows, one a line.

How architectures.txt is made, in the folder of all images:

    docker run --rm -i --network none --entrypoint /engine/bin/python3 IMAGE - \
        < vllm/architectures.py > vllm/architectures.txt

where IMAGE is built from vllm/cpu/Dockerfile: it has the version that all variants are pinned to.
"""

import sys

import vllm
from vllm.model_executor.models.registry import ModelRegistry

sys.stdout.write(f"# vllm {vllm.__version__}: ModelRegistry.get_supported_archs()\n")
for name in sorted(ModelRegistry.get_supported_archs()):
    sys.stdout.write(f"{name}\n")

"""Prints the architectures that the pinned transformers serves, one a line.

How architectures.txt is made, in the folder of all images:

    docker run --rm -i --network none --entrypoint python3 IMAGE - \\
        < transformers/architectures.py > transformers/architectures.txt

where IMAGE is built from transformers/cpu/Dockerfile. `transformers serve` answers for models of
these three lists, see get_model_modality in its model_manager.py.
"""

import sys

import transformers
from transformers.models.auto import modeling_auto

LISTS = (
    modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
)

names = set()
for classes in (found for one in LISTS for found in one.values()):
    names.update((classes,) if isinstance(classes, str) else classes)
sys.stdout.write(f"# transformers {transformers.__version__}: the models of its serving lists.\n")
sys.stdout.write("# Made by architectures.py.\n")
sys.stdout.writelines(f"{name}\n" for name in sorted(names))

"""Prints the model types (`model_type` of config.json) that the pinned MLX LM knows, one a line.

    PYTHON -I images/mlx-lm/architectures.py > images/mlx-lm/architectures.txt

PYTHON is that of an environment made from images/mlx-lm/cpu/requirements.txt.
"""

import contextlib
import importlib
import io
import pkgutil
import sys

import mlx_lm
from mlx_lm import models
from mlx_lm.utils import MODEL_REMAPPING


def is_model(name: str) -> bool:
    """Some modules hold layers alone, some need a package that is not part of the environment."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            module = importlib.import_module(f"{models.__name__}.{name}")
    except (ImportError, SystemExit):
        return False
    return hasattr(module, "Model") and hasattr(module, "ModelArgs")


known = {module.name for module in pkgutil.iter_modules(models.__path__) if is_model(module.name)}
known |= {name for name, module in MODEL_REMAPPING.items() if module in known}
sys.stdout.write(f"# MLX LM {mlx_lm.__version__}: mlx_lm.models and MODEL_REMAPPING.\n")
sys.stdout.write("# Made by architectures.py.\n")
sys.stdout.writelines(f"{name}\n" for name in sorted(known))

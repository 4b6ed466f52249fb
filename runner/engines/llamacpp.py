"""llama.cpp: `llama-server`, in a container or as the xllamacpp wheel's native process."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from runner.artifacts.media import ModelFormat
from runner.engines.base import Command, Mode, Plan, UnixEndpoint

_HINTS = (
    (
        re.compile(r"unknown model architecture|unknown architecture", re.I),
        "this llama.cpp does not know the model's architecture: update the engine",
    ),
    (
        re.compile(r"failed to allocate|out of memory|cannot allocate memory|bad_alloc", re.I),
        "not enough memory: use a smaller context, or a smaller quantization of the model",
    ),
    (
        re.compile(r"invalid magic|not a gguf|corrupt|tensor .* (not within|out of) file", re.I),
        "the model's file is damaged: remove and pull the model again",
    ),
    (
        re.compile(r"error while loading shared libraries", re.I),
        "the engine image is incomplete: run `runner install-runner --force`",
    ),
    (
        re.compile(r"unknown argument|invalid argument|error while handling argument", re.I),
        "a flag is not known to this llama.cpp: check `backends.llama.cpp.flags` in the settings",
    ),
)

_MODE_FLAGS = {
    Mode.COMPLETION: (),
    Mode.EMBEDDING: ("--embeddings",),
    Mode.RERANKING: ("--embeddings", "--reranking"),
}


class LlamaCpp:
    """GGUF models on CPUs and GPUs. It places layers by itself (`--fit`), so no -ngl here.

    It gets one name alone: of several it reports the first by alphabet, whatever was asked for.
    """

    name = "llama.cpp"
    formats = frozenset({ModelFormat.GGUF})
    modes = frozenset({Mode.COMPLETION, Mode.EMBEDDING, Mode.RERANKING})
    health_path = "/health"
    own_flags = frozenset(
        {
            *("--model", "-m", "--host", "--port", "--alias", "-a", "--ctx-size", "-c"),
            *("--api-key", "--api-key-file", "--embeddings", "--embedding", "--reranking"),
        }
    )

    def command(self, plan: Plan) -> Command:
        return Command(tuple(self._arguments(plan)))

    def hint(self, log: Sequence[str]) -> str:
        for line in reversed(log):
            for pattern, hint in _HINTS:
                if pattern.search(line):
                    return hint
        return ""

    def _arguments(self, plan: Plan) -> Iterator[str]:
        yield from ("--model", str(plan.model_file))
        yield from self._listen(plan)
        yield from ("--alias", plan.names[0])
        yield from ("--ctx-size", str(plan.context_size))
        yield from ("--jinja", "--metrics", "--no-webui")
        yield from _MODE_FLAGS[plan.mode]
        if plan.chat_template is not None:
            yield from ("--chat-template-file", str(plan.chat_template))
        yield from plan.flags

    def _listen(self, plan: Plan) -> tuple[str, ...]:
        if isinstance(plan.listen, UnixEndpoint):
            return ("--host", plan.listen.path)
        return ("--host", plan.listen.host, "--port", str(plan.listen.port))

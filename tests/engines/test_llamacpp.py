"""llama.cpp's command lines, its rules for flags, and the hints read from its log."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import PurePosixPath
from typing import Any

import pytest

from runner.engines.base import Adapter, Metric, Mode, Plan, TcpEndpoint, UnixEndpoint
from runner.engines.catalog import images_folder
from runner.engines.engine_file import read_engine_file
from runner.engines.flag_help import captured_help, help_flags
from runner.engines.flag_names import named, routed
from runner.engines.flags import checked
from runner.engines.llamacpp import LlamaCpp
from runner.engines.llamacpp_fields import FIELDS, IMPOSSIBLE, NAMES, OLDER
from runner.engines.llamacpp_flags import DANGEROUS, GONE, OWN, flag_rules
from runner.engines.option_values import options_from
from runner.engines.options import Options, RopeScaling, SplitMode, Switch
from runner.errors import BadInput

ENGINE = LlamaCpp(read_engine_file(images_folder() / "llama.cpp" / "engine.yaml"))
PLAN = Plan(
    model_file=PurePosixPath("/model/model.gguf"),
    model_folder=PurePosixPath("/model"),
    listen=UnixEndpoint("/run/engine/engine.sock"),
    context_size=2048,
    names=("demo:1", "docker.io/ai/demo:1"),
)
COMMON = ("--alias", "demo:1", "--ctx-size", "2048")
ALWAYS = ("--jinja", "--metrics", "--no-webui")
UNIX = ("--model", "/model/model.gguf", "--host", "/run/engine/engine.sock")
BASE = (*UNIX, *COMMON, *ALWAYS)


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        ({}, BASE),
        (
            {"listen": TcpEndpoint("0.0.0.0", 8080)},
            (*UNIX[:2], "--host", "0.0.0.0", "--port", "8080", *COMMON, *ALWAYS),
        ),
        ({"mode": Mode.EMBEDDING}, (*BASE, "--embeddings")),
        ({"mode": Mode.RERANKING}, (*BASE, "--embeddings", "--reranking")),
        (
            {"chat_template": PurePosixPath("/model/template.jinja")},
            (*BASE, "--chat-template-file", "/model/template.jinja"),
        ),
        ({"mmproj": PurePosixPath("/model/p.gguf")}, (*BASE, "--mmproj", "/model/p.gguf")),
        (
            {"draft_model": PurePosixPath("/draft/d.gguf")},
            (*BASE, "--spec-draft-model", "/draft/d.gguf", "--spec-type", "draft-simple"),
        ),
        (
            {
                "draft_model": PurePosixPath("/draft/d.gguf"),
                "flags": ("--spec-type", "draft-mtp"),
            },
            (*BASE, "--spec-draft-model", "/draft/d.gguf", "--spec-type", "draft-mtp"),
        ),
        (
            {
                "adapters": (
                    Adapter("a", PurePosixPath("/lora/a.gguf")),
                    Adapter("b", PurePosixPath('/lora/b,"c.gguf')),
                )
            },
            (*BASE, "--lora", '/lora/a.gguf,"/lora/b,""c.gguf"'),
        ),
        ({"flags": ("--threads", "2")}, (*BASE, "--threads", "2")),
    ],
)
def test_arguments(changes: dict[str, Any], arguments: tuple[str, ...]) -> None:
    command = ENGINE.command(replace(PLAN, **changes))
    assert command.arguments == arguments
    assert command.environment == {}


OPTION_CASES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"context_size": 4096}, ()),
    ({"gpus": ("0",)}, ()),
    ({"lora": ("a",)}, ()),
    ({"chat_template": "/t"}, ()),
    ({"draft_model": "d"}, ()),
    ({"parallel": 1}, ("--parallel", "1")),
    ({"parallel": 4}, ("--parallel", "4", "--kv-unified")),
    ({"batch_size": 1024}, ("--batch-size", "1024")),
    ({"micro_batch_size": 256}, ("--ubatch-size", "256")),
    ({"threads": 4}, ("--threads", "4")),
    ({"threads_batch": 8}, ("--threads-batch", "8")),
    ({"gpu_layers": -1}, ()),
    ({"gpu_layers": 0}, ("--gpu-layers", "0")),
    ({"gpu_layers": 35}, ("--gpu-layers", "35")),
    ({"cpu_moe_layers": 3}, ("--n-cpu-moe", "3")),
    ({"split_mode": SplitMode.ROW}, ("--split-mode", "row")),
    ({"split": (3.0, 1.0)}, ("--tensor-split", "3.0,1.0")),
    ({"main_gpu": 1}, ("--main-gpu", "1")),
    ({"memory_lock": True}, ("--load-mode", "mmap+mlock")),
    ({"memory_lock": True, "mmap": True}, ("--load-mode", "mmap+mlock")),
    ({"memory_lock": True, "mmap": False}, ("--load-mode", "mlock")),
    ({"memory_lock": False}, ()),
    ({"mmap": True}, ("--load-mode", "mmap")),
    ({"mmap": False}, ("--load-mode", "none")),
    ({"rope_freq_base": 1e6}, ("--rope-freq-base", "1000000.0")),
    ({"rope_freq_scale": 0.5}, ("--rope-freq-scale", "0.5")),
    ({"rope_scaling": RopeScaling.YARN}, ("--rope-scaling", "yarn")),
    ({"rope_scale": 2.0}, ("--rope-scale", "2.0")),
    ({"flash_attention": Switch.ON}, ("--flash-attn", "on")),
    ({"cache_type_k": "q8_0"}, ("--cache-type-k", "q8_0")),
    ({"cache_type_v": "q4_0"}, ("--cache-type-v", "q4_0")),
    ({"reasoning_parser": "deepseek"}, ("--reasoning-format", "deepseek")),
    ({"reasoning_budget": 0}, ("--reasoning-budget", "0")),
    ({"reasoning_budget": -1}, ("--reasoning-budget", "-1")),
    ({"seed": 42}, ("--seed", "42")),
    ({"seed": -1}, ()),
]


@pytest.mark.parametrize(("options", "arguments"), OPTION_CASES)
def test_options(options: dict[str, Any], arguments: tuple[str, ...]) -> None:
    plan = replace(PLAN, options=Options(**options), gpu_count=2)
    assert ENGINE.command(plan).arguments == (*BASE, *arguments)


def test_the_number_of_draft_tokens_goes_with_a_draft_model() -> None:
    plan = replace(
        PLAN, options=Options(draft_tokens=5), draft_model=PurePosixPath("/draft/d.gguf")
    )
    arguments = ENGINE.command(plan).arguments
    assert arguments[len(BASE) : len(BASE) + 2] == ("--spec-draft-n-max", "5")


def test_every_supported_option_is_in_a_table_here() -> None:
    covered = {name for options, _ in OPTION_CASES for name in options} | {"draft_tokens"}
    assert covered == ENGINE.supported
    assert ENGINE.supported <= {one.name for one in fields(Options)}


UNSUPPORTED: dict[str, Any] = {
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 2,
    "gpu_memory_utilization": 0.5,
    "max_batched_tokens": 512,
    "cpu_offload_gb": 1.0,
    "kv_cache_dtype": "fp8",
    "dtype": "float16",
    "quantization": "awq",
    "enforce_eager": True,
    "trust_remote_code": True,
    "tool_parser": "hermes",
    "hf_overrides": {"a": 1},
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_option_that_llama_cpp_has_no_way_for_is_named(name: str) -> None:
    with pytest.raises(BadInput) as refused:
        ENGINE.command(replace(PLAN, options=Options(**{name: UNSUPPORTED[name]})))
    assert refused.value.message == f"llama.cpp can't carry out {name}"
    assert refused.value.hint != f"take {name} out", "every one has an advice of its own"


def test_every_option_is_carried_out_or_refused() -> None:
    names = {one.name for one in fields(Options)}
    assert names == ENGINE.supported | set(UNSUPPORTED)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_type_k": "q9_0"}, "cache_type_k is 'q9_0'"),
        ({"reasoning_parser": "qwen3"}, "reasoning_parser is 'qwen3'"),
        ({"cache_type_v": "q8_0", "flash_attention": Switch.OFF}, "needs flash attention"),
        ({"rope_scale": 2.0, "rope_freq_scale": 0.5}, "both set"),
        ({"draft_tokens": 4}, "no draft model"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"split": (1.0, 1.0, 1.0)}, "3 shares for 2 GPUs"),
        ({"main_gpu": 2}, "main_gpu is 2, of 2 GPUs"),
    ],
)
def test_a_plan_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        ENGINE.command(replace(PLAN, options=Options(**options), gpu_count=2))
    assert message in refused.value.message
    assert refused.value.hint


@pytest.mark.parametrize(("options", "arguments"), OPTION_CASES)
def test_its_own_arguments_are_known_to_the_pinned_version(
    options: dict[str, Any], arguments: tuple[str, ...]
) -> None:
    free = replace(flag_rules(), own={})
    assert checked((*BASE, *arguments), free) == (*BASE, *arguments)


LET_THROUGH = """
-t --threads -tb --threads-batch -C --cpu-mask -Cr --cpu-range --cpu-strict --prio --poll -Cb
--cpu-mask-batch -Crb --cpu-range-batch --cpu-strict-batch --prio-batch --poll-batch -c --ctx-size
-n --predict --n-predict --keep -b --batch-size -ub --ubatch-size --swa-full -fa --flash-attn
--perf --no-perf --samplers -s --seed --temp --temperature --top-k --top-p --min-p --top-nsigma
--xtc-probability --xtc-threshold --typical --repeat-last-n --repeat-penalty --presence-penalty
--frequency-penalty --dry-multiplier --dry-base --dry-allowed-length --dry-penalty-last-n
--mirostat --mirostat-lr --mirostat-ent --ignore-eos --dynatemp-range --dynatemp-exp -dev --device
-ngl --gpu-layers --n-gpu-layers -sm --split-mode -ts --tensor-split -mg --main-gpu -fit --fit
-fitt --fit-target -fitc --fit-ctx -kvo --kv-offload -nkvo --no-kv-offload --repack -nr --no-repack
--no-host -ctk --cache-type-k -ctv --cache-type-v --mlock --mmap --no-mmap -dio --direct-io -ndio
--no-direct-io -cram --cache-ram -kvu --kv-unified --context-shift --no-context-shift
--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx --yarn-ext-factor
--yarn-attn-factor --yarn-beta-slow --yarn-beta-fast -np --parallel -cb --cont-batching -nocb
--no-cont-batching --warmup --no-warmup -to --timeout --threads-http --cache-prompt
--no-cache-prompt --cache-reuse --sleep-idle-seconds --mmproj-auto --no-mmproj --no-mmproj-auto
--mmproj-offload --no-mmproj-offload --image-min-tokens --image-max-tokens --spm-infill
--spec-draft-threads -td --threads-draft --spec-draft-threads-batch -tbd --threads-batch-draft
--spec-draft-cpu-mask -Cd --cpu-mask-draft --spec-draft-cpu-range -Crd --cpu-range-draft
--spec-draft-cpu-strict --cpu-strict-draft --spec-draft-prio --prio-draft --spec-draft-poll
--poll-draft --spec-draft-cpu-mask-batch -Cbd --cpu-mask-batch-draft
--spec-draft-cpu-strict-batch --cpu-strict-batch-draft --spec-draft-prio-batch --prio-batch-draft
--spec-draft-poll-batch --poll-batch-draft --spec-draft-override-tensor -otd
--override-tensor-draft --spec-draft-cpu-moe -cmoed --cpu-moe-draft --spec-draft-n-cpu-moe
--spec-draft-ncmoe -ncmoed --n-cpu-moe-draft --spec-draft-n-max --draft-n-max --draft-max
--spec-draft-n-min --draft-n-min --draft-min --spec-draft-p-split --draft-p-split
--spec-draft-p-min --draft-p-min --spec-draft-backend-sampling --no-spec-draft-backend-sampling
--spec-draft-device -devd --device-draft --spec-draft-ngl -ngld --gpu-layers-draft
--n-gpu-layers-draft --spec-type --spec-ngram-mod-n-min --spec-ngram-mod-n-max
--spec-ngram-mod-n-match --spec-ngram-simple-size-n --spec-ngram-simple-size-m
--spec-ngram-simple-min-hits --spec-ngram-map-k-size-n --spec-ngram-map-k-size-m
--spec-ngram-map-k-min-hits --spec-ngram-map-k4v-size-n --spec-ngram-map-k4v-size-m
--spec-ngram-map-k4v-min-hits --spec-draft-type-k -ctkd --cache-type-k-draft --spec-draft-type-v
-ctvd --cache-type-v-draft -cd --ctx-size-draft --lora-init-without-apply
--control-vector-layer-range --grammar -j --json-schema -bs --backend-sampling --chat-template
--chat-template-kwargs --jinja --no-jinja --pooling --reasoning-format --reasoning-budget
--prefill-assistant --no-prefill-assistant --api-prefix --webui --no-webui --webui-config --api-key
--metrics --no-metrics --props --slots --no-slots --embedding --embeddings --rerank --reranking
-sps --slot-prompt-similarity -cmoe --cpu-moe -ncmoe --n-cpu-moe --check-tensors --op-offload
--no-op-offload -v --verbose
"""
DMR = LET_THROUGH.split()
"""What Docker Model Runner lets through to llama.cpp."""

DMR_GONE = {
    *("--mlock", "--mmap", "--no-mmap", "-dio", "--direct-io", "-ndio", "--no-direct-io"),
    *("--draft-n-max", "--draft-max", "--draft-n-min", "--draft-min", "-cd", "--ctx-size-draft"),
    "--no-metrics",
}
DMR_OURS = {
    *("--api-prefix", "--api-key"),  # requests from the gateway would no longer reach it
    *("--embedding", "--embeddings", "--rerank", "--reranking"),  # the mode says it
    "--props",  # dangerous: one client changes what holds for all
}


def test_what_docker_model_runner_lets_through_passes_here() -> None:
    rules = flag_rules()
    assert len(DMR) == 251
    assert {flag for flag in DMR if flag not in rules.known} == DMR_GONE
    for flag in DMR:
        if flag in DMR_GONE | DMR_OURS:
            with pytest.raises(BadInput):
                checked((flag, "1"), rules)
            continue
        values = ("1",) * int(rules.known[flag])
        left = routed((flag, *values), rules)
        assert checked(left.flags, rules) == left.flags
        assert left.flags or left.options == {"context_size": "1"}


def test_what_is_gone_says_what_to_do_instead() -> None:
    assert set(GONE) >= DMR_GONE
    assert not set(GONE) & set(flag_rules().known)
    with pytest.raises(BadInput) as refused:
        checked(("--no-mmap",), flag_rules())
    assert "`mmap`" in refused.value.hint


def test_the_tables_name_flags_that_exist() -> None:
    known = set(flag_rules().known)
    for table in (OWN, DANGEROUS, dict.fromkeys({**FIELDS, **OLDER}.values())):
        assert set(table) <= known
    assert not set(OWN) & set(DANGEROUS)


def test_every_flag_that_names_a_file_or_an_address_is_refused() -> None:
    words = ("FNAME", "PATH", "FILE", "DIR", "URL", "SERVERS", "<user>/", "[<repo>/]", "TOKEN")
    suspicious = {
        name
        for line in captured_help("llama.cpp").splitlines()
        if line.startswith("-") and any(f" {word}" in line.split("   ")[0] for word in words)
        for flag in help_flags(line)
        for name in flag.names
    } - {"-l", "--logit-bias"}
    assert len(suspicious) > 30
    rules = flag_rules()
    assert suspicious <= {*rules.own, *rules.dangerous}
    downloads = {
        entry.split()[0]
        for entry in re.split(r"\n(?=-)", captured_help("llama.cpp"))
        if "can download weights" in " ".join(entry.split())
    }
    assert len(downloads) > 5
    assert downloads <= set(rules.dangerous)


@pytest.mark.parametrize(
    ("values", "flags", "options"),
    [
        ({"n_ctx": "4096"}, (), Options(context_size=4096)),
        ({"n_parallel": "4"}, (), Options(parallel=4)),
        ({"n_gpu_layers": "-1"}, (), Options(gpu_layers=-1)),
        ({"sampling.top_k": "20"}, ("--top-k", "20"), Options()),
        ({"sampling.temp": "0.2"}, ("--temp", "0.2"), Options()),
        ({"cpuparams.n_threads": "4"}, (), Options(threads=4)),
        ({"speculative.draft.n_min": "2"}, ("--spec-draft-n-min", "2"), Options()),
        ({"speculative.p_min": "0.5"}, ("--spec-draft-p-min", "0.5"), Options()),
        ({"no_kv_offload": "true"}, ("--no-kv-offload",), Options()),
        ({"no_kv_offload": "false"}, ("--kv-offload",), Options()),
        ({"cont_batching": "false"}, ("--no-cont-batching",), Options()),
        ({"use_mmap": "false", "use_mlock": "true"}, (), Options(mmap=False, memory_lock=True)),
        ({"flash_attn": "true"}, (), Options(flash_attention=Switch.ON)),
        (
            {
                "threads": "6",
                "context_size": "8192",
                "batch_size": "1024",
                "gpu_layers": "35",
                "memory_lock": "true",
                "no_mmap": "true",
                "rope_freq_base": "10000",
                "rope_freq_scale": "1.0",
                "rope_scaling.type": "linear",
                "rope_scaling.factor": "2.0",
                "attention.flash_attention": "true",
            },
            (),
            Options(
                threads=6,
                context_size=8192,
                batch_size=1024,
                gpu_layers=35,
                memory_lock=True,
                mmap=False,
                rope_freq_base=10000.0,
                rope_freq_scale=1.0,
                rope_scaling=RopeScaling.LINEAR,
                rope_scale=2.0,
                flash_attention=Switch.ON,
            ),
        ),
    ],
)
def test_other_programs_names(
    values: dict[str, str], flags: tuple[str, ...], options: Options
) -> None:
    found = named(values, flag_rules())
    assert checked(found.flags, flag_rules()) == flags
    assert options_from(found.options) == options


@pytest.mark.parametrize(
    ("name", "reason"),
    [("attention.grouped_query", "property of the model"), ("gpu.enabled", "--gpu none")],
)
def test_names_that_nothing_can_be_done_for(name: str, reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        named({name: "true"}, flag_rules())


def test_every_name_leads_somewhere() -> None:
    values = {one.name for one in fields(Options)}
    for name, target in NAMES.items():
        option = getattr(target, "option", target)
        assert option in flag_rules().known or option in values, name
    assert not set(IMPOSSIBLE) & set(NAMES)


def test_metrics_are_named_for_what_the_runner_counts() -> None:
    assert set(ENGINE.metrics) < set(Metric)
    assert all(name.startswith("llamacpp:") for name in ENGINE.metrics.values())


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        # seen in the log of the pinned version
        ("E llama_model_load: error loading model: unknown model architecture: 'zl'", "zl: update"),
        ("E error loading model vocabulary: unknown pre-tokenizer type: 'zzt-2'", "(zzt-2): upd"),
        (
            "E llama_model_load: error loading model: tensor 'token_embd.weight' data is not "
            "within the file bounds, model is corrupted or incomplete",
            "damaged",
        ),
        ("E gguf_init_from_reader: invalid magic characters: 'XXXX', expected 'GGUF'", "damaged"),
        (
            "E gguf_init_from_reader: this GGUF file is version 9 but this software only "
            "supports up to version 3",
            "GGUF version 9 is newer",
        ),
        (
            "E ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 61440",
            "not enough memory",
        ),
        (
            "error: ggml_aligned_malloc: insufficient memory (attempted to allocate 5859.38 MB)",
            "--context-size",
        ),
        (
            "E srv    send_error: task id = 0, error: request (2002 tokens) exceeds the available "
            "context size (256 tokens), try increasing it",
            "2002 tokens came to a context of 256",
        ),
        (
            "E srv    send_error: task id = 0, error: input (328 tokens) is too large to process. "
            "increase the physical batch size (current batch size: 64)",
            "--micro-batch-size` 328",
        ),
        ("E llama_init_from_model: quantized V cache requires flash_attn to be enabled", "flash"),
        ("E common_init_: failed to load lora adapter '/nope.gguf'", "same base model"),
        ("E srv load_model: failed to load multimodal model, '/m.gguf'", "projector"),
        ("W got exception: image input is not supported - hint: if this is unexpected", "projec"),
        ("E srv init: init: chat template parsing error: std::exception", "--chat-template"),
        ("E llama_prepare_model_devices: LLAMA_SPLIT_MODE_TENSOR needs >= 1 devices", "gpus"),
        ("E srv start: couldn't bind HTTP server socket, hostname: /x.sock, port: 0", "in use"),
        # from its source, or from people's reports
        ("error: invalid argument: --nope", "does not know the flag --nope"),
        ('error while handling argument "-fa": unknown value', "the flag -fa has a value"),
        (
            "error while loading shared libraries: libcudart.so.12: cannot open",
            "the engine's image lacks the library libcudart.so.12: "
            "`runner install-runner --backend llama.cpp --force`",
        ),
        ("error while loading shared libraries: libcuda.so.1: cannot open", "nvidia-ctk cdi gen"),
        (
            "load_backend: failed to load /app/libggml-cuda.so: libcuda.so.1: cannot open shared "
            "object file: No such file or directory",
            "given no NVIDIA driver",
        ),
        (
            "load_backend: failed to load /app/libggml-cuda.so",
            "part for NVIDIA GPUs can't be loaded, most often for want of the driver",
        ),
        (
            "load_backend: failed to load /app/libggml-cpu-haswell.so",
            "part libggml-cpu-haswell.so can't be loaded: "
            "`runner install-runner --backend llama.cpp --force`",
        ),
        (
            "ggml_cuda_init: failed to initialize CUDA: CUDA driver version is insufficient for "
            "CUDA runtime version",
            "update the driver",
        ),
        ("CUDA error: no kernel image is available for execution on the device", "no code for"),
        ("CUDA error: the provided PTX was compiled with an unsupported toolchain.", "driver is"),
        ("ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected", "GPU"),
        (
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9000.00 MiB on device 0: "
            "cudaMalloc failed: out of memory",
            "--gpu-layers",
        ),
        (
            "error: Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
            "--gpu-layers",
        ),
        ("llama_kv_cache: failed to find a memory slot for batch of size 8", "KV cache is full"),
        (
            "update_slots: failed to decode the batch: KV cache is full - try increasing it",
            "KV cache is full",
        ),
        ("Input prompt is too big compared to KV size. Please try increasing KV size.", "KV cache"),
        ("slot update_slots: id  0 | task 0 | failed to process image, res = 1", "image"),
        ("E send_error: task id = 0, error: Context size has been exceeded.", "longer"),
        ("warning: failed to mlock 1048576-byte buffer: Cannot allocate memory", "ulimit -l"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "not enough memory"),
        ("all is well", ""),
    ],
)
def test_hints(line: str, hint: str) -> None:
    found = ENGINE.hint(("first line", line))
    assert hint in found
    assert bool(found) == bool(hint)


def test_a_real_log_of_a_newer_file_is_not_called_damaged() -> None:
    log = (
        "0.00.038.255 E gguf_init_from_reader: this GGUF file is version 9 but this software only "
        "supports up to version 3",
        "0.00.038.415 E gguf_init_from_reader: failed to read header",
        "0.00.038.494 E llama_model_load: error loading model: llama_model_loader: failed to load",
        "0.00.039.223 E srv          init: exiting due to model loading error",
    )
    assert "newer than this llama.cpp" in ENGINE.hint(log)

"""What the texts of an engine.yaml have to look like."""

from __future__ import annotations

import re

from runner.engines.description import ANY
from runner.engines.fields import Shape
from runner.names import ENGINE_NAME

NAME = Shape(ENGINE_NAME, "small letters, digits, dots, hyphens and underscores, 63 at most")
VERSION = Shape(
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"),
    "letters, digits, dots, hyphens and underscores, 100 at most",
)
NUMBERS = Shape(re.compile(r"\d{1,9}(\.\d{1,9}){0,5}", re.A), "numbers with dots between")
LINE = Shape(re.compile(r"[^\x00-\x1f\x7f]{1,300}"), "one line, of 300 characters at most")
URL = Shape(re.compile(r"https?://[^\s\x00-\x1f\x7f]{1,290}"), "an address with https://")
PATH = Shape(re.compile(r"/[\w./~%-]{0,200}", re.A), "a path from / on")
IMAGE = Shape(re.compile(r"[a-z0-9][\w.:/@-]{0,299}", re.A), "an image such as host/name:tag")
QUANTIZATION = Shape(
    re.compile(r"[a-z0-9][a-z0-9._-]{0,40}"), f"{ANY}, none, or a method such as awq-int4"
)
TARGET = Shape(re.compile(r"[a-z][a-z0-9_.-]{0,30}"), "a target such as sm_80 or gfx1100")
FILE = Shape(re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.A), "the name of a file beside this one")
ARGUMENT = Shape(re.compile(r"[^\x00]{0,2000}"), "a text")
VARIABLE = Shape(re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}"), "a name such as MY_VARIABLE")
ARCHITECTURE = re.compile(r"[\w.+/-]{1,100}")

_SYSTEMS = ("linux", "darwin", "windows")
_PROCESSORS = ("amd64", "arm64", "ppc64le", "riscv64", "s390x")
PLATFORM = Shape(
    re.compile(f"({'|'.join(_SYSTEMS)})/({'|'.join(_PROCESSORS)})"),
    f"a system ({', '.join(_SYSTEMS)}), a slash, a processor ({', '.join(_PROCESSORS)})",
)

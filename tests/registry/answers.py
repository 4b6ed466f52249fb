"""The test registry's verbs, as the OCI distribution specification has them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from tests.registry.content import Filed, digest_of
from tests.registry.records import Request
from tests.registry.uploads import Upload

if TYPE_CHECKING:
    from tests.registry.server import Handler

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
Verb = Callable[["Handler", "Request", str, str], object]


def serve(handler: Handler, request: Request) -> None:
    if request.path == "/v2/":
        handler.answer(200, b"{}")
        return
    if request.path == "/v2/_catalog":
        _catalog(handler, request)
        return
    for pattern, verb in _VERBS:
        if match := re.fullmatch(pattern, request.path):
            verb(handler, request, match[1], match[2])
            return
    _refuse(handler, 404, "UNSUPPORTED")


def _refuse(handler: Handler, status: int, code: str) -> None:
    document = {"errors": [{"code": code, "message": code.lower().replace("_", " ")}]}
    handler.answer(status, json.dumps(document).encode())


def _blob(handler: Handler, request: Request, repository: str, digest: str) -> None:
    registry = handler.registry
    blob = registry.blobs.get(digest)
    linked = not registry.separate or (repository, digest) in registry.links
    if blob is None or not linked:
        _refuse(handler, 404, "BLOB_UNKNOWN")
    elif registry.storage and request.method == "GET":
        handler.answer(307, b"", {"Location": registry.storage.address_of(digest)})
    else:
        handler.send(blob, partial(registry.served.note, digest))


def _open_upload(handler: Handler, request: Request, repository: str, _: str) -> None:
    registry = handler.registry
    query = parse_qs(request.query)
    mounted, source = query.get("mount", [""])[0], query.get("from", [""])[0]
    if mounted in registry.blobs and (not registry.separate or (source, mounted) in registry.links):
        registry.links.add((repository, mounted))
        handler.answer(201, b"", _kept(repository, mounted))
        return
    with registry.lock:
        upload = Upload(len(registry.uploads) + 1, repository, registry.min_chunk)
        registry.uploads[upload.number] = upload
    headers = upload.headers
    if registry.min_chunk:
        headers["OCI-Chunk-Min-Length"] = str(registry.min_chunk)
    handler.answer(202, b"", headers)


def _upload(handler: Handler, request: Request, repository: str, number: str) -> None:
    upload = handler.registry.uploads.get(int(number))
    if upload is None or upload.repository != repository:
        _refuse(handler, 404, "BLOB_UPLOAD_UNKNOWN")
        return
    with upload.lock:
        {
            "GET": _tell_upload,
            "PATCH": _continue_upload,
            "PUT": _end_upload,
            "DELETE": _cancel_upload,
        }.get(request.method, _no_verb)(handler, request, upload)


def _tell_upload(handler: Handler, _: Request, upload: Upload) -> None:
    handler.answer(204, b"", upload.headers)


def _continue_upload(handler: Handler, request: Request, upload: Upload) -> None:
    if _is_placed(handler, request, upload):
        upload.append(handler.incoming())
        handler.answer(202, b"", upload.headers)


def _end_upload(handler: Handler, request: Request, upload: Upload) -> None:
    if not _is_placed(handler, request, upload, last=True):
        return
    upload.append(handler.incoming())
    digest = parse_qs(request.query).get("digest", [""])[0]
    registry = handler.registry
    del registry.uploads[upload.number]
    registry.uploads[-upload.number] = upload  # its number stays taken
    if digest != f"sha256:{upload.hash.hexdigest()}":
        upload.forget()
        _refuse(handler, 400, "DIGEST_INVALID")
        return
    kept = upload.keep(registry.folder)
    registry.blobs[digest] = kept if isinstance(kept, bytes) else Filed(kept)
    registry.links.add((upload.repository, digest))
    handler.answer(201, b"", _kept(upload.repository, digest))


def _cancel_upload(handler: Handler, _: Request, upload: Upload) -> None:
    del handler.registry.uploads[upload.number]
    handler.registry.uploads[-upload.number] = upload
    upload.forget()
    handler.answer(204)


def _no_verb(handler: Handler, _: Request, __: Upload) -> None:
    _refuse(handler, 405, "UNSUPPORTED")


def _is_placed(handler: Handler, request: Request, upload: Upload, *, last: bool = False) -> bool:
    """Refuses a chunk that does not go on where the last one ended."""
    place = handler.headers.get("Content-Range", "")
    state = parse_qs(request.query).get("state", [""])[0]
    if upload.accepts(place, state, handler.length) or (last and not handler.length):
        return True
    handler.answer(416, b"", upload.headers)
    return False


def _manifest(handler: Handler, request: Request, repository: str, name: str) -> None:
    key = f"{repository}/{name}"
    manifests = handler.registry.manifests
    if request.method == "PUT":
        _keep_manifest(handler, request, repository, name)
    elif key not in manifests:
        _refuse(handler, 404, "MANIFEST_UNKNOWN")
    else:
        content = manifests[key]
        headers = {
            "Content-Type": _media_type(content),
            "Docker-Content-Digest": digest_of(content),
        }
        handler.stream(200, [content], len(content), headers)


def _keep_manifest(handler: Handler, request: Request, repository: str, name: str) -> None:
    registry, digest = handler.registry, digest_of(request.body)
    wanted = _blobs_of(request.body)
    lacking = [d for d in wanted if d not in registry.blobs]
    lacking += [d for d in wanted if registry.separate and (repository, d) not in registry.links]
    if lacking:
        _refuse(handler, 400, "MANIFEST_BLOB_UNKNOWN")
    elif name.startswith("sha256:") and name != digest:
        _refuse(handler, 400, "DIGEST_INVALID")
    else:
        for key in (name, digest):
            registry.manifests[f"{repository}/{key}"] = request.body
        handler.answer(201, b"", {"Docker-Content-Digest": digest})


def _tags(handler: Handler, request: Request, repository: str, _: str) -> None:
    names = [name.rpartition("/") for name in list(handler.registry.manifests)]
    tags = {tag for found, _, tag in names if found == repository}
    named = sorted(tag for tag in tags if not tag.startswith("sha256:"))
    if not tags:
        _refuse(handler, 404, "NAME_UNKNOWN")
    else:
        _list(handler, request, named, "tags", {"name": repository})


def _catalog(handler: Handler, request: Request) -> None:
    names = {name.rpartition("/")[0] for name in list(handler.registry.manifests)}
    _list(handler, request, sorted(names), "repositories", {})


def _list(
    handler: Handler, request: Request, names: list[str], field: str, document: dict[str, object]
) -> None:
    """One page of names, with a link to the next."""
    query = parse_qs(request.query)
    last = query.get("last", [""])[0]
    count = min(handler.registry.page, int(query.get("n", [handler.registry.page])[0]))
    after = [name for name in names if name > last]
    page, rest = after[:count], after[count:]
    link = f'<{request.path}?last={page[-1]}&n={count}>; rel="next"' if rest and page else ""
    content = json.dumps({**document, field: page}).encode()
    handler.answer(200, content, {"Link": link} if link else {})


def _kept(repository: str, digest: str) -> dict[str, str]:
    return {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest}


def _media_type(content: bytes) -> str:
    document = _document(content)
    return str(document.get("mediaType") or OCI_MANIFEST)


def _blobs_of(content: bytes) -> list[str]:
    document = _document(content)
    layers = document.get("layers")
    parts = [document.get("config"), *(layers if isinstance(layers, list) else [])]
    return [str(part["digest"]) for part in parts if isinstance(part, dict) and "digest" in part]


def _document(content: bytes) -> dict[str, object]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


_VERBS: tuple[tuple[str, Verb], ...] = (
    (r"/v2/(.+)/blobs/uploads/()", _open_upload),
    (r"/v2/(.+)/blobs/uploads/(\d+)", _upload),
    (r"/v2/(.+)/blobs/(sha256:.+)", _blob),
    (r"/v2/(.+)/manifests/([^/]+)", _manifest),
    (r"/v2/(.+)/tags/(list)", _tags),
)

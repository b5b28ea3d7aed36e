"""Files of the .coarse format around any skeleton and payload, right or wrong."""

import hashlib
import json
import struct

from nncomplexity.file import MAGIC


def framed(skeleton: object, payload: bytes = b"", version: int = 1) -> bytes:
    """A file with a sound checksum around whatever skeleton and payload."""
    text = skeleton if isinstance(skeleton, bytes) else json.dumps(skeleton, separators=(",", ":"), ensure_ascii=False).encode()
    body = struct.pack("<8sHIQ", MAGIC, version, len(text), len(payload)) + text + payload
    return body + hashlib.sha256(body).digest()

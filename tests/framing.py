"""Files of the .coarse format with any skeleton and payload, correct or not."""

import hashlib
import json
import struct

from nncomplexity.file import MAGIC


def framed(skeleton: object, payload: bytes = b"", version: int = 1) -> bytes:
    """A file with this skeleton and payload, and a correct checksum."""
    text = skeleton if isinstance(skeleton, bytes) else json.dumps(skeleton, separators=(",", ":"), ensure_ascii=False).encode()
    body = struct.pack("<8sHIQ", MAGIC, version, len(text), len(payload)) + text + payload
    return body + hashlib.sha256(body).digest()

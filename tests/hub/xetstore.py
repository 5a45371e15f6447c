"""Xet storage of the Hub stand-in: a folder that hf_xet itself writes to and reads from (`local://`)."""

import struct
import tempfile
import time
from pathlib import Path

_HEADER, _RECORD = 48, 48
_WITH_VERIFICATION, _WITH_SHA256 = 0x80000000, 0x40000000


class XetStore:
    """What was uploaded through Xet, by the SHA-256 of its content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def address(self) -> str:
        return f"local://{self.folder}"

    def fetch(self, sha256: str) -> bytes | None:
        """A content, put together again from its pieces; None where it was not uploaded."""
        import hf_xet

        for shard in sorted(self.folder.glob("xet/xorbs/shards/*.mdb")):
            for known, (name, size) in _contents(shard.read_bytes()).items():
                if known == sha256:
                    with tempfile.TemporaryDirectory() as scratch:
                        target = Path(scratch) / "content"
                        session = hf_xet.XetSession()
                        access = {"token": "any", "token_expiry_unix_secs": int(time.time()) + 3600}
                        with session.new_file_download_group(endpoint=self.address, **access) as group:
                            group.start_download_file(hf_xet.XetFileInfo(name, size), str(target))
                        return target.read_bytes()
        return None


def _contents(shard: bytes) -> dict[str, tuple[str, int]]:
    """(Xet's name, size) of each file that a shard describes, by SHA-256: its records have 48 bytes each, the names in
    words of 8 bytes (https://huggingface.co/docs/xet/shard)."""
    found = {}
    place = _HEADER
    while shard[place : place + 32] != b"\xff" * 32:
        flags, count = struct.unpack_from("<II", shard, place + 32)
        name, start = _name(shard[place : place + 32]), place + _RECORD
        sizes = [struct.unpack_from("<I", shard, start + index * _RECORD + 36)[0] for index in range(count)]
        place = start + count * _RECORD * (2 if flags & _WITH_VERIFICATION else 1)
        if flags & _WITH_SHA256:
            found[_name(shard[place : place + 32])] = (name, sum(sizes))
            place += _RECORD
    return found


def _name(words: bytes) -> str:
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", words))

"""Writes corpus and dictionary of the fuzzer: ``python3 -m tests.fuzz.seeds DIRECTORY``."""

from __future__ import annotations

import sys
from pathlib import Path

from condor_isolation import records

VALUES = {"P": "/etc/odd %name", "N": "el9", "U": "9223372036854775807", "T": "a text, %"}


def smallest(kind: str, extra: str = "") -> list[list[str]]:
    """Return the least records of a KIND, each key EXTRA or needed once with all its words."""
    rows = []
    for key, (types, words, least, _most, _help) in records.KINDS[kind].items():
        for index in range(max(least, 1 if key == extra else 0)):
            lists = list(words)
            fields = [
                VALUES[letter] if letter != "W" else lists[0][index % len(lists.pop(0))]
                for letter in types
            ]
            rows.append([key, *fields])
    return rows


def main() -> None:
    directory = Path(sys.argv[1])
    corpus = directory / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    tokens = {records.MAGIC, "%", "%00", "%2F", "end "}
    for flag, kind in ((0, "plan"), (1, "policy")):
        for key in ("", *records.KINDS[kind]):
            text = records.encode(kind, smallest(kind, key))
            (corpus / f"{kind}-{key}").write_bytes(bytes([flag]) + text)
            unsigned = text[: text.rindex(b"\nend ") + 1]
            (corpus / f"{kind}-{key}-unsigned").write_bytes(bytes([flag | 2]) + unsigned)
        for key, (_types, words, *_rest) in records.KINDS[kind].items():
            tokens |= {key, *(word for words_of_field in words for word in words_of_field)}
    lines = "".join(f'"{token}"\n' for token in sorted(tokens))
    (directory / "dictionary").write_text(lines)


if __name__ == "__main__":
    main()

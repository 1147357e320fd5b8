"""Makes src/checks/language_match/profiles.bin: the commonest letters, pairs and triples of 71 languages.

    pip download --no-deps lingua-language-detector==1.3.5 -d DIR && python3 -m zipfile -e DIR/*.whl DIR
    pip install brotli && python3 scripts/language_profiles.py DIR/lingua/language-models

Source: the n-gram counts of lingua 1.3.5 (Peter M. Stahl, Apache-2.0), which were counted on the Leipzig Corpora (CC-BY). What
is kept: for each language its 60 commonest letters, 400 pairs and 2000 triples, as log-probability above a floor, in one byte.
Languages in scripts of their own (Chinese, Japanese, Korean, Thai) need no counts. The output depends on the input alone.
"""

import json
import math
import struct
import sys
from pathlib import Path

import brotli

KEPT = {1: 60, 2: 400, 3: 2000}
FLOOR = {1: -9.0, 2: -10.0, 3: -10.5}
WEIGHT = {1: 0.3, 2: 0.5, 3: 1.0}
STEPS_PER_NAT = 20
BY_SCRIPT = {"ja", "zh", "ko", "th"}


def conditional(folder, name):
    body = json.loads(brotli.decompress((folder / f"{name}.json.br").read_bytes()))
    counts = {}
    for fraction, grams in body["ngrams"].items():
        part, whole = fraction.split("/")
        for gram in grams.split(" "):
            counts[gram] = math.log(int(part) / int(whole))
    return counts


def joint(folder):
    """Log-probability of each n-gram; the files have those of the last letter after the others."""
    one = conditional(folder, "unigrams")
    two = {g: one.get(g[0], -12.0) + p for g, p in conditional(folder, "bigrams").items()}
    three = {g: two.get(g[:2], -24.0) + p for g, p in conditional(folder, "trigrams").items()}
    return {1: one, 2: two, 3: three}


def main(root):
    folders = sorted(f for f in Path(root).iterdir() if len(f.name) == 2 and f.name not in BY_SCRIPT)
    folders = [f for f in folders if (f / "trigrams.json.br").exists()]
    grams = {}
    for number, folder in enumerate(folders):
        for size, known in joint(folder).items():
            best = sorted(known.items(), key=lambda item: (-item[1], item[0]))[: KEPT[size]]
            for gram, p in best:
                steps = min(255, round(WEIGHT[size] * (p - FLOOR[size]) * STEPS_PER_NAT))
                if steps > 0:
                    grams.setdefault(gram, []).append((number, steps))
    out = bytearray(struct.pack("<B", len(folders)))
    for folder in folders:
        out += folder.name.encode()
    out += struct.pack("<I", len(grams))
    for gram, entries in sorted(grams.items()):
        text = gram.encode()
        out += struct.pack("<BB", len(text), len(entries)) + text
        for number, steps in entries:
            out += struct.pack("<BB", number, steps)
    target = Path(__file__).parent.parent / "src/checks/language_match/profiles.bin"
    target.write_bytes(out)
    print(f"{len(folders)} languages, {len(grams)} n-grams, {len(out)} bytes")


if __name__ == "__main__":
    main(sys.argv[1])

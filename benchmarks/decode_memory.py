"""Peak memory of a comparison, in a process of its own: what comes on top of the imports, against the weights.

    python -m benchmarks.decode_memory [MODEL] [DTYPE]

The bound: 2.1 times the weights where they are prepacked (1.0 where not), the keys and values of all rows, and a fifth.
"""

import sys

from benchmarks.decode import PROMPT, TWELVE
from core import settings
from core.workspace import local_owner
from inference.compare.work import row_bytes
from inference.engine.batch import pack_weights
from inference.engine.engine import Panel, compare, prompt_ids
from inference.engine.fast_llama import lean_of
from inference.models.loading import load
from inference.models.locate import locate
from inference.strategies.table import parse_columns

TOKENS = 200


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else settings.DEFAULT_MODEL
    dtype = sys.argv[2] if len(sys.argv) > 2 else "float32"
    source = locate(model, local_owner())
    before = resident("VmRSS")
    loaded = load(source, dtype, "cpu")
    pack_weights(loaded)
    ids, specs = prompt_ids(loaded.tokenizer, PROMPT), parse_columns(TWELVE)
    list(compare([Panel(loaded, ids, list(enumerate(specs)))], seed=7, max_new_tokens=TOKENS))
    used = resident("VmHWM") - before
    weights = sum(one.numel() * one.element_size() for one in {id(p): p for p in loaded.model.parameters()}.values())
    rows = sum(spec.rows for spec in specs)
    keys = rows * row_bytes(loaded, len(ids) + TOKENS)
    bound = 1.2 * ((2.1 if lean_of(loaded.model) else 1.0) * weights + keys)
    print(f"\n{loaded.name}, {dtype}: {len(specs)} columns, {rows} rows, {TOKENS} tokens")
    print(f"  weights {weights / 1e6:.0f} MB, keys and values {keys / 1e6:.0f} MB")
    print(f"  peak less imports {used / 1e6:.0f} MB; bound {bound / 1e6:.0f} MB; {used / bound:.2f} of it")


def resident(name: str) -> int:
    """Bytes of this process's memory as the kernel counts it: VmRSS now, VmHWM at the most."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


if __name__ == "__main__":
    main()

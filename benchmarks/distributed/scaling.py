"""What a step costs on many accelerators, on paper: the formulas of docs/scaling.md.

`python -m benchmarks.distributed --paper` prints the tables. Nothing here is measured.
"""

import math
from collections.abc import Callable, Sequence

WEIGHTS = 1e9  # P
COUNTS = (8, 64, 1024)  # n
NODE = 8  # k, accelerators that NVLink joins; each has a network adapter of its own
MEMORY = 3.35e12  # M, bytes a second of an accelerator's memory
NVLINK = 450e9  # B, bytes a second in one direction
NETWORK = 50e9  # b, of one adapter in one direction
# Seconds of a hop, from the model by which NCCL chooses: of large messages, then of small ones.
NVLINK_HOP, NETWORK_HOP = 3.4e-6, 14.0e-6
NVLINK_SCALAR, NETWORK_SCALAR, START = 0.6e-6, 5.0e-6, 6.8e-6
VARIABLES = 200
TOKENS, FLOPS, USED = 8192, 989e12, 0.4

# Bytes of an element: what a step holds, and what an update reads and writes of it.
HELD: dict[str, tuple[float, float, float]] = {  # weight, gradient, slots
    "gradient descent": (4, 4, 0),
    "SGD with momentum": (4, 4, 4),
    "NAGD": (4, 4, 4),
    'NAGD, `slot_dtype="bfloat16"`': (4, 4, 2),
    "NAGD, all in bfloat16": (2, 2, 2),
    "NAGD, `use_ema=True`": (4, 4, 8),
    "Adam": (4, 4, 8),
}


def wire(n: int, size: float) -> float:
    """Returns the bytes that each of n sends in an all-reduce of so many bytes."""
    return 2 * (n - 1) / n * size


def all_reduce(n: int, size: float, tree: bool = True) -> float:
    """Returns the seconds of an all-reduce: a ring in each node, a tree or ring between them.

    First every accelerator of a node has the node's sum of its k-th part, then it sums this part
    with those of the other nodes through its own adapter, then the parts are gathered.
    """
    k = min(n, NODE)
    nodes = n // k
    hops = math.ceil(math.log2(nodes)) if tree else nodes - 1
    inside = wire(k, size) / NVLINK + 2 * (k - 1) * NVLINK_HOP
    return inside + wire(nodes, size / k) / NETWORK + 2 * hops * NETWORK_HOP


def flat_ring(n: int, size: float) -> float:
    """Returns the seconds of one ring through all, which is as fast as its slowest link."""
    if n <= NODE:
        return all_reduce(n, size)
    return wire(n, size) / NETWORK + 2 * (n - 1) * NETWORK_HOP


def decision(n: int) -> float:
    """Returns the seconds of an all-reduce of one number: latency alone."""
    k = min(n, NODE)
    return START + 2 * ((k - 1) * NVLINK_SCALAR + math.log2(n // k) * NETWORK_SCALAR)


def update(moved: float, n: int = 1) -> float:
    """Returns the seconds of an update that moves so many bytes an element, sharded over n."""
    return WEIGHTS * moved / n / MEMORY


def moved(weight: float, gradient: float, slots: float) -> float:
    """Returns the bytes an element: weight and slots are read and written, the gradient is read."""
    return 2 * weight + gradient + 2 * slots


def compute() -> float:
    """Returns the seconds of a forward and a backward pass over each accelerator's tokens."""
    return 6 * WEIGHTS * TOKENS / (USED * FLOPS)


def times() -> list[list[str]]:
    """Returns the rows of the table of milliseconds."""
    f32, bf16 = 4 * WEIGHTS, 2 * WEIGHTS
    plain, narrow = moved(*HELD["NAGD"]), moved(*HELD["NAGD, all in bfloat16"])
    slot = moved(*HELD['NAGD, `slot_dtype="bfloat16"`'])
    rows: dict[str, Callable[[int], float]] = {
        "all-reduce of float32 gradients": lambda n: all_reduce(n, f32),
        "… with a ring between nodes, not a tree": lambda n: all_reduce(n, f32, tree=False),
        "… with one flat ring": lambda n: flat_ring(n, f32),
        "all-reduce of bfloat16 gradients": lambda n: all_reduce(n, bf16),
        f"NAGD's update, replicated ({plain:.0f} bytes)": lambda n: update(plain),
        f'… `slot_dtype="bfloat16"` ({slot:.0f} bytes)': lambda n: update(slot),
        f"… all in bfloat16 ({narrow:.0f} bytes)": lambda n: update(narrow),
        f"NAGD's update, sharded ({plain:.0f} bytes)": lambda n: update(plain, n),
        f"Adam's, replicated ({moved(*HELD['Adam']):.0f} bytes)": lambda n: update(
            moved(*HELD["Adam"])
        ),
        "Keras' average of `use_ema`, replicated (12 bytes)": lambda n: update(12),
        "a decision: one number summed": decision,
        f"… {VARIABLES} numbers, one after the other": lambda n: VARIABLES * decision(n),
        f"forward and backward, {TOKENS:,} tokens each": lambda n: compute(),
    }
    made = [["ms of a step", *(f"n = {n:,}" for n in COUNTS)]]
    made += [[name, *(_three(1e3 * of(n)) for n in COUNTS)] for name, of in rows.items()]
    return made


def memory() -> list[list[str]]:
    """Returns the rows of the table of gigabytes for each accelerator."""
    made = [["GB of each accelerator", "slots", "all, replicated"]]
    made[0] += [f"slots over {n:,}" for n in COUNTS] + [f"all over {n:,}" for n in COUNTS]
    for name, each in HELD.items():
        weight, gradient, slots = (b * WEIGHTS / 1e9 for b in each)
        whole = weight + gradient
        row = [slots, whole + slots, *(whole + slots / n for n in COUNTS)]
        made.append([name, *map(_three, [*row, *((whole + slots) / n for n in COUNTS)])])
    return made


def markdown() -> str:
    """Returns both tables, as they stand in docs/scaling.md."""
    return "\n\n".join(_table(rows) for rows in (times(), memory()))


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|---" + "|---:" * (len(rows[0]) - 1) + "|", *body])


def _three(value: float) -> str:
    """Returns three digits, and no exponent."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


if __name__ == "__main__":
    print(markdown())

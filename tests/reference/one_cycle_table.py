"""Writes one_cycle.json: what PyTorch's OneCycleLR gives at every step of some cycles.

    python tests/reference/one_cycle_table.py

wants PyTorch, which the tests themselves do not.
"""

import json
from pathlib import Path

TABLE = Path(__file__).with_name("one_cycle.json")
NAMES = (
    "total_steps",
    "pct_start",
    "anneal_strategy",
    "three_phase",
    "max_lr",
    "div_factor",
    "final_div_factor",
    "base_momentum",
    "max_momentum",
)
SETTINGS = [
    dict(zip(NAMES, values, strict=True))
    for values in [
        (10, 0.3, "cos", False, 1.0, 25.0, 1e4, 0.85, 0.95),  # PyTorch's defaults
        (10, 0.45, "linear", True, 0.5, 4.0, 100.0, 0.5, 0.9),
        (37, 0.25, "cos", True, 0.1, 10.0, 1e3, 0.8, 0.99),
        (37, 0.3, "linear", False, 3.0, 25.0, 1e4, 0.85, 0.95),
        (100, 0.3, "cos", False, 1.0, 25.0, 1e4, 0.85, 0.95),
        (100, 0.45, "cos", True, 0.02, 2.0, 1e8, 0.0, 0.9),
        (100, 0.25, "linear", True, 1.0, 25.0, 1e4, 0.85, 0.95),
        (250, 0.45, "cos", False, 0.3, 100.0, 1e6, 0.6, 0.98),
    ]
]


def cycle(setting):
    """The learning rate and the momentum at the steps 0 ... total_steps - 1."""
    import torch

    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=setting["max_lr"], momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, cycle_momentum=True, **setting)
    group, found = optimizer.param_groups[0], []
    for step in range(setting["total_steps"]):
        if step:
            optimizer.step()
            scheduler.step()
        found.append((float(group["lr"]), float(group["momentum"])))
    rates, momenta = zip(*found, strict=True)
    return {"setting": setting, "learning_rate": rates, "momentum": momenta}


if __name__ == "__main__":
    import torch

    version = torch.__version__.partition("+")[0]
    table = {"torch": version, "cycles": [cycle(setting) for setting in SETTINGS]}
    TABLE.write_text(json.dumps(table, separators=(",", ":")) + "\n")
    print(f"{TABLE}: {TABLE.stat().st_size} bytes, PyTorch {version}")

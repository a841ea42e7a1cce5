"""Writes torch_sgd.json: the state of PyTorch's SGD with Nesterov momentum, and its next steps.

    python -m tests.reference.torch_sgd_table

wants PyTorch, which the tests themselves do not.
"""

import json
from pathlib import Path

import numpy as np

from tests.reference import sgd_problem as problem

TABLE = Path(__file__).with_name("torch_sgd.json")


def trained():
    """Returns the state dict after the first steps, and all parameters before each next one."""
    import torch

    parameters = [torch.nn.Parameter(torch.tensor(x)) for x in problem.start(problem.TORCH_SHAPES)]
    optimizer = torch.optim.SGD(
        parameters, lr=problem.RATE, momentum=problem.MOMENTUM, nesterov=True
    )

    def step():
        values = [p.detach().numpy() for p in parameters]
        for p, g in zip(parameters, problem.gradient(values), strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()

    def point():
        return np.concatenate([p.detach().numpy().ravel() for p in parameters])

    for _ in range(problem.FIRST):
        step()
    state, points = optimizer.state_dict(), [point()]
    state["state"] = {
        i: {name: tensor.numpy().copy() for name, tensor in entry.items()}
        for i, entry in state["state"].items()
    }
    for _ in range(problem.STEPS):
        step()
        points.append(point())
    return state, points


if __name__ == "__main__":
    import torch

    state, points = trained()
    buffers = [state["state"][i]["momentum_buffer"] for i in range(len(problem.TORCH_SHAPES))]
    table = {
        "torch": torch.__version__.partition("+")[0],
        "param_groups": state["param_groups"],
        "momentum_buffers": [problem.decimals(buffer) for buffer in buffers],
        "points": [problem.decimals(point) for point in points],
    }
    TABLE.write_text(json.dumps(table, separators=(",", ":")) + "\n")
    print(f"{TABLE}: {TABLE.stat().st_size} bytes, PyTorch {table['torch']}")

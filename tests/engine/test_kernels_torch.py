"""The kernel for PyTorch makes the textbook's step, by whatever way, and touches nothing else."""

from typing import NamedTuple

import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch")
if keras.backend.backend() != "torch":
    pytest.skip("Keras trains with another backend", allow_module_level=True)

from nagd_keras.engine.kernels import torch as kernel  # noqa: E402
from nagd_keras.engine.kernels import torch_ways as ways  # noqa: E402
from nagd_keras.rules.nesterov import coefficients  # noqa: E402
from tests.support.tolerances import UNIT  # noqa: E402

STEPS = 50
# Small ones for the operations for lists, one for the fused SGD, and one that makes several
# batches of the size below.
SHAPES = [(), (5,), (0,), (3, 4), (65, 128), (3, 41, 91)]
BATCH = 2000  # divides none of these sizes


class Case(NamedTuple):
    """The dtypes and hyperparameters of an update."""

    dtype: str = "float32"
    slot: str | None = None  # None: as the variable
    gradient: str | None = None
    learning_rate: float = 0.06
    momentum: float = 0.9
    weight_decay: float | None = None
    scale: float | None = None
    bound: float | None = None


CASES = {
    **{dtype: Case(dtype) for dtype in UNIT},
    **{f"{dtype}, all of it": Case(dtype, None, None, 0.4, 0.7, 0.2, 0.3, 0.7) for dtype in UNIT},
    "decay": Case(weight_decay=0.1),
    "decay of a small step": Case(weight_decay=0.1, scale=2.0**-20),
    "decay without a step": Case(weight_decay=0.1, scale=0.0),
    "scale": Case(scale=0.3),
    "bound": Case(bound=0.7),
    "no momentum": Case(momentum=0.0, weight_decay=0.1),
    "all momentum": Case(momentum=1.0),
    "no step": Case(learning_rate=0.0, weight_decay=0.1),
    "tiny step": Case(learning_rate=2.0**-30),
    "tiny step, float64": Case("float64", learning_rate=2.0**-20),
    "slot of 16 bits": Case(slot="bfloat16", weight_decay=0.1, bound=0.7),
    "slot of 64 bits": Case(slot="float64", bound=0.7),
    "variable of 16 bits": Case("float16", slot="float32", gradient="float16"),
    "gradient of 16 bits": Case(gradient="bfloat16"),
    "gradient of 64 bits": Case(gradient="float64", bound=0.7),
}


def wide(dtype):
    return dtype if dtype == "float64" else "float32"


def as_torch(dtype):
    return getattr(torch, dtype)


def coefficients_of(case, numbers=False):
    """The coefficients as tensors, or as numbers."""
    dtype = as_torch("float64" if "float64" in case[:3] else "float32")

    def made(x):
        return x if x is None or numbers else torch.tensor(x, dtype=dtype)

    eps, mu, decay = map(made, (case.learning_rate, case.momentum, case.weight_decay))
    c = coefficients(eps, mu, None if decay is None else eps * decay, made(case.bound))
    return c if case.scale is None else c.scaled(made(case.scale))


def textbook(w, s, g, case):
    """(w_{t+1}, s_{t+1}) in NumPy's float64, each with the sum of its terms' absolute values."""
    eps, mu, decay, scale, bound = case[3:]
    g = np.clip(g, -bound, bound) if bound is not None else g
    step = eps * g * (1.0 if scale is None else scale)
    s_next = mu * (s - step)
    w_next = w - eps * (decay or 0.0) * w - step + s_next
    s_terms = np.abs(mu * s) + np.abs(mu * step)
    return (w_next, np.abs(w) + np.abs(step) + s_terms), (s_next, s_terms)


def float64(x):
    return x.detach().to(torch.float64).numpy().copy()


class Variable:
    """A variable and its displacement, held to the textbook at every step."""

    def __init__(self, rng, case, shape, change=lambda x: x):
        self.rng, self.case, self.change = rng, case, change
        self.w = torch.nn.Parameter(change(self.random(shape, case.dtype)))
        self.s = change(torch.zeros(shape, dtype=as_torch(case.slot or case.dtype)))
        self.shape = shape

    def random(self, shape, dtype):
        return torch.tensor(self.rng.normal(size=shape)).to(as_torch(dtype))

    def step(self, c):
        g = self.change(self.random(self.shape, self.case.gradient or self.case.dtype))
        self.before = float64(self.w), float64(self.s), float64(g)
        self.g = g
        return self.w, self.s, g, c, None

    def check(self, what):
        expected = textbook(*self.before, self.case)
        assert np.array_equal(float64(self.g), self.before[2]), "the gradient changed"
        for found, (wanted, terms) in zip((self.w, self.s), expected, strict=True):
            error = np.max(np.abs(float64(found) - wanted), initial=0.0)
            assert error <= roundings(found) * np.max(terms, initial=0.0), what


def roundings(x):
    """A few; of 16 bits just one, and a few of the float32 that it comes from."""
    dtype = str(x.dtype).removeprefix("torch.")
    few = 4 * UNIT[wide(dtype)]
    return few if dtype == wide(dtype) else UNIT[dtype] + few


def run(variables, given, steps=STEPS):
    for t in range(steps):
        kernel.update_tensors(
            [variable.step(c) for variable, c in zip(variables, given, strict=True)]
        )
        for variable in variables:
            variable.check(f"of {variable.shape} after step {t}")


@pytest.fixture(params=["fused", "none", "another"])
def fused(request, monkeypatch):
    """Runs with the fused SGD as it is, without it, and with one that does something else."""
    if request.param == "none":
        monkeypatch.delattr(torch, "_fused_sgd_", raising=False)
    if request.param == "another":
        monkeypatch.setattr(torch, "_fused_sgd_", lambda ps, *_, **__: torch._foreach_add_(ps, 1.0))
    ways.has_fused.cache_clear()
    yield request.param
    ways.has_fused.cache_clear()


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """The cores are busy with other tests, and the fused SGD waits for all threads each time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(kernel, "BATCH", BATCH)


@pytest.fixture(params=[1, ways.LARGE], ids=["one thread", "threads"])
def threads(request, monkeypatch):
    """Chooses ways as for one thread, or for several."""
    monkeypatch.setattr(ways, "least", lambda: request.param)


@pytest.mark.parametrize("given", ["tensors", "numbers", "tensors of a device"])
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_every_step_is_the_textbooks(rng, threads, monkeypatch, small_batches, case, given):
    if given == "tensors of a device":  # whose numbers are not asked for
        monkeypatch.setattr(kernel, "_number", lambda scalar: scalar)
    variables = [Variable(rng, case, shape) for shape in SHAPES]
    run(variables, [coefficients_of(case, given == "numbers")] * len(variables))


def test_every_step_without_the_fused_sgd(rng, small_batches, fused):
    case = Case(weight_decay=0.1)
    variables = [Variable(rng, case, shape) for shape in SHAPES]
    run(variables, [coefficients_of(case)] * len(variables), steps=5)
    assert ways.has_fused() == (fused == "fused")


def test_all_cases_in_one_update(rng, small_batches):
    """With coefficients of the same object, of equal values, and that differ in one field."""
    variables, given = [], []
    for case in CASES.values():
        shared = coefficients_of(case)
        for shape in SHAPES:
            variables += [Variable(rng, case, shape), Variable(rng, case, shape)]
            given += [shared, coefficients_of(case)]
    run(variables, given, steps=5)


def test_equal_coefficients_share_operations(rng, monkeypatch):
    monkeypatch.setattr(ways, "least", lambda: ways.LARGE)
    calls = []
    operation = torch._foreach_mul_
    monkeypatch.setattr(torch, "_foreach_mul_", lambda *x: calls.append(x) or operation(*x))
    cases = [Case(dtype) for dtype in ("float32", "float64")] * 3
    variables = [Variable(rng, case, (7,)) for case in cases]
    one = coefficients_of(cases[0], numbers=True)
    run(variables, [one, one] + [coefficients_of(case, numbers=True) for case in cases[2:]], 1)
    assert [len(xs) for xs, *_ in calls] == [3, 3], "one for each dtype"


def test_batches_fit_the_cache_and_leave_nothing_out(small_batches):
    ws = [torch.full((n,), float(n)) for n in (1500, 700, 0, 5 * BATCH + 1, 900, BATCH, 100)]
    lists = [*kernel._batches([(w, w, w) for w in ws])]
    batches = [batch for batch, _, _ in lists]
    assert max(sum(x.numel() for x in batch) for batch in batches) < 2 * BATCH
    found = torch.cat([x for batch in batches for x in batch])
    assert torch.equal(found.sort()[0], torch.cat(ws).sort()[0])
    assert len(batches) == 1 + 6 + 2


LAYOUTS = {
    "transposed": lambda x: x.T,
    "strided": lambda x: torch.stack([x, x], -1)[..., 0],
    "columns first": lambda x: x.T.contiguous().T,
    "part of another": lambda x: torch.cat([x, x])[1 : len(x) + 1],
}


@pytest.mark.parametrize("part", ["w", "s", "g", "all"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_every_step_of_other_layouts(rng, threads, small_batches, dtype, layout, part):
    case = Case(dtype, weight_decay=0.1, bound=1.0)

    class Laid(Variable):
        def step(self, c):
            w, s, g, c, scale = super().step(c)
            change = LAYOUTS[layout]
            if part in ("s", "all"):
                self.s = s = change(s)
            if part in ("g", "all"):
                self.g = g = change(g)
            self.before = float64(w), float64(s), float64(g)
            return w, s, g, c, scale

    variables = [Laid(rng, case, (95, 95)), Laid(rng, case, (4, 4))]
    if part in ("w", "all"):
        for variable in variables:
            variable.w = torch.nn.Parameter(LAYOUTS[layout](variable.w.detach()))
    run(variables, [coefficients_of(case)] * 2, steps=5)


def test_nothing_to_update():
    kernel.update_tensors([])


@pytest.mark.parametrize("shape", [(3,), (65, 128)])
def test_infinite_gradients_are_bounded_and_nan_stays(shape):
    w, s, g = (torch.zeros(shape) for _ in range(3))
    g.view(-1)[:2] = torch.tensor([torch.inf, torch.nan])
    kernel.update_tensors([(w, s, g, coefficients_of(Case(bound=2.0)), None)])
    w, s = w.view(-1), s.view(-1)
    assert float(w[0]) == pytest.approx(-0.06 * 2 * 1.9)
    assert float(s[0]) == pytest.approx(-0.06 * 2 * 0.9)
    assert w[1].isnan()
    assert s[1].isnan()
    assert not w[2:].any()


def test_no_gradient_flows_through_an_update(rng):
    variables = [Variable(rng, CASES[name], shape) for name in UNIT for shape in SHAPES]
    steps = [variable.step(coefficients_of(variable.case)) for variable in variables]
    assert torch.is_grad_enabled()
    kernel.update_tensors(steps)
    for w, s, *_ in steps:
        assert w.is_leaf
        assert w.requires_grad
        assert not s.requires_grad


def compiler(backend):
    """Skips where PyTorch cannot compile."""
    try:
        torch.compile(lambda x: x + 1, backend=backend)(torch.ones(3))
    except Exception as error:  # of many kinds: no compiler, no support for the interpreter
        pytest.skip(f"torch.compile does not work here: {error}")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.long)])
def test_every_compiled_step_is_the_textbooks(rng, backend):
    compiler(backend)
    compiled = torch.compile(kernel.update_tensors, backend=backend, fullgraph=True)
    cases = [
        Case(weight_decay=0.1, bound=0.7),
        Case("bfloat16"),
        Case(slot="bfloat16"),
        Case("float64", scale=0.3),
    ]
    variables = [Variable(rng, case, (65, 128)) for case in cases]
    given = [coefficients_of(case) for case in cases]
    for t in range(5):
        compiled([variable.step(c) for variable, c in zip(variables, given, strict=True)])
        for variable in variables:
            variable.check(f"after compiled step {t}")


@pytest.mark.parametrize("size", [8, 2**14])
def test_a_gradient_that_is_its_variable(size):
    w = torch.linspace(0.5, 1.5, size)
    s = torch.zeros(size)
    wanted = w.double() * (1 - 0.25 * 1.5)
    kernel.update_tensors([(w, s, w, coefficients(0.25, 0.5), None)])
    torch.testing.assert_close(w.double(), wanted, rtol=4 * UNIT["float32"], atol=0)

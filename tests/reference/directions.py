"""The directions as the papers have them, slow and obvious: float64 NumPy, one variable a call."""

import numpy as np

QUINTIC = [
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
]


def adaptive(g, slots, t, beta_2=0.99, epsilon=1e-6):
    """ADOPT's division by the earlier gradients' size (Taniguchi et al. 2024, algorithm 2)."""
    v = slots.get("mean_square", np.zeros_like(g))
    d = np.zeros_like(g)
    if t > 1:
        r = np.sqrt(v / (1 - beta_2 ** (t - 1)))
        d = np.clip(g / np.maximum(r, epsilon), -(t**0.25), t**0.25)
    return d, {"mean_square": beta_2 * v + (1 - beta_2) * g**2}


def newton_schulz(u, coefficients=QUINTIC):
    """One matrix, by its definition."""
    x = u / max(np.linalg.norm(u), 1e-300)
    for a, b, c in coefficients:
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def matrix(g, slots, t, beta=0.8, beta_2=0.99, scale=0.2, normalize=True):
    """Muon's step (Jordan et al. 2024), with NorMuon's rows (Li et al. 2025, algorithm 1)."""
    average = beta * slots.get("gradient_average", np.zeros_like(g)) + (1 - beta) * g
    after = {"gradient_average": average}
    step = newton_schulz(beta * average + (1 - beta) * g)
    if normalize:
        q = beta_2 * slots.get("output_mean_square", 0.0) + (1 - beta_2) * np.mean(step**2, axis=0)
        after["output_mean_square"] = q
        even = step / np.maximum(np.sqrt(q), 1e-300)
        step = even * np.linalg.norm(step) / max(np.linalg.norm(even), 1e-300)
    return scale * np.sqrt(max(g.shape)) * step, after


def orthogonal(g, slots, t):
    """For matrices; the adaptive direction for all else."""
    return matrix(g, slots, t) if g.ndim == 2 and min(g.shape) > 1 else adaptive(g, slots, t)

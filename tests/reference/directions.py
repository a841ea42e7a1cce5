"""The directions as the papers have them, slow and obvious: float64 NumPy, one variable a call."""

import numpy as np

POLAR_EXPRESS = [  # Amsel et al. 2025: from 0.006 on, with the margins of their algorithm 2
    (8.2568 / 1.01, -24.2653 / 1.01**3, 17.9589 / 1.01**5),
    (3.8550 / 1.01, -2.8784 / 1.01**3, 0.5544 / 1.01**5),
    (3.0425 / 1.01, -2.2795 / 1.01**3, 0.4864 / 1.01**5),
    (2.1081, -1.4900, 0.3997),
]
MUON = [(3.4445, -4.7750, 2.0315)] * 5  # Jordan et al. 2024


def adaptive(g, slots, t, beta_2=0.99, epsilon=1e-12):
    """ADOPT's division by the earlier gradients' size (Taniguchi et al. 2024, algorithm 2)."""
    v = slots.get("mean_square", np.zeros_like(g))
    known = v > 0
    d = np.clip(g / np.maximum(np.sqrt(v), epsilon), -(t**0.25), t**0.25)
    after = np.where(known, beta_2 * v + (1 - beta_2) * g**2, g**2)
    return np.where(known, d, 0.0), {"mean_square": after}


def newton_schulz(u, coefficients=POLAR_EXPRESS, order=8, margin=1.02):
    """One matrix, by its definition: first divided by the norm of its singular values."""
    x = u / max(margin * np.linalg.norm(np.linalg.svd(u, compute_uv=False), order), 1e-300)
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

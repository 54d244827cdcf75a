"""Exercises of notebook 03: planes that come round, the base of NTK scaling, and a scaling that meets no new angle."""
import numpy as np

from lcref.exercises import difference, verdict
from lcref.ops.rope_scaling.scaling import theta, turns


def turning(answer) -> bool:
    """answer(head_dim, base, trained) -> how many planes make at least one turn within `trained` tokens."""
    for head_dim, base, trained in ((32, 10_000.0, 128), (128, 10_000.0, 4096), (128, 500_000.0, 8192), (8, 100.0, 40), (64, 10_000.0, 6),
                                    (4, 10.0, 5000)):
        want = int((turns(theta(head_dim, base), trained) >= 1).sum())
        if problem := difference(f"turning({head_dim}, {base:g}, {trained})", answer(head_dim, base, trained), want):
            return verdict(problem)
    return verdict(None)


def ntk_base(answer) -> bool:
    """answer(head_dim, base, factor) -> the base that divides the slowest frequency, base^(-(K-2)/K), by factor."""
    for head_dim, base, factor in ((16, 10_000.0, 4.0), (128, 10_000.0, 2.0), (32, 500_000.0, 8.0), (4, 100.0, 3.0), (64, 10_000.0, 1.0)):
        want = base * factor ** (head_dim / (head_dim - 2))
        if problem := difference(f"ntk_base({head_dim}, {base:g}, {factor:g})", answer(head_dim, base, factor), want, within=1e-4):
            return verdict(problem)
    return verdict(None)


def step(answer) -> bool:
    """answer(theta [K/2], trained, factor) -> frequencies [K/2]: those with a full turn in `trained` tokens stay; the others turn no further in
    factor * trained tokens than before in trained, and are not slowed much more than that takes."""
    for head_dim, base, trained, factor in ((32, 10_000.0, 128, 4), (8, 100.0, 40, 2), (128, 10_000.0, 4096, 8), (4, 10.0, 5000, 2),
                                            (16, 10_000.0, 5, 16)):
        plain = theta(head_dim, base)
        name, r = f"step(theta of {head_dim} numbers and base {base:g}, {trained}, {factor})", turns(plain, trained)
        got = answer(plain.copy(), trained, factor)
        if got is None:
            return verdict(f"{name} is None: the answer is still to be written")
        got = np.asarray(got, np.float64)
        if got.shape != plain.shape:
            return verdict(f"{name} has shape {list(got.shape)}, and should have {list(plain.shape)}")
        for k, (new, old) in enumerate(zip(got, plain)):
            if r[k] >= 1:
                if not abs(new - old) <= 1e-5 * old:
                    return verdict(f"{name}: plane {k} makes {r[k]:.2f} turns in training and should stay {old:.3g}, but becomes {new:.3g}")
            elif not new * factor <= old * (1 + 1e-5):
                return verdict(f"{name}: plane {k} made {r[k]:.3f} turns in training, and now makes {turns(new, factor * trained):.3f}")
            elif not new * factor >= old * 0.75:
                return verdict(f"{name}: plane {k} need not be slower than {old / factor:.3g}, and becomes {new:.3g}")
    return verdict(None)

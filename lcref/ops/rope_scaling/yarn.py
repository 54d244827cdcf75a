"""YaRN: NTK-by-parts, and sharper logits.  Peng et al., arXiv 2309.00071.

    theta' = (1 - gamma) theta / s + gamma theta          cos and sin times  0.1 ln s + 1,  so logits times (0.1 ln s + 1)^2

The second half is a temperature: with s times as many keys, softmax would spread; the constant was fitted on LLaMA-1, without training.
It sits in q and k, so normalising them (QK-norm) would cancel it.

The paper and everybody's code disagree on gamma between its two ends, where the ends are the same:
    ramp="index"        linear in the index k of the plane, between the planes of 32 turns and of 1 (rounded outwards if truncate):
                        the authors' repository, transformers, MaxText, and every released checkpoint
    ramp="rotations"    linear in the number of turns r_k: the paper's equations 17 to 19, our by_parts
In the middle they differ much: K=128, L=4096, s=16, k=25 gives 0.02245 or 0.01567.

Deviation: where even the fastest plane turns less than beta_slow times (L under 7 tokens), or every one more than beta_fast times, the
released ramp runs backwards, and leaves or divides all planes, the opposite of what is meant; here such a ramp is a step.
"""
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lcref.ops.numbers import number, whole
from lcref.ops.rope_scaling.by_parts import by_turns, mixed
from lcref.ops.rope_scaling.scaling import Scaling, single, theta

RAMPS = ("index", "rotations")


@dataclass(frozen=True)
class Yarn(Scaling):
    """truncate: round the two ends of the "index" ramp to whole planes. mscale, mscale_all_dim: cos and sin times
    (0.1 mscale ln s + 1) / (0.1 mscale_all_dim ln s + 1) (DeepSeek), both or neither. magnitude: say that number instead; it is
    transformers' attention_factor, a name that here is the method's.

    ValueError for factor < 1, original_length < 1, beta_fast not above beta_slow > 0, an unknown ramp, one mscale without the other.
    """
    factor: float = 4.0
    original_length: int = 2048
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    ramp: Literal["index", "rotations"] = "index"
    truncate: bool = True
    mscale: float | None = None
    mscale_all_dim: float | None = None
    magnitude: float | None = None

    def __post_init__(self):
        number("yarn", "factor", self.factor, least=1)
        whole("yarn", "original_length", self.original_length)
        number("yarn", "beta_slow", self.beta_slow, above=0)
        number("yarn", "beta_fast", self.beta_fast, above=self.beta_slow)
        if self.ramp not in RAMPS:
            raise ValueError(f"unknown yarn ramp {self.ramp!r}: choose one of {', '.join(RAMPS)}")
        if (self.mscale is None) != (self.mscale_all_dim is None):
            raise ValueError(f"yarn mscale {self.mscale} and mscale_all_dim {self.mscale_all_dim}: give both or neither")
        for name in ("mscale", "mscale_all_dim", "magnitude"):
            if getattr(self, name) is not None:
                number("yarn", name, getattr(self, name), above=0)

    def inv_freq(self, head_dim, base, length, table=None):
        plain = theta(head_dim, base)
        if self.ramp == "rotations":
            gamma = by_turns(plain, self.original_length, self.beta_fast, self.beta_slow)
        else:
            gamma = self.by_index(head_dim, base)
        return single(mixed(plain, self.factor, gamma))

    def by_index(self, head_dim, base):
        """gamma, numpy [K/2]: 1 up to plane `low`, 0 from plane `high`."""
        def index(rotations):                                  # the k, not whole, of the plane that turns so often
            return head_dim * math.log(self.original_length / (rotations * 2 * math.pi)) / (2 * math.log(base))
        low, high = index(self.beta_fast), index(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low = max(low, 0)
        high = max(min(high, head_dim - 1), low)               # released code bounds by K - 1, though there are K/2 planes
        high = low + 0.001 if high == low else high
        return 1 - np.clip((np.arange(head_dim // 2) - low) / (high - low), 0.0, 1.0)

    def attention_factor(self, length):
        if self.magnitude is not None:
            return float(self.magnitude)
        if self.mscale is not None:
            return sharpening(self.factor, self.mscale) / sharpening(self.factor, self.mscale_all_dim)
        return sharpening(self.factor)


def sharpening(factor, mscale=1.0):
    """0.1 mscale ln s + 1."""
    return 0.1 * mscale * math.log(factor) + 1.0

"""RoPE past its training length: other frequencies, other positions, or both. One scheme a file.

RoPE turns plane k by p theta_k, theta_k = base^(-2k/K). Fast planes turn many times within the training length L, and have shown the
model every angle; slow ones never complete one turn, and past L they reach angles it has not met. That is where plain RoPE breaks.
With s = factor (how many times L is wanted), r_k = L theta_k / 2 pi the turns of a plane in L tokens:

    linear            theta_k / s                                                     arXiv 2306.15595 (Position Interpolation)
    ntk               base s^(K/(K-2)): the fastest plane stays, the slowest / s      2023, "NTK-aware"; arXiv 2309.00071, section 3.1
    dynamic_ntk       the same, s growing with the length read                        2023; arXiv 2309.00071, section 3.3
    by_parts          planes with many turns stay, those with few / s                 arXiv 2309.00071, section 3.2
    yarn              by parts, and sharper logits                                    arXiv 2309.00071
    llama3            by parts, between 1 and 4 turns                                 arXiv 2407.21783 (Llama 3.1)
    abf               a larger base, trained on                                       arXiv 2309.16039
    power, truncated  slow planes slower, or stopped                                  arXiv 2308.10882 (Giraffe)
    p_rope            slow planes stopped, whatever the training length               arXiv 2410.06205
    longrope          a searched divisor per plane                                    arXiv 2402.13753
    e2                linear, trained short with many scales and offsets              arXiv 2401.06951
    clex              an ODE in s for ln theta_k, learned                             arXiv 2310.16450
    clex_prior, random_positions    CLEX's controls: no learned part; its training ids alone

Each is a frozen dataclass (scaling.py says what it answers). Cost: O(K) per pass, nothing per token; clex adds two K x K matrices.
"""
from lcref.ops.rope_scaling.abf import Abf
from lcref.ops.rope_scaling.by_parts import ByParts
from lcref.ops.rope_scaling.clex import Clex, ClexPrior, RandomPositions
from lcref.ops.rope_scaling.dynamic_ntk import DynamicNtk
from lcref.ops.rope_scaling.e2 import E2
from lcref.ops.rope_scaling.linear import Linear
from lcref.ops.rope_scaling.llama3 import Llama3
from lcref.ops.rope_scaling.longrope import LongRope
from lcref.ops.rope_scaling.ntk import Ntk
from lcref.ops.rope_scaling.p_rope import PRope, turning
from lcref.ops.rope_scaling.power import Power
from lcref.ops.rope_scaling.truncated import Truncated
from lcref.ops.rope_scaling.yarn import Yarn

SCALINGS = {
    "linear": Linear,
    "ntk": Ntk,
    "dynamic_ntk": DynamicNtk,
    "by_parts": ByParts,
    "yarn": Yarn,
    "llama3": Llama3,
    "abf": Abf,
    "power": Power,
    "truncated": Truncated,
    "p_rope": PRope,
    "longrope": LongRope,
    "e2": E2,
    "clex": Clex,
    "clex_prior": ClexPrior,
    "random_positions": RandomPositions,
}

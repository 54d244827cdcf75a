"""Sinusoids and rotations: position as the angle p * theta_k, with theta_k = base^(-2k/K) for k = 0..K/2-1.

    sinusoid   add [sin, cos] of the angles to the token embedding          Vaswani et al., arXiv 1706.03762
    rotate     RoPE: turn each plane of q and k by its angle                Su et al., arXiv 2104.09864
    xpos       RoPE, and let each plane decay with distance                 Sun et al., arXiv 2212.10554

RoPE turns the pair (a, c) by p theta:   (a, c) -> (a cos - c sin,  c cos + a sin).   Turning q by i theta and k by j theta makes
their product depend on i - j only, so scores do not change when all positions shift, and norms do not change at all.

Which two numbers form a plane is a convention:  "half" pairs (k, k + K/2) (GPT-NeoX, Llama in transformers),  "interleaved" pairs
(2k, 2k + 1) (the paper, GPT-J). Same weights, different scores; permuting the columns of W_q and W_k by [0 2 4 .. 1 3 5 ..] maps
one on the other.

Angles are float32 whatever the input: bfloat16 cannot even count past 256. theta and the product p * theta are each off by up to half a
unit in the last place: 6e-5 radians in all at position 1,000, 0.06 at 1,000,000. Cost: O(T K) per tensor.
"""
import math

import jax.numpy as jnp
import numpy as np

from lcref.ops.positions import fit, known

LAYOUTS = ("half", "interleaved")
ZETA = 0.4              # xPos: the slowest-decaying plane keeps ~1 per scale_base, the fastest ZETA / (1 + ZETA) = 0.286
LOG_LIMIT = 80.0        # exp(80) = 5.5e34: xPos magnitudes stay inside float32 with room for the value they multiply


def inv_freq(head_dim, base=10_000.0):
    """theta_k = base^(-2k/head_dim) -> f32[head_dim/2], fastest first; in float64 inside if base is a number. ValueError if odd."""
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"rotation works on pairs: head_dim must be even and at least 2, got {head_dim}")
    return jnp.asarray(base ** -(np.arange(0, head_dim, 2) / head_dim), jnp.float32)


def angles(pos, inv_freq):
    """p * theta_k in float32.  pos [...] (integers or floats), inv_freq [K/2] -> [..., K/2]; pos [B,T] or [1,T], inv_freq [B,K/2] -> [B,T,K/2]."""
    pos = jnp.asarray(pos).astype(jnp.float32)
    inv_freq = jnp.asarray(inv_freq, jnp.float32)
    # elementwise products, not einsum: a matrix unit may round its inputs to bfloat16
    if inv_freq.ndim == 2:
        return jnp.atleast_2d(pos)[..., None] * inv_freq[:, None, :]
    return pos[..., None] * inv_freq.reshape((1,) * pos.ndim + inv_freq.shape)


def sinusoid(pos, dim, base=10_000.0, *, layout="interleaved"):
    """The vectors of arXiv 1706.03762, section 3.5.  pos [...] -> f32[..., dim];  PE[p].PE[q] = sum_k cos((p - q) theta_k).

    interleaved:   PE[p, 2k] = sin(p theta_k),  PE[p, 2k+1] = cos(p theta_k)    the paper
    concatenated:  [sin of all k | cos of all k]                                tensor2tensor, most JAX code
    Raises ValueError if dim is odd or the layout unknown.
    """
    if layout not in ("interleaved", "concatenated"):
        raise ValueError(f"unknown sinusoid layout {layout!r}: choose interleaved or concatenated")
    if dim < 2 or dim % 2:
        raise ValueError(f"sinusoids come in sine-cosine pairs: the width must be even and at least 2, got {dim}")
    a = angles(pos, inv_freq(dim, base))
    both = jnp.stack([jnp.sin(a), jnp.cos(a)], axis=-1 if layout == "interleaved" else -2)
    return both.reshape(a.shape[:-1] + (dim,))


def rotate(x, pos, inv_freq, *, layout="half", factor=1.0):
    """RoPE: turn the planes of x by p * inv_freq.  x [B,T,H,K], pos [T], [1,T] or [B,T], inv_freq [R/2] -> like x, in x's dtype.

    inv_freq [B,R/2] gives every row frequencies of its own.
    R <= K: a shorter inv_freq turns the first R numbers of a head and passes the rest through (partial rotary, GPT-NeoX).
    `factor` multiplies cos and sin, hence what is turned (YaRN's and LongRoPE's attention factor: logits get factor^2).
    Apply to q and k, never to v. Raises ValueError on an unknown layout, R > K, positions or frequencies that do not fit.
    """
    a = fitted(x, pos, inv_freq)
    return turn(x, jnp.cos(a) * factor, jnp.sin(a) * factor, layout)


def xpos(x, pos, inv_freq, *, of, scale_base=512.0, center=0, layout="interleaved"):
    """xPos, arXiv 2212.10554: rotate, and scale plane k by zeta_k^((p - center)/scale_base) in a query, by its inverse in a key.

    x [B,T,H,K], pos [T], [1,T] or [B,T], inv_freq [R/2], `of` "q" or "k" -> like x, in x's dtype.
    zeta_k = (2k + 0.4 R) / (1.4 R) < 1, so a score at distance d has plane k damped by zeta_k^(d / scale_base): fast planes fade
    first. `center` cancels in every score; it only moves the window in which the two magnitudes are representable, about 32,000
    positions either side at scale_base 512 (float16: about 4,500, and less where a value is larger than 1, which comes out infinite). Known
    positions outside raise ValueError, traced ones give NaN: never a silent 0.
    Do not normalise q or k after this: QK-norm would divide the decay away.

    Deviation: the authors centre on the middle of each sequence; a fixed centre gives the same scores, and keys can be cached.
    """
    if of not in ("q", "k"):
        raise ValueError(f"xpos scales queries and keys differently: of must be 'q' or 'k', got {of!r}")
    a = fitted(x, pos, inv_freq)
    R = 2 * a.shape[-1]
    log_zeta = np.log((np.arange(0, R, 2) + ZETA * R) / ((1 + ZETA) * R)).astype(np.float32)
    reach = xpos_reach(scale_base, x.dtype)
    here = known(pos)
    if here is not None and here.size and np.abs(here - center).max() > reach:
        far = here.reshape(-1)[np.abs(here - center).argmax()]
        raise ValueError(f"xpos position {far} is more than {reach:.0f} from center {center}: {x.dtype} would overflow; move center")
    sign = 1.0 if of == "q" else -1.0
    away = jnp.asarray(pos).astype(jnp.float32) - center
    away = jnp.where(jnp.abs(away) > reach, jnp.nan, away) * (sign / scale_base)
    scale = jnp.exp(angles(away, log_zeta)).reshape(a.shape)
    return turn(x, jnp.cos(a) * scale, jnp.sin(a) * scale, layout)


def xpos_reach(scale_base, dtype=jnp.float32):
    """How far from its center a position of xPos may be, for heads of any width: there the fastest plane's magnitude is exp(LOG_LIMIT), or, in
    float16, its largest number."""
    return min(LOG_LIMIT, math.log(jnp.finfo(dtype).max)) / np.log((1 + ZETA) / ZETA) * scale_base


def fitted(x, pos, inv_freq):
    """Angles with the axes of x: [..., T, 1, R/2], the 1 standing for heads."""
    pos, (*rows, half) = jnp.asarray(pos), np.shape(inv_freq)
    K, R = x.shape[-1], 2 * half
    if R > K:
        raise ValueError(f"{half} frequencies turn {R} numbers, but a head has {K}")
    if rows and (x.ndim != 4 or rows != [len(x)]):
        raise ValueError(f"frequencies {np.shape(inv_freq)} do not fit x {x.shape}: want [R/2], or [B,R/2] for [B,T,H,K]")
    if x.ndim < 3 or not 1 <= pos.ndim <= x.ndim - 2 or pos.shape[-1] != x.shape[-3] or not fit(pos.shape[:-1], x.shape[:-3]):
        raise ValueError(f"positions {pos.shape} do not fit x {x.shape}: want [T], [1,T] or [B,T] for [B,T,H,K]")
    a = angles(pos, inv_freq)[..., None, :]
    return a.reshape((1,) * (x.ndim - a.ndim) + a.shape)


def turn(x, cos, sin, layout):
    """(a, c) -> (a cos - c sin, c cos + a sin) on the first 2 * cos.shape[-1] numbers of each head."""
    if layout not in LAYOUTS:
        raise ValueError(f"unknown rope layout {layout!r}: choose one of {', '.join(LAYOUTS)}")
    R = 2 * cos.shape[-1]
    y = x[..., :R].astype(jnp.float32)
    a, c = (y[..., :R // 2], y[..., R // 2:]) if layout == "half" else (y[..., 0::2], y[..., 1::2])
    a, c = a * cos - c * sin, c * cos + a * sin
    y = (jnp.concatenate([a, c], -1) if layout == "half" else jnp.stack([a, c], -1).reshape(y.shape)).astype(x.dtype)
    return y if R == x.shape[-1] else jnp.concatenate([y, x[..., R:]], -1)

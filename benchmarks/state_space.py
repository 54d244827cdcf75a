"""State-space layers: Mamba-2 beside transformers (torch) and mamba2-jax, S4 beside the paper's formula as written, cost by length.

    python -m benchmarks.state_space [mamba2 | s4 | lengths | decode ...]      shapes: benchmarks/shapes.py; default: all four

mamba2   one layer, forward and forward + backward of input and parameters. Chunks of 64 tokens, as everywhere. On a virtual machine let glibc keep
         freed memory (docs/speed.md says how), or what is timed is how fast the host gives it back.
s4       kernel and convolution of S4, forward and forward + backward, beside equation by equation of arXiv 2111.00396 (section 3 and appendix C):
         all N modes instead of one of each pair, all L nodes, a sum over modes for each of four products, the inverse transform of all. It is given
         C (I - Abar^L), which ours works out.
lengths  one Mamba-2 and one attention layer of the same width at T = 1k .. 128k, forward; the exponent is the slope of log time over log T.
decode   one token after 1k, 32k and 1M tokens: the state has one size.
"""
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.shapes import MAMBA2, S4
from benchmarks.timing import device, matmul, race, report, versions
from lcref.nn.decoder import Decoder, DecoderConfig
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.positions import Rope
from lcref.ops.ssm import hippo, s4
from lcref.provenance import cores

LENGTHS = tuple(2**i for i in range(10, 18))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def passes(forward, params, x, backward):
    """A function that runs forward(params, x), or the gradient of its sum with respect to both, and waits."""
    f = jax.jit(jax.grad(lambda params, x: forward(params, x).sum(), (0, 1), allow_int=True) if backward else forward)
    return lambda: jax.block_until_ready(f(params, x))


# ------------------------------------------------------------------------------------------------------------------- Mamba-2

def ours(B, T, d_model, state, head_dim, backward):
    layer = Mamba2Config(state=state, head_dim=head_dim).build(d_model, position=None, gain=1.0, rngs=nnx.Rngs(0))
    graph, params = nnx.split(layer)
    return passes(lambda params, x: nnx.merge(graph, params)(x), params, normal(B, T, d_model), backward)


def of_mamba2_jax(B, T, d_model, state, head_dim, backward):
    try:
        from mamba2_jax import modeling
    except ImportError:
        return None
    config = modeling.Mamba2Config(hidden_size=d_model, head_dim=head_dim, state_size=state, expand=2, chunk_size=64, num_hidden_layers=1, vocab_size=32)
    graph, params = nnx.split(modeling.Mamba2Mixer(config, 0, rngs=nnx.Rngs(0)))

    def forward(params, x):
        y = nnx.merge(graph, params)(x)
        return y[0] if isinstance(y, tuple) else y
    return passes(forward, params, normal(B, T, d_model), backward)


def of_transformers(B, T, d_model, state, head_dim, backward):
    try:
        import torch
        from transformers import Mamba2Config as Config
        from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
    except ImportError:
        return None
    torch.set_num_threads(cores())
    layer = Mamba2Mixer(Config(hidden_size=d_model, num_heads=2 * d_model // head_dim, head_dim=head_dim, state_size=state, n_groups=1, expand=2,
                               chunk_size=64, num_hidden_layers=1, vocab_size=32), 0)
    x = torch.randn(B, T, d_model, requires_grad=backward)

    def run():
        with torch.set_grad_enabled(backward):
            y = layer(x)
        if backward:
            (y[0] if isinstance(y, tuple) else y).sum().backward()
    return run


def mamba2(names):
    for name in names:
        for backward in (False, True):
            made = {"lcref": ours(**MAMBA2[name], backward=backward), "transformers (torch)": of_transformers(**MAMBA2[name], backward=backward),
                    "mamba2-jax": of_mamba2_jax(**MAMBA2[name], backward=backward)}
            report(f"mamba2 layer {'forward+backward' if backward else 'forward'} {name} {MAMBA2[name]}",
                   race({who: run for who, run in made.items() if run}, repeats=11))


# ------------------------------------------------------------------------------------------------------------------------ S4

def kernel_as_written(Lambda, P, B, Ct, dt, L):
    """Khat(w) = 2 / (1 + w) [k(Ct* B) - k(Ct* P) k(P* B) / (1 + k(P* P))],  k(v) = sum_n v_n / (g(w) - Lambda_n),  g = 2/dt (1 - w) / (1 + w)
    at the L roots of unity, and its inverse transform. Of one channel: Lambda, P, B, Ct [N] with both of each pair, dt a number."""
    w = jnp.exp(-2j * jnp.pi * jnp.arange(L) / L)
    g = (2.0 / dt) * ((1.0 - w) / (1.0 + w))
    k = lambda v: (v[None, :] / (g[:, None] - Lambda[None, :])).sum(1)
    spectrum = 2.0 / (1.0 + w) * (k(Ct.conj() * B) - k(Ct.conj() * P) * k(P.conj() * B) / (1.0 + k(P.conj() * P)))
    return jnp.fft.ifft(spectrum, L).real


def s4_contenders(B, T, H, N, backward):
    u, one = normal(B, T, H), hippo.pairs(N)
    Lambda, P, Bp = (jnp.broadcast_to(jnp.asarray(z, jnp.complex64)[None], (H, N // 2)) for z in one[:3])
    C = jax.lax.complex(normal(H, N // 2, seed=1), normal(H, N // 2, seed=2))
    dt = jnp.exp(jnp.linspace(np.log(1e-3), np.log(1e-1), H))
    both = lambda z: jnp.concatenate([z, z.conj()], axis=-1)

    def as_written(params, u):
        Lambda, P, Bp, C, dt = params
        K = jax.vmap(lambda *system: kernel_as_written(*system, T))(both(Lambda), both(P), both(Bp), both(C), dt)
        y = jnp.fft.irfft(jnp.fft.rfft(u.swapaxes(1, 2), n=2 * T) * jnp.fft.rfft(K, n=2 * T)[None], n=2 * T)
        return y[..., :T].swapaxes(1, 2)
    params = (Lambda, P, Bp, C, dt)
    ours = lambda params, u: s4.fft(u, s4.System(*params))[0]

    def split(forward):
        """Real parameters, as a layer has them: gradients of complex arguments are not what is timed."""
        join = lambda params: tuple(jax.lax.complex(*z) if isinstance(z, tuple) else z for z in params)
        return passes(lambda params, u: forward(join(params), u), tuple((z.real, z.imag) if jnp.iscomplexobj(z) else z for z in params), u, backward)
    return {"lcref": split(ours), "the formula as written": split(as_written)}


def s4_layer(names):
    for name in names:
        for backward in (False, True):
            report(f"s4 kernel and convolution {'forward+backward' if backward else 'forward'} {name} {S4[name]}",
                   race(s4_contenders(**S4[name], backward=backward), repeats=5))


# ----------------------------------------------------------------------------------------------------- by length, and decoding

def lengths(d_model=64, state=64, head_dim=64, Ts=LENGTHS):
    mixers = {"mamba2": Mamba2Config(state=state, head_dim=head_dim), "attention": AttentionConfig(heads=4)}
    for name, mixer in mixers.items():
        position = Rope().build(4, d_model // 4, d_model, rngs=nnx.Rngs(0))
        graph, params = nnx.split(mixer.build(d_model, position=position, gain=1.0, rngs=nnx.Rngs(0)))
        times = {}
        for T in Ts:
            run = passes(lambda params, x: nnx.merge(graph, params)(x), params, normal(1, T, d_model), False)
            times[T] = min(race({name: run}, repeats=3 if T < 2**16 else 1, warmup=1)[name])
        slope = np.polyfit(np.log(list(times)), np.log(list(times.values())), 1)[0]
        print(json.dumps(dict(case=f"{name} layer forward by length d_model={d_model}", name="lcref",
                              ms={str(T): round(1e3 * t, 2) for T, t in times.items()}, exponent=round(float(slope), 3), device=device(),
                              cores=cores(), versions=versions())), flush=True)


def decode(layers=2, d_model=256, state=64, positions=(1_000, 32_000, 1_000_000), tokens=64):
    cfg = DecoderConfig(vocab=257, d_model=d_model, layers=layers, mixer=Mamba2Config(state=state), feed_forward=None)
    decoder = Decoder(cfg, rngs=nnx.Rngs(0))
    graph, params = nnx.split(decoder)

    @jax.jit
    def write(params, state, token):
        def step(carry, _):
            logits, state = nnx.merge(graph, params).extend(carry[0], carry[1])
            return (jnp.argmax(logits, -1).astype(jnp.int32), state), None
        return jax.lax.scan(step, (token, state), None, length=tokens)[0]

    def after(position):
        state = jax.tree.map(jnp.asarray, decoder.init_state(1, position)._replace(cursor=np.int32(position)))
        return lambda: jax.block_until_ready(write(params, state, jnp.zeros((1, 1), jnp.int32)))
    report(f"mamba2 decoding {tokens} tokens, {layers} layers d_model={d_model} state={state}",
           race({f"after {position}": after(position) for position in positions}, repeats=7), work=tokens * 1e9, unit="tokens/s")


CASES = {"mamba2": lambda: mamba2(["8k"]), "s4": lambda: s4_layer(["4k"]), "lengths": lengths, "decode": decode}

if __name__ == "__main__":
    matmul()
    for case in sys.argv[1:] or CASES:
        CASES[case]()

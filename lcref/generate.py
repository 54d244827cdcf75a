"""Generation: the prompt is read, then a scanned decode writes one token at a time.

    greedy                temperature = 0
    temperature t         softmax(logits / t)
    top_k                 only the k most likely tokens
    top_p                 the smallest set of tokens whose probabilities sum to at least p (nucleus sampling, arXiv 1904.09751)

Filters apply in the order temperature, top_k, top_p. Greedy decoding of n tokens equals n argmaxes of the whole pass, because `extend`
equals the whole pass (but for scalings that depend on the length read so far: dynamic NTK, CLEX). A program serves every temperature and
every top_p: they are values; another top_k, length or batch is another program.

A prompt is read in one pass. Where no state grows with it (state-space layers, windowed attention), a prompt longer than PIECE is read in
pieces of that size, so that its length costs time and no memory.
"""
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lcref.nn.decoder import growing

PIECE = 16_384                                 # tokens of a prompt that are read at once: one pass skips hidden tiles, pieces cannot

COLDEST = 1e-6                                 # logits divided by much less are infinite


def check(vocab, temperature, top_k, top_p):
    """ValueError on a temperature below 0, or below COLDEST and not 0, top_k below 1 or above the vocabulary, top_p outside (0, 1]."""
    if not (temperature == 0 or temperature >= COLDEST):
        raise ValueError(f"temperature must be at least {COLDEST:g}, or 0 for greedy decoding, got {temperature}")
    if top_k is not None and not 1 <= top_k <= vocab:
        raise ValueError(f"top_k must be between 1 and the vocabulary's {vocab}, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")


def filtered(logits, temperature=1.0, top_k=None, top_p=None):
    """Logits [..., W] after temperature > 0, top_k and top_p: -inf where a token may not be drawn. Ties with the k-th token stay."""
    logits = logits.astype(jnp.float32) / temperature
    if top_k is not None:
        logits = jnp.where(logits < jax.lax.top_k(logits, top_k)[0][..., -1:], -jnp.inf, logits)
    if top_p is not None:
        order = jnp.argsort(-logits, axis=-1)
        share = jax.nn.softmax(jnp.take_along_axis(logits, order, -1), axis=-1)
        before = jnp.cumsum(share, axis=-1) - share                   # mass of the tokens ranked above: 0 for the first, which is always kept
        keep = jnp.take_along_axis((before < top_p) | (before <= 0), jnp.argsort(order, axis=-1), -1)
        logits = jnp.where(keep, logits, -jnp.inf)
    return logits


@partial(jax.jit, static_argnames=("graph", "tokens", "length", "greedy", "top_k"))
def run(graph, params, state, prompt, key, positions, temperature, top_p, *, tokens, length, greedy, top_k):
    """Read the prompt, which follows on `state` (None: a new stream), and write `tokens` tokens."""
    decoder = nnx.merge(graph, params)
    state = decoder.init_state(prompt.shape[0], length, positions) if state is None else state
    x, state = decoder.read(prompt, state)
    logits = decoder.logits(x[:, -1:])                                # those of a long prompt's other tokens would be gigabytes

    def choose(logits, key):
        if greedy:
            return jnp.argmax(logits, -1).astype(prompt.dtype)
        return jax.random.categorical(key, filtered(logits, temperature, top_k, top_p)).astype(prompt.dtype)

    def step(carry, key):
        token, state = carry
        logits, state = decoder.extend(token[:, None], state)
        return (choose(logits[:, -1], key), state), token
    keys = jax.random.split(key, tokens)
    (last, _), out = jax.lax.scan(step, (choose(logits[:, -1], keys[0]), state), keys[1:])
    return jnp.concatenate([jnp.moveaxis(out, 0, 1), last[:, None]], 1)


@partial(jax.jit, static_argnames="graph")
def read(graph, params, state, tokens):
    return nnx.merge(graph, params).read(tokens, state)[1]


def generate(decoder, prompt, tokens, *, temperature=1.0, top_k=None, top_p=None, seed=0):
    """prompt int [B,T] -> the next `tokens` tokens [B,tokens]. temperature 0 is greedy.

    Raises ValueError on an empty prompt or one with ids outside the vocabulary, tokens < 1, more positions than the scheme has, or a
    sampling parameter out of range.
    """
    prompt = np.asarray(prompt)
    if prompt.ndim != 2 or not prompt.size or not np.issubdtype(prompt.dtype, np.integer):
        raise ValueError(f"the prompt must be token ids [B,T] with T >= 1, got {prompt.dtype}{list(prompt.shape)}")
    if not 0 <= prompt.min() <= prompt.max() < decoder.cfg.vocab:
        raise ValueError(f"prompt ids go from {prompt.min()} to {prompt.max()}, the vocabulary from 0 to {decoder.cfg.vocab - 1}")
    prompt = jnp.asarray(prompt, jnp.int32)
    if tokens < 1:
        raise ValueError(f"tokens must be at least 1, got {tokens}")
    check(decoder.cfg.vocab, temperature, top_k, top_p)
    graph, params = nnx.split(decoder)
    length, scheme = prompt.shape[1] + tokens - 1, decoder.cfg.position                      # the last token is written, not read
    if scheme.limit is not None and length > scheme.limit:
        raise ValueError(f"a prompt of {prompt.shape[1]} and {tokens} more tokens need {length} positions, {scheme} ends at {scheme.limit}")
    key, draw = jax.random.split(jax.random.key(seed))
    positions = scheme.ids(draw, jnp.arange(length)[None, :], np.full(len(prompt), length)) if scheme.draws_ids else None   # each row its own
    state = None
    if prompt.shape[1] > PIECE and positions is None and growing(decoder.cfg) is None:
        state = jax.tree.map(jnp.asarray, decoder.init_state(prompt.shape[0], length))
        while prompt.shape[1] > PIECE:
            n = prompt.shape[1] % PIECE or PIECE                       # the odd piece first
            state, prompt = read(graph, params, state, prompt[:, :n]), prompt[:, n:]
    greedy = temperature == 0                  # nothing is drawn then, so nothing filters, and all greedy calls share one program
    return run(graph, params, state, prompt, key, positions, None if greedy else jnp.float32(temperature),
               None if greedy or top_p is None else jnp.float32(top_p), tokens=tokens, length=length, greedy=greedy,
               top_k=None if greedy else top_k)

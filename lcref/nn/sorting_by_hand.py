"""A decoder whose weights are set by hand and that sorts lists of any length, repeated values included: two layers, no positions.

    ^ 7 3 7 | 3 7 7 $                  arXiv 2310.00726 constructs such a model of depth two; this one is our own

What stands last, y, is either the bar or the last number written, and the next token is

    y again        if y has been written less often than it stands in the list
    min {x > y}    otherwise; $ where there is none

    layer 1   after = 1 behind the bar, else 0:  every query wants |, and makes do with ^
    layer 2   head 1: scores -sharp (x - y) for x > y; the bar is larger than all numbers, and says $
              head 2: scores sharp [x = y]; the mean of 1 - after over all tokens equal to y is in / (in + out), and above 1/2 where some are missing
              feed-forward: one unit a value, gelu(steep ([x = y] - 1) + steep (mean - 1/2 - margin)), which says y louder than head 1 says anything

All of this reads the same whatever the length: no number has to be learned from long lists, so what keeps a trained model from sorting them is not
what the architecture can do. What is bounded is how often a value may occur, since the mean comes closer to 1/2 the more there are: `most`.

The stream is [token | said | after, mean, constant]; the constant is so large that the norms change nothing by more than one part in a million.
The margins are those of float32: products of fewer digits (TF32, bfloat16) have not been tried, and would first be wrong about `most`.
"""
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lcref.nn.decoder import DecoderConfig
from lcref.nn.layers import Mlp
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.positions import Nope

CONSTANT = 1000.0
SHARP = 40.0                                   # e^-40 is nothing to float32, times any number of keys


def sorting_decoder(values, most=50, content=16, begin=1, bar=2, end=3):
    """A Decoder for lists of numbers below `values` (lcref/tasks/sort.py), none of which occurs more than `most` times.

    content: the id of the number 0. Its width is 2 (content + values) + 3. ValueError below one value or occurrence.
    """
    for name, value in (("values", values), ("most", most)):
        if not value >= 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    W = content + values
    D = 2 * W + 3
    token, said, (after, mean, constant) = slice(0, W), slice(W, 2 * W), range(2 * W, D)
    heads = AttentionConfig(heads=2, head_dim=W)
    cfg = DecoderConfig(vocab=W, d_model=D, layers=2, mixer=heads, feed_forward=Mlp(values), position=Nope())
    decoder = cfg.build(rngs=nnx.Rngs(0))
    nnx.update(decoder, jax.tree.map(jnp.zeros_like, nnx.state(decoder, nnx.Param)))

    number = np.arange(content, W)
    margin = 0.25 / (2 * most - 1)             # half of what the mean is above 1/2 when one of `most` is missing
    steep = 20 / margin
    for norm in (decoder.norm, *(norm for block in decoder.blocks for norm in (block.mixer_norm, block.feed_norm))):
        norm.scale[...] = jnp.full(D, CONSTANT / D**0.5)

    embedding = np.zeros((W, D))
    embedding[:, token], embedding[:, constant] = np.eye(W), CONSTANT
    put(decoder.embedding.embedding, embedding)

    def attention(mixer, scores, reads, says):
        """Of each head: scores [W,W] by the tokens of query and key; `reads` {row of the stream: column of the value}, `says` the way back."""
        q, k, v = np.zeros((3, D, 2, W))
        out = np.zeros((2, W, D))
        for head in range(len(scores)):
            q[token, head], k[token, head] = np.eye(W), scores[head].T * W**0.5
            for row, column, weight in reads[head]:
                v[row, head, column] += weight
            for column, row, weight in says[head]:
                out[head, column, row] += weight
        for layer, matrix in ((mixer.q, q), (mixer.k, k), (mixer.v, v), (mixer.out, out)):
            put(layer.kernel, matrix.reshape(layer.kernel.shape))

    wants = np.full((W, W), -2 * SHARP)
    wants[:, begin], wants[:, bar] = -SHARP, 0
    attention(decoder.blocks[0].mixer, [wants], [[(bar, 0, 1.0)]], [[(0, after, 1.0)]])

    size = np.full(W, np.inf)                  # how far up a key is, and a query: the bar is above all as a key, below all as a query
    size[number], size[bar] = np.arange(values), values
    asks = np.where(np.arange(W) == bar, -1, size)
    with np.errstate(invalid="ignore"):
        up = size[None, :] - asks[:, None]
    larger = np.where((up > 0) & np.isfinite(up), -SHARP * up, -SHARP * 2 * (values + 2))
    larger[bar, bar] = -SHARP * (values + 1)
    names = [(x, W + x, 1.0) for x in number] + [(bar, W + end, 1.0)]
    attention(decoder.blocks[1].mixer, [larger, SHARP * np.eye(W)],
              [[(x, x, 1.0) for x in (*number, bar)], [(after, 0, -1.0), (constant, 0, 1 / CONSTANT)]], [names, [(0, mean, 1.0)]])

    feed = decoder.blocks[1].feed_forward
    up, down = np.zeros((D, values)), np.zeros((values, D))
    up[number, np.arange(values)] = steep
    up[mean], up[constant] = steep, steep * (-1.5 - margin) / CONSTANT
    down[np.arange(values), W + number] = 1.0
    put(feed.up.kernel, up)
    put(feed.down.kernel, down)
    readout = np.zeros((D, W))
    readout[said] = np.eye(W)
    put(decoder.readout.kernel, readout)
    return decoder


def put(param, matrix):
    param[...] = jnp.asarray(matrix, jnp.float32)

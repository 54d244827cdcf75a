"""Position ids: which number stands for each token.  Schemes (RoPE, ALiBi, ...) never count for themselves, they are told.

    plain        0 1 2 3 4 5 6 7                 the index in the row
    packed       0 1 2 0 1 2 3 0                 several documents in one row: each starts again at 0
    randomized   3 4 9 17 22 ...                 Ruoss et al., arXiv 2305.16843: T sorted distinct ids out of range(max_length)

Randomized ids are the whole trick of that paper: a model trained at T <= 40 with ids drawn up to 2048 has met every id, and every
gap between ids, that a plain model would first meet at test time. The order of tokens survives, their exact distances do not. In packed
rows (`randomized_packed`) each document has a draw of its own.

One scheme has an end: a learned table has a vector for each of n ids, and none for the next.
    stretched    0 1 2 2.25 2.5 2.75 3 ...       Zhang et al., arXiv 2403.15378 (Long-CLIP): keep the first rows, interpolate the rest
"""
import jax
import jax.numpy as jnp
import numpy as np


def plain(T):
    """0..T-1, int32 [T]. A numpy array on purpose: it stays a known constant inside jit, so range checks and tile skipping work."""
    return np.arange(T, dtype=np.int32)


def packed(segments):
    """Positions inside each document.  segments int [B,T] or [T] -> int32, same shape.  O(T).

    A document is a run of equal ids, so two neighbours must carry different ids. Padding is a run like any other.
    """
    segments = jnp.asarray(segments)
    index = jax.lax.broadcasted_iota(jnp.int32, segments.shape, segments.ndim - 1)
    first = jnp.ones_like(segments[..., :1], bool)
    starts = jnp.concatenate([first, segments[..., 1:] != segments[..., :-1]], axis=-1)
    return index - jax.lax.cummax(jnp.where(starts, index, 0), axis=segments.ndim - 1)


def randomized(key, T, max_length, length=None):
    """T sorted distinct ids, uniform over the subsets of range(max_length).  -> int32 [T].  arXiv 2305.16843, section 3.

    length: of the T tokens, how many are not padding (default: all; may be traced, from 1 to T). They have ids as in a row of that length,
    and the padding repeats the last. Ids are drawn again at test time, as in the authors' code. T = max_length gives 0..T-1.
    Raises ValueError if T > max_length. O(max_length log max_length): a permutation and a sort.

    Deviation: for relative schemes the authors draw distances (0 stays exact, both sides mirrored); here every scheme gets the
    same ids and takes differences, so one mechanism serves all of them.
    """
    if not 1 <= T <= max_length:
        raise ValueError(f"cannot draw {T} distinct positions from range({max_length}): need 1 <= T <= max_length")
    drawn, length = jax.random.permutation(key, max_length), T if length is None else length
    ids = jnp.sort(jnp.where(jnp.arange(max_length) < length, drawn, max_length))[:T].astype(jnp.int32)
    return jnp.minimum(ids, ids[length - 1])


def randomized_packed(key, pos, max_length):
    """Sorted distinct ids for each document of packed rows. pos int [B,T] or [T] as from `packed`, 0 where a document begins  -> int32, same shape.

    A document of n tokens has n ids, uniform over the subsets of range(max_length), whatever stands beside it in its row: a permutation's
    first T numbers are distinct, any n of them are such a subset, and each document is given its own in order. Those of one row have no id
    in common. Raises ValueError if T > max_length. O(B max_length log max_length). Deviation: the authors' rows hold one text each.
    """
    begins = jnp.atleast_2d(pos) == 0
    B, T = begins.shape
    if T > max_length:
        raise ValueError(f"cannot draw {T} distinct positions from range({max_length}): need T <= max_length")
    drawn = jax.vmap(lambda key: jax.random.permutation(key, max_length)[:T])(jax.random.split(key, B))
    ids = jax.lax.sort((jnp.cumsum(begins, axis=1), drawn.astype(jnp.int32)), num_keys=2)[1]
    return ids.reshape(jnp.shape(pos))


def stretched(table, factor, keep):
    """A learned position table for more positions.  table [n, D] -> [factor n - (factor - 1) keep, D], in its dtype.  arXiv 2403.15378.

    The first `keep` rows stay as they are: short texts, on which they were trained best, read as before. Between every two of the others
    come factor - 1 new rows on the line that joins them; the last row is followed by as many, on the line through the last two.
    CLIP's 77 rows, keep = 20 and factor = 4, become 248. Meant to be trained on (the paper trains only the rows past `keep`).
    Raises ValueError unless 0 <= keep < n, n >= 2 and factor is a whole number >= 1. O(factor n D).
    """
    n = len(table)
    if not (1 <= factor < np.inf and factor == int(factor)):
        raise ValueError(f"a position table is stretched by a whole number >= 1, got {factor}")
    if n < 2 or not 0 <= keep < n:
        raise ValueError(f"cannot keep {keep} rows of a position table of {n}: need 0 <= keep < rows, and 2 rows to draw a line")
    old = np.concatenate([np.arange(keep, dtype=np.float64), keep + np.arange(int(factor) * (n - keep)) / factor])   # row in `table`
    below = old.astype(np.int32)
    part = jnp.asarray(old - below, jnp.float32)[:, None]
    rows = jnp.asarray(table).astype(jnp.float32)
    rows = jnp.concatenate([rows, 2 * rows[-1:] - rows[-2:-1]])                # one step on along the last line
    return ((1 - part) * rows[below] + part * rows[below + 1]).astype(table.dtype)


def known(pos):
    """`pos` as a numpy array, or None while it is being traced: what a range check can be made on."""
    try:
        return np.asarray(pos)
    except jax.errors.TracerArrayConversionError:
        return None


def indices(pos, length):
    """int32 indices into a table of `length` rows. jnp counts negative ones from its end; here they lie past it, where mode="fill" fills."""
    pos = jnp.asarray(pos).astype(jnp.int32)
    return jnp.where(pos < 0, length, pos)


def fit(rows, batch):
    """Whether leading axes of size 1 or the batch's own, as many or fewer, stretch to the batch's."""
    return len(rows) <= len(batch) and all(n in (1, m) for n, m in zip(rows[::-1], batch[::-1]))

"""Exercises of notebook 02: RoPE's score by distance, T5's buckets, and how much ALiBi reads past the trained length."""
import numpy as np

from lcref.exercises import difference, verdict
from lcref.ops.bias.t5 import bucket_table
from lcref.ops.rope import inv_freq, rotate


def rope_score(answer) -> bool:
    """answer(q [K], k [K], distance) -> the product of q and k after RoPE (base 10,000, planes i and i + K/2), the query `distance` tokens
    after the key."""
    rng = np.random.default_rng(0)
    for K, distance in ((2, 0), (2, 1), (4, 3), (8, 17), (32, 200)):
        q, k = rng.normal(size=(2, K)).astype(np.float32)
        turned = (np.asarray(rotate(x.reshape(1, 1, 1, K), np.asarray([p]), inv_freq(K)), np.float64).ravel() for x, p in ((q, distance), (k, 0)))
        if problem := difference(f"rope_score of heads of {K} numbers at distance {distance}", answer(q, k, distance), np.dot(*turned), within=1e-3):
            return verdict(problem)
    return verdict(None)


def bucket(answer) -> bool:
    """answer(distance, buckets, max_distance) -> T5's causal bucket of that distance, a whole number."""
    for buckets, furthest in ((32, 128), (8, 60), (16, 1000)):
        want = bucket_table(buckets, furthest)[np.minimum(np.arange(2 * furthest), furthest)]
        got = [answer(distance, buckets, furthest) for distance in range(len(want))]
        if any(value is None for value in got):
            return verdict(f"bucket({got.index(None)}, {buckets}, {furthest}) is None: the answer is still to be written")
        for distance, (one, right) in enumerate(zip(got, want)):
            if problem := difference(f"bucket({distance}, {buckets}, {furthest})", one, right):
                return verdict(problem)
    return verdict(None)


def alibi_beyond(answer) -> bool:
    """answer(slope, trained, n) -> the share of the last token's weight at distances >= trained, in a row of n, all content scores equal."""
    for slope, trained, n in ((1 / 256, 128, 512), (1 / 64, 16, 48), (1 / 16, 8, 9), (1 / 256, 128, 4096), (0.25, 4, 1024)):
        weight = np.exp(-slope * np.arange(n, dtype=np.float64))
        got, want = answer(slope, trained, n), weight[trained:].sum() / weight.sum()
        if problem := difference(f"alibi_beyond({slope}, {trained}, {n})", got, want, within=1e-4):
            return verdict(problem)
    return verdict(None)

"""Additive position biases: functions of (q_pos, k_pos, parameters) that are added to the scores, one idea a file.

    alibi       -m_h |i - j|, fixed slopes                       arXiv 2108.12409
    hard_alibi  a hard window per head, the other heads free     arXiv 2402.01032
    t5          a learned number per distance bucket             arXiv 1910.10683
    kerple      -r1 ln(1 + r2 |i - j|), or -a |i - j|^p          arXiv 2205.09921
    fire        a small network of (i - j) / i                   arXiv 2310.04418

All take positions [T] and [S] and give float32 [H,T,S], or batched [B,T] and [B,S] and give [B,H,T,S]. Positions may be integers
or floats, numpy or traced. All are cheap on a tile: attention asks for one tile at a time, T x S never exists.
"""
from lcref.ops.bias import alibi, fire, hard_alibi, kerple, t5

BIASES = {"alibi": alibi.bias, "hard_alibi": hard_alibi.bias, "t5": t5.bias, "kerple": kerple.log, "kerple_power": kerple.power,
          "fire": fire.bias}

"""Sequence mixers: what lets one position see another. Each file holds one config and its module.

A mixer has three methods:   mixer(x [B,T,D], positions=, segments=) -> [B,T,D]
                             mixer.init_state(batch, length) -> state
                             mixer.extend(x [B,n,D], state, positions=) -> (y, state)
"""
from lcref.nn.mixers.attention import AttentionConfig

MIXERS = {"attention": AttentionConfig}

"""Sequence mixers: what lets one position see another. Each file holds one config and its module.

A mixer has three methods:   mixer(x [B,T,D], positions=, segments=) -> [B,T,D]
                             mixer.init_state(batch, length) -> state
                             mixer.extend(x [B,n,D], state, positions=) -> (y, state)
"""
from lcref.nn.mixers.attention import AttentionConfig
from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.nn.mixers.s4 import S4Config, S4DConfig
from lcref.nn.mixers.s5 import S5Config

MIXERS = {"attention": AttentionConfig, "s4": S4Config, "s4d": S4DConfig, "s5": S5Config, "mamba2": Mamba2Config}

"""Position schemes as modules. A scheme can act on attention in three places; every hook it leaves alone is the identity.

    embed(x [B,T,D], pos)               add something to the token embedding          sinusoidal, learned
    rotate(x [B,T,H,K], pos, of)        turn queries (of="q") and keys (of="k")       rope, xpos, lm_infinite, streaming_llm, self_extend
    bias(q_pos, k_pos)                  add something to the scores, ~[B,H,T,S]       alibi, hard_alibi, t5, kerple, fire

pos is always an argument ([T], [1,T] or [B,T], integers or floats, numpy or traced), never an arange inside: packed documents,
decoding, and randomized ids are then the same code. Give [1,T] rather than [B,T] when rows agree: angles and biases are made once.

A config is a frozen dataclass; its type is the choice of scheme. `config.build(heads, head_dim, d_model, rngs=)` makes the module.
    config.per_layer                    True: every layer owns its parameters; False: one module serves all layers
    config.embeds                       True: the scheme adds to the embedding, once for all layers
    config.limit                        positions at or past it do not exist (None: no end)
    config.ids(key, pos, length=None)   which ids stand for plain positions in this pass, where config.draws_ids (Randomized); length: of a stream
                                        in pieces, or [B] of rows with padding
    config.training_ids(key, pos)       the same for a training pass, where config.draws_training_ids (CLEX, E2), or rows are packed (Randomized)
The formulas are in lcref/ops: rope.py, rope_scaling/, bias/, positions.py. To add a scheme: a config, a module, one line in POSITIONS.

    scheme.py       Position, PositionConfig, Nope          embedded.py     Sinusoidal, Learned
    rotary.py       Rope with any scaling, Xpos             regrouped.py    LMInfinite, StreamingLLM, SelfExtend
    biases.py       Alibi, HardAlibi, T5, Kerple, Fire      randomized.py   Randomized
"""
from functools import partial

from lcref.nn.positions.biases import T5, Alibi, Fire, HardAlibi, Kerple, KerplePower
from lcref.nn.positions.embedded import Learned, Sinusoidal
from lcref.nn.positions.randomized import Randomized
from lcref.nn.positions.regrouped import LMInfinite, SelfExtend, StreamingLLM
from lcref.nn.positions.rotary import Rope, Xpos
from lcref.nn.positions.scheme import Nope, Position, PositionConfig

POSITIONS = {
    "nope": Nope,
    "sinusoidal": Sinusoidal,
    "learned": Learned,
    "rope": Rope,
    "xpos": Xpos,
    "alibi": Alibi,
    "hard_alibi": HardAlibi,
    "t5": T5,
    "kerple": Kerple,
    "kerple_power": KerplePower,
    "fire": Fire,
    "lm_infinite": LMInfinite,
    "streaming_llm": StreamingLLM,
    "self_extend": SelfExtend,
    "randomized_sinusoidal": partial(Randomized, base=Sinusoidal()),
    "randomized_learned": partial(Randomized, base=Learned(2048)),
    "randomized_rope": partial(Randomized, base=Rope()),
    "randomized_xpos": partial(Randomized, base=Xpos()),
    "randomized_alibi": partial(Randomized, base=Alibi()),
    "randomized_t5": partial(Randomized, base=T5(max_distance=2048)),          # gaps of tens are usual: 128 would be one bucket
    "randomized_kerple": partial(Randomized, base=Kerple()),
    "randomized_fire": partial(Randomized, base=Fire()),
}   # not nope (no ids to change), not hard_alibi (a window counts tokens, and ids would open gaps in it)

"""Evaluation by length: the numbers every figure of this project is made of.

An evaluation is a frozen dataclass; calling it with a decoder and a source gives {metric: {slice: value}}. `check(source)` refuses what it
cannot measure, `width(source)` is the longest row it will read, `slices(source)` names what will come of it, `fits(model)` refuses models: all
are asked before anything is trained.

    ExactMatch   a task's problems of many lengths: share solved entirely, share of answer tokens right
    OutcomeMatch tasks whose answer is a trace: share whose outcome is right when the model writes it all itself
    DepthMatch   tasks that hide something: the same, by length and by how deep it stands
    ContextLoss  real text, strided: nats per byte on the SAME last bytes of each window, given more and more context before them
    ChunkLoss    real text, non-overlapping: mean nats per byte of whole chunks of each length
    PositionLoss real text, one pass over long windows: nats per byte by position, in buckets
    KeyRecall    real text with a key in it: share of questions answered, by the distance from key to question
    StreamLoss   real text without end, read piece by piece with a state that does not grow: nats per byte by how far the stream has come
    WeightEntropy  real text: how evenly attention spreads over what it may see, by the length of the row
    StateSpread  real text: how large the states of Mamba-2 layers are, and how much of the first token is left, by position
    EmbeddingSpread  real text: how alike rows look as vectors, by their length, and whether two of one document find each other
    Accuracy     rows with one answer at their end, such as images read pixel by pixel: share answered right

Exact match is teacher-forced: for a deterministic answer greedy decoding is right iff every scored argmax of one parallel pass is.
ContextLoss is paired: each length predicts the same bytes, so a difference between lengths is the context's doing, not the text's.
A model that cannot use more context stays flat; one that breaks past its training length rises; one that can use it falls.
"""
from lcref.evaluate.inside import EmbeddingSpread, StateSpread, WeightEntropy
from lcref.evaluate.problems import Accuracy, DepthMatch, ExactMatch, OutcomeMatch
from lcref.evaluate.scoring import score, scored
from lcref.evaluate.text import ChunkLoss, ContextLoss, KeyRecall, PositionLoss, StreamLoss

EVALS = {"exact_match": ExactMatch, "outcome_match": OutcomeMatch, "depth_match": DepthMatch, "context_loss": ContextLoss,
         "chunk_loss": ChunkLoss, "position_loss": PositionLoss, "key_recall": KeyRecall, "stream_loss": StreamLoss,
         "state_spread": StateSpread, "weight_entropy": WeightEntropy, "embedding_spread": EmbeddingSpread, "accuracy": Accuracy}
__all__ = ["EVALS", "score", "scored", *(evaluation.__name__ for evaluation in EVALS.values())]

"""What a trained run writes after a prompt: the answer to a task's problem, or more text."""

import numpy as np

from lcref.finished import Finished
from lcref.ops.numbers import whole


def write_on(trained: Finished, prompt: str | bytes | None = None, tokens: int | None = None, *, temperature: float | None = None,
             top_k: int | None = None, top_p: float | None = None, seed: int = 0, echo: bool = True) -> str:
    """Prompt (with `echo`) and continuation as text. Without a prompt one is drawn from the data. ValueError for what cannot be read or drawn."""
    from lcref.generate import generate

    whole("generate", "seed", seed, least=0)
    ids, names, length, expected = (task_prompt if hasattr(trained.run.data, "task") else text_prompt)(trained.run.data, prompt, seed)
    usual = 0.0 if hasattr(trained.run.data, "task") else 0.8
    temperature = usual if temperature is None else temperature
    if temperature == 0 and (top_k is not None or top_p is not None):
        raise ValueError("temperature 0, usual for an answer to a task, is greedy, and top_k and top_p are of draws: give one above 0 with them")
    out = generate(trained.decoder, ids[None, :], length if tokens is None else tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    written = names(np.asarray(out[0]))
    if not echo:
        return written
    if not hasattr(trained.run.data, "task"):
        return names(ids) + written
    return f"prompt   {names(ids)}\nwritten  {written}" + (f"\nanswer   {expected}" if expected else "")


def text_prompt(source, prompt: str | bytes | None, seed: int):
    """(ids, ids -> text, tokens to write, "") for byte text; without a prompt, the first 100 bytes of a held-out stretch."""
    from lcref.data.tokens import decode, encode

    return (source.windows(seed, 1, 100)[0] if prompt is None else encode(prompt).astype(np.int32)), decode, 200, ""


def task_prompt(source, prompt: str | bytes | None, seed: int):
    """(ids, ids -> names, tokens in the answer, the answer) for a task; without a prompt, one of its longest training problems."""
    from lcref.tasks import BOS, PAD, SEP

    task = source.task
    number = {name: i for i, name in enumerate(task.tokens)}
    if prompt is None:
        row = task.sample(np.random.default_rng(seed), 1, source.max_length)
        ids = row.inputs[0, : int(np.argmax(row.weights[0])) + 1]
    else:
        said = (prompt.decode(errors="replace") if isinstance(prompt, bytes) else prompt).split()
        if not said:
            raise ValueError(f"the prompt is empty; a problem of {type(task).__name__} has tokens with spaces between: {' '.join(task.tokens)}")
        if unknown := [name for name in said if name not in number]:
            raise ValueError(f"{unknown[0]!r} is not a token of {type(task).__name__}; there is: {' '.join(task.tokens)}")
        ids = np.array([number[name] for name in said], np.int32)
        ids = ids if ids[:1] == BOS else np.concatenate([[BOS], ids, [SEP]]).astype(np.int32)
    try:
        solved = task.solve(ids[None, :])[0]
        answer = task.decode(solved[solved != PAD])
    except (ValueError, IndexError):  # not a whole problem: there is something to write all the same, and nothing to compare it with
        answer = []
    return ids, lambda tokens: " ".join(task.decode(tokens)), len(answer) or 20, " ".join(answer)

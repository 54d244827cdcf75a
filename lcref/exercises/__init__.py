"""The judges of the notebooks' exercises: one file a notebook, one function an exercise.

    from lcref.exercises import attention_and_masks as judge
    judge.dilated(my_mask)          prints "right", or what is not yet so, with the input that shows it; returns True or False

A judge looks at what an answer does, never at how: any function that is right on the inputs tried is accepted. An answer that was not
begun (it returns None) is "not yet"; one that raises, raises: the reader needs the line.
"""


def verdict(problem: str | None) -> bool:
    """Print and return whether there is nothing wrong."""
    print("right" if problem is None else f"not yet: {problem}")
    return problem is None


def difference(name: str, got, want, within: float = 1e-5) -> str | None:
    """What is wrong with an array that should be `want`, in words; None where nothing is."""
    import numpy as np

    if got is None:
        return f"{name} is None: the answer is still to be written"
    got, want = np.asarray(got), np.asarray(want)
    if got.shape != want.shape:
        return f"{name} has shape {list(got.shape)}, and should have {list(want.shape)}"
    if want.dtype == bool and got.dtype != bool:
        return f"{name} has dtype {got.dtype}, and should say True or False"
    wrong = got != want if want.dtype == bool else ~(np.abs(got - want) <= within * (1 + np.abs(want)))      # NaN is wrong
    if not wrong.any():
        return None
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"{name} at {list(where)} is {got[where]}, and should be {want[where]}" if where else f"{name} is {got}, and should be {want}"

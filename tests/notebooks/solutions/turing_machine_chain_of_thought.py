"""Answers to notebook 12."""
from lcref.tasks.turing import MACHINES, Machine

CARRY = {("carry", "0"): ("done", "1"), ("carry", "1"): ("carry", "0"), ("done", "0"): ("done", "0"), ("done", "1"): ("done", "1")}
DELTA = MACHINES["increment"].delta


def by_kinds(last, found):
    if last[-1] in ("carry", "done"):
        return f"a{int(last[0][1:]) + 1}"
    if last[-1].startswith("a"):
        return found
    if last[-1] == "#":
        return "$"
    if last[-2].startswith("a"):
        return DELTA[last[-3], last[-1]][1]
    return DELTA[last[-4], last[-2]][0]


def by_arithmetic(last, found):
    *_, state, address, symbol, written = last
    if written[0] == "a" and written[1:].isdigit():
        return found
    if written == "#":
        return "$"
    if not written.isdigit():
        return "a" + str(1 + int(last[0].removeprefix("a")))
    if symbol[0] == "a":
        return str((int(written) + (address == "carry")) % 10)
    return "carry" if state == "carry" and symbol == "9" else "done"


RIGHT = {
    "increment": [
        CARRY,
        Machine("01", {(q, s): (("one" if q == "one" and s == "1" else "none"), str((int(s) + (q == "one")) % 2)) for q in ("one", "none") for s in "01"}),
        {(1, "1"): [1, "0"], (1, "0"): [0, "1"], (0, "0"): [2, "0"], (0, "1"): [2, "1"], (2, "0"): [0, "0"], (2, "1"): [0, "1"]},
    ],
    "answer_length": [
        lambda n, address, fetch, writes, cells: 2 + n * writes + -(-n // cells) + (n + 1) * (address + fetch),
        lambda n, address, fetch, writes, cells: 1 + sum(address + fetch + writes + (i % cells == 0 or i == n) for i in range(1, n + 1))
        + address + fetch + 1,
    ],
    "rule": [by_kinds, by_arithmetic],
}
WRONG = {
    "increment": [
        None,
        7,
        {"carry": "done"},
        {key: value for key, value in CARRY.items() if key != ("done", "1")},
        {key: state for key, (state, _) in CARRY.items()},
        {key: (state, int(bit)) for key, (state, bit) in CARRY.items()},
        {**CARRY, ("carry", "0"): ("carry", "1")},
        dict(reversed(CARRY.items())),
    ],
    "answer_length": [
        lambda n, address, fetch, writes, cells: None,
        lambda n, address, fetch, writes, cells: 1 + n * (address + fetch + writes + 1),
        lambda n, address, fetch, writes, cells: 2 + n * writes + n // cells + (n + 1) * (address + fetch),
        lambda n, address, fetch, writes, cells: 2 + n * writes + -(-n // cells) + n * (address + fetch),
    ],
    "rule": [
        lambda last, found: None,
        lambda last, found: found,
        lambda last, found: by_kinds(last, found) if last[-1] != "#" else "done",
        lambda last, found: by_kinds(last, "0"),
        lambda last, found: by_kinds(last, found) if not last[-1].isdigit() else DELTA[last[-3], last[-1]][1] if last[-3] in ("carry", "done") else "done",
    ],
}

"""The benchmarks that count: schedules read from a compiler's dump, costs against numbers worked out by hand, pictures of recorded lines."""
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cost, plots, tpu_schedule, windows
from lcref.catalogue import benchmarks
from lcref.ops.tiles import placed, sizes

# A dump as libtpu 0.0.42 writes it, made short: a loop over a grid of 14 bundles, in it a first step (2-3), two kinds of tile (5-7 and 8-10), a last.
PROGRAM = """
= control target key start
LB: loop body
PF: predicated region fallthrough
= control target key end

     0   :  { %s14 = smov [#allocation6]  ;;  %s27_s0 = inlined_call_operand.vmem [shape: s32[16,16], index: 0, kind: input, shape index: {}] }
   0x1 LB: > { %s45_s10 = sadd.s32 1, %s14787_s0  ;;  %545 = sbr.rel (%p11175_p11) target = $region36 } /* Start region 6 */
   0x2   : > { %v1 = vmov 0 }
   0x3   : > { %v2 = vmov 0 }
   0x4 PF: > { %620 = sbr.rel (%p11176_p12) target = $region40 } /* Start/End empty region 36 :: Start region 37 :: Start region 38 */
   0x5   : > { %v3 = vmatmul.bf16.gmra.mxu0 %v1 }
   0x6   : > { %31035 = vst [vmem:[#allocation64_spill] sm:$0xff] %v31034_v47 }
   0x7   : > { %v4 = vmatmul.bf16.gmra.mxu0 %v1 }
   0x8 PF: > { %6171 = sbr.rel (%p11947_p13) target = $region44 } /* Start/End empty region 40 :: Start region 41 */
   0x9   : > { %v5 = vmatmul.bf16.gmra.mxu0 %v1 }
   0xa   : > { %v6 = vpop.f32.mrf.mxu3 }
   0xb PF: > { %10492 = sbr.rel (%p12332_p0) target = $region48 } /* Start/End empty region 44 */
   0xc   : > { %v7 = vpop.trf.xlu0 }
   0xd PF: > { %29 = sbr.rel (!%p27_p1) target = $region96 } /* Start/End empty region 48 :: Start region 95 */
   0xe   :  { %v8 = vmov 0 } /* Start region 97 */
"""
USED = {5: "4 0 4 0 0 0 0 0 0 0", 6: "0 0 2 0 0 0 0 1 1 0", 7: "2 0 3 0 1 1 1 0 0 0", 9: "3 0 1 0 0 0 0 0 0 0", 10: "0 0 1 1 0 0 0 0 0 1"}
UTILIZATION = ("== CAPACTIY:\nMXU, XLU, VALU, VPOP, EUP, VLOAD, VLOAD:FILL, VSTORE, VSTORE:SPILL, SALU\n"
               "    4     3     4     2     1     3     3     1     1     2\n"
               "== UTILIZATION:\n" + "\n".join(USED.get(at, "0 0 0 0 0 0 0 0 0 1") for at in range(15)) + "\n")


def test_a_schedule_is_read_path_by_path():
    """Of every step: bundles 1, 4, 8, 11, 13. The tile with less vector arithmetic comes first; what begins and ends a row is on no path."""
    schedule = tpu_schedule.read(UTILIZATION, PROGRAM)
    assert [(region.begin, region.end) for region in schedule.loop.inside] == [(2, 4), (5, 8), (9, 11), (12, 13)]
    full, masked = (tpu_schedule.numbers(schedule, path, 1000, 256 * 512, 100) for path in tpu_schedule.live_paths(schedule))
    assert (full["bundles"], masked["bundles"], full["per_512x512"], full["floor"], full["of_floor"]) == (7, 8, 14, 10, 1.429)
    assert (full["spills"], full["fills"], masked["spills"], masked["fills"]) == (0, 0, 1, 1)
    assert full["slots"] == {"MXU": 3, "XLU": 0, "VALU": 2, "VPOP": 1, "EUP": 0, "VLOAD": 0, "VSTORE": 0, "SALU": 6}
    assert masked["slots"]["MXU"] == 6 and masked["limits"]["VALU"] == 4 and masked["limits"].keys() == masked["slots"].keys()


def test_a_program_with_another_loop_is_refused():
    with pytest.raises(ValueError, match="expected one loop, over the grid, and found 2"):
        tpu_schedule.read(UTILIZATION, PROGRAM.replace("0x9   :", "0x9 LB:"))


def test_without_libtpu_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with pytest.raises(SystemExit) as leaving:
        tpu_schedule.main(["v5e"])
    assert leaving.value.code == tpu_schedule.NEEDS and "pip install libtpu" in tpu_schedule.NEEDS and "\n" not in tpu_schedule.NEEDS


@pytest.mark.parametrize("name, T, tiles, operations, moved", [
    # 4 heads of 64, float32: products 4 * 4 * 64 a pair; Q and O 2 T * 64 numbers a head, K and V 2 * 512 * 64 a tile
    ("dense", 1024, (4, 4), 1024 * 1024**2, 4 * 4 * (4 * 1024 * 64 + 4 * 1024**2)),
    ("causal tiles", 2048, (10, 16), 1024 * 10 * 512**2, 4 * 4 * (2 * 2048 * 64 + 10 * 1024 * 64)),
    ("window 512", 2048, (7, 16), 1024 * 7 * 512**2, 4 * 4 * (2 * 2048 * 64 + 7 * 1024 * 64)),            # the diagonal and the tile before it
    ("4 sinks, window 512", 2048, (9, 16), 1024 * 9 * 512**2, 4 * 4 * (2 * 2048 * 64 + 9 * 1024 * 64)),   # and the first of each later row
], ids=str)
def test_costs_are_those_counted_by_hand(name, T, tiles, operations, moved):
    assert (cost.tiles(name, T), cost.operations(name, T), cost.moved(name, T)) == (tiles, operations, moved)


def test_only_the_dense_form_holds_a_matrix_of_scores():
    assert cost.temporary("dense", 2048) >= 4 * 4 * 2048**2 > 2 * cost.temporary("window 512", 2048)


LINES = {
    "cost": [dict(case="attention cost", name=name, T=T, tiles=T // 512, GFLOP=T / 1e3, temp_MB=T / 1e2)
             for name in ("dense", "causal tiles") for T in (1024, 4096)],
    "times": [dict(case="attention {'B': 1}", name=name, ms=ms) for name, ms in (("lcref", 3.0), ("lcref", 2.0), ("torch", 4.0), ("jax.nn", 1.0))]
    + [dict(case="memory T=2048", name="lcref", temp_MB=3.0), dict(case="memory T=4096", name="lcref", temp_MB=6.0)],
    "schedule": [dict(case=f"attention forward {tile}x{tile} v5e", name=name, chip="v5e", tile=f"{tile}x{tile}", kind=kind, per_512x512=1500,
                      floor=tile * 2, bundles=1)
                 for tile in (256, 512) for name, kind in (("lcref", "full"), ("lcref", "masked"), ("jax splash_attention", "every"))],
}


@pytest.mark.parametrize("name", LINES)
def test_recorded_lines_become_a_picture_beside_them(tmp_path, name):
    path = tmp_path / f"{name}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES[name]))
    assert plots.draw(path) == path.with_suffix(".png") and path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert sorted(tmp_path.iterdir()) == [path, path.with_suffix(".png")]


def test_bars_show_times_beside_ours(tmp_path):
    """The last line of a contender stands: 2 ms, so that torch with 4 is at 2 and jax.nn with 1 at a half."""
    from matplotlib.figure import Figure
    figure = Figure()
    last = [line for line in LINES["times"] if line.get("ms") in (2.0, 4.0, 1.0)]
    plots.ratios(figure, last)
    assert sorted(bar.get_x() + bar.get_width() for bar in figure.axes[0].patches) == [0.5, 1.0, 2.0]
    assert {text.get_text() for text in figure.axes[0].texts} == {"lcref  2 ms", "torch  4 ms  (2 x)", "jax.nn  1 ms  (0.5 x)"}


def test_lines_of_another_kind_are_left_alone(tmp_path, capsys):
    (tmp_path / "other.jsonl").write_text(json.dumps(dict(case="alone", name="lcref", ms=1.0)) + "\n")
    plots.draw_all(tmp_path)
    assert capsys.readouterr().out == f"{tmp_path / 'other.jsonl'}: nothing that is drawn\n" and len(list(tmp_path.iterdir())) == 1


def test_windows_and_documents_are_timed_beside_the_whole_square(capsys):
    """One line a mask and pass; the masks hide what they say."""
    windows.main(["tiny"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    masks = ["lcref causal", "lcref window 512", "lcref documents of 512"]
    assert [line["name"] for line in lines] == masks * 2 and all(line["ms"] > 0 for line in lines)
    assert [line["case"].split()[1] for line in lines] == ["forward"] * 3 + ["forward+backward"] * 3
    slots = np.arange(2048)
    shapes = [sizes(mask, slots, slots) for mask in windows.masks(2048).values()]
    live = [placed(mask, slots, slots, bq, bk, bq) for mask, (bq, bk) in zip(windows.masks(2048).values(), shapes)]
    assert shapes == [(512, 512), (256, 768), (512, 512)] and [sum(map(len, full + part)) for full, part in live] == [10, 8, 4]


def test_the_command_line_finds_them():
    assert {"cost", "tpu_schedule"} <= benchmarks().keys() and "plots" not in benchmarks()
    bench = [sys.executable, "-m", "lcref.cli", "bench", "no-such-thing"]
    done = subprocess.run(bench, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 2 and "tpu_schedule" in done.stderr, done.stderr


def test_the_gpu_benchmark_leaves_itself_out_elsewhere():
    """And not `lcref bench` for it: asking jax for its devices there would hold them while the benchmarks run."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.attention_gpu"], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1],
                          env={**os.environ, "JAX_PLATFORMS": "cpu"})
    assert done.stdout.startswith("left out: it needs an NVIDIA GPU")

"""What the TPU's compiler makes of our kernels and of JAX's own: their static schedules, read on any machine with libtpu and no TPU.

    python -m benchmarks.tpu_schedule [CHIP ...] [TILE ...]           default: v5e v5p v6e, tiles 256 512 1024x512 1024; also v4

The compiler writes its final program to a folder: VLIW bundles, one a cycle when nothing stalls. So this counts cycles of the core, with no waiting
for memory: a property of the compiled program, the same every time, and not a time. One JSON line per kernel, chip, tile and kind of tile:

bundles          of one step of the grid that computes a tile: what every step runs, and the branch of that kind of tile. Left out: branches
                 without a matrix product (the first and the last step of a row, where sums begin and results are written)
per_512x512      bundles, as if for 512 x 512 scores
floor, of_floor  cycles that the products alone need with every cell of every MXU busy (jax's tpu_info), per tile, and their share of `bundles`;
                 above 1, the core waits for its MXUs, which bundles do not show. Float32 products at full precision are six passes in bfloat16
slots            issued on that path, by unit; `limits` says how many fit a bundle
spills, fills    registers written to memory and read back on that path, for want of room
"""
import importlib.metadata
import json
import math
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

CHIPS = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
TILES = ((256, 256), (512, 512), (1024, 512), (1024, 1024))    # queries, keys
STRIP = 256                                                # queries at a time, of the contender that goes through a tile in strips
T, H, K = 8192, 8, 128                                     # causal, bfloat16
P, N = 64, 128                                             # of the state-space kernel, float32
NEEDS = ("tpu_schedule reads what the TPU's compiler writes, and needs libtpu beside jax: pip install libtpu; or use the environment that make "
         "test-tpu-aot makes: .venv-tpu/bin/python -m benchmarks.tpu_schedule")


# -------------------------------------------------------------------------------------------------------------- reading a dump

class Region(NamedTuple):
    begin: int                                             # [begin, end): bundles that a branch jumps over
    end: int
    inside: tuple                                          # regions


class Schedule(NamedTuple):
    units: tuple[str, ...]
    limits: tuple[int, ...]                                # slots of a bundle, by unit
    rows: tuple[tuple[int, ...], ...]                      # slots used, by bundle and unit
    loop: Region                                           # the loop over the grid


def read(utilization, program):
    """The text of ...-final_hlo-static-per-bundle-utilization.txt and of ...-final_bundles.txt -> Schedule. ValueError unless it has one loop."""
    lines = utilization.splitlines()
    units, limits = tuple(unit.strip() for unit in lines[1].split(",")), tuple(map(int, lines[2].split()))
    rows = tuple(tuple(map(int, line.split())) for line in lines[4:] if line.strip())
    labels, starts, branches = [], {}, []
    for address, label, text in re.findall(r"^ *(0x[0-9a-f]+|0) +((?:[A-Z]{2})?) *:[ >]*(\{.*)$", program, re.M):
        address = int(address, 16)
        labels += [address] * (label == "LB")
        for number in re.findall(r"region (\d+)", text):
            starts.setdefault(number, address)
        branches += [(address, number) for number in re.findall(r"sbr\.rel \(!?%\w+\) target = \$region(\d+)", text)]
    if len(labels) != 1:
        raise ValueError(f"expected one loop, over the grid, and found {len(labels)}")
    jumps = [(address, starts.get(number, labels[0])) for address, number in branches]
    end = max(address for address, to in jumps if to <= address)
    return Schedule(units, limits, rows, nested(labels[0], end + 1, sorted((a + 1, to) for a, to in jumps if a < to <= end + 1)))


def nested(begin, end, ranges):
    """The ranges (sorted by their begin) as a tree."""
    inside = []
    for low, high in ranges:
        if begin <= low and high <= end and not any(region.begin <= low < region.end for region in inside):
            inside.append(nested(low, high, [(a, b) for a, b in ranges if low < a and b <= high]))
    return Region(begin, end, tuple(inside))


def live_paths(schedule, region=None):
    """The slots used, bundle by bundle, of one step that computes a tile: one list of rows per kind of tile, least vector arithmetic first."""
    region = region or schedule.loop
    skipped = {at for inner in region.inside for at in range(inner.begin, inner.end)}
    own = [schedule.rows[at] for at in range(region.begin, region.end) if at not in skipped]
    used = lambda path, unit: sum(row[schedule.units.index(unit)] for row in path)
    kinds = [path for inner in region.inside for path in live_paths(schedule, inner) if used(path, "MXU")]
    return sorted([own + path for path in kinds] or [own], key=lambda path: used(path, "VALU"))


def numbers(schedule, path, flops, scores, peak):
    """What one line says of a path. flops: of its products; scores: how many of them; peak: flops a cycle."""
    used = dict(zip(schedule.units, map(sum, zip(*path))))
    fills, spills = used.pop("VLOAD:FILL"), used.pop("VSTORE:SPILL")
    floor = math.ceil(flops / peak)
    return dict(bundles=len(path), per_512x512=round(len(path) * 512 * 512 / scores), floor=floor, of_floor=round(floor / len(path), 3),
                spills=spills, fills=fills, slots=used, limits={unit: limit for unit, limit in zip(schedule.units, schedule.limits) if unit in used})


# ------------------------------------------------------------------------------------------------------------------ compiling

class Kernel(NamedTuple):
    case: str
    name: str                                              # part of the compiled kernel's name
    flops: int                                             # of its products, per step
    scores: int


def kernels(bq, bk):
    """[(contender, function of the topology's shapes that traces a program, its shapes, its kernels)]"""
    import jax
    import jax.numpy as jnp
    from jax.experimental.pallas.ops.tpu import flash_attention as stock
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_masks

    from lcref.kernels.flash_tpu import flash_attention
    from lcref.kernels.softplus_tpu import softplus_attention
    from lcref.kernels.ssd_tpu import ssd_pallas_tpu
    from lcref.ops.masks import causal
    from lcref.ops.weights import Lssar

    sized = lambda sides: {side: bq if side.startswith("block_q") else bk for side in sides}

    def of_jax(q, k, v):
        sides = ("block_q", "block_k_major", "block_k", "block_q_major_dkv", "block_k_major_dkv", "block_k_dkv", "block_q_dkv", "block_k_major_dq",
                 "block_k_dq", "block_q_dq")
        return stock.flash_attention(q, k, v, causal=True, sm_scale=K**-0.5, block_sizes=stock.BlockSizes(block_b=1, **sized(sides)))

    def of_splash(q, k, v):
        sides = ("block_q", "block_kv", "block_kv_compute", "block_q_dkv", "block_kv_dkv", "block_kv_dkv_compute", "block_q_dq", "block_kv_dq")
        kernel = splash.make_splash_mha(splash_masks.MultiHeadMask([splash_masks.CausalMask((T, T))] * H), head_shards=1, q_seq_shards=1,
                                        block_sizes=splash.BlockSizes(**sized(sides)))
        return jax.vmap(kernel)(q, k, v)

    tiles = dict(mask=causal(), block_q=bq, block_k=bk)
    ours = lambda q, k, v: flash_attention(q, k, v, **tiles)[0]
    in_strips = lambda q, k, v: flash_attention(q, k, v, **tiles, strip=STRIP)[0]
    softplus = lambda q, k, v: softplus_attention(q, k, v, Lssar(3), **tiles)[0]
    both = lambda f: lambda q, k, v, g: jax.vjp(f, q, k, v)[1](g)
    heads_first, heads_last = [(1, H, T, K, jnp.bfloat16)] * 4, [(1, T, H, K, jnp.bfloat16)] * 4
    product, Q = 2 * bq * bk * K, bq
    attention = lambda *names: [Kernel(f"attention {case}", name, products * product, bq * bk)
                                for case, name, products in zip(("forward", "dq", "dk, dv"), names, (2, 3, 4))]
    found = [("lcref", both(ours), heads_last, attention("forward_kernel", "dq_kernel", "dkv_kernel")),
             ("jax flash_attention", both(of_jax), heads_first, attention("flash_attention__", "_dq_", "_dkv_")),
             ("jax splash_attention", both(of_splash), heads_first, attention("_fwd_", "_dq_", "_dkv_")),
             ("lcref", softplus, heads_last[:3], [Kernel("lssar means", "summing_kernel", product, bq * bk),
                                                  Kernel("lssar forward", "weigh_kernel", 2 * product, bq * bk)])]
    if bq > STRIP:
        found.append((f"lcref, strips of {STRIP}", both(in_strips), heads_last, attention("forward_kernel")))
    if bq == 256:                                          # the length of chunk that the kernel has by default
        def ssd(x, dt, A, B, C):
            return ssd_pallas_tpu(x, dt, A, B, C, chunk=Q)[0]
        f32, six = jnp.float32, 6                          # passes of a float32 product
        shapes = [(1, T, H, P, f32), (1, T, H, f32), (H, f32), (1, T, 1, N, f32), (1, T, 1, N, f32)]
        found.append(("lcref", lambda g, *x: jax.vjp(ssd, *x)[1](g), [shapes[0], *shapes], [
            Kernel("ssd forward", "ssd_forward", six * 2 * (Q * Q * (N + P) + 2 * Q * N * P), Q * Q),
            Kernel("ssd backward", "ssd_backward", six * 2 * (Q * Q * (3 * N + 2 * P) + 5 * Q * N * P), Q * Q)]))
    return found


def compiled(dump, chip, function, shapes, names):
    """Compile for one core of the chip, and read the schedule of the kernel that has each name in its own: {name: Schedule}."""
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh, NamedSharding, PartitionSpec, use_abstract_mesh

    mesh = Mesh(np.array(topologies.get_topology_desc(CHIPS[chip], platform="tpu").devices[:1]), ("x",))
    arguments = [jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, PartitionSpec())) for *shape, dtype in shapes]
    for path in dump.iterdir():
        path.unlink()
    with use_abstract_mesh(mesh.abstract_mesh):
        jax.jit(function).trace(*arguments).lower(lowering_platforms=("tpu",)).compile()
    return {name: read(*(only(dump, f"*{name}*-{part}.txt") for part in ("final_hlo-static-per-bundle-utilization", "final_bundles")))
            for name in names}


def only(folder, pattern):
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise ValueError(f"{len(found)} files {pattern} in the compiler's dump; its kernels: "
                         f"{', '.join(sorted(path.name for path in folder.glob('*-final_bundles.txt')))}")
    return found[0].read_text()


def peak(chip):
    """Floating point operations a cycle of one core: two per cell of its MXUs."""
    from jax._src.pallas.mosaic import tpu_info
    info = tpu_info.get_tpu_info_for_chip(tpu_info.ChipVersion(chip), 1)
    return 2 * info.num_mxus * info.mxu_column_size**2


def main(arguments):
    try:
        import libtpu  # noqa: F401
    except ImportError:
        sys.exit(NEEDS)
    sides = {a: [int(side) for side in a.split("x")] for a in arguments if re.fullmatch(r"\d+(x\d+)?", a)}
    chips, tiles = [a for a in arguments if a not in sides], [(found[0], found[-1]) for found in sides.values()]
    if unknown := set(chips) - CHIPS.keys():
        sys.exit(f"no chip {', '.join(sorted(unknown))}: {', '.join(CHIPS)}")
    with tempfile.TemporaryDirectory(prefix="tpu_schedule") as dump:
        os.environ |= {"LIBTPU_INIT_ARGS": f"--xla_jf_dump_to={dump} --xla_jf_dump_llo_text=true --xla_jf_dump_hlo_text=true", "JAX_PLATFORMS": "cpu",
                       "TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
        for chip in chips or ("v5e", "v5p", "v6e"):
            for tile in tiles or TILES:
                for who, function, shapes, wanted in kernels(*tile):
                    report(chip, tile, who, wanted, compiled(Path(dump), chip, function, shapes, [kernel.name for kernel in wanted]))


def report(chip, tile, who, wanted, schedules):
    from benchmarks.timing import versions
    tile, with_libtpu = "x".join(map(str, tile)), versions() | {"libtpu": importlib.metadata.version("libtpu")}
    for kernel in wanted:
        schedule = schedules[kernel.name]
        paths = live_paths(schedule)
        for kind, path in zip(("full", "masked") if len(paths) == 2 else ("every",), paths):
            print(json.dumps(dict(case=f"{kernel.case} {tile} {chip}", name=who, chip=chip, tile=tile, kind=kind,
                                  **numbers(schedule, path, kernel.flops, kernel.scores, peak(chip)), versions=with_libtpu)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

"""What holds in every test: the CPU, no silent rank promotion, reproducible hypothesis examples, programs compiled quickly and kept between runs."""
import os
import subprocess
import sys
from pathlib import Path

from lcref.compilation import folder

# In the environment, so that programs started by a test inherit it. JAX_PLATFORMS=cuda,cpu pytest -m gpu runs what needs a device.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is XLA compiling the same programs as last time. The key of an entry is the program, so none can be stale.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / folder().name))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")

# XLA's newer way of making machine code of fused operations takes three times as long to compile, which here is what takes time. Where the flag is
# gone XLA would end the process, so another one tries it.
QUICK = os.environ | {"XLA_FLAGS": "--xla_cpu_use_fusion_emitters=false"}
if "XLA_FLAGS" not in os.environ and not subprocess.run([sys.executable, "-c", "import jax; jax.devices()"], env=QUICK, capture_output=True).returncode:
    os.environ.update(QUICK)

import hypothesis  # noqa: E402
import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("lcref", deadline=None, derandomize=True, database=None, max_examples=50)
hypothesis.settings.load_profile("lcref")

"""What holds in every test: the CPU, no silent rank promotion, reproducible hypothesis examples, compiled programs kept between runs."""
import os
from pathlib import Path

from lcref.compilation import folder

# In the environment, so that programs started by a test inherit it. JAX_PLATFORMS=cuda,cpu pytest -m gpu runs what needs a device.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the suite's time is XLA compiling the same programs as last time. The key of an entry is the program, so none can be stale.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / folder().name))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.05")

import hypothesis  # noqa: E402
import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("lcref", deadline=None, derandomize=True, database=None, max_examples=50)
hypothesis.settings.load_profile("lcref")

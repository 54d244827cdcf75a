"""Most of what these tests cost is compiling programs that run once, on small arrays."""
import jax


def quick(f):
    """jit without XLA's optimiser: half the time to compile."""
    def call(*args):
        options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
        return jax.jit(f).lower(*args).compile(compiler_options=options)(*args)
    return call

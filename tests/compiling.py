"""Most of what these tests cost is compiling programs that run once, on small arrays."""
import jax


def quick(f):
    """jit for arguments of one shape, without XLA's optimiser: half the time to compile."""
    programs = []

    def call(*args):
        if not programs:
            options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
            programs.append(jax.jit(f).lower(*args).compile(compiler_options=options))
        return programs[0](*args)
    return call

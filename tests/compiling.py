"""Most of what these tests cost is compiling programs that run once, on small arrays."""
from contextlib import contextmanager

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


@contextmanager
def compilations():
    """The programs compiled within, by the names of their functions. A jitted function's own count is lost when jax keeps more programs than it likes."""
    names = []

    def listen(event, seconds, fun_name="", **rest):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name.removeprefix("jit(").removesuffix(")"))
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)

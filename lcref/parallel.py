"""Data parallelism: the rows of a batch over all devices, the parameters on each of them, one weighted sum of what they find.

    loss = sum_d s_d loss_d,   grads = sum_d s_d grads_d,   s_d = w_d / sum_d w_d        w_d: what the targets on device d weigh together

which is the mean over the whole batch. One mesh axis, "data". A batch goes over the largest number of devices that divides its rows, so that a
training is the same function of its config on any machine, up to the order in which numbers are added.

`shard_map` says what runs where, for Pallas kernels: the compiler does not partition those by itself.
"""
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec


def devices_for(rows):
    """How many of the devices a batch of `rows` uses."""
    return max(n for n in range(1, min(rows, len(jax.devices())) + 1) if rows % n == 0)


def value_and_grad(loss, params, batch, positions):
    """jax.value_and_grad of loss(params, batch, positions), a mean over batch["weights"], in `params`.

    batch: {name: [B, ...]}; positions [B,T], [1,T] or None. Works inside jit, scan and vmap. With one device it is jax.value_and_grad itself.
    """
    count = devices_for(len(batch["weights"]))
    if count == 1:
        return jax.value_and_grad(loss)(params, batch, positions)
    everywhere, rows = PartitionSpec(), PartitionSpec("data")
    mesh = Mesh(jax.devices()[:count], ("data",))

    def part(params, batch, positions):
        weight = batch["weights"].sum()
        whole = jax.lax.psum(weight, "data")
        share = weight / jnp.where(whole > 0, whole, 1.0)
        found = jax.value_and_grad(loss)(params, batch, positions)
        return jax.tree.map(lambda x: jax.lax.psum(share * x, "data"), found)
    wide = jax.tree.map(lambda ids: everywhere if len(ids) == 1 else rows, positions)
    return jax.shard_map(part, mesh=mesh, in_specs=(everywhere, rows, wide), out_specs=everywhere, check_vma=False)(params, batch, positions)

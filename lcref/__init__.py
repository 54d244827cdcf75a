"""lcref: readable and fast reference implementations of length-extrapolation methods in JAX.

Read `lcref/ops` to learn a method, `lcref/nn` to see it in a model, `experiments/` to see how far past its training length it carries.

Axis letters, used in every docstring, comment and einsum (there in lower case):

    B  batch                T  query positions        S  key positions          W  vocabulary entries
    H  query heads          G  key/value heads        R  H / G                  D  model width
    K  query/key width      V  value width            F  feed-forward width     N  state size
    P  state-space width    C  chunks                 Q  chunk length

Activations are [B,T,D]; heads are [B,T,H,K], the order of `jax.nn.dot_product_attention`. In masks True means "may attend".
Positions are always an argument, [T] or [B,T]. This file imports nothing, so that `import lcref` costs nothing.
"""

__version__ = "0.1.0"

"""State-space layers: a state of fixed size instead of a cache.    x_t = Abar_t x_{t-1} + Bbar_t u_t,   y_t = C_t x_t + D u_t

In the order they were found, and to be read in:
    hippo.py        which A remembers: HiPPO-LegS, and its normal-plus-low-rank form
    discretize.py   from x'(t) = A x + B u to steps of size dt
    s4.py           Abar the same at every step: one long convolution, its kernel by the generating function (S4)
    s4d.py          A diagonal: the kernel is a Vandermonde product (S4D)
    s5.py           one system for all channels, by a parallel scan (S5)
    ssd.py          Abar_t a number per head that depends on the input: attention without softmax, by chunks (Mamba-2)
    tracking.py     that number may be negative: what parity needs
    forgetting.py   what helps a Mamba-2 state on rows far longer than its training
Shared parts: chunks.py (time-invariant systems by matrix products), short_conv.py (the 4-tap convolution of Mamba), documents.py.
"""

"""The Mamba-2 layer against transformers' own, in torch, on random weights: whole rows, initial state and single steps."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lcref.nn.mixers.mamba2 import Mamba2Config
from lcref.ops.ssm.ssd import FORMS
from tests.compiling import quick

pytestmark = pytest.mark.oracle
B, D = 2, 24
CASES = {"one group": dict(heads=4, P=12, N=8, G=1, conv=4, bias=False), "groups, biases": dict(heads=6, P=8, N=5, G=3, conv=3, bias=True)}


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers", minversion="5.0")
    torch.set_num_threads(1)
    return torch


def theirs(torch, heads, P, N, G, conv, bias):
    from transformers import Mamba2Config as Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer
    torch.manual_seed(0)
    config = Config(num_heads=heads, head_dim=P, hidden_size=D, state_size=N, n_groups=G, conv_kernel=conv, expand=heads * P // D, use_bias=bias,
                    chunk_size=16, num_hidden_layers=1, vocab_size=8)
    mixer = Mamba2Mixer(config, layer_idx=0).eval()
    with torch.no_grad():                                             # nothing at a value that hides a mistake
        for p in mixer.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return mixer


def ours(mixer, heads, P, N, G, conv, bias):
    cfg = Mamba2Config(state=N, head_dim=P, groups=G, expand=heads * P // D, conv=conv, bias=bias)
    made = cfg.build(D, position=None, gain=1.0, rngs=nnx.Rngs(0))
    array = lambda p: jnp.asarray(p.detach().numpy())
    made.inward.kernel[...], made.out.kernel[...] = array(mixer.in_proj.weight).T, array(mixer.out_proj.weight).T
    if bias:
        made.inward.bias[...], made.out.bias[...] = array(mixer.in_proj.bias), array(mixer.out_proj.bias)
    made.conv_kernel[...], made.conv_bias[...] = array(mixer.conv1d.weight)[:, 0].T, array(mixer.conv1d.bias)
    made.dt_bias[...], made.A_log[...], made.D[...] = (array(p) for p in (mixer.dt_bias, mixer.A_log, mixer.D))
    made.norm_scale[...] = array(mixer.norm.weight)
    return made


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("T", [1, 3, 50])
def test_mamba2_is_transformers(torch, case, T):
    """Values, and gradients of the input."""
    mixer = theirs(torch, **CASES[case])
    x = np.random.default_rng(T).normal(size=(B, T, D)).astype(np.float32)
    given = torch.tensor(x, requires_grad=True)
    want = mixer(given)
    want.sin().sum().backward()
    made = ours(mixer, **CASES[case])
    graph, params = nnx.split(made)
    got = quick(lambda params, x: nnx.merge(graph, params)(x))(params, x)
    slope = quick(jax.grad(lambda x, params: jnp.sin(nnx.merge(graph, params)(x)).sum()))(x, params)
    np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(slope, given.grad.numpy(), rtol=1e-4, atol=1e-4)
    state, out = made.init_state(B, T), []
    step = quick(lambda params, x, state: nnx.merge(graph, params).extend(x, state))
    for t in range(min(T, 7)):
        y, state = step(params, x[:, t:t + 1], state)
        out.append(y)
    np.testing.assert_allclose(np.concatenate(out, 1), want.detach().numpy()[:, :7], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_ssd_is_transformers(torch, form):
    """The scan alone, with initial and final state."""
    from transformers.models.mamba2 import modeling_mamba2
    scan = getattr(modeling_mamba2, "mamba2_chunk_scan", None)
    if scan is None:
        pytest.skip("this release has no function for the scan alone")
    rng = np.random.default_rng(0)
    T, H, P, G, N = 40, 4, 6, 2, 5
    x, dt, A, b, c, d, h = (rng.normal(size=shape).astype(np.float32) for shape in
                            ((B, T, H, P), (B, T, H), (H,), (B, T, G, N), (B, T, G, N), (H,), (B, H, P, N)))
    dt, A = np.log1p(np.exp(dt)), -np.exp(A)
    t = [torch.tensor(z) for z in (x, dt, A, b, c)]
    want = scan(*t, chunk_size=16, D=torch.tensor(d), initial_states=torch.tensor(h), return_final_states=True)
    got = quick(lambda *z: FORMS[form](*z[:-1], initial_state=z[-1], chunk=16))(x, dt, A, b, c, d, h)
    for a, w in zip(got, want):
        np.testing.assert_allclose(a, w.numpy(), rtol=1e-4, atol=1e-4)

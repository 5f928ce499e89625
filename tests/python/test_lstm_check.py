"""What LSTM refuses."""

import pytest
import torch

from dropgemm.torch import LSTM, Clock, RowDropout, Site
from lstms import HIDDEN, IN, SAMPLES, site
from networks import P

BAD = {
    "bidirectional: expected False": lambda c: LSTM(4, 8, bidirectional=True),
    "proj_size: expected 0": lambda c: LSTM(4, 8, proj_size=3),
    "in_sites: expected one for each of 2 layers, or none, got 1": lambda c: LSTM(
        4, 8, 2, in_sites=[None]
    ),
    r"in_sites\[1\]: expected last dimension 9": lambda c: LSTM(
        8, 8, 2, in_sites=[None, Site(c, 0, 9, P, "row")]
    ),
    r"recurrent_sites\[0\]: expected a site of neurons": lambda c: LSTM(
        8, 24, recurrent_sites=[site(c, 0, "tile")]
    ),
    "outputs 8 .* got 24": lambda c: LSTM(24, 8, in_sites=[site(c, 0, "tile")]),
    "expected a folded site": lambda c: LSTM(24, 8, in_sites=[RowDropout(site(c, 0)).site]),
    "'row' or 'block' for a folded site": lambda c: LSTM(
        4, 24, out_site=site(c, 0, "gyro", folded=True)
    ),
    "sites: expected one clock for all, got 2": lambda c: LSTM(
        24, 24, in_sites=[site(c, 0)], out_site=site(Clock(), 1)
    ),
    r"out_site: expected batch_dim=1 for the 2 groups": lambda c: LSTM(
        4, 24, out_site=site(c, 0, "block")
    )(torch.zeros(3, SAMPLES, 4)),
    "input: expected 2-D or 3-D, got 4-D": lambda c: LSTM(4, 24, out_site=site(c, 0))(
        torch.zeros(1, 1, 1, 4)
    ),
}


@pytest.mark.parametrize("match", BAD)
def test_bad_values_are_refused(match):
    with pytest.raises(ValueError, match=match):
        BAD[match](Clock())


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_bad_types_and_sizes_are_refused():
    clock = Clock()
    with pytest.raises(TypeError, match=r"in_sites\[0\]: expected a Site, got int"):
        LSTM(4, 8, in_sites=[3])
    with pytest.raises(TypeError, match="in_sites: expected a sequence of sites, got Site"):
        LSTM(IN, HIDDEN, in_sites=site(clock, 0, "row", IN))
    lstm = LSTM(IN, HIDDEN, in_sites=[site(clock, 0, "row", IN)])
    x = torch.zeros(3, SAMPLES, IN)
    with pytest.raises(TypeError, match=r"input: expected torch.float32, .* got torch.float16"):
        lstm(x.half())
    with pytest.raises(TypeError, match=r"input: expected torch.float32 as weight_ih_l0"):
        lstm(x.double())
    with pytest.raises(TypeError, match=r"h_0: expected torch.float32 as input"):
        lstm(x, (torch.zeros(1, SAMPLES, HIDDEN).double(),) * 2)
    with pytest.raises(RuntimeError, match=r"Expected hidden\[0\] size"):
        lstm(x, (torch.zeros(1, 2, HIDDEN),) * 2)
    with pytest.raises(RuntimeError, match=r"input.size\(-1\) must be equal to input_size"):
        lstm(x[..., :3])
    with pytest.raises(NotImplementedError, match="forward-mode AD"):
        torch.func.jvp(lambda x: lstm(x)[0], (x,), (x,))
    x.requires_grad_()
    with pytest.raises(RuntimeError, match="create_graph: expected False"):
        torch.autograd.grad(lstm(x)[0].sum(), x, create_graph=True)

"""ReLU: nn.ReLU between a Linear and a dropout, carried out in the products beside it."""

from __future__ import annotations

from torch import Tensor, nn

from dropgemm.torch.site import Site


class ReLU(nn.ReLU):
    """nn.ReLU whose input has been rectified already, by the Linear before it, while it trains.

    That Linear's product ends in max(z, 0). The Linear behind the dropout reads the result x and
    multiplies its input gradient by the derivative, x > 0; so neither pass over memory is made.
    convert sets this class where the chain Linear -> ReLU -> dropout -> Linear has no other way
    in or out. Where the site does not drop, in evaluation above all, this is nn.ReLU.
    """

    site: Site

    def forward(self, input: Tensor) -> Tensor:
        """Any shape; the same shape."""
        # Where the Linear before it is another one by now, nothing was given.
        return input if self.site.to_relu.take() else super().forward(input)

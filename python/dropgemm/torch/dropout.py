"""The dropout modules, which own mask and scale, one class for each method."""

from __future__ import annotations

from torch import Tensor, nn

from dropgemm.methods import Method
from dropgemm.torch.clock import Clock
from dropgemm.torch.site import Site


class _SiteDropout(nn.Dropout):
    """nn.Dropout whose mask is a site's, in place of independent draws of its own.

    In training the result is input * mask * scale, dropped elements 0 whatever they held; where
    the site is folded the next Linear does that and the input passes. Evaluation: identity.
    """

    method: Method
    site: Site
    clock: Clock
    inplace = False

    def __init__(self, site: Site) -> None:
        nn.Module.__init__(self)
        self.attach(site)

    def attach(self, site: Site) -> None:
        """Makes `site` this module's; its clock becomes a child, so that it follows .to()."""
        if not isinstance(site, Site):
            raise TypeError(f"site: expected a Site, got {type(site).__qualname__}")
        if site.method != self.method:
            raise ValueError(
                f"site: expected method {self.method!r} for {type(self).__name__}, "
                f"got {site.method!r}"
            )
        self.site = site
        self.clock = site.clock
        site.owner = self

    @property
    def p(self) -> float:  # type: ignore[override]
        """The dropout rate, fixed with the site."""
        return self.site.p

    @p.setter
    def p(self, rate: float) -> None:
        """Refuses any other."""
        if rate != self.site.p:
            raise ValueError(
                f"p: expected {self.site.p}, the rate of {self.site}, got {rate!r}: another rate "
                "has other masks; call revert(model), set p, and convert again"
            )

    def forward(self, input: Tensor) -> Tensor:
        """Any shape, the site's batch_dim counting samples ([F] is one); the same shape."""
        self.site.to_dropout.take()
        if not self.site.active(self):
            return input
        if self.site.folded:
            self.site.to_consumer.give()
            return input
        return self.site.apply(input)

    def extra_repr(self) -> str:
        """The site, and who applies it."""
        return f"{self.site}" + (", applied by the next Linear" if self.site.folded else "")


class BlockDropout(_SiteDropout):
    """Block-wise gyro dropout (Lee et al., 2022, 4.4): tiles of rows x neurons, exact draws."""

    method: Method = "block"


class GyroDropout(_SiteDropout):
    """Gyro dropout (Lee et al., 2022, 4.1, 4.2): pre-selected subnets of single neurons."""

    method: Method = "gyro"


class BernoulliDropout(_SiteDropout):
    """Conventional dropout: independent bits, keyed from PyTorch's generator at each forward."""

    method: Method = "bernoulli"


class RowDropout(_SiteDropout):
    """Row patterns (Song et al., 2018, RDP): every period-th neuron is kept, for all rows alike."""

    method: Method = "row"


class TileDropout(_SiteDropout):
    """Stands for the dropout of weight tiles (Song et al., 2018, TDP) in the Linear behind it.

    Passes its input through; that Linear is a TileDropLinear, which drops while this trains.
    """

    method: Method = "tile"

    def attach(self, site: Site) -> None:
        """As the others; the layer behind always applies mask and scale."""
        super().attach(site)
        site.folded = True


DROPOUTS: dict[Method, type[_SiteDropout]] = {
    "block": BlockDropout,
    "gyro": GyroDropout,
    "bernoulli": BernoulliDropout,
    "row": RowDropout,
    "tile": TileDropout,
}

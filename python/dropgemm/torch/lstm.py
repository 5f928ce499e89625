"""LSTM: nn.LSTM that skips what is dropped of its inputs, its output and its hidden state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.nn import functional as F  # noqa: N812 (as PyTorch's users name it)
from torch.nn.utils.rnn import PackedSequence

from dropgemm.torch import operands
from dropgemm.torch.autocast import cast
from dropgemm.torch.clock import Clock
from dropgemm.torch.linear import check_site
from dropgemm.torch.lstm_layer import Inputs, State, Weights, run_layer, run_units
from dropgemm.torch.sequence import Rows, SequenceMask
from dropgemm.torch.site import Site
from dropgemm.torch.tracing import refuse_forward_ad


class LSTM(nn.LSTM):
    """nn.LSTM with structured dropout whose products skip what is dropped.

    Arguments, results, parameters and state_dict are nn.LSTM's. Besides:

    in_sites: for each layer what is dropped of its input, or None; a site of a layer takes the
    place of the dropout=p that nn.LSTM has between layers. One of method "tile" drops tiles of
    weight_ih instead, the same for each of the four gates: its features are the layer's inputs, its
    outputs hidden_size. out_site: what is dropped of the output; give it to the Linear that reads
    the output as in_site. recurrent_sites: for each layer what is dropped of the hidden state that
    goes back into it (Gal & Ghahramani, 2016), or None. The same site there and at the layer's
    output, which is in_sites[layer + 1] or out_site, drops whole units: their gates are not
    computed, and their states stay as they came.

    A mask is the same at all steps of a sequence. So the products of a layer with its inputs are
    one, [steps * batch, inputs] x [inputs, 4 hidden], with skips in all three of forward, input
    gradient and weight gradient. "row" has one pattern for the batch, "block" one for each group of
    whole samples; "gyro" and "bernoulli" have single elements, which are masked and not skipped.
    The LSTM applies masks and scales; a site of a dropout module before it is to be folded, and a
    folded out_site ("row", "block") leaves both to the Linear behind.

    Without an active site this is nn.LSTM to the last bit. float32, float64 and bfloat16, float16
    on CUDA devices, where what is dropped of the hidden state is multiplied all the same: the
    columns that a group keeps would have to be read there.
    ValueError for bidirectional=True and proj_size > 0, and sites that do not fit.
    """

    in_sites: tuple[Site | None, ...]
    out_site: Site | None
    recurrent_sites: tuple[Site | None, ...]
    clock: Clock

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        in_sites: Sequence[Site | None] = (),
        out_site: Site | None = None,
        recurrent_sites: Sequence[Site | None] = (),
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size, device, dtype,
        )  # fmt: skip
        self.attach(in_sites, out_site, recurrent_sites)

    def attach(
        self,
        in_sites: Sequence[Site | None] = (),
        out_site: Site | None = None,
        recurrent_sites: Sequence[Site | None] = (),
    ) -> None:
        """Makes the sites this module's; their clock becomes a child, so that it follows .to()."""
        reason = unsupported(self)
        if reason:
            raise ValueError(reason)
        self.in_sites = self._one_a_layer("in_sites", in_sites)
        self.recurrent_sites = self._one_a_layer("recurrent_sites", recurrent_sites)
        self.out_site = out_site
        for layer, site in enumerate(self.in_sites):
            self._check_input_site(f"in_sites[{layer}]", site, layer)
        for layer, site in enumerate(self.recurrent_sites):
            self._check_hidden_site(f"recurrent_sites[{layer}]", site)
        self._check_hidden_site("out_site", out_site)
        if out_site is not None and out_site.folded and not out_site.skips:
            raise ValueError(
                "out_site: expected 'row' or 'block' for a folded site, whose masks are of rows, "
                f"got {out_site.method!r}"
            )
        clocks = {id(site.clock): site.clock for site in self._sites()}
        if len(clocks) > 1:
            raise ValueError(f"sites: expected one clock for all, got {len(clocks)}")
        for clock in clocks.values():
            self.clock = clock

    def forward(  # type: ignore[override]
        self, input: Tensor | PackedSequence, hx: State | None = None
    ) -> tuple[Tensor | PackedSequence, State]:
        """As nn.LSTM's, packed and unbatched inputs included."""
        for site in self.in_sites:
            if site is not None:
                site.to_consumer.take()
        values = input.data if isinstance(input, PackedSequence) else input
        if not self._drops() or not isinstance(values, Tensor) or values.numel() == 0:
            return super().forward(input, hx)  # type: ignore[no-any-return]
        return self._dropping_forward(input, hx)

    # torch.compile breaks its graph at an nn.LSTM; this keeps it out of what is inside. PyTorch's
    # public way to say so takes a second to import.
    @_disable_dynamo
    def _dropping_forward(
        self, input: Tensor | PackedSequence, hx: State | None
    ) -> tuple[Tensor | PackedSequence, State]:
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        (input,) = cast(input)
        if input.dim() not in (2, 3):
            raise ValueError(f"input: expected 2-D or 3-D, got {input.dim()}-D")
        batched = input.dim() == 3
        where = 0 if self.batch_first else 1
        input = input if batched else input.unsqueeze(where)
        if hx is not None and not batched:
            hx = hx[0].unsqueeze(1), hx[1].unsqueeze(1)
        length, batch = input.shape[1 - where], input.shape[where]
        rows = Rows.of_batch(length, batch, self.batch_first)
        hx = self._state(input, hx, batch)
        y, h, c = self._run(input.reshape(rows.total, -1), rows, hx)
        y = y.view(*input.shape[:2], self.hidden_size)
        return (y, (h, c)) if batched else (y.squeeze(where), (h.squeeze(1), c.squeeze(1)))

    def _forward_packed(
        self, input: PackedSequence, hx: State | None
    ) -> tuple[PackedSequence, State]:
        data, sizes, order, original = input
        (data,) = cast(data)
        rows = Rows.of_steps(sizes.tolist())
        if hx is not None:
            hx = self.permute_hidden(hx, order)  # type: ignore[arg-type]
        hx = self._state(data, hx, rows.batch, sizes)
        y, h, c = self._run(data, rows, hx)
        hn = self.permute_hidden((h, c), original)  # type: ignore[arg-type]
        return PackedSequence(y, sizes, order, original), hn

    def _run(self, x: Tensor, rows: Rows, hx: State) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of the output, and the last hidden and cell states of all layers."""
        refuse_forward_ad(x, *hx, *self.parameters())
        drawn: dict[int, SequenceMask] = {}  # once a forward: "bernoulli" draws anew each time

        def mask_of(site: Site | None, width: int) -> SequenceMask | None:
            if site is None or not site.active(self):
                return None
            if id(site) not in drawn:
                drawn[id(site)] = SequenceMask(site, rows, width)
            return drawn[id(site)]

        states = []
        for layer, (in_site, recurrent) in enumerate(
            zip(self.in_sites, self.recurrent_sites, strict=True)
        ):
            inputs: Inputs
            if in_site is not None and in_site.method == "tile":
                inputs = in_site.draw(rows.total) if in_site.active(self) else None
            else:
                inputs = mask_of(in_site, x.shape[1])
            if layer and in_site is None:
                x = F.dropout(x, self.dropout, self.training)
            weights, before = self._weights(layer), (hx[0][layer], hx[1][layer])
            hidden = mask_of(recurrent, self.hidden_size)
            if hidden is not None and recurrent is self._site_behind(layer):
                x, *after = run_units(x, rows, weights, before, inputs, hidden)
            else:
                x, *after = run_layer(x, rows, weights, before, inputs, hidden)
            states.append(after)
        h, c = (torch.stack(parts) for parts in zip(*states, strict=True))
        return self._drop_output(x, rows, mask_of(self.out_site, self.hidden_size)), h, c

    def _drop_output(self, y: Tensor, rows: Rows, mask: SequenceMask | None) -> Tensor:
        if mask is None or self.out_site is None:
            return y
        where, told = 0 if self.batch_first else 1, self.out_site.settings.batch_dim
        if mask.skips and mask.group_count > 1 and where != told:
            raise ValueError(
                f"out_site: expected batch_dim={where} for the {mask.group_count} groups of this "
                f"batch, as layers behind are to form the same ones, got {told}"
            )
        if self.out_site.folded:
            self.out_site.to_consumer.give()
            return y
        keep = mask.over(rows).to_dense() if mask.skips else mask.elements[rows.samples(y.device)]
        return torch.where(keep, y * mask.scale, 0.0)

    def _weights(self, layer: int) -> Weights:
        w_ih, w_hh = cast(*(getattr(self, f"weight_{kind}_l{layer}") for kind in ("ih", "hh")))
        if not self.bias:
            return Weights(w_ih, w_hh, None)
        biases = cast(*(getattr(self, f"bias_{kind}_l{layer}") for kind in ("ih", "hh")))
        return Weights(w_ih, w_hh, sum(biases))

    def _state(self, x: Tensor, hx: State | None, batch: int, sizes: Tensor | None = None) -> State:
        """The state to begin with; raises as nn.LSTM does where sizes do not fit."""
        weight = self._weights(0).inputs
        for name, tensor in (("input", x), ("weight_ih_l0", weight)):
            if not (tensor.is_cpu or tensor.is_cuda or tensor.is_meta):
                raise TypeError(
                    f"{name}: expected a CPU or CUDA tensor, got one on {tensor.device}"
                )
            operands.dtype_code(name, tensor)
        clock = self.clock.step
        operands.check_devices("weight_ih_l0", weight, input=x, clock=clock)
        if x.dtype != weight.dtype:
            raise TypeError(f"input: expected {weight.dtype} as weight_ih_l0, got {x.dtype}")
        if hx is None:
            zeros = x.new_zeros(self.num_layers, batch, self.hidden_size)
            hx = zeros, zeros
        hx = cast(hx[0])[0], cast(hx[1])[0]
        self.check_forward_args(x, hx, sizes)  # type: ignore[arg-type]
        operands.check_devices("input", x, h_0=hx[0], c_0=hx[1])
        for name, tensor in zip(("h_0", "c_0"), hx, strict=True):
            if tensor.dtype != x.dtype:
                raise TypeError(f"{name}: expected {x.dtype} as input, got {tensor.dtype}")
        return hx

    # ---- sites --------------------------------------------------------------------------------

    def _sites(self) -> list[Site]:
        every = (*self.in_sites, self.out_site, *self.recurrent_sites)
        return [site for site in every if site is not None]

    def _site_behind(self, layer: int) -> Site | None:
        """What is dropped of a layer's output."""
        last = layer + 1 == self.num_layers
        return self.out_site if last else self.in_sites[layer + 1]

    def _drops(self) -> bool:
        # With a site of rate 0 in its place, nn.LSTM's own dropout is to stay away.
        replaced = self.training and self.dropout > 0.0 and any(self.in_sites[1:])
        return replaced or any(site.active(self) for site in self._sites())

    def _one_a_layer(self, name: str, sites: Sequence[Site | None]) -> tuple[Site | None, ...]:
        if not isinstance(sites, Sequence):
            raise TypeError(f"{name}: expected a sequence of sites, got {type(sites).__name__}")
        if len(sites) not in (0, self.num_layers):
            raise ValueError(
                f"{name}: expected one for each of {self.num_layers} layers, or none, "
                f"got {len(sites)}"
            )
        return tuple(sites) or (None,) * self.num_layers

    def _check_input_site(self, name: str, site: Site | None, layer: int) -> None:
        if site is None:
            return
        check_site(name, site)
        site.check_width(name, self.hidden_size if layer else self.input_size)
        if site.method == "tile" and site.outputs != self.hidden_size:
            raise ValueError(
                f"{name}: expected outputs {self.hidden_size} (hidden_size) for a site of method "
                f"'tile', whose pattern is that of each gate, got {site.outputs}"
            )
        if site.owner is not None and not site.folded:
            raise ValueError(
                f"{name}: expected a folded site, as the LSTM applies mask and scale, got one that "
                f"{type(site.owner).__name__} applies"
            )

    def _check_hidden_site(self, name: str, site: Site | None) -> None:
        if site is None:
            return
        check_site(name, site)
        if site.method == "tile":
            raise ValueError(f"{name}: expected a site of neurons, got one of method 'tile'")
        site.check_width(name, self.hidden_size)

    def extra_repr(self) -> str:
        """nn.LSTM's, and the ids of the sites."""
        text = super().extra_repr()
        for name in ("in_sites", "recurrent_sites"):
            sites: tuple[Site | None, ...] = getattr(self, name)
            if any(sites):
                text += f", {name}={tuple(site and site.id for site in sites)}"
        return text + ("" if self.out_site is None else f", out_site={self.out_site.id}")


def unsupported(lstm: nn.LSTM) -> str:
    """Why an nn.LSTM cannot be one of these; empty where it can."""
    if lstm.bidirectional:
        return "bidirectional: expected False, as a mask is of one direction, got True"
    if lstm.proj_size > 0:
        size = lstm.proj_size
        return f"proj_size: expected 0, as units are dropped and no projections, got {size}"
    return ""

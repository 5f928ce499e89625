"""PyTorch layers that skip what dropout drops, and the conversion of models to them.

    schedule = convert(model, optimizer, method="block", total_steps=epochs * len(loader))

changes the nn.Linear, nn.LSTM and nn.Dropout of a model in place; Clock, Site, Linear, LSTM
and the dropout modules are the parts, for networks built by hand.
"""

from dropgemm.torch.clock import Clock
from dropgemm.torch.convert import convert
from dropgemm.torch.dropout import (
    BernoulliDropout,
    BlockDropout,
    GyroDropout,
    RowDropout,
    TileDropout,
)
from dropgemm.torch.ensemble import Ensemble, Prediction, ensemble
from dropgemm.torch.linear import Linear, TileDropLinear
from dropgemm.torch.lstm import LSTM
from dropgemm.torch.revert import revert
from dropgemm.torch.schedule import Schedule
from dropgemm.torch.sgd import SGD
from dropgemm.torch.site import Site

__all__ = [
    "LSTM",
    "SGD",
    "BernoulliDropout",
    "BlockDropout",
    "Clock",
    "Ensemble",
    "GyroDropout",
    "Linear",
    "Prediction",
    "RowDropout",
    "Schedule",
    "Site",
    "TileDropLinear",
    "TileDropout",
    "convert",
    "ensemble",
    "revert",
]

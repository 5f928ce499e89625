"""The names of the dropout methods, for everything that lets a user choose one."""

from __future__ import annotations

from typing import Literal, get_args

# Gyro Dropout (Lee et al., 2022): "block", "gyro". Approximate Random Dropout (Song et al., 2018):
# "row", "tile". Conventional dropout: "bernoulli".
Method = Literal["block", "gyro", "row", "tile", "bernoulli"]
METHODS: tuple[Method, ...] = get_args(Method)

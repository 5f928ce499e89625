"""Arithmetic in float64 that knows how far a run in bfloat16 may be from it."""

import torch

BFLOAT16, FLOAT32 = 2.0**-8, 2.0**-23  # the largest relative errors of rounding to them


class Bounded:
    """A matrix, and for each element how large its error may be.

    Roundings are independent of one another, so that their squares add up, as the square root of
    the depth in the tolerance of a product says; they are evenly spread over what they may be, so
    that three times the root of those squares is five standard deviations.
    """

    def __init__(self, value, error=None):
        self.value = value.detach().double()
        self.error = torch.zeros_like(self.value) if error is None else error

    def rounded(self):
        """Stored as bfloat16, after arithmetic of a few operations in float32."""
        return Bounded(self.value, torch.hypot(self.error, (BFLOAT16 + 4 * FLOAT32) * self.value))

    def __matmul__(self, other):
        squares = self.error**2 @ other.value**2 + self.value**2 @ other.error**2
        sums = 2 * FLOAT32 * self.value.shape[1] ** 0.5 * (abs(self.value) @ abs(other.value))
        return Bounded(self.value @ other.value, squares.sqrt() + sums)

    def __mul__(self, other):
        if not isinstance(other, Bounded):
            return Bounded(self.value * other, self.error * abs(other))
        error = torch.hypot(self.error * other.value, self.value * other.error)
        return Bounded(self.value * other.value, error)

    def __add__(self, other):
        return Bounded(self.value + other.value, torch.hypot(self.error, other.error))

    @property
    def T(self):  # noqa: N802 (as PyTorch's users name it)
        return Bounded(self.value.T, self.error.T)

    def sum(self):
        """Over rows, in float32."""
        return (Bounded(torch.ones(1, len(self.value))) @ self)[0]

    def __getitem__(self, row):
        return Bounded(self.value[row], self.error[row])

    def tanh(self):
        return Bounded(self.value.tanh(), (1 - self.value.tanh() ** 2) * self.error)

    def tanh_slope(self):
        """The derivative of tanh where this is its value."""
        return Bounded(1 - self.value**2, 2 * abs(self.value) * self.error)

    def assert_holds(self, got):
        error = abs(got.detach().double() - self.value)
        # Where nothing is rounded, as what is dropped, the result is exact.
        worst = (error / (3 * self.error).clamp_min(torch.finfo(torch.float64).tiny)).max()
        assert worst <= 1, f"an error of {worst:.3g} times the bound"

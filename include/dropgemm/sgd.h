// One step of stochastic gradient descent, element by element as PyTorch's optim.SGD defines it:
//
//   g' = (maximize ? -g : g) + weight_decay * w
//   v  = first ? g' : momentum * v + (1 - dampening) * g'
//   w -= lr * (nesterov ? g' + momentum * v : v)              (lr * g' without momentum)
//
// It is here since it reads what a weight gradient's product wrote: where a gradient is 0, as it is
// in every dropped tile, and neither momentum nor decay moves w, w is neither read nor written.
// Defined by src/reference/sgd.cc.
#pragma once

#include <cstdint>

#include "dropgemm/context.h"
#include "dropgemm/matrix.h"
#include "dropgemm/status.h"

namespace dropgemm {

struct SgdArgs {
  void* w = nullptr;        // [size], contiguous, as the others: updated
  const void* g = nullptr;  // [size]
  void* v = nullptr;        // [size], present where momentum is not 0: updated; unread where first
  std::int64_t size = 0;
  DType dtype = DType::kFloat32;  // of all three; kFloat32 or kFloat64
  double lr = 0.0;
  double momentum = 0.0;
  double dampening = 0.0;
  double weight_decay = 0.0;
  bool nesterov = false;
  bool maximize = false;
  bool first = false;
};

// Allocates nothing. Factors are rounded to the dtype. Bits do not depend on the number of threads.
// Errors, before anything is written: kInvalidArgument (operand, expected, got), among them arrays
// that overlap and a v without momentum or momentum without v; kInvalidType.
[[nodiscard]] Status sgd(const Context& ctx, const SgdArgs& args);

}  // namespace dropgemm

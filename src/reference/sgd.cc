// The definition of a step of stochastic gradient descent: one element at a time, in float64.
#include "reference/reference.h"

namespace dropgemm::reference {
namespace {

template <class T>
void step(const SgdArgs& args) {
  T* w = static_cast<T*>(args.w);
  const T* g = static_cast<const T*>(args.g);
  T* v = static_cast<T*>(args.v);
  for (std::int64_t i = 0; i < args.size; ++i) {
    double slope = args.maximize ? -static_cast<double>(g[i]) : static_cast<double>(g[i]);
    if (args.weight_decay != 0.0) slope += args.weight_decay * static_cast<double>(w[i]);
    if (v != nullptr) {
      const double velocity =
          args.first ? slope
                     : args.momentum * static_cast<double>(v[i]) + (1.0 - args.dampening) * slope;
      v[i] = static_cast<T>(velocity);
      slope = args.nesterov ? slope + args.momentum * velocity : velocity;
    }
    w[i] = static_cast<T>(static_cast<double>(w[i]) - args.lr * slope);
  }
}

}  // namespace

std::int32_t sgd(const Context* /*ctx*/, const SgdArgs* args, ErrorText /*error*/) {
  if (args->dtype == DType::kFloat64) {
    step<double>(*args);
  } else {
    step<float>(*args);
  }
  return 0;
}

}  // namespace dropgemm::reference

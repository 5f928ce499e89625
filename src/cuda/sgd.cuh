// The kernel of a step of stochastic gradient descent; sgd.h (public) has the rule.
#pragma once

#include "cuda/sgd.h"

namespace dropgemm::cuda {

template <class T>
DROPGEMM_DEVICE void SgdKernel<T>::run(const Params& params, const Block& block) {
  // An infinite factor makes NaN of 0.
  const bool skips_zeros =
      params.v == nullptr && params.weight_decay == T(0) && params.lr * T(0) == T(0);
  const std::int64_t stride = std::int64_t{block.count} * kThreads;
  for (std::int64_t i = std::int64_t{block.index} * kThreads + block.thread; i < params.size;
       i += stride) {
    T slope = params.maximize ? -params.g[i] : params.g[i];
    if (skips_zeros && slope == T(0)) continue;
    const T w = params.w[i];
    if (params.weight_decay != T(0)) slope += params.weight_decay * w;
    if (params.v != nullptr) {
      const T velocity =
          params.first ? slope : params.momentum * params.v[i] + params.undampened * slope;
      params.v[i] = velocity;
      slope = params.nesterov ? slope + params.momentum * velocity : velocity;
    }
    params.w[i] = w - params.lr * slope;
  }
}

}  // namespace dropgemm::cuda

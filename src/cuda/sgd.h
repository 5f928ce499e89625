// Internal: a step of stochastic gradient descent on the device, and its kernel (sgd.cuh).
#pragma once

#include <cstdint>

#include "cuda/device.h"
#include "dropgemm/backend.h"

namespace dropgemm::cuda {

std::int32_t sgd(const Context* ctx, const SgdArgs* args, ErrorText error);

// A thread an element. T is float or double, factors are rounded to it.
template <class T>
struct SgdKernel {
  struct Params {
    T* w;
    const T* g;
    T* v;  // null: no momentum
    std::int64_t size;
    T lr, momentum, undampened, weight_decay;
    bool nesterov, maximize, first;
  };
  static constexpr const char* kName = "sgd";
  static constexpr std::int32_t kThreads = 256;
  DROPGEMM_DEVICE static void run(const Params& params, const Block& block);
};

}  // namespace dropgemm::cuda

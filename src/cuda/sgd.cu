#include "cuda/launch_kernel.h"
#include "cuda/sgd.cuh"

namespace dropgemm::cuda {

template Status launch<SgdKernel<float>>(std::int32_t, std::size_t, void*,
                                         const SgdKernel<float>::Params&);
template Status launch<SgdKernel<double>>(std::int32_t, std::size_t, void*,
                                          const SgdKernel<double>::Params&);

}  // namespace dropgemm::cuda

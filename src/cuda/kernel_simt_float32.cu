#include "cuda/kernel_simt.cuh"
#include "cuda/launch_kernel.h"

namespace dropgemm::cuda {

template Status launch<SimtKernel<float>>(std::int32_t, std::size_t, void*,
                                          const SimtKernel<float>::Params&);

}  // namespace dropgemm::cuda

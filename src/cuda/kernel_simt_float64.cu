#include "cuda/kernel_simt.cuh"
#include "cuda/launch_kernel.h"

namespace dropgemm::cuda {

template Status launch<SimtKernel<double>>(std::int32_t, std::size_t, void*,
                                           const SimtKernel<double>::Params&);

}  // namespace dropgemm::cuda

#include "cuda/mask.cuh"

#include "cuda/launch_kernel.h"

namespace dropgemm::cuda {

template Status launch<GyroMaskKernel>(std::int32_t, std::size_t, void*,
                                       const GyroMaskKernel::Params&);

}  // namespace dropgemm::cuda

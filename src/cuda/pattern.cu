#include "cuda/pattern.cuh"

#include "cuda/launch_kernel.h"

namespace dropgemm::cuda {

template Status launch<PatternMaskKernel>(std::int32_t, std::size_t, void*,
                                          const PatternMaskKernel::Params&);

}  // namespace dropgemm::cuda

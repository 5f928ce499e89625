#include "cuda/mask.cuh"

#include "cuda/launch_kernel.h"

namespace dropgemm::cuda {

template Status launch<BernoulliMaskKernel>(std::int32_t, std::size_t, void*,
                                            const BernoulliMaskKernel::Params&);

}  // namespace dropgemm::cuda

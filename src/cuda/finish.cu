#include "cuda/finish.cuh"
#include "cuda/launch_kernel.h"

namespace dropgemm::cuda {

template Status launch<FinishKernel<float>>(std::int32_t, std::size_t, void*,
                                            const FinishKernel<float>::Params&);
template Status launch<FinishKernel<double>>(std::int32_t, std::size_t, void*,
                                             const FinishKernel<double>::Params&);
template Status launch<FinishKernel<BFloat16>>(std::int32_t, std::size_t, void*,
                                               const FinishKernel<BFloat16>::Params&);
template Status launch<FinishKernel<Float16>>(std::int32_t, std::size_t, void*,
                                              const FinishKernel<Float16>::Params&);

}  // namespace dropgemm::cuda

#include "cuda/launch_kernel.h"
#include "cuda/prepare.cuh"

namespace dropgemm::cuda {

template Status launch<KeptAxesKernel>(std::int32_t, std::size_t, void*,
                                       const KeptAxesKernel::Params&);
template Status launch<CopyKernel<float>>(std::int32_t, std::size_t, void*,
                                          const CopyKernel<float>::Params&);
template Status launch<CopyKernel<double>>(std::int32_t, std::size_t, void*,
                                           const CopyKernel<double>::Params&);
template Status launch<CopyKernel<BFloat16>>(std::int32_t, std::size_t, void*,
                                             const CopyKernel<BFloat16>::Params&);
template Status launch<CopyKernel<Float16>>(std::int32_t, std::size_t, void*,
                                            const CopyKernel<Float16>::Params&);

}  // namespace dropgemm::cuda

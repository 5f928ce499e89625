#include "cuda/launch_kernel.h"
#include "cuda/row_sum.cuh"

namespace dropgemm::cuda {

template Status launch<RowSumKernel<float>>(std::int32_t, std::size_t, void*,
                                            const RowSumKernel<float>::Params&);
template Status launch<RowSumKernel<double>>(std::int32_t, std::size_t, void*,
                                             const RowSumKernel<double>::Params&);
template Status launch<RowSumKernel<BFloat16>>(std::int32_t, std::size_t, void*,
                                               const RowSumKernel<BFloat16>::Params&);
template Status launch<RowSumKernel<Float16>>(std::int32_t, std::size_t, void*,
                                              const RowSumKernel<Float16>::Params&);

}  // namespace dropgemm::cuda

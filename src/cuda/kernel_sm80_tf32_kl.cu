#include "cuda/kernel_sm80.cuh"
#include "cuda/launch_kernel.h"

namespace dropgemm::cuda {

using Kernel = Sm80Kernel<float, Major::kDepth, Major::kLine>;
template Status launch<Kernel>(std::int32_t, std::size_t, void*, const Kernel::Params&);

}  // namespace dropgemm::cuda

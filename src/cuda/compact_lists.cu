#include "cuda/compact_lists.cuh"

#include "cuda/launch_kernel.h"

namespace dropgemm::cuda {

template Status launch<CompactListsKernel<std::uint16_t>>(std::int32_t, std::size_t, void*,
                                                          const CompactParams<std::uint16_t>&);
template Status launch<CompactListsKernel<std::uint32_t>>(std::int32_t, std::size_t, void*,
                                                          const CompactParams<std::uint32_t>&);
template Status launch<CompactListsKernel<std::uint64_t>>(std::int32_t, std::size_t, void*,
                                                          const CompactParams<std::uint64_t>&);

}  // namespace dropgemm::cuda

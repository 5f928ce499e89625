#include "cuda/launch_kernel.h"
#include "cuda/lists.cuh"

namespace dropgemm::cuda {

template Status launch<ListBitsKernel>(std::int32_t, std::size_t, void*,
                                       const ListBitsKernel::Params&);
template Status launch<ListClassesKernel>(std::int32_t, std::size_t, void*,
                                          const ListClassesKernel::Params&);
template Status launch<ListPairsKernel>(std::int32_t, std::size_t, void*,
                                        const ListPairsKernel::Params&);
template Status launch<ListPlacesKernel>(std::int32_t, std::size_t, void*,
                                         const ListPlacesKernel::Params&);
template Status launch<ListFillKernel>(std::int32_t, std::size_t, void*,
                                       const ListFillKernel::Params&);
template Status launch<ListOnceKernel>(std::int32_t, std::size_t, void*,
                                       const ListOnceKernel::Params&);
template Status launch<ListWholeKernel>(std::int32_t, std::size_t, void*,
                                        const ListWholeKernel::Params&);

}  // namespace dropgemm::cuda

// Forward: A and B are contiguous along K.
#include "cuda/kernel_sm90_launch.cuh"

namespace dropgemm::cuda {

DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kDepth, kSquare);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kDepth, kWide);
DROPGEMM_INSTANTIATE_SM90(Float16, kDepth, kDepth, kPair);

}  // namespace dropgemm::cuda

// Input gradient: A is contiguous along K, B along N.
#include "cuda/kernel_sm90_launch.cuh"

namespace dropgemm::cuda {

DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kLine, kSquare);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kLine, kWide);
DROPGEMM_INSTANTIATE_SM90(BFloat16, kDepth, kLine, kPair);

}  // namespace dropgemm::cuda

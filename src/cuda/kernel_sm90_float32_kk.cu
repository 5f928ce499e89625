// float32 rounded to tf32, whose operands wgmma reads along K alone.
#include "cuda/kernel_sm90_launch.cuh"

namespace dropgemm::cuda {

DROPGEMM_INSTANTIATE_SM90(float, kDepth, kDepth, kSquare);
DROPGEMM_INSTANTIATE_SM90(float, kDepth, kDepth, kWide);

}  // namespace dropgemm::cuda

// Weight gradient: A is contiguous along M, B along N.
#include "cuda/kernel_sm90_launch.cuh"

namespace dropgemm::cuda {

DROPGEMM_INSTANTIATE_SM90(Float16, kLine, kLine, kSquare);
DROPGEMM_INSTANTIATE_SM90(Float16, kLine, kLine, kWide);
DROPGEMM_INSTANTIATE_SM90(Float16, kLine, kLine, kPair);

}  // namespace dropgemm::cuda

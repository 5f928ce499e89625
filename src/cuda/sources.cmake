# The CUDA backend's sources, for both builds: by nvcc (CMakeLists.txt here), and by the C++ compiler
# alone for the emulator (tests/cuda/CMakeLists.txt).
set(dropgemm_cuda_dir ${CMAKE_CURRENT_LIST_DIR})

# Host code, compiled by the C++ compiler in both.
set(dropgemm_cuda_host
  backend.cc
  gemm.cc
  mask.cc
  pattern.cc
  pending.cc
  runtime.cc)
# One kernel each.
set(dropgemm_cuda_kernels
  mask_bernoulli.cu
  mask_gyro.cu
  pattern.cu)
# Kernels that only sm_90a has, which are not emulated.
set(dropgemm_cuda_kernels_sm90)

list(TRANSFORM dropgemm_cuda_host PREPEND ${dropgemm_cuda_dir}/)
list(TRANSFORM dropgemm_cuda_kernels PREPEND ${dropgemm_cuda_dir}/)
list(TRANSFORM dropgemm_cuda_kernels_sm90 PREPEND ${dropgemm_cuda_dir}/)

# The CUDA backend's sources, for both builds: by nvcc (CMakeLists.txt here), and by the C++ compiler
# alone for the emulator (tests/cuda/CMakeLists.txt).
set(dropgemm_cuda_dir ${CMAKE_CURRENT_LIST_DIR})

# Host code, compiled by the C++ compiler in both.
set(dropgemm_cuda_host
  backend.cc
  compact.cc
  config.cc
  gemm.cc
  kernel_sm90.cc
  lists.cc
  mask.cc
  pattern.cc
  plan.cc
  runtime.cc
  sgd.cc
  tma.cc)
# One kernel each.
set(dropgemm_cuda_kernels
  compact_lists.cu
  compact_tiles.cu
  finish.cu
  kernel_simt_float32.cu
  kernel_simt_float64.cu
  kernel_sm80_bfloat16_kk.cu
  kernel_sm80_bfloat16_kl.cu
  kernel_sm80_bfloat16_lk.cu
  kernel_sm80_bfloat16_ll.cu
  kernel_sm80_float16_kk.cu
  kernel_sm80_float16_kl.cu
  kernel_sm80_float16_lk.cu
  kernel_sm80_float16_ll.cu
  kernel_sm80_tf32_kk.cu
  kernel_sm80_tf32_kl.cu
  kernel_sm80_tf32_lk.cu
  kernel_sm80_tf32_ll.cu
  lists.cu
  mask_bernoulli.cu
  mask_gyro.cu
  pattern.cu
  prepare.cu
  row_sum.cu
  sgd.cu)
# Kernels that only sm_90a has; emulator_sm90.cc stands for them.
set(dropgemm_cuda_kernels_sm90
  kernel_sm90_bfloat16_kk.cu
  kernel_sm90_bfloat16_kl.cu
  kernel_sm90_bfloat16_ll.cu
  kernel_sm90_float16_kk.cu
  kernel_sm90_float16_kl.cu
  kernel_sm90_float16_ll.cu
  kernel_sm90_float32_kk.cu)

list(TRANSFORM dropgemm_cuda_host PREPEND ${dropgemm_cuda_dir}/)
list(TRANSFORM dropgemm_cuda_kernels PREPEND ${dropgemm_cuda_dir}/)
list(TRANSFORM dropgemm_cuda_kernels_sm90 PREPEND ${dropgemm_cuda_dir}/)

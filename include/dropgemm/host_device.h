// DROPGEMM_HOST_DEVICE: what is compiled for a GPU too where the compiler makes code for one.
#pragma once

#if defined(__CUDACC__)
#define DROPGEMM_HOST_DEVICE __host__ __device__
#else
#define DROPGEMM_HOST_DEVICE
#endif

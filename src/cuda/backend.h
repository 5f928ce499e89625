// Internal: the CUDA backend's table.
#pragma once

#include "dropgemm/backend.h"

namespace dropgemm::cuda {

const Backend* backend();

}  // namespace dropgemm::cuda

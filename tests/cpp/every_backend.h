// The backends that suites run on: those of this library, the CUDA backend on the emulator, and on
// a GPU where the build has it and there is one. Arrays lie on the host in all of them.
#pragma once

#include <string>
#include <vector>

#include "dropgemm/backend.h"

namespace dropgemm {

constexpr const char* kEmulated = "cuda_emulated";
constexpr const char* kCuda = "cuda";

// "reference" and "cpu" first.
[[nodiscard]] std::vector<std::string> every_backend();
// The last of them, without the first two.
[[nodiscard]] std::vector<std::string> cuda_backends();

// find_backend() of these names.
[[nodiscard]] Status find_tested(const std::string& name, const Backend** backend);

}  // namespace dropgemm

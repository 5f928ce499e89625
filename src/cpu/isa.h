// The instruction set in use: the best that was compiled in and that this processor has.
#pragma once

#include <string>
#include <vector>

#include "cpu/kernel.h"
#include "dropgemm/status.h"

namespace dropgemm::cpu {

// Chosen once: the one that DROPGEMM_CPU_ISA names, else the widest.
[[nodiscard]] const Isa& isa();
[[nodiscard]] const char* isa_name();
// Whether the one in use is `name` or an extension of it.
[[nodiscard]] bool isa_has(const char* name);
// Whether it multiplies bfloat16, so that there are kernels() of BF16 and F32AsBF16.
[[nodiscard]] bool isa_multiplies_bfloat16();

// kInvalidArgument where DROPGEMM_CPU_ISA names none of isa_names(): the backend then does not
// work. isa() is the widest all the same, for draws that the front ends make on the host.
[[nodiscard]] Status check_isa();

// The instruction sets that can run here, widest first.
[[nodiscard]] std::vector<std::string> isa_names();

// Makes `name` the one in use for later calls; for tests and benchmarks.
// Errors: kInvalidArgument for a name that isa_names() does not list.
[[nodiscard]] Status use_isa(const std::string& name);

template <class F>
[[nodiscard]] const KernelTable<F>& kernels();

}  // namespace dropgemm::cpu

// The parts of the extension module, one a source file.
#pragma once

#include <nanobind/nanobind.h>

namespace dropgemm::python {

void bind_compact(nanobind::module_& module);
void bind_gemm(nanobind::module_& module);
void bind_lstm(nanobind::module_& module);
void bind_mask(nanobind::module_& module);
void bind_pattern(nanobind::module_& module);
void bind_schedule(nanobind::module_& module);
void bind_search(nanobind::module_& module);
void bind_sgd(nanobind::module_& module);
void bind_backend(nanobind::module_& module);

}  // namespace dropgemm::python

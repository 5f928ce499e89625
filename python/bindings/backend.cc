// Choosing and describing backends (dropgemm/backend.h).
#include <string>

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "array.h"
#include "dropgemm/backend.h"
#include "module.h"

namespace dropgemm::python {

void bind_backend(nb::module_& module) {
  module.def("backends", backends, "Names of the backends that work here, the default first.");
  module.def(
      "use_backend", [](const std::string& name) { raise_if_error(use_backend(name)); },
      nb::arg("name"), "Makes a backend the one of every later call; '' is the default again.");
  module.def(
      "current_backend",
      [] {
        const Backend* backend = nullptr;
        raise_if_error(resolve_backend(Context{}, &backend));
        return std::string(backend->name);
      },
      "The name of the backend that a call takes now.");
  module.def(
      "describe_backend",
      [](const std::string& name) {
        std::string line;
        raise_if_error(describe_backend(name, &line));
        return line;
      },
      nb::arg("name"), "One line about a backend: ISA or device.");
}

}  // namespace dropgemm::python

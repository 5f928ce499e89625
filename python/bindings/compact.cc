// Compaction (dropgemm/compact.h) into memory that the caller allocates.
#include "dropgemm/compact.h"

#include <cstdint>
#include <utility>

#include <nanobind/stl/pair.h>

#include "array.h"
#include "module.h"

namespace dropgemm::python {

namespace {

Mask to_some_mask(nb::handle object) {
  std::optional<Mask> mask = to_mask("mask", object);
  if (!mask) raise_if_error(Status::invalid_type("mask", "a mask", "None"));
  return *std::move(mask);
}

void gather(nb::handle x, nb::handle xc, nb::handle mask, int axis, nb::handle stream) {
  const Matrix from = to_matrix("x", x, Access::kRead);
  const Matrix to = to_matrix("xc", xc, Access::kWrite);
  const Mask over = to_some_mask(mask);
  const Context context = to_context(stream);
  const CompactArgs args{from.view, to.view, over.view, static_cast<CompactAxis>(axis)};
  Status status;
  {
    nb::gil_scoped_release released;
    status = compact(context, args);
  }
  raise_if_error(status);
}

void scatter(nb::handle xc, nb::handle x, nb::handle mask, int axis, nb::handle stream) {
  const Matrix from = to_matrix("xc", xc, Access::kRead);
  const Matrix to = to_matrix("x", x, Access::kWrite);
  const Mask over = to_some_mask(mask);
  const Context context = to_context(stream);
  const ExpandArgs args{from.view, to.view, over.view, static_cast<CompactAxis>(axis)};
  Status status;
  {
    nb::gil_scoped_release released;
    status = expand(context, args);
  }
  raise_if_error(status);
}

std::pair<std::int64_t, std::int64_t> count(nb::handle mask, int axis) {
  std::int64_t least = 0, most = 0;
  raise_if_error(
      kept_count(to_some_mask(mask).view, static_cast<CompactAxis>(axis), &least, &most));
  return {least, most};
}

}  // namespace

void bind_compact(nb::module_& module) {
  module.def("compact", gather, nb::arg("x"), nb::arg("xc"), nb::arg("mask").none(),
             nb::arg("axis"), nb::arg("stream") = nb::none(),
             "Gathers what the mask keeps of x into xc; dropgemm/compact.h says where. Matrices\n"
             "and the mask are as in matmul, tiles lie one under the other; axis: 0 rows,\n"
             "1 columns, 2 tiles. Releases the GIL.");
  module.def("expand", scatter, nb::arg("xc"), nb::arg("x"), nb::arg("mask").none(),
             nb::arg("axis"), nb::arg("stream") = nb::none(),
             "The reverse: scatters xc into x, whose dropped elements become 0.");
  module.def("kept_count", count, nb::arg("mask").none(), nb::arg("axis"),
             "(least, most) of what rows keep (axis 1), columns (0), or the whole mask (2).");
}

}  // namespace dropgemm::python
